"""Word problems: demonstrations from the sources' formulas, a stratified draw, and no row that serves two purposes."""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from dagrpo.config import Verifier, WordProblems
from dagrpo.errors import UserError
from dagrpo.problems import build
from dagrpo.problems.words import demonstrated, stratified
from dagrpo.records import Problem, Response, Verdict
from dagrpo.verify import make_verifier

NAMES = ("Ann", "Bob", "Cid", "Dee", "Eve", "Fay", "Gus", "Hal", "Ida", "Jim", "Kay", "Lee")


def question(number: int) -> str:
    name, other = NAMES[number % 12], NAMES[number // 12]
    return f"{name} found {number + 2} shells near {other} bay, then {number + 9} more near {name} cove. How many?"


def write(folder: Path, name: str, rows: list[dict[str, Any]]) -> None:
    path = folder / f"{name}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        {
            "id": f"r{number}",
            "problem": question(number),
            "answer": str(2 * number + 11),
            "solution": f"{number + 2}+{number + 9}={2 * number + 11}\n\\boxed{{{2 * number + 11}}}",
            "level": str(1 + number % 3),
        }
        for number in range(60)
    ]
    write(tmp_path / "train", "plain", rows)
    # The same questions from another source, and a question of the benchmark.
    write(tmp_path / "train", "again", [{**row, "id": f"a{row['id']}"} for row in rows])
    write(tmp_path / "benchmarks", "asked", [{"id": "b", "problem": question(7), "answer": "25", "choices": None}])
    return tmp_path


def spec(folder: Path, **changes: Any) -> WordProblems:
    told = {
        "train": {"plain": 20, "again": 8},
        "warm": {"plain": 12},
        "development": {"plain": 6},
        "benchmarks": ("asked",),
    }
    return WordProblems.model_validate({"mirror": folder, **told, **changes})


def test_no_question_serves_two_purposes(folder: Path) -> None:
    sets = build(spec(folder))
    development = build(spec(folder, split="development")).evaluation
    purposes = [{row.prompt for row in rows} for rows in (sets.warm, sets.train, development, sets.evaluation)]
    assert [len(rows) for rows in (sets.warm, sets.train, development)] == [12, 28, 6]
    assert sum(map(len, purposes)) == len(set.union(*purposes))
    assert sets.counts["plain"]["in_benchmarks"] == sets.counts["again"]["in_benchmarks"] == 1
    assert sets.counts["again"]["like_warm"] == 12  # their twins of the other source


def test_the_draw_is_stratified_and_seeded(folder: Path) -> None:
    drawn = build(spec(folder, train={"plain": 21})).train
    assert set(Counter(row.level for row in drawn).values()) <= {6, 7, 8}
    assert build(spec(folder)).train == build(spec(folder)).train != build(spec(folder, seed=1)).train
    rows = [Problem(str(number), "f", "q", "1", level=number % 10 == 0) for number in range(100)]
    assert [sum(row.level is True for row in stratified(rows, 0)[:most]) for most in (20, 50, 100)] == [2, 5, 10]


@pytest.mark.parametrize(
    ("solution", "answer", "worked"),
    [
        ("(67-20)-24=23\n\\boxed{23}", "23", "67 - 20 = 47\n47 - 24 = 23\n\\boxed{23}"),
        (
            "She pays 2*3=$<<2*3=6>>6.\nSo 6/4=<<6/4=1.5>>1.5 each.\n#### 1.5",
            "1.5",
            "2 * 3 = 6\n6 / 4 = 1.5\n\\boxed{1.5}",
        ),
        ("3+4=8\n\\boxed{8}", "8", None),  # a mistake
        ("3+4=7\n\\boxed{8}", "8", None),  # not the answer
        ("17/10=1 r7", "1", None),
        ("LCM[4,13]=52\n\\boxed{52}", "52", None),
        ("10/3*3=10\n\\boxed{10}", "10", None),  # a number that cannot be written
        ("1+1+1+1+1=5", "5", None),  # too long
        ("", "5", None),
    ],
)
def test_demonstrations_are_the_sources_formulas(folder: Path, solution: str, answer: str, worked: str | None) -> None:
    row = demonstrated(Problem("p", "f", "q", answer, solution=solution), spec(folder))
    assert (row.solution if row else None) == worked


def test_too_few_rows_are_said(folder: Path) -> None:
    with pytest.raises(UserError, match=r"problems.train.plain: 100 rows wanted, \d+ are left"):
        build(spec(folder, train={"plain": 100}))


def test_development_needs_rows(folder: Path) -> None:
    with pytest.raises(ValueError, match="how many rows"):
        spec(folder, split="development", development={})


@pytest.mark.slow
@pytest.mark.skipif("DAGRPO_MIRROR" not in os.environ, reason="no mirror is given")
def test_the_verifier_accepts_every_demonstration_of_the_mirror() -> None:
    names = {"asdiv": 300, "mawps": 300, "gsm8k_train": 300}
    sets = build(WordProblems(train=names, benchmarks=("asdiv", "svamp")))
    assert sets.counts["mawps"]["in_benchmarks"] >= 59
    with make_verifier(Verifier()) as verifier:
        graded = verifier.grade(sets.train, [Response(row.solution or "", "stop", "") for row in sets.train])
    assert {one.verdict for one in graded} == {Verdict.CORRECT}
