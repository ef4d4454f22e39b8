"""What an engine is asked for, and what it promises."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dagrpo.records import Rollout


@dataclass(frozen=True, slots=True)
class Request:
    """Samples ``first`` to ``first + samples - 1`` of one problem; ``prompt_tokens`` is the rendered prompt.

    ``budget`` is how many tokens each may have, where that is fewer than the sampling allows.
    """

    problem_id: str
    prompt_tokens: tuple[int, ...]
    samples: int
    first: int = 0
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. ``seed``, ``purpose`` and ``step``, with a problem's id and a sample's index, decide each draw.

    ``temperature`` 0 is greedy; the log-probabilities and entropies reported are then those of temperature 1.
    """

    temperature: float
    max_new_tokens: int
    seed: int
    purpose: str
    step: int = 0


class Engine(Protocol):
    """Samples responses from the current weights of one policy."""

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Rollout]]:
        """Return the rollouts of each request, in order. What else is asked for does not change a sample.

        Raises:
            Interrupted: a stop was asked for; checked between decoding steps.
        """
        ...

    def update(self) -> None:
        """Take note that the policy's weights have changed; an engine with a copy of them renews it."""
        ...
