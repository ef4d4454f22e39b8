"""Score a response by what it shares with a worked reference; needs no model and no network."""

import re
from collections.abc import Sequence
from itertools import pairwise

from dagrpo.records import Verdict
from dagrpo.scorers.registry import NoOptions, Tools, scorer
from dagrpo.scorers.request import Missing, Scorer, ScoreRequest

_NUMBER = re.compile(r"\d+(?:\.\d+)?|\.\d+")
_OPERATOR = re.compile(r"([-+*/^=<>()])")
_REWRITES = (
    (re.compile(r"\\(?:left|right|displaystyle|quad|qquad)(?![a-zA-Z])|\\[!,;: ()\[\]]|[$&~]"), ""),
    (re.compile(r"\\(?:times|cdot)(?![a-zA-Z])|[×·⋅]"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])|÷"), "/"),
    (re.compile("[−–]"), "-"),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"\1/\2"),
    (re.compile(r"\\(?:boxed|text|mathrm)(?![a-zA-Z])|[{}]"), ""),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
)


@scorer("reference_overlap")
class ReferenceOverlap(Scorer):
    """Agreement of a response with the problem's own worked solution."""

    def __init__(self, options: NoOptions, tools: Tools) -> None:
        pass

    def score(self, requests: Sequence[ScoreRequest]) -> list[float | Missing]:
        """Score each request in [0, 1]; missing where the reference is, or has neither number nor equation."""
        return [_score(request) for request in requests]


def _score(request: ScoreRequest) -> float | Missing:
    reference = atoms(request.problem.solution or "")
    if not reference:
        return Missing(
            "no reference solution with a number in it",
            "Choose problems with worked solutions, or a scorer that needs none",
        )
    own = atoms(request.response)
    shared = len(own & reference)
    answered = request.verdict not in (Verdict.NO_ANSWER, Verdict.TRUNCATED)
    return combine(
        correct=float(request.verdict is Verdict.CORRECT),
        precision=shared / len(own) if own else 0.0,
        coverage=shared / len(reference),
        finished=float(request.finished and answered),
    )


def combine(correct: float, precision: float, coverage: float, finished: float) -> float:
    """Weigh the four parts, each in [0, 1]: 0.30 correct + 0.35 precision + 0.25 coverage + 0.10 finished.

    The weight of the verdict stays below a third, the paper's margin of 3 on a scale of 9: otherwise a right and a
    wrong answer with the same working would always be told apart, and no gate on that margin could ever close.
    """
    return 0.30 * correct + 0.35 * precision + 0.25 * coverage + 0.10 * finished


def atoms(text: str) -> frozenset[str]:
    """Collect the numbers of a text and its equations ``lhs=rhs`` (each link of a chain), written in one way."""
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    # Spaces go by splitting: a pattern of spaces around an operator is quadratic in a long run of them.
    text = "".join(part.strip(" \t") for part in _OPERATOR.split(text))
    text = _NUMBER.sub(lambda match: _normal(match[0]), text)
    found = set(_NUMBER.findall(text))
    for piece in re.split(r"[\s;,]+", text):
        sides = [side.strip(".:!?") for side in piece.split("=")]
        found.update(f"{left}={right}" for left, right in pairwise(sides) if left and right)
    return frozenset(found)


def _normal(number: str) -> str:
    whole, _, fraction = number.partition(".")
    fraction = fraction.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")
