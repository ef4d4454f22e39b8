"""Made-up rows under the benchmarks' names, in both forms, and a lock that holds them."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from eval.benchmark_tasks import benchmarks
from eval.benchmark_tasks.benchmarks import BENCHMARKS

QUESTIONS = 3

HUB: dict[str, dict[str, Any]] = {
    "aime2024": {"id": 7, "problem": "One plus two?", "answer": "3"},
    "aime2025": {"id": 7, "problem": "One plus two?", "answer": "3"},
    "amc_val83": {"id": 7, "problem": "One plus two?", "answer": 3.0},
    "math500": {"unique_id": "test/sums/7.json", "problem": "One plus two?", "answer": "3", "level": 2},
    "minerva_math": {"idx": 7, "problem": "One plus two?", "solution": r"It is \boxed{3}."},
    "olympiadbench": {"id": 7, "context": None, "question": "One plus two?", "final_answer": ["$3$"]},
    "arc_challenge": {
        "id": "Q7", "question": "One plus two? ", "answerKey": "2",
        "choices": {"label": ["1", "2", "3"], "text": ["two", "three ", "four"]},
    },
    "gpqa_diamond": {
        "Record ID": "rec7", "Question": "One plus two?\n", "Correct Answer": "three\n",
        "Incorrect Answer 1": "one", "Incorrect Answer 2": "two", "Incorrect Answer 3": "four",
    },
    "mmlu_pro": {"question_id": 7, "question": "One plus two?", "options": ["two", "three"], "answer": "B"},
    "gsm8k_test": {"question": "One plus two?", "answer": "One and two make three.\n#### 3"},
}  # fmt: skip
"""One row of each set as the hub has it; the answer is 3."""


def rows_of(name: str) -> list[dict[str, Any]]:
    """Rows of one benchmark as a mirror has them; question i asks for i."""
    choices = ["zero", "one", "two"] if BENCHMARKS[name].domain == "ood" else None
    return [
        {
            "id": f"{name}-{i}",
            "problem": f"What is {i}, said otherwise?",
            "answer": "ABC"[i] if choices else str(i),
            "choices": choices,
        }
        for i in range(QUESTIONS)
    ]


def write_rows(folder: Path) -> Path:
    """Write a mirror of made-up rows, and beside them ``lock.json`` that says so. Returns the mirror."""
    (folder / "benchmarks").mkdir(parents=True)
    lock = json.loads(benchmarks.LOCK.read_text())
    for name in BENCHMARKS:
        text = "".join(json.dumps(row) + "\n" for row in rows_of(name))
        (folder / "benchmarks" / f"{name}.jsonl").write_text(text)
        lock[name]["mirror"] = {"rows": QUESTIONS, "sha256": sha256(text.encode()).hexdigest()}
    (folder / "lock.json").write_text(json.dumps(lock))
    return folder


def write_mirror(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a mirror of made-up rows with its lock, and make both the ones in use. Returns the mirror."""
    write_rows(folder)
    monkeypatch.setattr(benchmarks, "LOCK", folder / "lock.json")
    monkeypatch.setenv("DAGRPO_MIRROR", str(folder))
    return folder
