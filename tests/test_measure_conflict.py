"""Conflict of whole runs: from snapshots to lines, against the gradient that the run itself took."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dagrpo.algorithm import find_method
from dagrpo.config import TrainSpec
from dagrpo.diagnostics.conflict import conflict_index, signed_cosines
from dagrpo.diagnostics.gradients import gram, rollout_gradients
from dagrpo.errors import Interrupted, UserError
from dagrpo.measurements.conflict import Settings, advantages, measure
from dagrpo.policy.checkpoint import load_policy
from dagrpo.trainer.job import train
from dagrpo.trainer.snapshots import read_groups
from tests.miniature import spec, stop_after


def _job(method: str, options: dict[str, Any] | None = None, **changes: Any) -> TrainSpec:
    return spec(method, options, **{"steps": 2, "snapshots": (0, 1), "rl": {"lr": 1e-3, "clip": 1e9}, **changes})


def _run(made: tuple[Path, Path], job: TrainSpec, folder: Path) -> Path:
    train(job, 0, *made, folder / "run", folder / "state")
    return folder / "run" / "snapshots"


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("method", "options"),
    [("grpo", {}), ("dr_grpo", {}), ("dagrpo", {"anchors": "none", "delta": 6.0}), ("random_reward", {})],
)
def test_the_rows_add_up_to_the_gradient_of_the_step(
    made: tuple[Path, Path], tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    """Stored credit and single gradients give the norm that the run recorded, with each method's own length divisor."""
    job = _job(method, options)
    snapshots = _run(made, job, tmp_path)
    metrics = _lines(tmp_path / "run" / "metrics.jsonl")
    for step in (0, 1):
        policy = load_policy(snapshots / f"step{step}" / "model", torch.device("cpu"))
        total: Any = 0
        for group in read_groups(snapshots / f"step{step}" / "groups.jsonl"):
            responses = [row.tokens for row in group.rows]
            gradients = rollout_gradients(policy.model, group.prompt_tokens, responses, job.train.temperature)
            length = torch.tensor([len(row.tokens) for row in group.rows])
            divisor = (
                torch.ones(len(length)) if method in ("grpo", "random_reward") else job.train.max_new_tokens / length
            )
            total += torch.tensor([row.weight * row.advantage for row in group.rows]) / divisor @ gradients
        rows = job.train.prompts * job.train.group_size
        assert float(total.norm()) / rows == pytest.approx(metrics[step]["grad_norm"], rel=1e-4, abs=1e-7)
    assert any(row["grad_norm"] > 0 for row in metrics)


def test_lines_say_what_the_functions_say(made: tuple[Path, Path], tmp_path: Path) -> None:
    job = _job("grpo")
    snapshots = _run(made, job, tmp_path)
    measure(job, snapshots, tmp_path / "out.jsonl")
    lines = _lines(tmp_path / "out.jsonl")
    recipe = find_method("grpo").algorithm({}, "").phases[0].recipe
    expected = []
    for step in (0, 1):
        policy = load_policy(snapshots / f"step{step}" / "model", torch.device("cpu"))
        for group in read_groups(snapshots / f"step{step}" / "groups.jsonl"):
            advantage = advantages(recipe, group)
            assert advantage.tolist() == pytest.approx([row.advantage for row in group.rows], abs=1e-6)
            if advantage.any():
                responses = [row.tokens for row in group.rows]
                expected.append(
                    (step, group, advantage, gram(rollout_gradients(policy.model, group.prompt_tokens, responses, 1.0)))
                )
    assert len(lines) == len(expected) > 2
    for line, (step, group, advantage, products) in zip(lines, expected, strict=True):
        assert (line["step"], line["problem"]) == (step, group.problem.id)
        assert line["conflict_before"] == pytest.approx(float(conflict_index(products, advantage)))
        assert line["positives"] * line["negatives"] == len(line["pairs"]) > 0
        by_index = {row.index: place for place, row in enumerate(group.rows)}
        for pair in line["pairs"]:
            j, k = by_index[pair["positive"]], by_index[pair["negative"]]
            assert pair["cosine"] == pytest.approx(float(signed_cosines(products, advantage)[j, k]), abs=1e-6)
            assert 0 <= pair["overlap"] <= 1
            assert pair["score_gap"] is not None  # GRPO asks for no scores: they were made now
        assert line["common_net_sum_before"] == pytest.approx(0, abs=1e-12)


