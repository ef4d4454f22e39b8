"""Scores of responses: formulas by hand, and what they must not be fooled by."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagrpo.config import MiniProblems
from dagrpo.config import Scorer as ScorerSpec
from dagrpo.errors import UserError
from dagrpo.problems import mini
from dagrpo.records import Problem, Verdict
from dagrpo.scorers import ScoreRequest, make_scorer, to_ten
from dagrpo.scorers.reference_overlap import atoms, combine
from dagrpo.scorers.step_checker import prefix_score

PROBLEM = Problem("p", "f", "What is 3 times 4, plus 5?", "17", solution="3 × 4 = 12, then 12 + 5 = 17.")


def overlap(
    response: str, verdict: Verdict = Verdict.CORRECT, finished: bool = True, problem: Problem = PROBLEM
) -> float:
    return make_scorer(ScorerSpec(kind="reference_overlap")).score(
        [ScoreRequest(problem, response, verdict, finished)]
    )[0]


@pytest.mark.parametrize(
    ("parts", "score", "ten"),
    [
        ((1, 0.8, 0.6, 1), 0.83, 8.47),
        ((0, 0.7, 0.5, 1), 0.47, 5.23),
        ((0, 0.8, 0.6, 1), 0.53, 5.77),
        ((0, 0.2, 0.1, 0), 0.095, 1.855),
    ],
)
def test_overlap_weights(parts: tuple[float, float, float, float], score: float, ten: float) -> None:
    assert combine(*parts) == pytest.approx(score, abs=1e-12)
    assert to_ten(combine(*parts)) == pytest.approx(ten, abs=1e-12)


def test_overlap_margin_follows_the_working() -> None:
    right = to_ten(combine(1, 0.8, 0.6, 1))
    assert right - to_ten(combine(0, 0.7, 0.5, 1)) == pytest.approx(3.24)
    assert right - to_ten(combine(0, 0.8, 0.6, 1)) == pytest.approx(2.70)


def test_atoms_are_numbers_and_links_of_equations() -> None:
    assert atoms("We get $3\\times 4 = 12.0 = 10+2$.") == {"3", "4", "12", "10", "2", "3*4=12", "12=10+2"}
    assert atoms("12+07=19;A19") == {"12", "7", "19", "12+7=19"}
    assert atoms("\\frac{1}{2} + 1,000 = x") == {"1", "2", "1000", "1/2+1000=x"}
    assert atoms("no figure here = ") == frozenset()


def test_overlap_by_hand() -> None:
    # reference atoms: 3 4 12 5 17, 3*4=12, 12+5=17; the response has 3 4 12 3*4=12, all of them shared
    assert overlap("3*4=12") == pytest.approx(0.30 + 0.35 + 0.25 * 4 / 7 + 0.10)
    assert overlap("3*4=13", Verdict.WRONG) == pytest.approx(0.35 * 2 / 4 + 0.25 * 2 / 7 + 0.10)
    assert overlap(PROBLEM.solution or "") == pytest.approx(1.0)
    assert overlap("I do not know", Verdict.NO_ANSWER) == 0.0


def test_overlap_counts_an_answer_only_where_one_was_given_in_time() -> None:
    base = overlap("3*4=12", Verdict.WRONG)
    assert overlap("3*4=12", Verdict.NO_ANSWER) == pytest.approx(base - 0.10)
    assert overlap("3*4=12", Verdict.WRONG, finished=False) == pytest.approx(base - 0.10)


@pytest.mark.parametrize("solution", [None, "", "It is plain to see."])
def test_overlap_without_a_reference_is_missing(solution: str | None) -> None:
    assert math.isnan(overlap("3*4=12", problem=replace(PROBLEM, solution=solution)))


def test_overlap_takes_long_texts_in_its_stride() -> None:
    for text in ("7" * 200_000, "=" * 200_000, "a=" * 100_000, " " * 200_000, "{" * 200_000, "1," * 100_000):
        assert 0 <= overlap(text) <= 1


@pytest.mark.parametrize(
    ("flags", "total", "score"),
    [
        ([1, 1, 0, 1], 4, 0.5),
        ([], 3, 0.0),
        ([1, 1], 2, 1.0),
        ([1, 1], 4, 0.5),
        ([0, 1, 1], 3, 0.0),
        ([1, 0, 0, 0, 0], 5, 0.2),
    ],
)
def test_prefix_score(flags: list[bool], total: int, score: float) -> None:
    assert prefix_score(flags, total) == score


@given(st.lists(st.booleans(), max_size=12), st.integers(1, 12))
def test_prefix_score_never_gains_from_an_appended_step(flags: list[bool], reference: int) -> None:
    score = prefix_score(flags, max(len(flags), reference))
    wrong = [*flags, False]
    assert 0 <= score <= 1
    assert prefix_score(wrong, max(len(wrong), reference)) <= score


def test_step_checker_on_the_miniature() -> None:
    scorer = make_scorer(ScorerSpec(kind="step_checker"))
    problems = mini.generate(MiniProblems(train=60, evaluation=2))["train"]
    for problem in problems:
        solution = problem.solution or ""
        sound, sloppy, empty = (
            ScoreRequest(problem, text, Verdict.WRONG, True) for text in (solution, "9=8;" + solution, "")
        )
        assert scorer.score([sound, sloppy, empty]) == [1.0, 0.0, 0.0]


def test_step_checker_refuses_other_problems() -> None:
    with pytest.raises(UserError, match="reference_overlap"):
        make_scorer(ScorerSpec(kind="step_checker")).score([ScoreRequest(PROBLEM, "", Verdict.WRONG, True)])
