"""Responses in, verdicts out: the five verdicts, and what a policy might try instead of answering."""

import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from benchmarks.answers import hostile_responses
from benchmarks.grading import throughput
from benchmarks.stopwatch import stopwatch
from dagrpo.config import Verifier as VerifierSpec
from dagrpo.errors import Interrupted, UserError
from dagrpo.processes.signals import never
from dagrpo.records import Finish, Problem, Response, Verdict
from dagrpo.verify import Graded, MathVerifier, Verifier, make_verifier
from dagrpo.verify.extract import extract
from dagrpo.verify.workers import Workers
from tests.stopwatch import NEEDS_PROC
from tests.verify_pairs import Pair
from tests.verify_pairs import pairs as table

CHOICES = ("Venus", "Mars", "Earth", "Pluto")
CORRECT, WRONG, NO_ANSWER, TRUNCATED, TIMEOUT = Verdict


@pytest.fixture(scope="module")
def math() -> Iterator[Verifier]:
    with make_verifier(VerifierSpec(kind="math", workers=2, seconds=2.0)) as verifier:
        yield verifier


def problem(answer: str, choices: tuple[str, ...] | None = None, prompt: str = "?") -> Problem:
    return Problem("p", "f", prompt, answer, choices=choices)


def grade(verifier: Verifier, pairs: Sequence[tuple[Problem, str]], finish: Finish = "stop") -> list[Graded]:
    return verifier.grade([p for p, _ in pairs], [Response(text, finish, "") for _, text in pairs])


def boxed(pair: Pair) -> str:
    return rf"so \boxed{{{pair.answer}}}"


def verdict(verifier: Verifier, gold: str, response: str, finish: Finish = "stop") -> Verdict:
    return grade(verifier, [(problem(gold), response)], finish)[0].verdict


# ---------------------------------------------------------------- verdicts


def test_five_verdicts(math: Verifier) -> None:
    rows: list[tuple[str, Finish, Graded]] = [
        (r"\boxed{1+x}", "stop", Graded(CORRECT, "1+x", "boxed", {"math_verify": True, "sympy": True})),
        ("The answer is x.", "stop", Graded(WRONG, "x", "phrase", {"math_verify": False, "sympy": False})),
        ("I pass.", "stop", Graded(NO_ANSWER, None, "none")),
        ("The answer is x+1", "length", Graded(TRUNCATED, None, "none")),
        (r"\boxed{x+1} and so on", "length", Graded(CORRECT, "x+1", "boxed", {"math_verify": True, "sympy": True})),
        (r"\boxed{9^{9^{9}}}", "stop", Graded(TIMEOUT, "9^{9^{9}}", "boxed")),
    ]
    responses = [Response(text, finish, "") for text, finish, _ in rows]
    assert math.grade([problem("x+1")] * len(rows), responses) == [row[2] for row in rows]
    assert math.grade([], []) == []


def test_the_configured_judge_decides_and_both_are_recorded(math: Verifier) -> None:
    pair = (problem(r"\gcd(12,18)"), r"\boxed{\gcd(18,12)}")
    recorded = {"math_verify": True, "sympy": False}
    assert grade(math, [pair])[0] == Graded(CORRECT, r"\gcd(18,12)", "boxed", recorded)
    assert isinstance(math, MathVerifier)
    other = MathVerifier(math.workers, decisive="sympy")
    assert grade(other, [pair])[0] == Graded(WRONG, r"\gcd(18,12)", "boxed", recorded)


def test_multiple_choice(math: Verifier) -> None:
    responses = [r"\boxed{B}", r"\boxed{\text{Mars}}", "B) Mars", r"\boxed{C}", r"\boxed{A,B,C,D}", "no idea"]
    graded = grade(math, [(problem("B", CHOICES), response) for response in responses])
    assert [row.verdict for row in graded] == [CORRECT, CORRECT, CORRECT, WRONG, WRONG, NO_ANSWER]
    assert graded[1] == Graded(CORRECT, "B", "boxed/option_text", {"letter": True})


