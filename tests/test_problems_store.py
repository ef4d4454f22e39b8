"""Problem files: what is broken is named by file and line, and nothing half-written is left."""

import json
from pathlib import Path
from typing import Any

import pytest

from dagrpo.config import MiniProblems
from dagrpo.errors import UserError
from dagrpo.problems import build, read_problems, write_problem_sets, write_problems
from dagrpo.records import Problem

PROBLEMS = [
    Problem("a", "sums", "1+2+3", "6", "1+2=3;3+3=6;A6", 0),
    Problem("b", "trivia", "Which é?\u2028A. x\nB. y", "B", None, None, ("x", "y")),
]
ROW: dict[str, Any] = PROBLEMS[0].to_json()


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    write_problems(path, PROBLEMS)
    assert read_problems(path) == PROBLEMS
    assert [entry.name for entry in tmp_path.iterdir()] == ["problems.jsonl"]
    assert len(path.read_bytes().split(b"\n")) == len(PROBLEMS) + 1


def test_failed_write_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    write_problems(path, PROBLEMS)

    def broken() -> Any:
        yield PROBLEMS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_problems(path, broken())
    assert read_problems(path) == PROBLEMS


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not valid JSON"),
        ('{"id": "x"', "not valid JSON"),
        ("[1]", "expected a JSON object, found list"),
        (json.dumps({**ROW, "id": "a"}), "id 'a' is already used on line 1"),
        (json.dumps({**ROW, "id": "x", "answer": ""}), "answer is empty"),
        (json.dumps({**ROW, "id": "x", "answer": "  "}), "answer is empty"),
        (json.dumps({**ROW, "id": "x", "answer": 6}), "answer must be a string, found 6"),
        (json.dumps({**ROW, "id": "x", "answer": None}), "answer must be a string, found null"),
        (json.dumps({**ROW, "id": ""}), "id is empty"),
        (json.dumps({**ROW, "id": "x", "level": "hard"}), "level must be a whole number or null"),
        (json.dumps({**ROW, "id": "x", "level": True}), "level must be a whole number or null"),
        (json.dumps({**ROW, "id": "x", "solution": 3}), "solution must be a string or null"),
        (json.dumps({**ROW, "id": "x", "choices": "AB"}), "choices must be a list of strings or null"),
        (json.dumps({**ROW, "id": "x", "hint": "?"}), "unknown key 'hint'"),
        (json.dumps({"id": "x", "family": "sums", "prompt": "1+2+3"}), "key 'answer' is missing"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(f"{json.dumps(ROW)}\n\n{line}\n")
    with pytest.raises(UserError) as error:
        read_problems(path)
    assert f"{path}, line 3: " in str(error.value)
    assert message in str(error.value)
    assert ";" in str(error.value), "says what to do"


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.jsonl: cannot be read"):
        read_problems(tmp_path / "absent.jsonl")
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(UserError, match=r"holds no problem"):
        read_problems(tmp_path / "empty.jsonl")
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=r"not UTF-8"):
        read_problems(tmp_path / "binary.jsonl")


def test_an_experiments_problems_go_to_a_folder(tmp_path: Path) -> None:
    spec = MiniProblems(train=12, evaluation=4)
    write_problem_sets(spec, tmp_path / "problems")
    sets = build(spec)
    assert read_problems(tmp_path / "problems" / "train.jsonl") == sets.train
    assert read_problems(tmp_path / "problems" / "evaluation.jsonl") == sets.evaluation
    about = json.loads((tmp_path / "problems" / "about.json").read_text())
    assert about["families"]["sums"] == [4, 4]
    assert next(iter(about["families"])) == "sums"
