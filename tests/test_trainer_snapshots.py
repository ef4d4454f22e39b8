"""Snapshots hold the weights before the update and what the update read, however the run was stopped."""

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from safetensors.torch import load_file

from dagrpo.errors import Interrupted, UserError
from dagrpo.trainer.job import train
from dagrpo.trainer.snapshots import read_groups, snapshot_steps
from tests.miniature import spec, stop_after


@pytest.fixture(scope="module")
def base(made: tuple[Path, Path]) -> Path:
    return made[0]


@pytest.fixture(scope="module")
def problems(made: tuple[Path, Path]) -> Path:
    return made[1]


def _digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): sha256(path.read_bytes()).hexdigest() for path in files}


def _weights(model: Path) -> dict[str, list[float]]:
    return {name: tensor.flatten().tolist() for name, tensor in load_file(model / "model.safetensors").items()}


def test_weights_are_those_before_the_update(base: Path, problems: Path, tmp_path: Path) -> None:
    train(spec("grpo", snapshots=(0, 2)), 0, base, problems, tmp_path / "out", tmp_path / "state")
    kept = snapshot_steps(tmp_path / "out" / "snapshots")
    assert list(kept) == [0, 2]
    assert _weights(kept[0] / "model") == _weights(base)
    train(spec("grpo", steps=2), 0, base, problems, tmp_path / "shorter", tmp_path / "state")
    assert _weights(kept[2] / "model") == _weights(tmp_path / "shorter" / "model")
    assert _weights(kept[2] / "model") != _weights(tmp_path / "out" / "model")


@pytest.mark.parametrize(("method", "options"), [("grpo", {}), ("dagrpo", {"delta": 1.0}), ("random_reward", {})])
def test_groups_are_what_the_step_read(
    base: Path, problems: Path, tmp_path: Path, method: str, options: dict[str, Any]
) -> None:
    train(spec(method, options, snapshots=(1,)), 0, base, problems, tmp_path / "out", tmp_path / "state")
    metrics = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[1])
    groups = read_groups(tmp_path / "out" / "snapshots" / "step1" / "groups.jsonl")
    rows = [row for group in groups for row in group.rows]
    own = [row for row in rows if row.source == "policy"]
    assert len(groups) == 4 and len(own) == metrics["samples"]
    assert sum(row.verdict == "correct" for row in own) / len(own) == pytest.approx(metrics["accuracy"])
    assert sum(row.reward for row in own) / len(own) == pytest.approx(metrics["reward"])
    assert sum(len(group.prompt_tokens) for group in groups) == metrics["prompt_tokens"]
    trained = [row for row in rows if row.weight * row.advantage != 0]
    assert sum(len(row.tokens) for row in trained) == metrics["trained_tokens"]
    assert any(row.score is not None for row in rows) == (method == "dagrpo")
    assert (metrics.get("anchors", 0) > 0) == (method == "dagrpo")
    assert [row.index for row in rows if row.source == "anchor"] == [-1] * metrics.get("anchors", 0)
    assert all(group.problem.solution for group in groups)


def test_a_run_that_is_stopped_often_ends_with_the_same_snapshots(base: Path, problems: Path, tmp_path: Path) -> None:
    job = spec("dagrpo", {"delta": 1.0}, snapshots=(0, 1, 3))
    train(job, 0, base, problems, tmp_path / "whole", tmp_path / "whole-state")
    interruptions = 0
    for looks in range(10, 500, 10):
        try:
            train(job, 0, base, problems, tmp_path / "parts", tmp_path / "state", stop_after(looks))
        except Interrupted:
            interruptions += 1
            shutil.rmtree(tmp_path / "parts", ignore_errors=True)  # as the workflow does with a failed job's outputs
        else:
            break
    assert interruptions >= 2
    expected = _digests(tmp_path / "whole" / "snapshots")
    assert {name.split("/")[0] for name in expected} == {"step0", "step1", "step3"}
    assert _digests(tmp_path / "parts" / "snapshots") == expected
    assert not (tmp_path / "state").exists()


def test_leftovers_do_not_pass_for_snapshots(base: Path, problems: Path, tmp_path: Path) -> None:
    """A kill before the first checkpoint may leave snapshots of another configuration, and half of one of this."""
    job = spec("grpo", snapshots=(1,))
    for leftover in ("step0", "step1", ".step1.writing"):
        (tmp_path / "state" / "snapshots" / leftover).mkdir(parents=True)
        (tmp_path / "state" / "snapshots" / leftover / "groups.jsonl").write_text("other")
    (tmp_path / "out" / "snapshots" / "step3").mkdir(parents=True)
    train(job, 0, base, problems, tmp_path / "out", tmp_path / "state")
    train(job, 0, base, problems, tmp_path / "clean", tmp_path / "clean-state")
    assert _digests(tmp_path / "out" / "snapshots") == _digests(tmp_path / "clean" / "snapshots")
    assert [path.name for path in (tmp_path / "out" / "snapshots").iterdir()] == ["step1"]


def test_the_folder_is_there_without_snapshots(base: Path, problems: Path, tmp_path: Path) -> None:
    train(spec("sft", snapshots=(0,)), 0, base, problems, tmp_path / "sft", tmp_path / "state")
    train(spec("grpo", steps=1), 0, base, problems, tmp_path / "grpo", tmp_path / "state")
    for arm in ("sft", "grpo"):
        assert list((tmp_path / arm / "snapshots").iterdir()) == []


def test_steps_are_counted_in_the_reinforcement_phase(base: Path, problems: Path, tmp_path: Path) -> None:
    job = spec("sft_then_rl", {"rl": "grpo"}, steps=2, sft_steps=2, snapshots=(0,))
    train(job, 0, base, problems, tmp_path / "out", tmp_path / "state")
    kept = tmp_path / "out" / "snapshots" / "step0" / "model"
    assert _weights(kept) != _weights(base)
    assert _weights(kept) != _weights(tmp_path / "out" / "model")


@pytest.mark.parametrize("step", [-1, 4])
def test_a_step_that_never_comes_is_refused(step: int) -> None:
    with pytest.raises((UserError, ValidationError), match=f"snapshots: {step} is none of the 4 steps"):
        spec("grpo", snapshots=(0, step))


GROUP = {"problem": {"id": "a", "family": "f", "prompt": "p", "answer": "1"}, "prompt_tokens": [1], "rows": []}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "expected a JSON object"),
        (b"{}", "problem: Field required"),
        (json.dumps(GROUP | {"problem": {}}).encode(), "problem.id: Field required"),
        (json.dumps(GROUP | {"problem": []}).encode(), "problem: "),
        (json.dumps(GROUP | {"prompt_tokens": "abc"}).encode(), "prompt_tokens: "),
        (json.dumps(GROUP | {"rows": [{"tokens": [1]}]}).encode(), "rows.0.index: "),
        (json.dumps(GROUP).replace('"p"', '"\\ud83d"').encode(), "holds half a character"),
        (b"\xff{}", "not UTF-8"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: bytes, fault: str) -> None:
    (tmp_path / "groups.jsonl").write_bytes(line + b"\n")
    with pytest.raises(UserError, match=rf"groups\.jsonl.*{fault}.*; (train|write|give)"):
        read_groups(tmp_path / "groups.jsonl")
    with pytest.raises(UserError, match="cannot be read"):
        read_groups(tmp_path / "none.jsonl")
