"""A bad step costs a step: it changes nothing, its rows are kept, and too many of them end the run unsealed."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from dagrpo.errors import Unsound
from dagrpo.files import checkpoints
from dagrpo.trainer import learn
from dagrpo.trainer.job import train
from dagrpo.trainer.snapshots import read_groups
from tests.miniature import spec
from tests.poison import Where, poisoned
from tests.sharded_jobs import train_sharded


def metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("value", "where"), [(math.nan, "loss"), (math.inf, "loss"), (math.inf, "gradient")])
def test_an_update_that_is_not_finite_changes_nothing_and_its_rows_are_kept(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: float, where: Where
) -> None:
    job = spec("random_reward", steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(learn, "_accumulate", poisoned(value, where, {1}))
        train(job, 0, *made, tmp_path / "out", tmp_path / "state")
    train(spec("random_reward", steps=1), 0, *made, tmp_path / "one", tmp_path / "state")
    first, second = metrics(tmp_path / "out")
    assert "skipped_updates" not in first and first["grad_norm"] > 0
    assert second["skipped_updates"] == 1 and second["optimiser_steps"] == 0
    assert second["trained_tokens"] == 0 and not {"loss", "grad_norm"} & second.keys()
    one, two = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "out"))
    assert all(bool((one[name] == two[name]).all()) for name in one)
    groups = read_groups(tmp_path / "out" / "not_finite" / "step1.jsonl")
    assert len(groups) == 4 and all(len(group.rows) == 4 and group.rows[0].tokens for group in groups)


def test_the_other_updates_of_a_step_are_made(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "_accumulate", poisoned(math.nan, "loss", {0}))
    train(spec("random_reward", steps=1, updates=2), 0, *made, tmp_path / "out", tmp_path / "state")
    (row,) = metrics(tmp_path / "out")
    assert row["skipped_updates"] == 1 and row["optimiser_steps"] == 1
    assert math.isfinite(row["loss"]) and row["grad_norm"] > 0 and row["logp_gap"] < 1e-4


def test_too_many_in_a_row_end_the_run_before_it_is_sealed(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "_accumulate", poisoned(math.nan, "loss", {1, 3, 4}))
    job = spec("random_reward", steps=8, checkpoint_every=2, max_skipped=2)
    with pytest.raises(Unsound, match=r"step 4: .* 2 steps in a row \(train.max_skipped\)"):
        train(job, 0, *made, tmp_path / "out", tmp_path / "state")
    newest = checkpoints.latest(tmp_path / "state")
    assert newest is not None and newest == checkpoints.step_folder(tmp_path / "state", 4)
    kept = sorted(path.name for path in (tmp_path / "state" / "not_finite").iterdir())
    assert kept == ["step1.jsonl", "step3.jsonl", "step4.jsonl"]


def test_a_sampler_that_is_not_the_policy_ends_the_run(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = learn._by_token

    def off_by_one_nat(*arguments: Any) -> Any:
        return plain(*arguments) - 1.0

    monkeypatch.setattr(learn, "_by_token", off_by_one_nat)
    for updates in (1, 2):
        with pytest.raises(Unsound, match=r"step 0: .* 1 nats .* train.max_logp_gap allows 0.5"):
            job = spec("random_reward", steps=2, updates=updates)
            train(job, 0, *made, tmp_path / "out", tmp_path / f"state{updates}")
        assert checkpoints.latest(tmp_path / f"state{updates}") is None
    train(spec("random_reward", steps=2, max_logp_gap=1.5), 0, *made, tmp_path / "out", tmp_path / "more")
    assert [row["logp_gap"] for row in metrics(tmp_path / "out")] == pytest.approx([1.0, 1.0], abs=1e-4)


@pytest.mark.parametrize("updates", [1, 2])
def test_the_gap_is_of_every_step(made: tuple[Path, Path], tmp_path: Path, updates: int) -> None:
    train(spec("random_reward", steps=2, updates=updates), 0, *made, tmp_path / "out", tmp_path / "state")
    assert [row["logp_gap"] < 1e-4 for row in metrics(tmp_path / "out")] == [True, True]


@pytest.mark.slow
def test_where_one_of_two_processes_meets_it_both_leave_the_update_out(made: tuple[Path, Path], tmp_path: Path) -> None:
    def job(name: str, updates: list[int], **changes: Any) -> dict[str, Any]:
        settings = {"steps": 2, "micro_tokens": 32, **changes}
        return {
            "spec": json.loads(spec("random_reward", **settings).model_dump_json()),
            "base": str(made[0]),
            "problems": str(made[1]),
            "out": str(tmp_path / name),
            "state": str(tmp_path / "state" / name),
            "stop_at": None,
            "said": str(tmp_path),
            "poison": {"rank": 1, "updates": updates},
        }

    jobs = [job("once", [1]), job("again", [0, 1], max_skipped=2, checkpoint_every=1)]
    train_sharded(jobs, tmp_path / "jobs.json")
    first, second = metrics(tmp_path / "once")
    assert first["grad_norm"] > 0 and second["skipped_updates"] == 1 and second["optimiser_steps"] == 0
    assert len(read_groups(tmp_path / "once" / "not_finite" / "step1.jsonl")) == 4
    for rank in (0, 1):
        assert (tmp_path / f"again.{rank}").read_text().startswith("Unsound: step 1: a loss or gradient is not finite")
    assert not (tmp_path / "again").exists()
    newest = checkpoints.latest(tmp_path / "state" / "again")
    assert newest == checkpoints.step_folder(tmp_path / "state" / "again", 1)
