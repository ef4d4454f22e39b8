"""What a scorer is asked, and what it answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dagrpo.records import Problem, Verdict


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One graded response; ``finished`` is false where the budget cut it."""

    problem: Problem
    response: str
    verdict: Verdict
    finished: bool


class Scorer(Protocol):
    """Rates responses."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[float]:
        """Return one score in [0, 1] for each request, in order; NaN where a request cannot be scored."""
        ...


def to_ten(score: float) -> float:
    """Map a score from [0, 1] to the scale 1 to 10 of the paper's judge (arXiv 2512.06337, section 4)."""
    return 1 + 9 * score