def test_exact_verifier() -> None:
    with make_verifier(VerifierSpec(kind="exact")) as exact:
        assert grade(exact, [(problem("19"), "12+7=19;A19")])[0] == Graded(CORRECT, "19", "after_A", {"exact": True})
        assert verdict(exact, "19", "A7;A19") is CORRECT
        assert verdict(exact, "19", "A019") is WRONG
        assert verdict(exact, "19", "12+7=19;A") is NO_ANSWER
        assert verdict(exact, "19", "12+7=19") is NO_ANSWER
        assert verdict(exact, "19", "12+7=19;A19", "length") is TRUNCATED


@pytest.mark.parametrize("kind", ["exact", "math"])
def test_bad_problems_are_refused(kind: str, math: Verifier) -> None:
    verifier = math if kind == "math" else make_verifier(VerifierSpec(kind="exact"))
    for answer in ("", " "):
        with pytest.raises(UserError, match="'p' has an empty answer"):
            grade(verifier, [(problem(answer), "5")])
    with pytest.raises(UserError, match="letter of one of its 4 choices"):
        grade(verifier, [(problem("E", CHOICES), "E")])


@pytest.mark.parametrize("kind", ["exact", "math"])
def test_interruption(kind: str, math: Verifier) -> None:
    assert isinstance(math, MathVerifier)
    stopped = make_verifier(VerifierSpec(kind="exact"), lambda: True)
    with pytest.raises(Interrupted):
        grade(MathVerifier(math.workers, lambda: True) if kind == "math" else stopped, [(problem("5"), "5")])


# ---------------------------------------------------------------- gaming


@pytest.mark.parametrize(
    "response",
    [
        "",
        " \n ",
        r"\boxed{}",
        r"14 + 3 = 17 so the answer is \boxed{}",
        r"\boxed{\text{}}",
        r"\boxed{$$}",
        "17",
        "It is 17, I am sure: 17",
        "17 " * 500,
        r"\boxed{17} \boxed{18}",
        r"\boxed{16} \boxed{18} \boxed{19}",
        r"\boxed{14, 3, 17}",
        r"\boxed{14; 3; 17}",
        r"\boxed{14 \text{ or } 17}",
        r"\boxed{14, 3, 11, 17, 42}",
        r"\boxed{\{1,2,\ldots,17\}}",
        r"\boxed{14 3 17}",
        r"\boxed{17 17}",
        r"\boxed{1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17}",
        r"\boxed{x = 14, x = 17}",
        r"\boxed{\text{between 14 and 17}}",
        r"\boxed{\text{the sum of 14 and 3, which is not 17}}",
        r"\boxed{\text{I think it is } 17}",
        "The answer is hard to tell, 14 or 3 or 17",
        "The answer is not 17",
        r"\boxed{[0, 17]}",
        r"\boxed{\leq 17}",
        r"\boxed{n}",
        r"\boxed{17 + x}",
        r"\boxed{17 \text{ kg}}",
        r"\boxed{170\%}",
        r"\boxed{-17}",
        r"\boxed{1.7}",
        r"\boxed{17.5}",
        r"\boxed{answer}",
        r"\boxed{\infty}",
        r"\boxed{\text{undefined}}",
        r"\boxed{17/0}",
        r"<think> \boxed{17}",
        r"<think> so \boxed{17} </think> \boxed{18}",
        r"\boxed{17",
        r"<answer></answer>",
        r"<answer>14</answer>",
    ],
)
def test_what_does_not_earn_a_reward(math: Verifier, response: str) -> None:
    question = problem(r"17\text{ cm}", prompt="A stick of 14 cm grows by 3 cm. How long is it?")
    graded = grade(math, [(question, response)])[0]
    assert graded.verdict is not CORRECT
    assert not any(graded.judges.values())


