"""The committed results of our own runs say what the configurations and the prose take from them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from dagrpo.algorithm import methods
from dagrpo.config import Experiment, load

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "results" / "reference"
SEARCH_OF = {"mini-claims": "mini-search", "zoo": "zoo-search"}
EXPERIMENTS = {name: load(Experiment, ROOT / "config" / f"{name}.yaml") for pair in SEARCH_OF.items() for name in pair}
TAKES_THE_RATE_OF = {"sft_then_rl.half": "sft_then_rl", "random_reward": "grpo"}
"""Arms of mini-claims that were not searched for."""

every_arm = pytest.mark.parametrize(
    ("study", "arm"), [(study, arm) for study in SEARCH_OF for arm in EXPERIMENTS[study].arms]
)


def best_rates(search: str) -> dict[str, float]:
    """The rate of each searched arm with the highest mean over the corpora of the average in distribution."""
    experiment = EXPERIMENTS[search]
    tables = REFERENCE / search / "tables"
    several = len(experiment.bases) > 1
    table = pd.read_csv(tables / "side_by_side.csv" if several else tables / next(iter(experiment.bases)) / "main.csv")
    table = table[(table["column"] == "in_distribution") & (table["arm"] != "base")]
    means = table.groupby("arm")["mean"].mean()
    assert set(means.index) == set(experiment.arms), "the stored search is of these arms"
    best: dict[str, str] = {}
    for arm in experiment.arms:
        name = arm.rpartition(".")[0]
        best[name] = max(best.get(name, arm), arm, key=lambda candidate: means[candidate])
    return {name: rate(experiment, arm) for name, arm in best.items()}


def rate(experiment: Experiment, arm: str) -> float:
    settings = experiment.train_of(arm)
    return settings.sft.lr if experiment.arms[arm].method == "sft" else settings.rl.lr


@every_arm
def test_each_arm_has_the_rate_that_the_search_found_for_it(study: str, arm: str) -> None:
    best = best_rates(SEARCH_OF[study])
    searched = arm if arm in best else TAKES_THE_RATE_OF.get(arm, arm.partition(".")[0])
    assert rate(EXPERIMENTS[study], arm) == best[searched]


@pytest.mark.parametrize(("study", "search"), SEARCH_OF.items())
def test_search_and_study_differ_in_seeds_and_questions_alone(study: str, search: str) -> None:
    one, other = EXPERIMENTS[search], EXPERIMENTS[study]
    assert one.bases.items() <= other.bases.items()
    assert not set(one.base_seeds) & set(other.base_seeds) and not set(one.seeds) & set(other.seeds)
    ours, theirs = other.problems.model_dump(), one.problems.model_dump()
    assert (ours.pop("split"), theirs.pop("split")) == ("evaluation", "development")
    assert ours == theirs


def test_the_zoo_holds_every_method() -> None:
    assert {arm.method for arm in EXPERIMENTS["zoo"].arms.values()} == set(methods())


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if (REFERENCE / name).is_dir()])
def test_stored_runs_are_of_the_stored_configuration(name: str) -> None:
    folder = REFERENCE / name
    stored = Experiment.model_validate_json((folder / "report.json").read_text())
    current = EXPERIMENTS[name]
    assert stored.arms == current.arms and stored.seeds == current.seeds and stored.bases == current.bases
    runs = [json.loads(line)["run"] for line in (folder / "runs.jsonl").read_text().splitlines()]
    wanted = {
        f"{base}/{arm}/seed{seed}" for base in stored.bases for arm in stored.arms for seed in stored.seeds_of(arm)
    }
    assert len(runs) == len(wanted) and set(runs) == wanted
