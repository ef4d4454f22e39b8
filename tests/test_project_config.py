"""Experiment files, and the schema that describes them."""

import json
from pathlib import Path

import pytest

from dagrpo.config import Experiment, load

CONFIG = Path(__file__).parent.parent / "config"
EXPERIMENTS = sorted(CONFIG.glob("*.yaml"))


def test_schema_is_current() -> None:
    stored = json.loads((CONFIG / "schema.json").read_text())
    assert stored == Experiment.model_json_schema(), "run `make schema`"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_experiment_is_valid_and_described(path: Path) -> None:
    assert load(Experiment, path).name == path.stem
    assert f"**{path.stem}**" in (CONFIG / "README.md").read_text()


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_where_vllm_samples_its_probabilities_are_corrected_for_and_the_source_is_named(path: Path) -> None:
    experiment = load(Experiment, path)
    if experiment.engine.kind == "torch":
        return
    assert all(experiment.train_of(arm).sampler_correction == 2.0 for arm in experiment.arms)
    before = path.read_text().split("sampler_correction: 2.0")[0].splitlines()[-4:]
    assert "truncated importance sampling" in "".join(before) and "2025" in "".join(before)


def test_mini_is_the_whole_comparison() -> None:
    experiment = load(Experiment, CONFIG / "mini.yaml")
    assert set(experiment.arms) == {
        "sft",
        "sft_then_rl",
        "grpo",
        "dr_grpo",
        "rl_with_sft_loss",
        "luffy",
        "dagrpo_no_anchors",
        "dagrpo",
        "random_reward",
    }
    assert len(experiment.seeds) >= 2
