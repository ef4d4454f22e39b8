"""Score the working of a miniature response: a program checks its steps."""

from collections.abc import Sequence
from itertools import takewhile

from dagrpo.errors import UserError
from dagrpo.scorers.registry import NoOptions, Tools, scorer
from dagrpo.scorers.request import Missing, Scorer, ScoreRequest


@scorer("step_checker")
class StepChecker(Scorer):
    """Share of the steps that are right before the first wrong one."""

    def __init__(self, options: NoOptions, tools: Tools) -> None:
        pass

    def score(self, requests: Sequence[ScoreRequest]) -> list[float | Missing]:
        """Score each request in [0, 1].

        Raises:
            UserError: a problem is of no procedural family, so no program knows its steps.
        """
        return [_score(request) for request in requests]


def _score(request: ScoreRequest) -> float:
    from dagrpo.problems import mini  # imports torch, which the check of a configuration does without

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
