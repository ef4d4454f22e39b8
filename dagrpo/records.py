"""What flows through the packages: Problem -> Rollout -> Group, and the verdict on an answer."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from hashlib import sha256
from typing import Any, Literal

Source = Literal["policy", "anchor"]
Finish = Literal["stop", "length"]
Tracker = Literal["tensorboard", "wandb", "trackio"]
"""What a training run can tell its metrics to while it goes on."""


class Verdict(StrEnum):
    """Outcome of grading one response; only ``CORRECT`` earns a reward."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Problem:
    """One question with its gold answer.

    ``family`` is the benchmark or procedural family that the problem belongs to; ``solution`` is a worked
    reference (the text of an anchor), ``None`` where the source has none; ``level`` is a difficulty, larger is
    harder, ``None`` where unknown; ``choices`` holds the options of a multiple-choice question (then ``answer``
    is a letter, A being the first). ``solution_logps`` are the log-probabilities (nats) that the author of ``solution``
    gave to its tokens, the end-of-sequence token included, ``None`` where they were not kept.
    """

    id: str
    family: str
    prompt: str
    answer: str
    solution: str | None = None
    level: int | None = None
    choices: tuple[str, ...] | None = None
    solution_logps: tuple[float, ...] | None = None

    def digest(self) -> str:
        """Sha256 (hex) of everything that defines the problem, its answer included."""
        parts = [self.id, self.family, self.prompt, self.answer, self.solution or "", *(self.choices or ())]
        return sha256("\x1f".join(parts).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Response:
    """What is graded: the text of a response, how it ended, and its opening, which the prompt holds already.

    The opening is what the prompt ends with of the assistant's turn, such as the tag of a thought. A response is read
    from its opening on.
    """

    text: str
    finish: Finish
    opening: str

    @property
    def whole(self) -> str:
        """The text from the opening on."""
        return self.opening + self.text


@dataclass(frozen=True, slots=True)
class Rollout:
    """One response to one problem: sampled from the policy, or an off-policy demonstration (an anchor).

    ``tokens`` are the response's token ids, the end-of-sequence token included when ``finish`` is "stop".
    ``logps`` are the log-probabilities (nats) that each token was sampled with, and ``entropies`` the entropy
    (nats) of the distribution that it was drawn from, empty for an anchor and where the engine reports none. An
    anchor's ``logps`` are its author's, 0 where they are not known. ``value`` and ``visits`` are what a plan that
    searches found of the branch that starts with these tokens: the share of right answers beyond it, ``None`` without a
    search, and how often it went there.
    """

    index: int
    tokens: tuple[int, ...]
    text: str
    finish: Finish
    source: Source = "policy"
    logps: tuple[float, ...] = ()
    entropies: tuple[float, ...] = ()
    value: float | None = None
    visits: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """All rows that share a prompt in one step; ``prompt_tokens`` is the rendered prompt."""

    problem: Problem
    prompt_tokens: tuple[int, ...]
    rollouts: Sequence[Rollout] = field(default_factory=tuple)
