"""The miniature's families: sound, disjoint, balanced; and the program that judges steps."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagrpo import seeds
from dagrpo.config import MiniProblems
from dagrpo.errors import UserError
from dagrpo.problems.mini import (
    FAMILIES,
    LEVELS,
    OUT_OF_DISTRIBUTION,
    check_steps,
    extract_answer,
    generate,
    reference_steps,
    split_of,
)
from dagrpo.problems.mini.corpus import facts
from dagrpo.problems.mini.expressions import canonical, parse
from dagrpo.problems.mini.families import LARGEST, draw, stream
from dagrpo.records import Problem

CELLS = [(family, level) for family in FAMILIES + OUT_OF_DISTRIBUTION for level in LEVELS]
FACTS = dict(facts())
SPEC = MiniProblems(train=300, evaluation=20)


def independent_answer(problem: Problem) -> str:
    """The answer by Python's own arithmetic."""
    names = {"gcd": math.gcd, "max": max, "sort": lambda *values: ",".join(map(str, sorted(values)))}
    names["count"] = lambda bound, *rest: sum(value > bound for value in rest)
    if "=" in problem.prompt:
        left, right = problem.prompt.split("=")
        solutions = [x for x in range(LARGEST + 1) if eval(left, {"x": x}) == eval(right, {"x": x})]
        assert len(solutions) == 1, problem.prompt
        return str(solutions[0])
    value = eval(problem.prompt, names)
    assert value == int(value) if isinstance(value, float) else True
    return str(int(value) if isinstance(value, float) else value)


@pytest.mark.parametrize(("family", "level"), CELLS)
def test_problems_and_solutions_are_sound(family: str, level: int) -> None:
    rng = seeds.generator("test", family, level)
    for _ in range(40):
        problem = draw(family, level, rng)
        assert problem.answer == independent_answer(problem)
        assert problem.solution is not None
        assert problem.solution.endswith(f"A{problem.answer}")
        judged = check_steps(problem, problem.solution)
        assert all(judged), problem
        assert len(judged) == reference_steps(problem)
        assert max(int(number) for number in re.findall(r"\d+", f"{problem.prompt} {problem.solution}")) <= LARGEST
        if family in FAMILIES:
            low, high = ((1, 2), (3, 3), (4, 4), (5, 6))[level]
            assert low <= reference_steps(problem) - 1 <= high
            assert f"{problem.prompt}=" not in FACTS, "a single fact is no question"


def test_generate_is_balanced_disjoint_and_deterministic() -> None:
    sets = generate(SPEC)
    assert sets == generate(SPEC)
    assert len(sets["train"]) == 300
    for split in ("evaluation", "development"):
        cells = [(problem.family, problem.level) for problem in sets[split]]
        assert {cell: cells.count(cell) for cell in set(cells)} == dict.fromkeys(CELLS, 5)
    assert {problem.family for problem in sets["train"]} == set(FAMILIES)
    by_level = [sum(problem.level == level for problem in sets["train"]) for level in LEVELS]
    weights = SPEC.level_weights
    assert by_level == pytest.approx([300 * weight / sum(weights) for weight in weights], abs=3)
    ids = [problem.id for problems in sets.values() for problem in problems]
    assert len(ids) == len(set(ids))
    assert [problem.level for problem in sets["train"]] != sorted(problem.level or 0 for problem in sets["train"])


def test_splits_are_disjoint_whatever_the_seed() -> None:
    contents: dict[str, set[str]] = {"train": set(), "evaluation": set(), "development": set()}
    for seed in (0, 1):
        for split, problems in generate(SPEC.model_copy(update={"seed": seed})).items():
            contents[split] |= {canonical(parse(problem.prompt)) for problem in problems}
    assert all(contents.values())
    assert not contents["train"] & contents["evaluation"]
    assert not contents["train"] & contents["development"]
    assert not contents["evaluation"] & contents["development"]
    assert generate(SPEC)["train"] != generate(SPEC.model_copy(update={"seed": 1}))["train"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("12+7-3", "7+12-3"),
        ("12+7-3", "7-3+12"),
        ("3*4+5", "5+4*3"),
        ("gcd(8,12)+1", "1+gcd(12,8)"),
        ("max(1,2,3)", "max(3,1,2)"),
        ("count(5,1,9)", "count(5,9,1)"),
        ("2*x+3=11", "3+2*x=11"),
        ("2*(3+4)", "(4+3)*2"),
        ("2*x+3=11", "(11-3)/2"),
    ],
)
def test_a_reordered_question_is_the_same_question(one: str, other: str) -> None:
    assert canonical(parse(one)) == canonical(parse(other))
    assert split_of(one) == split_of(other)


@pytest.mark.parametrize(
    ("one", "other"), [("13%5", "5%13"), ("8/4", "4/8"), ("9-4", "4-9"), ("count(5,9,1)", "count(9,5,1)")]
)
def test_different_questions_differ(one: str, other: str) -> None:
    assert canonical(parse(one)) != canonical(parse(other))


def test_splits_have_their_shares() -> None:
    splits = [split_of(problem.prompt) for _, problem in zip(range(2000), stream("sums", 2, "shares"), strict=False)]
    assert splits.count("evaluation") / 2000 == pytest.approx(0.1, abs=0.03)
    assert splits.count("development") / 2000 == pytest.approx(0.1, abs=0.03)


def test_more_problems_than_there_are_is_refused() -> None:
    with pytest.raises(UserError, match=r"distinct evaluation questions of family .* lower problems.evaluation"):
        generate(MiniProblems(train=6, evaluation=20_000))


