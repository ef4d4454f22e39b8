"""What a scorer is asked, and what it answers."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from dagrpo.records import Problem, Verdict


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One graded response; ``finished`` is false where the budget cut it.

    The tokens are those that the policy read and wrote, for scorers that run it.
    """

    problem: Problem
    response: str
    verdict: Verdict
    finished: bool
    prompt_tokens: tuple[int, ...] = ()
    response_tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Missing:
    """Stands where a score could not be had: what is wrong, in a few words that can be counted, and what to do."""

    why: str
    remedy: str


class Scorer(ABC):
    """Rates responses."""

    @abstractmethod
    def score(self, requests: Sequence[ScoreRequest]) -> list[float | Missing]:
        """Return one score in [0, 1], or :class:`Missing`, for each request, in order."""

    def about(self) -> dict[str, str]:
        """Facts beyond the configuration that decide the scores, for the run card."""
        return {}

    def close(self) -> None:  # noqa: B027 - most hold nothing
        """Free what the scorer holds outside this process."""


def to_ten(score: float) -> float:
    """Map a score from [0, 1] to the scale 1 to 10 of the paper's judge (arXiv 2512.06337, section 4)."""
    return 1 + 9 * score
