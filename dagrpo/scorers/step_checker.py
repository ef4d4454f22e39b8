"""Score the working of a miniature response: a program checks its steps."""

from collections.abc import Sequence
from itertools import takewhile

from dagrpo.errors import UserError
from dagrpo.problems import mini
from dagrpo.scorers.request import ScoreRequest


class StepChecker:
    """Share of the steps that are right before the first wrong one."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[float]:
        """Score each request in [0, 1].

        Raises:
            UserError: a problem is of no procedural family, so no program knows its steps.
        """
        return [self._score(request) for request in requests]

    def _score(self, request: ScoreRequest) -> float:
        problem = request.problem
        if problem.family not in mini.FAMILIES:
            raise UserError(
                f"problem {problem.id!r}: the step checker knows the miniature's families only, not "
                f"{problem.family!r}; set scorer.kind to reference_overlap"
            )
        flags = mini.check_steps(problem, request.response)
        return prefix_score(flags, max(len(flags), mini.reference_steps(problem)))


def prefix_score(flags: Sequence[bool], total: int) -> float:
    """Divide the number of right steps before the first wrong one by ``total``.

    Args:
        flags: whether each step of the response is right, in order.
        total: steps of the response or of the reference, whichever has more, so that neither stopping early nor
            padding pays; at least 1.
    """
    return sum(takewhile(bool, flags)) / total