def question(prompt: str, answer: str, solution: str = "A0") -> Problem:
    return Problem("q", "sums", prompt, answer, solution, 0)


T, F = True, False


@pytest.mark.parametrize(
    ("prompt", "answer", "response", "expected"),
    [
        ("12+7-3", "16", "12+7=19;19-3=16;A16", [T, T, T]),
        ("12+7-3", "16", "7+12=19;19-3=16;A16", [T, T, T]),  # operands commute
        ("12+7-3", "16", "12-3=9;9+7=16;A16", [T, T, T]),  # another sound order
        ("12+7-3", "16", "A16", [T]),  # a bare answer
        ("12+7-3", "16", "12+7=19;A16", [T, T]),  # a step left out
        ("12+7-3", "16", "12+7=18;18-3=15;A15", [F, F, F]),  # false, then built on it
        ("12+7-3", "16", "12+7=19;19+3=22;A22", [T, F, F]),  # true, but the sign is misread
        ("12+7-3", "16", "1=1;12+7=19;19-3=16;A16", [F, T, T, T]),  # true, but no step
        ("12+7-3", "16", "1+1=2;A16", [F, T]),  # true, but not of this question
        ("12+7-3", "16", "12+7=19;12+7=19;A16", [T, F, T]),  # repeated
        ("12+7-3", "16", "12+7=19;19-3=16;", [T, T, F]),  # no answer
        ("12+7-3", "16", "", [F]),
        ("12+7-3", "16", ";;A16", [F, F, T]),
        ("12+7-3", "16", "12+7=19;19-3=16;A16;", [T, T, F]),
        ("12+7-3", "16", "A16A", [F, F]),
        ("20-5-3", "12", "5+3=8;20-8=12;A12", [T, T, T]),  # what is taken away may be gathered first
        ("20-(5-3)", "18", "20-5=15;15-3=12;A12", [F, F, F]),  # brackets ignored
        ("20-(5-3)", "18", "5-3=2;20-2=18;A18", [T, T, T]),
        ("3+4*5", "23", "3+4=7;7*5=35;A35", [F, F, F]),  # precedence ignored
        ("12*4", "48", "10*4=40;2*4=8;40+8=48;A48", [T, T, T, T]),
        ("12*4", "48", "2*4=8;10*4=40;40+8=48;A48", [T, T, T, T]),
        ("4*12", "48", "12*4=48;A48", [T, T]),
        ("12*4", "48", "10*4=40;40+8=48;A48", [T, F, T]),  # 8 comes from nowhere
        ("gcd(36,24)", "12", "36-24=12;24-12=12;A12", [T, T, T]),
        ("gcd(24,36)", "12", "36-24=12;24-12=12;A12", [T, T, T]),
        ("gcd(36,24)", "12", "36-24=12;36-12=24;A12", [T, F, T]),  # 36 is used up
        ("gcd(36,24)", "12", "36+24=60;A12", [F, T]),
        ("23%9", "5", "23-9=14;14-9=5;A5", [T, T, T]),
        ("23%9", "5", "23-9=14;14-9=5;5-9=0;A5", [T, T, F, T]),
        ("3*x+4=19", "5", "19-4=15;15/3=5;A5", [T, T, T]),
        ("3*x+4=19", "5", "19+4=23;A5", [F, T]),
        ("5*x+2=3*x+10", "4", "10-2=8;5-3=2;8/2=4;A4", [T, T, T, T]),
        ("x/3-4=2", "18", "2+4=6;6*3=18;A18", [T, T, T]),
        ("max(3,8,5)", "8", "max(3,8)=8;max(8,5)=8;A8", [T, T, T]),
        ("max(3,8,5)", "8", "max(8,5)=8;max(3,8)=8;A8", [T, T, T]),
        ("max(3,8,5)", "8", "max(3,8)=8;max(3,5)=5;A8", [T, F, T]),  # 3 is out
        ("sort(3,8,5)", "3,5,8", "min(8,3,5)=3;min(5,8)=5;A3,5,8", [T, T, T]),
        ("sort(3,8,5)", "3,5,8", "min(3,5)=3;A3,8,5", [F, F]),
        ("count(5,3,8)", "1", "max(5,3)=5;max(8,5)=8;A1", [T, T, T]),
        ("12+7-3", "16", "9" * 5000 + "+1=1;A16", [F, T]),
        ("12+7-3", "16", "\u0661\u0662+7=19;A16", [F, T]),  # other scripts' digits
    ],
)
def test_check_steps(prompt: str, answer: str, response: str, expected: list[bool]) -> None:
    assert check_steps(question(prompt, answer), response) == expected


@given(st.text(alphabet="0123456789+-*/=;A,()maxingcd ", max_size=60))
def test_check_steps_judges_anything(response: str) -> None:
    judged = check_steps(question("12+7-3", "16"), response)
    assert judged[-1] == (extract_answer(response) == "16")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A16", "16"), ("1+1=2;A2", "2"), ("A1;A2", "2"), ("A 5,7 ", "5,7"), ("12", None), ("A", None), ("", None)],
)
def test_extract_answer(text: str, expected: str | None) -> None:
    assert extract_answer(text) == expected


@pytest.mark.parametrize(
    "text", ["", "1+", "hello", "x", "1**2", "2*x+x=3", "__import__('os')", "f(1)", "x*x=4", "5-x=3"]
)
def test_what_is_no_question_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse(text)


def test_other_problems_cannot_be_checked() -> None:
    with pytest.raises(UserError, match=r"'q': its steps cannot be checked by program; choose"):
        check_steps(question("How many apples?", "3"), "A3")
