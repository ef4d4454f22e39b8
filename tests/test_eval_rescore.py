"""Stored samples graded again: the same bytes, on one worker or two, and other verdicts where the verifier differs."""

import json
from pathlib import Path
from typing import Any

import pytest

from dagrpo.config import Verifier
from dagrpo.errors import UserError
from dagrpo.records import Problem
from eval.rescore import rescore

PROBLEMS = [Problem(f"p{n}", "sums", "?", gold) for n, gold in enumerate([r"\frac{1}{2}", "x+1", "7", r"2\sqrt{3}"])]
ANSWERS = ["0.5", "1+x", r"\sqrt{12}", "no box", "8", "(x^2-1)/(x-1)"]


def stored(folder: Path) -> Path:
    """Samples that were graded with one worker; the verdicts before that were made up."""
    rows: list[dict[str, Any]] = [
        {
            "problem_id": problem.id, "family": problem.family, "problem_hash": problem.digest(), "sample": number,
            "opening": "", "text": answer if answer == "no box" else rf"So \boxed{{{answer}}}.", "tokens": 5,
            "finish": "stop",
            "verdict": "timeout", "extracted": None, "rule": "none", "judges": {}, "majority": 0.0,
        }
        for problem in PROBLEMS
        for number, answer in enumerate(ANSWERS)
    ]  # fmt: skip
    (folder / "before.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert rescore(folder / "before.jsonl", PROBLEMS, Verifier(), folder / "stored.jsonl") == len(rows)
    return folder / "stored.jsonl"


def test_the_bytes_are_the_same_on_one_worker_and_on_two(tmp_path: Path) -> None:
    samples = stored(tmp_path)
    verdicts = [json.loads(line)["verdict"] for line in samples.read_text().splitlines()]
    assert verdicts.count("correct") == 4 and verdicts.count("no_answer") == 4
    for workers in (1, 2):
        again = tmp_path / f"again{workers}.jsonl"
        assert rescore(samples, PROBLEMS, Verifier(workers=workers), again) == 0
        assert again.read_bytes() == samples.read_bytes()


def test_a_missing_problem_and_another_one_under_its_name_are_refused(tmp_path: Path) -> None:
    samples = stored(tmp_path)
    with pytest.raises(UserError, match="'p3' of sums is not given"):
        rescore(samples, PROBLEMS[:3], Verifier(), tmp_path / "x.jsonl")
    with pytest.raises(UserError, match="not the one that was asked"):
        rescore(samples, [Problem("p0", "sums", "?", "3"), *PROBLEMS[1:]], Verifier(), tmp_path / "x.jsonl")
    assert not (tmp_path / "x.jsonl").exists()