@pytest.mark.parametrize(
    "response",
    [
        r"\boxed{A, B, C, D}",
        r"\boxed{ABCD}",
        r"\boxed{A or B or C or D}",
        r"\boxed{A}\boxed{C}",
        "The answer is A. Or B. Or C. Or D.",
        "A B C D",
        r"\boxed{\text{Venus, Mars, Earth, Pluto}}",
        r"\boxed{\text{all of the above}}",
        r"\boxed{}",
        r"\boxed{(A) Mars}",
        "B is a letter, so are A, C and D",
    ],
)
def test_naming_options_at_random_does_not_earn_a_reward(math: Verifier, response: str) -> None:
    assert grade(math, [(problem("B", CHOICES), response)])[0].verdict is not CORRECT


# ---------------------------------------------------------------- the same everywhere


def test_regrading_gives_the_same_whatever_the_workers_and_the_order(math: Verifier) -> None:
    alike = [pair for pair in table() if pair.judge is None and r"\sum" not in pair.gold]  # sums come near the limit
    rows = [pair for pair in alike if extract(boxed(pair), "stop").answer == pair.answer.strip()][::3]
    pairs = [(problem(row.gold), boxed(row)) for row in rows]
    first = grade(math, pairs)
    assert [row.verdict is CORRECT for row in first] == [row.right for row in rows]
    with make_verifier(VerifierSpec(kind="math", workers=1)) as alone:
        order = random.Random(0).sample(range(len(pairs)), len(pairs))
        assert grade(alone, [pairs[index] for index in order]) == [first[index] for index in order]


def test_a_worker_has_met_the_grammar_before_its_first_task() -> None:
    """What takes math-verify long to read for the first time is judged within the limit by a verifier that is new."""
    gold, answer = r"G_n = \sum_{k=0}^{n-1} G_k G_{n-k-1}", r"G_n = \sum_{k=0}^{n-1} G_{n-k-1} G_k"
    with make_verifier(VerifierSpec(kind="math", workers=1, seconds=2.0)) as fresh:
        assert verdict(fresh, gold, rf"\boxed{{{answer}}}") is CORRECT


# ---------------------------------------------------------------- speed


@pytest.mark.slow
@NEEDS_PROC
@pytest.mark.parametrize("workers", [1, 2])
def test_64_hostile_answers_delay_a_call_by_less_than_the_limit_and_a_second(workers: int) -> None:
    with MathVerifier(Workers(workers, 2.0, never)) as verifier:
        ordinary = [(problem("x+1"), rf"\boxed{{x+{n}}}") for n in range(64)]
        grade(verifier, ordinary)
        with stopwatch(verifier.workers) as watch:
            graded = grade(verifier, [(problem("x"), response) for response in hostile_responses(64)] + ordinary)
    assert watch.seconds < 3.0
    assert CORRECT not in [row.verdict for row in graded[:64]]
    assert [row.verdict for row in graded[64:]] == [CORRECT if n == 1 else WRONG for n in range(64)]


@pytest.mark.slow
@NEEDS_PROC
def test_throughput_of_ordinary_answers() -> None:
    with MathVerifier(Workers(2, 2.0, never)) as verifier:
        rates = throughput(verifier, calls=6)
    assert max(rate.processor for rate in rates[1:]) >= 3000


def test_settled_answers_do_not_wait_for_workers(tmp_path: Path) -> None:
    """Records of plain answers are graded in this process: no worker is asked."""

    class Unasked(Workers):
        def __init__(self) -> None:
            pass

        def judge(self, tasks: Sequence[tuple[str, str, str]]) -> list[None]:  # type: ignore[override]
            assert not tasks
            return []

    rows = [("25", "025", CORRECT), ("1/2", "0.5", CORRECT), ("7", "8", WRONG), ("5 cm", "5 m", WRONG)]
    graded = grade(MathVerifier(Unasked()), [(problem(gold), rf"\boxed{{{answer}}}") for gold, answer, _ in rows])
    assert [row.verdict for row in graded] == [row[2] for row in rows]
    assert json.dumps([row.judges for row in graded])
