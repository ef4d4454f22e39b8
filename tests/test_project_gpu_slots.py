"""One GPU a job: locks that no two commands share and that no death leaves behind."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from dagrpo.errors import EXIT_INTERRUPTED, UserError
from dagrpo.processes.gpu_slot import FOLDER, VISIBLE, lock_folder, take, visible_devices
from tests.test_project_workflow import ROOT, Workspace, planned, rules

PROFILES = ROOT / "profiles"
SLOT = [sys.executable, "-m", "dagrpo.cli", "gpu-slot"]


@pytest.fixture
def locks(tmp_path: Path) -> Path:
    return tmp_path / "locks"


def two_devices(locks: Path) -> dict[str, str]:
    return {**os.environ, VISIBLE: "0,1", FOLDER: str(locks), "PYTHONPATH": str(ROOT)}


def overlapping(path: Path) -> list[tuple[str, str]]:
    """Pairs of jobs that held the same device at the same time."""
    held = [tuple(json.loads(line)) for line in path.read_text().splitlines()]
    return [(a[0], b[0]) for a, b in combinations(held, 2) if a[1] == b[1] and a[2] < b[3] and b[2] < a[3]]


def test_jobs_of_the_workflow_never_share_a_device(tmp_path: Path, locks: Path) -> None:
    """Four trainings on two devices; snakemake is told of four, so that the locks alone keep them apart."""
    workspace = Workspace(tmp_path)
    arms = {name: {"method": name} for name in ("grpo", "dr_grpo", "luffy", "dagrpo")}
    config = workspace.experiment(device="cuda", arms=arms)
    runs = [f"results/small/runs/mini/{arm}/seed0/run.json" for arm in arms]
    profile: list[str | Path] = ["--workflow-profile", PROFILES / "gpu", "--cores", "4", "--resources", "gpu=4"]
    environment = {VISIBLE: "0,1", FOLDER: str(locks)}
    done = workspace.snakemake(*runs, "--configfile", config, *profile, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    intervals = [json.loads(line) for line in (tmp_path / "gpus.jsonl").read_text().splitlines()]
    assert [verb for verb, *_ in intervals].count("train") == 4
    assert {device for verb, device, *_ in intervals if verb == "train"} == {"0", "1"}
    assert overlapping(tmp_path / "gpus.jsonl") == []


def shown(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout + done.stderr


def test_every_rule_that_claims_gpus_locks_them(tmp_path: Path) -> None:
    texts = rules()
    claiming = {rule for rule, text in texts.items() if "gpu=" in text}
    assert claiming == {rule for rule, text in texts.items() if re.search(r'"exec \{(GPU_SLOT|SLOT\[0\])\}', text)}
    assert claiming >= {"train", "evaluate", "benchmarks"}

    workspace = Workspace(tmp_path)
    train = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text())["train"] | {"snapshots": [0]}
    judge = {"kind": "llm_judge", "options": {"model": str(tmp_path), "serve": {"gpus": 2}}}
    probe = {"rating": {"scorers": {"steps": {"kind": "step_checker"}}}}
    config = workspace.experiment(
        device="cuda", train=train, benchmarks={"mirror": str(tmp_path)}, scorer=judge, probe=probe
    )
    done = workspace.snakemake("-n", "-p", "--configfile", config)
    assert done.returncode == 0, done.stderr
    jobs = {rule: count for rule, count in planned(done).items() if rule in claiming}
    assert set(jobs) == claiming, "this experiment has no job for some rule"
    taken = re.findall(
        r"exec dagrpo gpu-slot --count (\d+) -- dagrpo (\S+).*arms/(\w+)|gpu-slot --count (\d+)", shown(done)
    )
    assert len(taken) == sum(jobs.values())
    # Two GPUs of a served judge go to jobs that may ask it: of the arms, to the one whose method does.
    assert {(verb, arm, count) for count, verb, arm, _ in taken if verb} == {
        ("train", "dagrpo", "3"),
        ("train", "grpo", "1"),
        ("conflict", "dagrpo", "3"),
        ("conflict", "grpo", "3"),
    }
    assert Counter(count for *_, count in taken if count) == {"3": 1, "1": len(taken) - 5}


def test_an_interrupted_job_is_tried_again_and_goes_on(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    (tmp_path / "interrupt").write_text("train/mini.dagrpo")
    target = "results/small/runs/mini/dagrpo/seed0/run.json"
    config = workspace.experiment()
    assert workspace.snakemake(target, "--configfile", config).returncode != 0
    (tmp_path / "results" / "small" / "state" / "train" / "mini.dagrpo.seed0" / "step1").unlink()
    (tmp_path / "calls.jsonl").unlink()
    done = workspace.snakemake(target, "--configfile", config, "--workflow-profile", PROFILES / "gpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert workspace.called() == ["train dagrpo 0", "train dagrpo 0"]


def test_the_check_of_overlap_can_fail(tmp_path: Path) -> None:
    path = tmp_path / "gpus.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (["a", "0", 0, 2], ["b", "0", 1, 3], ["c", "1", 0, 9])))
    assert overlapping(path) == [("a", "b")]


def holder(locks: Path, *words: str) -> subprocess.Popen[str]:
    """Start a command that holds a device until it is killed; return when it does."""
    script = "import os, time; print(os.environ['CUDA_VISIBLE_DEVICES'], flush=True); time.sleep(60)"
    command = [*SLOT, *words, "--", sys.executable, "-c", script]
    return subprocess.Popen(command, env=two_devices(locks), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def device_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_a_killed_holder_frees_its_device(locks: Path, number: signal.Signals) -> None:
    first, second = holder(locks), holder(locks)
    assert {device_of(first), device_of(second)} == {"0", "1"}
    waiting = holder(locks)
    assert waiting.stderr is not None and "waiting for 1 of 0, 1" in waiting.stderr.readline()
    first.send_signal(number)
    first.wait()
    freed = time.monotonic()
    try:
        assert device_of(waiting) in {"0", "1"}
        assert time.monotonic() - freed < 10
    finally:
        for process in (second, waiting):
            process.kill()
            process.wait()


def test_a_stop_while_waiting_ends_as_an_interruption(locks: Path) -> None:
    both = holder(locks, "--count", "2")
    assert device_of(both) == "0,1"
    waiting = holder(locks)
    try:
        assert waiting.stderr is not None and "waiting" in waiting.stderr.readline()
        waiting.terminate()
        assert waiting.wait(20) == EXIT_INTERRUPTED
    finally:
        both.kill()
        both.wait()


def test_the_exit_code_is_the_commands(locks: Path) -> None:
    done = subprocess.run(
        [*SLOT, "--", "sh", "-c", "exit 75"], env=two_devices(locks), capture_output=True, check=False
    )
    assert done.returncode == EXIT_INTERRUPTED


def test_two_of_three_devices_are_taken_together_or_not_at_all(locks: Path) -> None:
    devices = {"0": "a", "1": "b", "2": "c"}
    first = take(devices, 2, locks)
    assert first is not None and first[0] == ["0", "1"]
    assert take(devices, 2, locks) is None
    third = take(devices, 1, locks)  # the failed try has given the last one back
    assert third is not None and third[0] == ["2"]
    for lock in (*first[1], *third[1]):
        os.close(lock)


def test_a_device_is_known_by_its_uuid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\nprintf '0, GPU-aa\\n1, GPU-bb\\n'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv(VISIBLE, raising=False)
    assert visible_devices() == {"0": "GPU-aa", "1": "GPU-bb"}
    monkeypatch.setenv(VISIBLE, "1")
    assert visible_devices() == {"1": "GPU-bb"}
    monkeypatch.setenv(VISIBLE, "GPU-bb")
    assert visible_devices() == {"GPU-bb": "GPU-bb"}
    monkeypatch.setenv(VISIBLE, "")
    with pytest.raises(UserError, match="no GPU is visible"):
        visible_devices()


def test_jobs_of_slurm_wait_for_none_but_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where jobs are confined to their devices, each calls its first one 0."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv(FOLDER, raising=False)

    def taken(**slurm: str) -> list[int] | None:
        for name in ("SLURM_JOB_ID", "SLURM_GPUS_ON_NODE"):
            monkeypatch.delenv(name, raising=False)
        for name, value in slurm.items():
            monkeypatch.setenv(name, value)
        found = take({"0": "0"}, 1, lock_folder())
        return found and found[1]

    held = [
        taken(SLURM_JOB_ID="7", SLURM_GPUS_ON_NODE="1"),
        taken(SLURM_JOB_ID="8", SLURM_GPUS_ON_NODE="1"),
        taken(),
    ]
    assert all(held)
    assert taken(SLURM_JOB_ID="7", SLURM_GPUS_ON_NODE="1") is None  # another command of the same job
    assert taken(SLURM_JOB_ID="9") is None  # Slurm gave it no device: it is one of this node's commands like any other
    for locks in held:
        for lock in locks or []:
            os.close(lock)


def test_profiles_differ_only_where_they_must() -> None:
    default, gpu, slurm = (
        yaml.safe_load((PROFILES / name / "config.yaml").read_text()) for name in ("default", "gpu", "slurm")
    )
    assert gpu == default | {"retries": gpu["retries"]}
    shared = default.keys() - {"resources", "latency-wait"}
    assert {key: slurm[key] for key in shared} == {key: default[key] for key in shared}
