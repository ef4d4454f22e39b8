"""Whole jobs through the true vLLM: training steps, evaluation, and a resumed run."""

import json
from pathlib import Path
from typing import Any

import pytest

from dagrpo.config import EvaluationSpec, PromptSpec, Verifier, VllmColocated
from dagrpo.errors import Interrupted
from dagrpo.trainer.loop import train
from eval.sampling import evaluate, meta_path
from tests.miniature import guessing_base, spec
from tests.vllm_policies import needs_vllm

pytestmark = [pytest.mark.vllm, needs_vllm]
ENGINE = VllmColocated(memory=0.01, eager=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base that guesses, wide enough for vLLM, and its problem file."""
    return guessing_base(tmp_path_factory.mktemp("vllm"), width=64)


def metrics_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["grpo", "dagrpo"])
def test_two_steps_train_on_what_vllm_samples(made: tuple[Path, Path], tmp_path: Path, method: str) -> None:
    job = spec(method, steps=2, sampler_correction=2.0).model_copy(update={"engine": ENGINE})
    train(job, 0, *made, tmp_path / "out", tmp_path / "state")
    rows = metrics_of(tmp_path / "out")
    assert len(rows) == 2 and all(row["logp_gap"] < 1e-4 and row["grad_norm"] > 0 for row in rows)
    card = json.loads((tmp_path / "out" / "run.json").read_text())
    assert card["spec"]["engine"]["kind"] == "vllm" and any(name.startswith("vllm") for name in card["versions"])
    assert card["model_fingerprint"] != card["base_fingerprint"], "nothing was learnt, so the update proves nothing"


def test_a_stopped_run_goes_on_with_its_own_weights(made: tuple[Path, Path], tmp_path: Path) -> None:
    job = spec("grpo", steps=3, checkpoint_every=1).model_copy(update={"engine": ENGINE})
    train(job, 0, *made, tmp_path / "whole", tmp_path / "state")
    steps = tmp_path / "state"

    def after_the_first_step() -> bool:
        return (steps / "step-00000001").exists()

    with pytest.raises(Interrupted):
        train(job, 0, *made, tmp_path / "parts", steps, after_the_first_step)
    assert not (steps / "step-00000002").exists()
    train(job, 0, *made, tmp_path / "parts", steps)
    assert metrics_of(tmp_path / "parts") == metrics_of(tmp_path / "whole")


def test_a_checkpoint_is_evaluated(made: tuple[Path, Path], evaluation_problems: Path, tmp_path: Path) -> None:
    job = EvaluationSpec(
        samples=2,
        samples_by_family={},
        temperature=0.6,
        max_new_tokens=20,
        rollout_rows=32,
        threads=1,
        prompt=PromptSpec(),
        verifier=Verifier(kind="exact"),
        device="cpu",
        engine=ENGINE,
    )
    for name in ("one", "two"):
        evaluate(job, made[0], evaluation_problems, 3, tmp_path / f"{name}.jsonl", tmp_path / "state")
    records = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    assert len(records) == 2 * len(evaluation_problems.read_text().splitlines())
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert json.loads(meta_path(tmp_path / "one.jsonl").read_text())["spec"]["engine"]["kind"] == "vllm"