def test_a_margin_decides_what_is_left_of_a_group_without_a_mask(made: tuple[Path, Path], tmp_path: Path) -> None:
    job = _job("grpo")
    snapshots = _run(made, job, tmp_path)
    found = {}
    for delta in (-math.inf, 9.5):
        measure(job, snapshots, tmp_path / "out.jsonl", Settings(delta=delta))
        found[delta] = _lines(tmp_path / "out.jsonl")
    for line in found[-math.inf]:
        after = line["conflict_after"], line["conflict_random"], line["conflict_random_by_side"]
        assert after == pytest.approx([line["conflict_before"]] * 3)
        assert (line["kept_positives"], line["kept_negatives"]) == (line["positives"], line["negatives"])
    for line in found[9.5]:
        assert line["conflict_after"] is line["conflict_random"] is None
        assert line["kept_positives"] == line["kept_negatives"] == line["common_net_sum_after"] == 0


@pytest.mark.parametrize("options", [{"delta": 6.0}, {"delta": 6.0, "recentred": True}, {"gate": "distance"}])
def test_a_method_with_a_mask_is_measured_by_its_own(
    made: tuple[Path, Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    job = _job("dagrpo", options)
    snapshots = _run(made, job, tmp_path)
    measure(job, snapshots, tmp_path / "out.jsonl", Settings(delta=-math.inf))  # not read
    groups = {(0, group.problem.id): group for group in read_groups(snapshots / "step0" / "groups.jsonl")}
    lines = [line for line in _lines(tmp_path / "out.jsonl") if line["step"] == 0]
    assert lines
    for line in lines:
        rows = groups[0, line["problem"]].rows
        kept = sum(row.weight * row.advantage != 0 for row in rows)
        assert line["kept_positives"] + line["kept_negatives"] == kept
        assert line["common_net_sum_before"] == pytest.approx(0, abs=1e-12)
        assert line["common_net_sum_after"] == pytest.approx(sum(row.weight * row.advantage for row in rows), abs=1e-6)
        assert any(pair["anchor"] for pair in line["pairs"]) == any(row.source == "anchor" for row in rows)


def test_the_same_bytes_and_no_more_groups_than_asked_for(made: tuple[Path, Path], tmp_path: Path) -> None:
    job = _job("dagrpo", {"delta": 6.0})
    snapshots = _run(made, job, tmp_path)
    for name in ("a", "b"):
        measure(job, snapshots, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    measure(job, snapshots, tmp_path / "one", Settings(groups=1))
    steps = [line["step"] for line in _lines(tmp_path / "one")]
    assert steps == sorted(set(steps))
    measure(job, snapshots, tmp_path / "cheap", Settings(part="last_layer", projection=4096))
    exact, cheap = _lines(tmp_path / "a"), _lines(tmp_path / "cheap")
    assert [line["problem"] for line in cheap] == [line["problem"] for line in exact]
    assert all(0 <= line["conflict_before"] <= 1 for line in cheap)


def test_nothing_is_written_of_a_run_without_snapshots_or_one_that_is_stopped(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    measure(spec("sft"), tmp_path / "empty", tmp_path / "out.jsonl")
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    with pytest.raises(UserError, match="no such folder"):
        measure(spec("sft"), tmp_path / "missing", tmp_path / "out.jsonl")
    job = _job("grpo", steps=1, snapshots=(0,))
    snapshots = _run(made, job, tmp_path)
    with pytest.raises(Interrupted):
        measure(job, snapshots, tmp_path / "stopped.jsonl", should_stop=stop_after(6))
    assert not (tmp_path / "stopped.jsonl").exists()
