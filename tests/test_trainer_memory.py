"""What a method remembers from step to step survives a kill: the queue of demonstrations, and the place in an epoch."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dagrpo.config import TrainSpec
from dagrpo.files import checkpoints
from dagrpo.trainer import loop
from dagrpo.trainer.job import train
from tests.miniature import spec

RELIFT = spec("relift", {"size": 3}, steps=12, group_size=2)  # of two guesses, a quarter are wrong both
SRPO = spec("srpo", steps=14, prompts=8)  # an epoch has at most five steps, a stage seven
JOBS = pytest.mark.parametrize("job", [RELIFT, SRPO], ids=["relift", "srpo"])


class Killed(BaseException):
    """Nothing in the trainer catches it, so nothing is sealed on its way out."""


def strike(calls: int, blow: Callable[[], None]) -> Callable[..., dict[str, float]]:
    """The updates of a step, but after ``calls`` of them something happens in the place of the next."""
    left, learn = [calls], loop.learn

    def struck(*arguments: Any) -> dict[str, float]:
        if left[0] == 0:
            blow()
        left[0] -= 1
        return learn(*arguments)

    return struck


def die() -> None:
    raise Killed


def killed(job: TrainSpec, made: tuple[Path, Path], root: Path, calls: int) -> bool:
    """Train in ``root`` until the run is done, or cut down within a step; says whether it was cut down."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "learn", strike(calls, die))
        try:
            train(job, 0, *made, root / "out", root / "state")
        except Killed:
            return True
    return False


def sealed(root: Path) -> dict[str, Any]:
    """The memory in the newest checkpoint."""
    folder = checkpoints.latest(root / "state")
    return checkpoints.load(folder)[1]["memory"] if folder else {}


def digests(root: Path) -> dict[str, str]:
    """What a run leaves behind, but for its wall times."""
    files = [path for path in (root / "out").rglob("*") if path.is_file() and path.name != "timings.jsonl"]
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in files}


@JOBS
def test_killed_within_its_steps_a_run_ends_with_the_same_bytes(
    made: tuple[Path, Path], tmp_path: Path, job: TrainSpec
) -> None:
    train(job, 0, *made, tmp_path / "whole" / "out", tmp_path / "whole" / "state")
    parts, memories = tmp_path / "parts", []
    while killed(job, made, parts, calls=5):
        memories.append(sealed(parts))
        assert len(memories) < 20, "no progress from kill to kill"
    assert len(memories) >= 2
    assert digests(parts) == digests(tmp_path / "whole")
    if job is RELIFT:
        assert any(memory["queue"] for memory in memories), "no demonstration was waiting when the run was killed"
    else:
        assert any(0 < memory["epoch"]["at"] < len(memory["epoch"]["order"]) for memory in memories)
        assert any(memory["epoch"]["number"] > 0 for memory in memories)
        assert any(len(memory["epoch"]["order"]) < 40 for memory in memories), "no epoch left a problem out"


@JOBS
def test_memory_matters(made: tuple[Path, Path], tmp_path: Path, job: TrainSpec, monkeypatch: Any) -> None:
    """A run that forgets what it remembered ends otherwise, so the test above would see it."""
    train(job, 0, *made, tmp_path / "whole" / "out", tmp_path / "whole" / "state")
    whole = checkpoints.data_of
    monkeypatch.setattr(checkpoints, "data_of", lambda folder: whole(folder) | {"memory": {}})
    while killed(job, made, tmp_path / "parts", calls=5):
        pass
    assert digests(tmp_path / "parts") != digests(tmp_path / "whole")


def _child(job: TrainSpec, made: tuple[Path, Path], root: Path) -> None:
    loop.learn = strike(6, lambda: os.kill(os.getpid(), signal.SIGKILL))
    train(job, 0, *made, root / "out", root / "state")


@pytest.mark.slow
@JOBS
def test_a_real_kill_makes_no_difference(made: tuple[Path, Path], tmp_path: Path, job: TrainSpec) -> None:
    train(job, 0, *made, tmp_path / "whole" / "out", tmp_path / "whole" / "state")
    parts = tmp_path / "parts"
    child = multiprocessing.get_context("spawn").Process(target=_child, args=(job, made, parts))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert sealed(parts)
    train(job, 0, *made, parts / "out", parts / "state")
    assert digests(parts) == digests(tmp_path / "whole")


def test_tokens_and_updates_of_demonstrations_add_to_those_of_the_step(made: tuple[Path, Path], tmp_path: Path) -> None:
    def metrics(method: str, options: dict[str, Any]) -> list[dict[str, Any]]:
        out = tmp_path / method
        train(spec(method, options, steps=6, group_size=2), 0, *made, out / "out", out / "state")
        return [json.loads(line) for line in (out / "out" / "metrics.jsonl").read_text().splitlines()]

    relift, plain = metrics("relift", {"size": 2}), metrics("dr_grpo", {"clip": None})
    first = next(step for step, row in enumerate(relift) if "interleave/loss" in row)
    assert plain[first]["optimiser_steps"] == 1
    assert relift[first]["optimiser_steps"] == 2
    assert relift[first]["demonstrations"] == 2
    assert relift[first]["trained_tokens"] == plain[first]["trained_tokens"] + relift[first]["demonstration_tokens"]
    assert relift[first]["loss"] == pytest.approx(plain[first]["loss"])
