"""`grade` reads other people's rows, adds verdicts, keeps the rest, and names the line that it cannot use."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dagrpo.config import Verifier
from dagrpo.errors import Interrupted, UserError
from dagrpo.verify.explain import _tried
from eval.benchmark_cli import app
from eval.benchmark_tasks.grade import explain_file, grade_file
from tests.miniature import stop_after

ROWS: list[dict[str, Any]] = [
    {"gold": "1/2", "response": r"Half: \boxed{0.5}", "mine": [1, {"a": "é"}]},
    {"gold": "1/2", "response": r"\boxed{}"},
    {"gold": "5", "answer": r"5"},
    {"gold": "5", "answer": r"\frac{11}{2}"},
    {"gold": "B", "response": r"\boxed{(B) two}", "choices": ["one", "two"]},
    {"gold": "B", "answer": "A", "choices": ["one", "two"]},
    {"gold": "5", "response": "so the answer is 5", "finish": "length"},
    {"gold": "5", "response": "so the answer is 5"},
]
VERDICTS = ["correct", "no_answer", "correct", "wrong", "correct", "wrong", "truncated", "correct"]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_come_back_with_what_was_found(tmp_path: Path) -> None:
    counts = grade_file(write(tmp_path / "rows.jsonl", ROWS), tmp_path / "out.jsonl", Verifier(), batch=3)
    graded = read(tmp_path / "out.jsonl")
    assert [row["verdict"] for row in graded] == VERDICTS
    assert [{key: row[key] for key in given} for row, given in zip(graded, ROWS, strict=True)] == ROWS
    assert graded[0]["extracted"] == "0.5" and graded[0]["rule"] == "boxed"
    assert graded[0]["judges"] == {"math_verify": True, "sympy": True} and graded[4]["judges"] == {"letter": True}
    assert all(row["seconds"] >= 0 for row in graded)
    assert counts == {"correct": 4, "wrong": 2, "no_answer": 1, "truncated": 1, "disagreement": 0}


def test_batch_and_workers_change_nothing_but_seconds(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS)
    grade_file(path, tmp_path / "a.jsonl", Verifier(), batch=1)
    grade_file(path, tmp_path / "b.jsonl", Verifier(workers=2), batch=100)
    left, right = read(tmp_path / "a.jsonl"), read(tmp_path / "b.jsonl")
    for row in (*left, *right):
        del row["seconds"]
    assert left == right


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("[" * 99_999, "line 2: not valid JSON"),
        ("{", "line 2: not valid JSON"),
        ("[]", "line 2: expected a JSON object, found list"),
        ('{"gold": "1"}', "line 2: give either 'response'"),
        ('{"gold": "1", "answer": "1", "response": "1"}', "line 2: give either 'response'"),
        ('{"gold": 1, "answer": "1"}', "line 2: 'gold' must be a string, found 1"),
        ('{"gold": " ", "answer": "1"}', "line 2: 'gold' is empty"),
        ('{"gold": "C", "answer": "A", "choices": ["one", "two"]}', "line 2: 'gold' must be the letter"),
        ('{"gold": "A", "answer": "A", "choices": "one"}', "line 2: 'choices' must be a list"),
        ('{"gold": "1", "answer": "1", "finish": "end"}', "line 2: 'finish' must be stop or length"),
    ],
)
def test_a_line_that_is_no_row_is_named(tmp_path: Path, line: str, fault: str) -> None:
    (tmp_path / "rows.jsonl").write_text(f"{json.dumps(ROWS[0])}\n{line}\n")
    with pytest.raises(UserError, match=fault):
        grade_file(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", Verifier())
    assert not (tmp_path / "out.jsonl").exists()


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "latin.jsonl").write_bytes(b'{"gold": "\xe9"}')
    for name, fault in (
        ("none.jsonl", "cannot be read"),
        ("empty.jsonl", "holds no row"),
        ("latin.jsonl", "not UTF-8"),
    ):
        with pytest.raises(UserError, match=fault):
            grade_file(tmp_path / name, tmp_path / "out.jsonl", Verifier())


def test_an_interrupted_run_writes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(Interrupted):
        grade_file(path, tmp_path / "out.jsonl", Verifier(), 2, stop_after(3))
    assert not (tmp_path / "out.jsonl").exists()


def test_the_verb_writes_beside_the_file(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["grade", str(write(tmp_path / "rows.jsonl", ROWS))])
    assert result.exit_code == 0, result.output
    assert "8 rows" in result.output and "correct 4" in result.output and "disagree on 0" in result.output
    assert len(read(tmp_path / "rows.graded.jsonl")) == len(ROWS)


def test_equal_texts_are_equal_whatever_they_hold(tmp_path: Path) -> None:
    texts = [
        "5}",
        "{5",
        "\\",
        "5\\",
        r"\boxed{",
        "</think>",
        "$",
        "\ud800",
        "\ufeff5",
        "a\x00b",
        "1/0",
        r"\frac",
        "x" * 100_000,
    ]
    rows = [{"gold": text, "answer": text} for text in texts]
    counts = grade_file(write(tmp_path / "rows.jsonl", rows), tmp_path / "out.jsonl", Verifier())
    assert counts["correct"] == len(texts)
    assert [row["rule"] for row in read(tmp_path / "out.jsonl")] == ["given"] * len(texts)


@pytest.mark.parametrize("gold", ["5", "(1,2)", r"\frac{1}{2}"])
@pytest.mark.parametrize("tail", ["}", "\\}", "{", r"\boxed{"])
def test_a_bare_answer_is_not_taken_for_its_beginning(gold: str, tail: str, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", [{"gold": gold, "answer": gold + tail + "6"}])
    assert grade_file(path, tmp_path / "out.jsonl", Verifier())["wrong"] == 1


def test_marks_of_order_and_windows_and_half_surrogates_are_read(tmp_path: Path) -> None:
    lines = [
        b'\xef\xbb\xbf{"gold": "5", "answer": "5"}\r\n',
        b'\xef\xbb\xbf{"gold": "5", "response": "\\ud800 so 5: \\\\boxed{5}"}\r\n',
        b'{"gold": "\xed\xa0\x80", "answer": "\xed\xa0\x80"}\r\n',
        b"\r\n",
        b'{"gold": "5", "answer": "\\udfff"}',
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(lines))
    grade_file(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", Verifier())
    graded = read(tmp_path / "out.jsonl")
    assert [row["verdict"] for row in graded] == ["correct", "correct", "correct", "wrong"]
    assert graded[1]["response"].startswith("\ud800") and graded[2]["gold"] == "\ud800"


def test_explanation_says_rule_readings_and_reasons(tmp_path: Path) -> None:
    rows = [*ROWS, {"gold": r"\{1,2\}", "response": r"So \boxed{(1,2)}."}, {"gold": "x+1", "answer": "\ud800"}]
    path = write(tmp_path / "rows.jsonl", rows)
    result = CliRunner().invoke(app, ["grade", str(path), "--explain", "--row", "9"])
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "line 9: wrong",
        "  rule boxed: (1,2)",
        r"  gold \{1,2\}: set {1, 2}; math-verify parses ({1, 2},)",
        "  answer (1,2): point or interval (1, 2); math-verify parses (Interval.open(1, 2),)",
        "  math_verify: unequal, set against point or interval",
        "  sympy: unequal, set against point or interval",
    ]
    result = CliRunner().invoke(app, ["grade", str(path), "--explain"])
    assert [line for line in result.output.splitlines() if not line.startswith(" ")] == [
        f"line {number}: {verdict}" for number, verdict in enumerate([*VERDICTS, "wrong", "wrong"], start=1)
    ]
    assert not (tmp_path / "rows.graded.jsonl").exists()
    with pytest.raises(UserError, match="no row on line 99"):
        list(explain_file(path, Verifier(), 99))


def test_a_step_of_an_explanation_is_given_up_though_a_library_catches_everything() -> None:
    def stubborn() -> str:
        try:
            while True:
                pass
        except Exception:
            return "parsed"

    assert _tried(stubborn, 0.05) == "given up after 0.05 s of processor time"


def test_the_package_is_a_command() -> None:
    done = subprocess.run([sys.executable, "-m", "dagrpo", "grade", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--explain" in done.stdout
