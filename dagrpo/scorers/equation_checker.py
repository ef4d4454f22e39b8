"""Score the working of a response to a word problem: its equations are checked by arithmetic, and compared with those
of the reference; needs no model."""

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

from dagrpo.records import Verdict
from dagrpo.scorers.registry import NoOptions, Tools, scorer
from dagrpo.scorers.request import Missing, Scorer, ScoreRequest


@scorer("equation_checker")
class EquationChecker(Scorer):
    """Steps of the reference that a response takes before its first wrong equation."""

    def __init__(self, options: NoOptions, tools: Tools) -> None:
        pass

    def score(self, requests: Sequence[ScoreRequest]) -> list[float | Missing]:
        """Score each request in [0, 1]; missing where the reference is, or has no equation that can be checked."""
        return [_score(request) for request in requests]


def _score(request: ScoreRequest) -> float | Missing:
    process = process_score(request.response, request.problem.solution or "")
    if process is None:
        return Missing(
            "no reference solution with an equation in it",
            "Choose problems whose solutions are arithmetic, or the scorer reference_overlap",
        )
    return combine(float(request.verdict is Verdict.CORRECT), process)


def combine(correct: float, process: float) -> float:
    """Weigh the two parts, each in [0, 1]: 0.30 correct + 0.70 process.

    The verdict weighs as much as in ``reference_overlap``: below a third, the paper's margin of 3 on a scale of 9, so
    that a right and a wrong answer with the same working are never told apart by the verdict alone.
    """
    return 0.30 * correct + 0.70 * process


def process_score(response: str, reference: str) -> float | None:
    """The share of a reference's steps that a response takes before its first wrong equation.

    A step is one operation on two numbers; ``(67 - 20) - 24 = 23`` is two. It is one of the reference where its value
    is, each of the reference's counted once. The share is of the steps of the reference or of the response, whichever
    has more, so that neither stopping early nor padding pays.

    Returns:
        the share, in [0, 1]; none where the reference has no equation that holds.
    """
    from dagrpo.problems.formulas import equations  # imports torch, which the check of a configuration does without

    wanted = Counter(step.value for one in equations(reference) if one.right for step in one.operations)
    if not wanted:
        return None
    own = equations(response)
    sound = Counter(step.value for one in takewhile(lambda one: one.right, own) for step in one.operations)
    taken = sum(len(one.operations) for one in own)
    return (wanted & sound).total() / max(wanted.total(), taken)
