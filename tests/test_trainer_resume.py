"""However a run is stopped, it ends with the same bits: weights, metrics, and the consumption it reports."""

import json
import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from dagrpo.algorithm import methods
from dagrpo.config import TrainSpec
from dagrpo.errors import Interrupted
from dagrpo.files import checkpoints
from dagrpo.trainer import loop
from dagrpo.trainer.job import train
from tests.miniature import spec, stop_after

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("random_reward", {}),
    ("dagrpo", {"delta": 1.0}),
    ("sft_then_rl", {"rl": "grpo"}),
]


def _digests(out: Path) -> dict[str, str]:
    """Everything that a run writes, but for its wall times, the seals over them, and the tally of what it has scored: a
    killed step is scored again, and counts twice."""
    timed = ("timings.jsonl", checkpoints.MANIFEST)
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.name not in timed]
    files = [path for path in files if path.parent.name != "scorer"]
    return {str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("method", methods())
def test_every_method_resumes_to_the_same_bits(made: tuple[Path, Path], tmp_path: Path, method: str) -> None:
    job = spec(method, steps=4, sft_steps=2)
    train(job, 0, *made, tmp_path / "whole", tmp_path / "whole-state")
    with pytest.raises(Interrupted):
        train(job, 0, *made, tmp_path / "parts", tmp_path / "state", _stop_at_step(tmp_path, 2))
    train(job, 0, *made, tmp_path / "parts", tmp_path / "state")
    assert _digests(tmp_path / "parts") == _digests(tmp_path / "whole")


@pytest.mark.parametrize(("method", "options"), METHODS)
def test_interrupted_anywhere_ends_with_the_same_bits(
    base: Path, problems: Path, tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    job = spec(method, options)
    train(job, 0, base, problems, tmp_path / "whole", tmp_path / "whole-state")
    looked = random.Random(method)
    interruptions = 0
    while True:
        try:
            train(job, 0, base, problems, tmp_path / "parts", tmp_path / "state", stop_after(looked.randrange(40, 150)))
        except Interrupted:
            interruptions += 1
            assert not (tmp_path / "parts").exists()
        else:
            break
    assert interruptions >= 2
    assert _digests(tmp_path / "parts") == _digests(tmp_path / "whole")
    assert not (tmp_path / "state").exists()


def test_a_final_optimiser_state_is_the_same_after_an_interruption(base: Path, problems: Path, tmp_path: Path) -> None:
    """Two runs stopped after their last step hold the same sealed state, though one was stopped before as well."""
    job = spec("random_reward", checkpoint_every=100)

    def state_at_end(root: Path, stops: list[int]) -> str:
        for stop in stops:
            with pytest.raises(Interrupted):
                train(job, 0, base, problems, root / "out", root / "state", _stop_at_step(root, stop))
        folder = checkpoints.latest(root / "state")
        assert folder is not None and folder.name.endswith(f"{job.train.steps:08d}")
        return sha256((folder / "tensors.safetensors").read_bytes()).hexdigest()

    assert state_at_end(tmp_path / "a", [4]) == state_at_end(tmp_path / "b", [1, 3, 4])


def _stop_at_step(root: Path, step: int) -> Callable[[], bool]:
    """Stop once ``step`` steps are recorded."""
    runs: list[loop.Run] = []
    original = loop.Run.continue_to_end

    def remember(run: loop.Run, *arguments: Any) -> None:
        runs.append(run)
        loop.Run.continue_to_end = original  # type: ignore[method-assign]
        original(run, *arguments)

    loop.Run.continue_to_end = remember  # type: ignore[assignment, method-assign]
    return lambda: bool(runs) and runs[0].state.step >= step


def _train_and_keep_state(job: TrainSpec, base: Path, problems: Path, root: Path) -> None:
    """Train as ever, but leave the last checkpoints, which hold the optimiser, where they stand."""
    remove = shutil.rmtree

    def spare_state(path: Path, **options: Any) -> None:
        if path != root / "state":
            remove(path, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "rmtree", spare_state)
        train(job, 0, base, problems, root / "out", root / "state")


@pytest.mark.slow
@pytest.mark.parametrize(("method", "options"), METHODS)
def test_killed_at_random_points_ends_with_the_same_bits(
    base: Path, problems: Path, tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    """kill -9, several times, at moments spread over the run; nothing in the process can prepare for it."""
    job = spec(method, options, steps=12, sft_steps=6)
    _train_and_keep_state(job, base, problems, tmp_path / "whole")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dagrpo.trainer.job", "tests.miniature"])
    root, moments = tmp_path / "parts", random.Random(method)
    kills = 0
    for _ in range(200):
        child = context.Process(target=_train_and_keep_state, args=(job, base, problems, root))
        child.start()
        if kills < 4:
            before = sorted((root / "state").glob("step-*"))
            deadline = time.monotonic() + 60
            # a kill before the first progress proves nothing, so wait for one new checkpoint, then some more
            while (
                child.is_alive() and sorted((root / "state").glob("step-*")) == before and time.monotonic() < deadline
            ):
                time.sleep(0.005)
            time.sleep(moments.uniform(0.0, 0.15))
            if child.is_alive():
                child.kill()
                kills += 1
        child.join()
        if child.exitcode == 0:
            break
    assert kills >= 2
    expected = _digests(tmp_path / "whole")
    assert any("state/step-" in name and name.endswith("tensors.safetensors") for name in expected)
    assert _digests(root) == expected


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    base: Path, problems: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job = spec("random_reward", steps=6)
    train(job, 0, base, problems, tmp_path / "whole", tmp_path / "whole-state")
    with pytest.raises(Interrupted):
        train(job, 0, base, problems, tmp_path / "parts", tmp_path / "state", _stop_at_step(tmp_path, 4))
    newest = sorted((tmp_path / "state").glob("step-*"))[-1]
    content = bytearray((newest / "tensors.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "tensors.safetensors").write_bytes(content)
    train(job, 0, base, problems, tmp_path / "parts", tmp_path / "state")
    errors = capsys.readouterr().err
    assert "refused" in errors and "continuing after step 2" in errors
    assert _digests(tmp_path / "parts") == _digests(tmp_path / "whole")


def test_state_of_another_configuration_is_not_continued(base: Path, problems: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(
            spec("random_reward"), 0, base, problems, tmp_path / "out", tmp_path / "state", _stop_at_step(tmp_path, 2)
        )
    other = spec("random_reward", rl={"lr": 2e-3})
    train(other, 0, base, problems, tmp_path / "out", tmp_path / "state")
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["lr"] for line in lines] == [2e-3] * len(lines)
