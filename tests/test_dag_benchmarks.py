"""The real benchmarks from the DAG: made-up rows, everything else real but small."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from tests.benchmark_rows import QUESTIONS, write_rows
from tests.test_dag import ROOT, experiment, run

pytest.importorskip("lm_eval", reason="lm-eval is not installed")
pytestmark = pytest.mark.slow

BENCHMARKS = {
    "tasks": ["aime2024", "math500", "ood"],
    "arms": ["grpo"],
    "samples": {"aime2024": 2},
    "max_new_tokens": 6,
    "limit": 2,
}


def finished(folder: Path) -> Path:
    """The results of one run. Its jobs see a copy of the package whose lock holds the made-up rows."""
    mirror = write_rows(folder / "mirror")
    shutil.copytree(ROOT / "eval", folder / "code" / "eval")
    shutil.copy(mirror / "lock.json", folder / "code" / "eval" / "tasks" / "lock.json")
    config = experiment(folder, seeds=[0], benchmarks=BENCHMARKS | {"mirror": str(mirror)})
    with pytest.MonkeyPatch.context() as patch:
        before = os.environ.get("PYTHONPATH", "")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder / "code"), str(ROOT), before])))
        done = run(folder, config, "--cores", "2")
        assert done.returncode == 0, done.stdout + done.stderr
        again = run(folder, config, "--cores", "2", "--dry-run")
        assert "Nothing to be done" in again.stdout + again.stderr
    return folder / "results" / "tiny"


def test_each_checkpoint_is_asked_the_first_questions_and_the_page_says_so(tmp_path: Path) -> None:
    results = finished(tmp_path)
    assert sorted(path.parent.name for path in results.glob("benchmarks/mini/*/seed0.jsonl")) == ["base", "grpo"]
    records = [json.loads(line) for line in (results / "benchmarks/mini/grpo/seed0.jsonl").read_text().splitlines()]
    assert len(records) == 2 * 2 + 2 + 3 * 2
    meta = json.loads((results / "benchmarks/mini/grpo/seed0.meta.json").read_text())
    assert meta["limited"]["arc_challenge"] == [2, QUESTIONS]

    main = pd.read_csv(results / "tables" / "mini" / "benchmarks" / "main.csv")
    assert list(dict.fromkeys(main["column"])) == [
        "aime2024", "math500", "in_distribution", "arc_challenge", "gpqa_diamond", "mmlu_pro", "out_of_distribution",
    ]  # fmt: skip
    assert main["limited"].notna().all()
    page = (results / "report.html").read_text()
    assert 'id="benchmarks"' in page and f"first 2 of {QUESTIONS}" in page
    paper = pd.read_csv(results / "tables" / "paper.csv")
    ours = paper[paper["kind"] == "ours"]
    assert set(ours["method"]) == {"base", "grpo"} and ours["limited"].notna().all()


def test_an_unknown_benchmark_ends_the_run_with_a_sentence(tmp_path: Path) -> None:
    config = experiment(tmp_path, benchmarks={"tasks": ["math501"]})
    done: subprocess.CompletedProcess[str] = run(tmp_path, config, "--cores", "1", "--dry-run")
    assert done.returncode != 0 and "there is no 'math501'; did you mean 'math500'?" in done.stderr
