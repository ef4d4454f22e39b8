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
