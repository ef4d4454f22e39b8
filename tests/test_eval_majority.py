"""maj@k: equal answers vote together, ties are shared, and a problem without an answer scores nothing."""

from collections.abc import Iterator

import pytest

from dagrpo.config import Verifier as VerifierSpec
from dagrpo.records import Problem, Response
from dagrpo.verify import Verifier, make_verifier
from eval.benchmark_tasks.majority import majority


@pytest.fixture(scope="module")
def verifier() -> Iterator[Verifier]:
    with make_verifier(VerifierSpec()) as made:
        yield made


def score(verifier: Verifier, gold: str, *answers: str, choices: tuple[str, ...] | None = None) -> float:
    problem = Problem("p", "f", "?", gold, choices=choices)
    graded = verifier.grade([problem] * len(answers), [Response(text, "stop", "") for text in answers])
    return majority([problem], [graded], verifier)[0]


def boxed(*answers: str) -> list[str]:
    return [rf"So \boxed{{{answer}}}." for answer in answers]


def test_the_most_frequent_answer_counts(verifier: Verifier) -> None:
    assert score(verifier, "2", *boxed("2", "2", "3")) == 1
    assert score(verifier, "3", *boxed("2", "2", "3")) == 0


def test_answers_that_the_verifier_holds_equal_vote_together(verifier: Verifier) -> None:
    assert score(verifier, "1/2", *boxed("0.5", "3", "3", r"\frac{1}{2}", r"\frac{2}{4}")) == 1


def test_a_tie_is_shared(verifier: Verifier) -> None:
    assert score(verifier, "2", *boxed("2", "3")) == 0.5
    assert score(verifier, "2", *boxed("2", "3", "4")) == pytest.approx(1 / 3)


def test_no_answer_is_no_vote(verifier: Verifier) -> None:
    assert score(verifier, "2", "no idea", "nor I", *boxed("2")) == 1
    assert score(verifier, "2", "no idea") == 0


def test_letters_are_compared_as_letters(verifier: Verifier) -> None:
    assert score(verifier, "B", *boxed("B", "(B)", "A"), choices=("one", "two")) == 1
    assert score(verifier, "A", *boxed("B", "(B)", "A"), choices=("one", "two")) == 0


def test_problems_do_not_vote_for_each_other(verifier: Verifier) -> None:
    problems = [Problem("p", "f", "?", "2"), Problem("q", "f", "?", "3")]
    graded = [
        verifier.grade([problem] * 3, [Response(text, "stop", "") for text in boxed("2", "2", "3")])
        for problem in problems
    ]
    assert majority(problems, graded, verifier) == [1, 0]
