"""The committed results of our own runs say what the configurations and the prose take from them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from dagrpo.config import Experiment, load

ROOT = Path(__file__).parent.parent
SEARCHED = {"sft_then_rl.half": "sft_then_rl", "random_reward": "grpo"}  # arms that take another's rate
STUDY = load(Experiment, ROOT / "config" / "mini-claims.yaml")


def best_rates() -> dict[str, float]:
    """The rate of each searched arm with the highest mean over both corpora of the average in distribution."""
    search = load(Experiment, ROOT / "config" / "mini-search.yaml")
    table = pd.read_csv(ROOT / "results" / "reference" / "mini-search" / "tables" / "side_by_side.csv")
    table = table[(table["column"] == "in_distribution") & (table["arm"] != "base")]
    means = table.groupby("arm")["mean"].mean()
    assert set(means.index) == set(search.arms), "the stored search is of these arms"
    best: dict[str, str] = {}
    for arm in search.arms:
        name = arm.rpartition(".")[0]
        best[name] = max(best.get(name, arm), arm, key=lambda candidate: means[candidate])
    return {name: rate(search, arm) for name, arm in best.items()}


def rate(experiment: Experiment, arm: str) -> float:
    settings = experiment.train_of(arm)
    return settings.sft.lr if experiment.arms[arm].method == "sft" else settings.rl.lr


@pytest.mark.parametrize("arm", STUDY.arms)
def test_each_arm_has_the_rate_that_the_search_found_for_it(arm: str) -> None:
    searched = SEARCHED.get(arm, arm if arm in best_rates() else arm.partition(".")[0])
    assert rate(STUDY, arm) == best_rates()[searched]


def test_search_and_study_differ_in_seeds_and_questions_alone() -> None:
    search = load(Experiment, ROOT / "config" / "mini-search.yaml")
    assert search.bases == STUDY.bases
    assert not set(search.base_seeds) & set(STUDY.base_seeds) and not set(search.seeds) & set(STUDY.seeds)
    ours, theirs = STUDY.problems.model_dump(), search.problems.model_dump()
    assert (ours.pop("split"), theirs.pop("split")) == ("evaluation", "development")
    assert ours == theirs


@pytest.mark.parametrize("name", ["mini-search", "mini-claims"])
def test_stored_runs_are_of_the_stored_configuration(name: str) -> None:
    folder = ROOT / "results" / "reference" / name
    stored = Experiment.model_validate_json((folder / "report.json").read_text())
    current = load(Experiment, ROOT / "config" / f"{name}.yaml")
    assert stored.arms == current.arms and stored.seeds == current.seeds and stored.bases == current.bases
    runs = [json.loads(line)["run"] for line in (folder / "runs.jsonl").read_text().splitlines()]
    wanted = {
        f"{base}/{arm}/seed{seed}" for base in stored.bases for arm in stored.arms for seed in stored.seeds_of(arm)
    }
    assert len(runs) == len(wanted) and set(runs) == wanted
