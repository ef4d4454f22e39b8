"""What a design would show, foreseen from an earlier study: parts whose truth is known, and experiments that follow."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eval.claims.evidence import measure
from eval.claims.power import Cost, Design, Variances, expected, foresee, variances
from eval.claims.schema import load_claims
from eval.claims.verdicts import Verdict, decide
from eval.cli import app
from tests.claims_world import FAMILY, world
from tests.eval_tree import ARMS as ARMS_OF_TREE
from tests.eval_tree import BASE, make_tree

ARMS = ("grpo", "dagrpo", "luffy", "sft")
LEVEL = 0.05 / 20
GAIN = 1.1
MAIN = load_claims()[0]  # DaGRPO over GRPO
SAMPLES = np.full(len(FAMILY), 4)
FREE = Cost(0, 0, 0)


def pilot(number: int, bases: int = 4, seeds: int = 16, favour: float = 0.25, luck: float = 0.25) -> Variances:
    evidence = world(number, {"dagrpo": GAIN}, seeds=seeds, bases=bases, favour=favour, luck=luck, arms=ARMS)
    return variances(evidence, ARMS, "grpo", "in_distribution", SAMPLES)


def mean(found: list[Variances]) -> Variances:
    names = ("bases", "seeds", "problems", "interplay", "samples")
    return Variances(*(float(np.mean([getattr(one, name) for one in found])) for name in names))


def test_each_part_is_found_where_it_is() -> None:
    """What a base does for an arm, and a run's luck, move a logit by 0.25 each; then either is put out."""
    both, no_favour, no_luck = (
        mean([pilot(number, favour=favour, luck=luck) for number in range(12)])
        for favour, luck in ((0.25, 0.25), (0.0, 0.25), (0.25, 0.0))
    )
    assert both.bases == pytest.approx(both.seeds, rel=0.5)
    assert no_favour.bases < 0.2 * both.bases and no_favour.seeds == pytest.approx(both.seeds, rel=0.3)
    assert no_luck.seeds < 0.2 * both.seeds
    assert both.interplay < 0.3 * both.samples  # in this world problems and seeds do not interplay
    assert math.isnan(pilot(0, bases=1).bases)


def test_what_was_foreseen_is_what_experiments_then_show() -> None:
    """Pilots on four bases; then studies of another shape, with their errors and verdicts."""
    found, design = mean([pilot(number) for number in range(12)]), Design(bases=6, seeds=1)
    judged, estimates = [], []
    for number in range(100, 160):
        evidence = world(number, {"dagrpo": GAIN}, seeds=6, bases=6, favour=0.25, luck=0.25, arms=ARMS)
        parts = measure(MAIN, evidence)
        estimates.append(parts[0].effect.estimate)
        judged.append(decide(MAIN, parts, LEVEL).verdict is Verdict.REPRODUCED)
    effect = expected(found, design, len(ARMS), float(np.mean(estimates)))
    error = math.sqrt(effect.spread + effect.problems + effect.samples)
    assert np.std(estimates, ddof=1) == pytest.approx(error, rel=0.25)
    told = foresee(found, design, len(ARMS), LEVEL, effect.estimate, MAIN.smallest, FREE)
    assert 0.3 < told.power < 0.98
    assert np.mean(judged) == pytest.approx(told.power, abs=0.2)


def test_more_of_each_kind_shrinks_its_own_part() -> None:
    found = Variances(4e-4, 2e-4, 1e-4, 6e-5, 8e-5)
    one = expected(found, Design(2, 2), 5, 0.0)
    assert (one.spread, one.freedom) == (pytest.approx(2.5e-4), 4)
    assert (one.problems, one.samples) == (pytest.approx(1e-4), pytest.approx(3.5e-5))
    more = expected(found, Design(2, 2, problems=2, samples=4), 5, 0.0)
    assert (more.problems, more.samples) == (pytest.approx(5e-5), pytest.approx((6e-5 + 2e-5) / 8))
    assert expected(replace(found, bases=math.nan), Design(1, 4), 5, 0.0).spread == pytest.approx(5e-5)
    assert Cost(360, 36, 3.6).hours(Design(2, 2, problems=2), 5) == pytest.approx((2 * 367.2 + 20 * 43.2) / 3600)


def test_the_detectable_difference_is_shown_in_four_cases_of_five() -> None:
    found = Variances(1e-4, 1e-4, 1e-4, 1e-4, 1e-4)
    told = foresee(found, Design(8, 2), 6, LEVEL, 0.01, 0.01, FREE)
    again = foresee(found, Design(8, 2), 6, LEVEL, told.detectable, 0.01, FREE)
    assert again.power == pytest.approx(0.8)
    many = foresee(found, Design(400, 4, problems=40, samples=4), 6, LEVEL, 0.01, 0.01, FREE)
    assert told.none == 0 and many.none > 0.99


def test_the_command_reads_a_studys_files_or_its_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms, seeds = {name: ARMS_OF_TREE[name] for name in ("grpo", "dagrpo")}, (0, 1, 2, 3)
    results = make_tree(tmp_path / "results" / "toy", seeds, 4, 2, arms, {"sums": 0.0}, (), base_seeds=(0, 1))
    for arm in arms:
        for seed in seeds:
            path = results / "logs" / "train" / f"{BASE}.{arm}.seed{seed}.log"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("took 7200.0 s, 3600.0 s of a core, 300 MiB at the peak\n")
    monkeypatch.chdir(tmp_path)

    def told(*words: str) -> str:
        done = CliRunner().invoke(app, ["power", "toy", *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    files = told("--difference", "5")
    assert "school: 2 main arms, 2 bases with 2 run seeds each" in files and "one of 5.0 points is" in files
    (today,) = [line.split() for line in files.splitlines() if line.endswith("as it is")]
    assert today[:4] == ["2", "2", "4", "2"] and today[-5:-3] == ["8", "8.0"]  # runs, and an hour each
    assert "No log tells what a base and an evaluation took" in files
    assert CliRunner().invoke(app, ["ledger", "add", str(results)]).exit_code == 0
    (results / "samples").rename(tmp_path / "gone")
    assert told("--difference", "5") == files
