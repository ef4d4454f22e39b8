"""Equations in text: which are found, which are right, and the score of a response by those of its reference."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagrpo.config import Scorer as ScorerSpec
from dagrpo.problems.formulas import equations, operations, written
from dagrpo.records import Problem, Verdict
from dagrpo.scorers import ScoreRequest, make_scorer, to_ten
from dagrpo.scorers.equation_checker import process_score

REFERENCE = "30 + 12 = 42\n42 / 6 = 7\n\\boxed{7}"


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("3 + 4 = 7", [True]),
        ("3 + 4 = 8", [False]),
        ("so 2 * (3 + 4) = 14.", [True]),
        ("3 × 4 = 12 = 2 * 6, and 12 ÷ 5 = 2.4", [True, True]),  # the link 12 = 2 * 6 has no operation on its left
        ("$5 + $3 = $8", [True]),
        ("1,200 / 2 = 600", [True]),
        ("5 apples + 3 apples = 8 apples", [True]),
        ("10 / 3 = 3.33", [True]),
        ("10 / 3 = 3", [False]),
        ("\\frac{6}{2} = 3", [True]),
        ("12*4 = <<12*4=48>>48", [True]),
        ("1. 5 + 3 = 8\n- 8 - 2 = 6", [True, True]),
        ("x = 5, 4 = 4, 3 / 0 = 1, 2 ** 3 = 8, 7(2) = 14", []),
        ("", []),
    ],
)
def test_equations_of_a_text(text: str, flags: list[bool]) -> None:
    assert [one.right for one in equations(text)] == flags


def test_operations_come_in_the_order_of_evaluation() -> None:
    steps = operations("(67-20)-2*1.5")
    assert steps is not None
    assert [(step.left, step.sign, step.right, step.value) for step in steps] == [
        (67, "-", 20, 47),
        (2, "*", Fraction(3, 2), 3),
        (47, "-", 3, 44),
    ]
    assert operations("7") == ()
    assert operations("LCM[3,4]") is operations("1/0") is operations("2**9") is operations("(" * 500) is None


@pytest.mark.parametrize(
    ("value", "text"), [("7", "7"), ("-1/2", "-0.5"), ("1/8", "0.125"), ("1/3", None), ("0", "0"), ("100", "100")]
)
def test_numbers_are_written_exactly_or_not_at_all(value: str, text: str | None) -> None:
    assert written(Fraction(value)) == text


@pytest.mark.parametrize(
    ("response", "score"),
    [
        (REFERENCE, 1.0),
        ("(30 + 12) / 6 = 7", 1.0),  # both steps in one equation
        ("30 + 12 = 42", 0.5),  # stops early
        ("30 + 12 = 42\n42 / 6 = 8", 0.5),  # a slip
        ("30 + 12 = 43\n42 / 6 = 7", 0.0),  # right only after the first wrong step
        (REFERENCE + "\n1 + 1 = 2\n2 + 2 = 4", 0.5),  # padding does not pay
        ("30 - 12 = 18\n18 / 6 = 3", 0.0),  # right arithmetic of another problem
        ("42 / 6 = 7\n42 / 6 = 7", 0.5),  # a step of the reference counts once
        ("The answer is 7.", 0.0),
    ],
)
def test_process_score(response: str, score: float) -> None:
    assert process_score(response, REFERENCE) == pytest.approx(score, abs=1e-12)


def test_score_of_a_request() -> None:
    scorer = make_scorer(ScorerSpec(kind="equation_checker", max_missing=1.0))
    problem = Problem("p", "f", "How many?", "7", solution=REFERENCE)
    slip = ScoreRequest(problem, "30 + 12 = 42\n42 / 6 = 8", Verdict.WRONG, True)
    whole = ScoreRequest(problem, REFERENCE, Verdict.CORRECT, True)
    lucky = ScoreRequest(problem, "\\boxed{7}", Verdict.CORRECT, True)
    assert scorer.score([whole, slip, lucky]) == pytest.approx([1.0, 0.35, 0.3])


def test_the_verdict_alone_stays_below_the_margin() -> None:
    scorer = make_scorer(ScorerSpec(kind="equation_checker", max_missing=1.0))
    problem = Problem("p", "f", "How many?", "7", solution=REFERENCE)
    asked = [ScoreRequest(problem, REFERENCE, verdict, True) for verdict in (Verdict.CORRECT, Verdict.WRONG)]
    right, wrong = (to_ten(score) for score in scorer.score(asked))
    assert 0 < right - wrong < 3


@given(st.text(alphabet="0123456789+-*/=(). x\n$,", max_size=200))
def test_no_text_breaks_the_reading(text: str) -> None:
    score = process_score(text, REFERENCE)
    assert score is not None and 0 <= score <= 1
