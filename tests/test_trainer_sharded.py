"""Two processes that share weights and rows do what one does, go on with what one began, and end together."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dagrpo.algorithm import methods
from dagrpo.config import TrainSpec
from dagrpo.errors import EXIT_USER_ERROR, Interrupted
from dagrpo.files import checkpoints
from dagrpo.processes.world import open_world
from dagrpo.trainer.job import train
from tests.miniature import spec
from tests.sharded_jobs import ENVIRONMENT, torchrun, train_sharded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PEFT = find_spec("peft") is not None
SMALL: dict[str, Any] = {
    "steps": 3,
    "sft_steps": 3,
    "micro_tokens": 32,  # several micro-batches, not always as many for one process as for the other
    "conflict_every": 2,
    "rl": {"lr": 1e-3, "betas": (0.9, 0.95)},
    "sft": {"lr": 1e-3},
}
GLANCING = ("grpo", "dagrpo", "luffy", "sft", "sft_then_rl", "rl_with_sft_loss", "rebel", "relift")
VARIANTS: dict[str, TrainSpec] = {
    **{name: spec(name, **SMALL) for name in GLANCING},
    # the conflict probes of the others would cost as much again
    **{name: spec(name, **SMALL | {"conflict_every": 0}) for name in methods() if name not in GLANCING},
    "grpo_kl": spec("grpo", {"kl": 0.1}, **SMALL),
    "grpo_two_updates": spec("grpo", **SMALL | {"updates": 2}),
    # without peft nothing of it can run
    **({"grpo_lora": spec("grpo", {"kl": 0.1}, **SMALL | {"lora": {"rank": 3}, "recompute": True})} if PEFT else {}),
    "grpo_corrected": spec("grpo", **SMALL | {"sampler_correction": 1.0, "recompute": True, "snapshots": (1,)}),
}
RESUMED = spec("dagrpo", **SMALL | {"steps": 6, "checkpoint_every": 2})
BF16 = spec("luffy", **SMALL | {"precision": "bf16", "recompute": True})
REFUSED = spec("luffy", **SMALL | {"max_new_tokens": 2})


@dataclass(frozen=True)
class Launch:
    """What two processes made of all jobs, in one start of torchrun."""

    folder: Path
    base: Path
    problems: Path

    def alone(self, job: TrainSpec, name: str) -> Path:
        """Train in this process; ``name`` names the state and the results."""
        out = self.folder / "alone" / name
        train(job, 0, self.base, self.problems, out, self.folder / "state" / name)
        return out

    def job(self, job: TrainSpec, name: str, stop_at: int | None = None) -> dict[str, Any]:
        return {
            "spec": json.loads(job.model_dump_json()),
            "base": str(self.base),
            "problems": str(self.problems),
            "out": str(self.folder / "sharded" / name),
            "state": str(self.folder / "state" / name),
            "stop_at": stop_at,
            "said": str(self.folder),
        }


def children(process: int) -> list[int]:
    """The processes that one has started, by what each says of its parent: `pid (name) state parent ...`."""
    said = {int(path.parent.name): path.read_text() for path in Path("/proc").glob("[0-9]*/stat")}
    return sorted(child for child, line in said.items() if int(line.rpartition(")")[2].split()[1]) == process)


def stop_when_sealed(state: Path, step: int) -> Any:
    return lambda: checkpoints.step_folder(state, step).exists()


@pytest.fixture(scope="module")
def launch(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Launch:
    launch = Launch(tmp_path_factory.mktemp("sharded"), *made)
    begun = launch.folder / "state" / "begun_alone"
    with pytest.raises(Interrupted):
        train(RESUMED, 0, *made, launch.folder / "none", begun, stop_when_sealed(begun, 2))
    jobs = [launch.job(job, name) for name, job in VARIANTS.items()]
    jobs += [launch.job(RESUMED, "begun_alone"), launch.job(RESUMED, "begun_by_two", stop_at=2)]
    jobs += [launch.job(REFUSED, "refused"), launch.job(BF16, "bf16")]
    train_sharded(jobs, launch.folder / "jobs.json")
    return launch


def rows(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest difference of two weights of the same name."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def assert_same_run(one: Path, other: Path) -> None:
    for mine, theirs in zip(rows(one), rows(other), strict=True):
        assert mine.keys() == theirs.keys()
        assert mine.pop("phase") == theirs.pop("phase")
        assert theirs == pytest.approx(mine, rel=1e-5, abs=1e-5)
    assert furthest(weights(one / "model"), weights(other / "model")) < 1e-5


@pytest.mark.parametrize("name", VARIANTS)
def test_two_processes_train_as_one(launch: Launch, name: str) -> None:
    alone, sharded = launch.alone(VARIANTS[name], name), launch.folder / "sharded" / name
    assert_same_run(alone, sharded)
    assert json.loads((sharded / "run.json").read_text())["processes"] == 2
    trained = any(row["grad_norm"] > 0 for row in rows(alone))
    assert (furthest(weights(launch.base), weights(sharded / "model")) > 1e-4) is trained
    assert not (launch.folder / "state" / name).exists()


def test_snapshots_are_those_of_one_process(launch: Launch) -> None:
    alone = launch.alone(VARIANTS["grpo_corrected"], "again") / "snapshots" / "step1"
    sharded = launch.folder / "sharded" / "grpo_corrected" / "snapshots" / "step1"
    assert (sharded / "groups.jsonl").read_text() == (alone / "groups.jsonl").read_text()
    assert furthest(weights(sharded / "model"), weights(alone / "model")) < 1e-5


def test_any_number_of_processes_goes_on_with_what_another_began(launch: Launch) -> None:
    whole = launch.alone(RESUMED, "whole")
    assert_same_run(whole, launch.folder / "sharded" / "begun_alone")
    state = launch.folder / "state" / "begun_by_two"
    folder = checkpoints.latest(state)
    assert folder is not None
    assert len(list(folder.glob("tensors-*-of-00002.safetensors"))) == 2
    assert not (launch.folder / "sharded" / "begun_by_two").exists()
    assert_same_run(whole, launch.alone(RESUMED, "begun_by_two"))


def test_all_end_when_one_is_asked_to_stop_or_finds_a_mistake(launch: Launch) -> None:
    for rank in (0, 1):
        assert (launch.folder / f"begun_by_two.{rank}").read_text().startswith("Interrupted")
        assert (launch.folder / f"refused.{rank}").read_text().startswith("TooLong: the anchor of problem ")


def test_one_process_shards_where_it_is_told_to_compute_in_bf16(launch: Launch, tmp_path: Path) -> None:
    with open_world(sharded=True) as world:
        train(BF16, 0, launch.base, launch.problems, tmp_path / "out", tmp_path / "state", world=world)
    one, two = rows(tmp_path / "out")[0], rows(launch.folder / "sharded" / "bf16")[0]
    assert one["samples"] == two["samples"]
    assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=0.5)


def test_bf16_keeps_its_weights_in_fp32(launch: Launch) -> None:
    sharded = launch.folder / "sharded" / "bf16"
    half, full = rows(sharded)[0], rows(launch.folder / "sharded" / "luffy")[0]
    assert all(math.isfinite(row["loss"]) for row in rows(sharded))
    assert half["trained_tokens"] > 0 and half["grad_norm"] == pytest.approx(full["grad_norm"], rel=0.5)
    after = weights(sharded / "model")
    assert {tensor.dtype for tensor in after.values()} == {torch.float32}
    moved = furthest(weights(launch.base), after)
    assert 1e-4 < moved < 1e-2
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in after.values())


@pytest.mark.parametrize("started", ["by torchrun", "by the program"])
def test_a_mistake_that_all_find_is_said_once(base: Path, problems: Path, tmp_path: Path, started: str) -> None:
    (tmp_path / "spec.json").write_text(spec("grpo", {"dleta": 3}).model_dump_json())
    words: list[str | Path] = ["train", "--spec", tmp_path / "spec.json", "--seed", "0", "--base", base]
    words += ["--problems", problems, "--out", tmp_path / "out", "--state", tmp_path / "state"]
    module = [sys.executable, "-m", "dagrpo.cli"]
    command = torchrun("-m", "dagrpo.cli", *words)
    if started == "by the program":
        command = [*module, *map(str, words), "--processes", "2"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr.count("unknown key 'dleta'") == 1 and "interrupted" not in done.stderr
    if started == "by the program":
        assert done.returncode == EXIT_USER_ERROR
        assert done.stderr.count("\n") == 1, done.stderr


def test_a_process_that_dies_ends_the_job_and_leaves_the_sealed_state(launch: Launch, tmp_path: Path) -> None:
    job = spec("dagrpo", **SMALL | {"steps": 20, "checkpoint_every": 2})
    (tmp_path / "spec.json").write_text(job.model_dump_json())
    state = launch.folder / "state" / "died"
    options = {"spec": tmp_path / "spec.json", "seed": 0, "base": launch.base, "problems": launch.problems}
    options |= {"out": tmp_path / "out", "state": state}
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    errors = tmp_path / "errors"
    with errors.open("w") as stream:
        command = [sys.executable, "-m", "dagrpo.cli", "train", "--processes", "2", *words]
        agent = subprocess.Popen(command, env=ENVIRONMENT, stderr=stream)
        deadline = time.monotonic() + 300
        while not checkpoints.step_folder(state, 4).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(children(agent.pid)[-1], signal.SIGKILL)
        assert agent.wait(timeout=120) == EXIT_USER_ERROR
    assert "error: process 2 of 2 ended first, with SIGKILL" in errors.read_text()
    assert not (tmp_path / "out").exists()
    folder = checkpoints.latest(state)
    assert folder is not None and folder.name >= "step-00000004"
    assert_same_run(launch.alone(job, "unharmed"), launch.alone(job, "died"))
