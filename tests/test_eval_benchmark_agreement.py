"""Our engine's samples against the log of lm-eval's own command."""

import json
from pathlib import Path
from typing import Any

import pytest

from dagrpo.errors import UserError
from eval.benchmark_tasks.agreement import agreement

OURS = {
    "family": "math500", "problem_id": "m1", "sample": 0, "problem_hash": "p", "prompt_hash": "q", "text": "t",
    "verdict": "wrong", "extracted": "7",
}  # fmt: skip


def write(folder: Path, **changes: Any) -> tuple[Path, Path]:
    """Ours, and a log of the same with changes; lm-eval writes what a filter returns as Python would print it."""
    graded = {
        "problem_hash": changes.get("problem_hash", "p"),
        "samples": [{"verdict": changes.get("verdict", "wrong"), "extracted": changes.get("extracted", "7")}],
    }
    theirs = {
        "doc": {"id": changes.get("id", "m1")},
        "prompt_hash": changes.get("prompt_hash", "q"),
        "resps": [[changes.get("text", "t")]],
        "filtered_resps": [str(graded)],
    }
    (folder / "hf").mkdir(parents=True)
    (folder / "ours.jsonl").write_text(json.dumps(OURS) + "\n" + json.dumps(OURS | {"sample": 1, "text": "u"}) + "\n")
    (folder / "hf" / "samples_dagrpo_math500_2026-01-01T00-00-00.jsonl").write_text(json.dumps(theirs) + "\n")
    return folder / "ours.jsonl", folder / "hf"


def test_equal_rows_are_counted(tmp_path: Path) -> None:
    found = agreement(*write(tmp_path))
    assert found.to_numpy().tolist() == [["math500", 1, 1, 1, 1, 1, "1 wrong"]]


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"prompt_hash": "x"}, "prompts"), ({"problem_hash": "x"}, "golds"), ({"text": "x"}, "responses"),
        ({"verdict": "correct"}, "verdicts"), ({"extracted": "8"}, "verdicts"),
    ],
)  # fmt: skip
def test_what_differs_is_seen(tmp_path: Path, changes: dict[str, str], differs: str) -> None:
    found = agreement(*write(tmp_path, **changes)).iloc[0]
    assert [name for name in ("prompts", "golds", "responses", "verdicts") if not found[name]] == [differs]


def test_other_questions_and_an_empty_log_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="question 'm2' of math500 is missing"):
        agreement(*write(tmp_path / "other", id="m2"))
    ours, log = write(tmp_path / "none")
    next(log.iterdir()).unlink()
    with pytest.raises(UserError, match="holds no samples_dagrpo"):
        agreement(ours, log)
    ours, log = write(tmp_path / "broken")
    ours.write_text('{"family": "math500"}\n')
    with pytest.raises(UserError, match="not samples of a benchmark"):
        agreement(ours, log)
