"""The live view, on files as jobs leave them."""

import io
import os
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from eval.cli import app
from eval.records import open_runs
from eval.watch import SILENT, State, states, view
from tests.eval_tree import BASE, make_tree

NOW = 1_000_000_000.0
LOGS = {
    "train/grpo.seed0": "grpo seed 0: 26/120, 37 s left  accuracy 0.429  response_tokens 12.1  grad_norm 0.0552",
    "train/grpo.seed1": "grpo seed 1: 9/120, 3700 s left  accuracy 0.2",
    "train/sft.seed0": "sft seed 0: 1/30, 9 s left\nerror: sft: no problem has a solution\ntook 3.0 s, 2.0 s of a core",
    "train/sft.seed1": "sft seed 1: 7/30, 9 s left\ninterrupted: the state is sealed\ntook 3.0 s, 2.0 s of a core",
    "train/dagrpo.seed0": "dagrpo seed 0: 120/120, 0 s left\ntook 52.4 s, 19.8 s of a core, 505 MiB at the peak",
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The base and all runs of two arms are done; the others are as LOGS say, and one has no log yet."""
    results = make_tree(tmp_path / "toy", problems=2, samples=1)
    for arm in ("grpo", "sft", "dagrpo"):
        for seed in (0, 1):
            (results / "samples" / BASE / arm / f"seed{seed}.jsonl").unlink()
    for name, text in LOGS.items():
        rule, run = name.split("/")
        path = results / "logs" / rule / f"{BASE}.{run}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
        said = NOW - (2 * SILENT if run == "grpo.seed1" else 5)
        os.utime(path, (said, said))
    return results


def found(results: Path) -> dict[tuple[str, int], State]:
    return {one.run[1:]: one for one in states(results, open_runs(results)[BASE].experiment, NOW)}


def test_every_run_is_in_the_state_that_its_files_tell(results: Path) -> None:
    told = found(results)
    assert {run: one.word for run, one in told.items()} == {
        ("base", 0): "done",
        **{(arm, seed): "done" for arm in ("dagrpo_no_anchors", "random_reward") for seed in (0, 1)},
        ("grpo", 0): "runs",
        ("grpo", 1): "silent",
        ("sft", 0): "failed",
        ("sft", 1): "stopped",
        ("dagrpo", 0): "waits",  # trained, and not yet evaluated
        ("dagrpo", 1): "waits",
    }
    running = told["grpo", 0]
    assert (running.job, running.done, running.left) == ("train", "26/120", 37.0)
    assert dict(running.figures) == {"accuracy": "0.429", "response_tokens": "12.1", "grad_norm": "0.0552"}
    assert told["sft", 0].said == "error: sft: no problem has a solution"
    assert "nothing said for 4 min" in told["grpo", 1].said


def test_the_next_job_of_a_run_is_shown_and_a_crash_is_a_failure(results: Path) -> None:
    path = results / "logs" / "evaluate" / f"{BASE}.dagrpo.seed0.log"
    path.parent.mkdir()
    path.write_text("evaluate dagrpo seed0: 10/40, 8 s left\n")
    os.utime(path, (NOW, NOW))
    assert (found(results)["dagrpo", 0].job, found(results)["dagrpo", 0].done) == ("evaluate", "10/40")
    path.write_text("Traceback (most recent call last):\n  File\nRuntimeError: out of memory\n")
    crashed = found(results)["dagrpo", 0]
    assert (crashed.word, crashed.said) == ("failed", "RuntimeError: out of memory")


def test_the_view_names_what_is_in_trouble_first(results: Path) -> None:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(view(results, list(found(results).values())))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[0].endswith("5 done, 1 runs, 1 silent, 1 stopped, 1 failed, 2 waits")
    assert [line.split()[4] for line in lines[2:6]] == ["failed", "stopped", "silent", "runs"]
    assert "no problem has a solution" in lines[2] and "26/120" in lines[5] and "1 h 1 min" in lines[4]


def test_the_command_prints_the_view_once(results: Path) -> None:
    done = CliRunner().invoke(app, ["watch", str(results), "--once"], catch_exceptions=False)
    assert done.exit_code == 0 and "5 done" in " ".join(done.output.split())  # a narrow terminal breaks the line
