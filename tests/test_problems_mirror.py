"""A local mirror of real rows, with rows of our own making; the real one is looked at where there is one."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from dagrpo.config import MirrorProblems
from dagrpo.errors import UserError
from dagrpo.problems import build


def benchmark_row(name: str, **changes: Any) -> dict[str, Any]:
    row = {"id": name, "problem": f"What is {name}?", "answer": "7", "choices": None, "subject": None, "level": None}
    return row | {"source": "ours"} | changes


def training_row(name: str, problem: str, **changes: Any) -> dict[str, Any]:
    row = {"id": name, "problem": problem, "answer": "7", "solution": f"<think>{name}</think> <answer>7</answer>"}
    return row | {"source": "ours", "level": "Level 3"} | changes


def write(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "benchmarks" / "plain.jsonl", [benchmark_row(f"p{i}", level="Numerical") for i in range(5)])
    choices = [
        benchmark_row("c0", choices=["red", "blue"], answer="B", level="2"),
        benchmark_row("c1", problem="a\u2028b"),
    ]
    write(tmp_path / "benchmarks" / "choice.jsonl.gz", choices)
    rows = [
        training_row("long", "x" * 50),
        training_row("middle", "x" * 20),
        training_row("bare", "x", solution=None),
        training_row("short", "xx"),
    ]
    write(tmp_path / "train" / "traces.jsonl", rows)
    return tmp_path


def spec(folder: Path | None, **changes: Any) -> MirrorProblems:
    settings: dict[str, Any] = {
        "benchmarks": ("plain", "choice"),
        "train_file": "traces",
        "train": 2,
        "max_prompt_chars": 30,
    }
    return MirrorProblems(mirror=folder, **(settings | changes))


def test_rows_become_problems(folder: Path) -> None:
    sets = build(spec(folder))
    assert [problem.id for problem in sets.train] == ["short", "middle"]
    assert sets.train[0].solution == "<think>short</think> <answer>7</answer>"
    assert sets.train[0].family == "traces"
    assert sets.train[0].level == 3
    assert [problem.family for problem in sets.evaluation] == ["plain"] * 5 + ["choice"] * 2
    assert sets.evaluation[0].level is None
    assert sets.evaluation[5].prompt == "What is c0?\nA. red\nB. blue"
    assert sets.evaluation[5].choices == ("red", "blue")
    assert sets.evaluation[5].level == 2
    assert sets.evaluation[6].prompt == "a\u2028b"
    assert sets.families == {"plain": (5, 5), "choice": (2, 2)}


def test_a_limit_takes_the_first_rows_and_says_so(folder: Path) -> None:
    sets = build(spec(folder, limit=3))
    assert [problem.id for problem in sets.evaluation] == ["p0", "p1", "p2", "c0", "c1"]
    assert sets.families == {"plain": (3, 5), "choice": (2, 2)}


def test_the_environment_names_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGRPO_MIRROR", str(folder))
    assert len(build(spec(None)).train) == 2


def test_a_missing_mirror_says_how_to_set_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAGRPO_MIRROR", raising=False)
    with pytest.raises(UserError, match=r"no mirror .* DAGRPO_MIRROR"):
        build(spec(None))
    with pytest.raises(UserError, match=r"absent is not a folder; .* DAGRPO_MIRROR"):
        build(spec(folder / "absent"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"benchmarks": ("plane",)}, "no file plane.jsonl or plane.jsonl.gz; did you mean 'plain'"),
        ({"train_file": "trace"}, "no file trace.jsonl .* did you mean 'traces'"),
        ({"train": 3}, "has 2 rows with a solution .* 3 wanted; lower problems.train or raise"),
    ],
)
def test_what_cannot_be_met_is_refused(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(spec(folder, **changes))


@pytest.mark.parametrize(
    "row",
    [
        "{",
        "[]",
        {"id": "x"},
        benchmark_row("x", answer=" "),
        benchmark_row("x", answer=7),
        benchmark_row("p0"),
        benchmark_row("x", problem=None),
    ],
)
def test_broken_rows_are_named(folder: Path, row: Any) -> None:
    write(folder / "benchmarks" / "plain.jsonl", [benchmark_row("p0"), row])
    with pytest.raises(UserError, match=r"plain.jsonl, line 2: "):
        build(spec(folder))


def test_a_damaged_archive_is_named(folder: Path) -> None:
    path = folder / "benchmarks" / "choice.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(UserError, match=r"choice.jsonl.gz: cannot be read"):
        build(spec(folder))


@pytest.mark.skipif("DAGRPO_MIRROR" not in os.environ, reason="DAGRPO_MIRROR names no mirror of the benchmarks")
def test_the_real_mirror() -> None:
    benchmarks = ("aime2024", "aime2025", "amc2023", "math500", "minerva_math", "olympiadbench")
    sets = build(MirrorProblems(benchmarks=(*benchmarks, "arc_challenge", "gpqa_diamond", "mmlu_pro"), limit=8))
    assert len(sets.train) == 200
    assert len(sets.evaluation) == 72
    assert sets.families["aime2024"] == (8, 30)
    assert all(problem.solution and len(problem.prompt) <= 300 for problem in sets.train)


def test_training_rows_that_are_benchmark_questions_are_left_out_before_the_shortest_are_taken(folder: Path) -> None:
    """The question stands beyond the limit of the evaluation, and counts."""
    asked = "Which of the numbers from one to ten is prime and even?"
    write(folder / "benchmarks" / "plain.jsonl", [benchmark_row("p0"), benchmark_row("p1", problem=asked)])
    write(folder / "train" / "traces.jsonl", [training_row(name, text) for name, text in (
        ("copy", asked.upper()), ("own", "x" * 70), ("other", "y" * 80),
    )])  # fmt: skip
    kept = build(spec(folder, max_prompt_chars=100, limit=1))
    dropped = build(spec(folder, max_prompt_chars=100, limit=1, drop_overlap=0.8))
    assert [row.id for row in kept.train] == ["copy", "own"] and [row.id for row in dropped.train] == ["own", "other"]
    with pytest.raises(UserError, match="apart from the benchmarks, 3 wanted"):
        build(spec(folder, max_prompt_chars=100, train=3, drop_overlap=0.8))
