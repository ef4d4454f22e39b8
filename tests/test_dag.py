"""The whole job, from problems to report, with everything real but small."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def experiment(folder: Path, **changes: Any) -> Path:
    """The miniature at a size of seconds: the same rules and code, too few steps to learn anything."""
    settings = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text())
    settings["name"] = "tiny"
    settings["problems"] |= {"train": 60, "evaluation": 4}
    settings["bases"]["mini"] |= {
        "width": 16,
        "layers": 1,
        "heads": 2,
        "feedforward": 32,
        "steps": 30,
        "step_tokens": 512,
        "threads": 1,  # two would wait for each other on a busy machine
        "corpus": {"problems": 1000},
    }
    settings["train"] |= {
        "steps": 4,
        "sft_steps": 4,
        "sft_rows": 8,
        "prompts": 4,
        "group_size": 4,
        "checkpoint_every": 2,
    }
    settings["evaluation"] |= {"samples": 2, "profile_samples": 2, "profile_problems": 20, "bootstrap": 200}
    settings["seeds"] = [0, 1]
    settings["arms"] = {"grpo": {"method": "grpo"}, "dagrpo": {"method": "dagrpo", "train": {"snapshots": [0, 3]}}}
    folder.mkdir(exist_ok=True)
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings | changes))
    return path


def snakemake(folder: Path, config: Path, *words: str) -> list[str | Path]:
    return [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        ROOT / "Snakefile",
        "--directory",
        folder,
        "--configfile",
        config,
        *words,
    ]


def run(folder: Path, config: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(snakemake(folder, config, *words), capture_output=True, text=True, timeout=400, check=False)


def step_of(sealed: Path) -> int:
    return int(sealed.name.split("-")[1])


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    done = run(folder, experiment(folder), "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "results" / "tiny" / "logs" / "host.log").read_text() == "", "jobs shared a process's imports"
    return folder


def test_one_core_and_two_give_the_same_tables(finished: Path, tmp_path: Path) -> None:
    done = run(tmp_path, experiment(tmp_path), "--cores", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    one, two = tmp_path / "results" / "tiny", finished / "results" / "tiny"
    assert len(contents(one / "tables")) > 5
    assert contents(one / "tables") == contents(two / "tables")
    assert contents(one / "samples" / "mini" / "dagrpo") == contents(two / "samples" / "mini" / "dagrpo")


def test_the_report_stands_alone(finished: Path) -> None:
    page = (finished / "results" / "tiny" / "report.html").read_text()
    assert "DaGRPO" in page
    assert "<svg" in page or "data:image" in page
    (lens,) = json.loads((finished / "results" / "tiny" / "excerpts" / "lens.json").read_text())["lens"]
    assert lens["arm"] == "dagrpo" and [step["when"] for step in lens["steps"]] == ["early", "late"]
    assert 'id="lens-data"' in page and 'id="samples-data"' in page
    for remote in ('src="http', 'href="http://', "url(http", "@import"):
        assert remote not in page


def test_a_second_call_does_nothing(finished: Path) -> None:
    done = run(finished, finished / "tiny.yaml", "--cores", "2")
    assert done.returncode == 0 and "Nothing to be done" in done.stdout + done.stderr


def test_a_changed_method_runs_alone(finished: Path) -> None:
    settings = yaml.safe_load((finished / "tiny.yaml").read_text())
    settings["arms"]["dagrpo"]["options"] = {"delta": 2.0}
    changed = finished / "changed.yaml"
    changed.write_text(yaml.safe_dump(settings))
    done = run(finished, changed, "--cores", "2", "--dry-run")
    plan = done.stdout + done.stderr
    assert "train dagrpo from mini, seed 0" in plan and "train dagrpo from mini, seed 1" in plan
    assert "train grpo" not in plan and "base mini, seed" not in plan and "evaluate grpo" not in plan


def test_two_processes_share_a_run_and_are_stopped_and_go_on_together(tmp_path: Path) -> None:
    """Once without a stop; then with Ctrl-C and, on its heels, SIGTERM, and once more to the same bits."""
    settings = yaml.safe_load(experiment(tmp_path).read_text())
    config = experiment(
        tmp_path,
        processes=2,
        arms={"grpo": {"method": "grpo"}, "random": {"method": "random_reward"}},  # which has a gradient at any rate
        train=settings["train"] | {"steps": 6, "checkpoint_every": 1},
    )
    results = tmp_path / "results" / "tiny"
    made, state = results / "runs" / "mini" / "random" / "seed0", results / "state" / "train" / "mini.random.seed0"
    command = snakemake(tmp_path, config, "--cores", "2", str((made / "run.json").relative_to(tmp_path)))
    done = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    card = json.loads((made / "run.json").read_text())
    assert card["processes"] == 2 and card["consumed"]["samples"] == 6 * 4 * 4
    assert all(json.loads(line)["grad_norm"] > 0 for line in (made / "metrics.jsonl").read_text().splitlines())
    whole = {name: digest for name, digest in contents(made).items() if name.startswith(("model/", "metrics"))}
    assert {"model/model.safetensors", "metrics.jsonl"} < whole.keys()
    shutil.rmtree(made)

    said = tmp_path / "said.txt"
    with said.open("w") as stream:
        job = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)
        deadline = time.monotonic() + 120
        while not any(int(folder.name[-1]) >= 2 for folder in state.glob("step-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(job.pid, signal.SIGINT)
        time.sleep(0.1)
        os.killpg(job.pid, signal.SIGTERM)
        assert job.wait(60) != 0
    assert said.read_text().count("interrupted: the state is sealed") == 1, said.read_text()
    assert "Traceback" not in said.read_text()
    assert not (made / "run.json").exists()

    assert subprocess.run(command, capture_output=True, timeout=400, check=False).returncode == 0
    assert "continuing after step" in (results / "logs" / "train" / "mini.random.seed0.log").read_text()
    assert {name: contents(made)[name] for name in whole} == whole
    assert not state.exists()


def test_stopped_anywhere_the_next_call_goes_on_to_the_same_tables(finished: Path, tmp_path: Path) -> None:
    """Ctrl-C, which reaches the whole job, twice; then once to the end."""
    config = experiment(tmp_path)
    for seconds in (14, 22):
        job = subprocess.Popen(
            snakemake(tmp_path, config, "--cores", "2"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(seconds)
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGINT)
        job.wait(60)
    done = run(tmp_path, config, "--cores", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert contents(tmp_path / "results" / "tiny" / "tables") == contents(finished / "results" / "tiny" / "tables")
