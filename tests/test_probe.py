"""The probe of a base: rollouts and gradients are kept, come back after a stop, and become tables and pictures."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dagrpo.config import ProbeSpec, Probing, PromptSpec, Rating, RatingSpec, Scorer, Verifier
from dagrpo.diagnostics.gradients import gram, rollout_gradients
from dagrpo.errors import Interrupted, UserError
from dagrpo.measurements.probe import drawn, mixed_groups, probe, rate
from dagrpo.policy.checkpoint import load_policy
from dagrpo.problems.store import read_problems
from dagrpo.trainer.snapshots import read_groups
from eval.files import Files, read_lines
from eval.probe import checked, directions, draw_probe, measured, read_probe, section, write_probe
from eval.records import open_runs
from eval.tables import read_table
from tests.eval_tree import make_study
from tests.miniature import stop_after


def spec(**changes: Any) -> ProbeSpec:
    asked = {"problems": 8, "group_size": 6, "max_new_tokens": 20, "rollout_rows": 12, "whole": 1, **changes}
    return ProbeSpec(probe=Probing(**asked), prompt=PromptSpec(), verifier=Verifier(kind="exact"), device="cpu")


RATING = RatingSpec(
    rating=Rating(scorers={"steps": Scorer(kind="step_checker"), "overlap": Scorer(kind="reference_overlap")}),
    device="cpu",
)


@pytest.fixture(scope="module")
def probed(made: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A probe of a base that guesses one of two answers, so that its groups are mixed."""
    base, problems = made
    out = tmp_path_factory.mktemp("probe")
    probe(spec(), base, problems, out / "base", out / "state")
    assert not (out / "state").exists()
    return out / "base"


def test_each_mixed_group_has_the_products_of_its_rows_gradients(made: tuple[Path, Path], probed: Path) -> None:
    groups = read_groups(probed / "groups.jsonl")
    assert [group.problem.id for group in groups] == [problem.id for problem in drawn(read_problems(made[1]), 8)]
    mixed = mixed_groups(groups)
    assert len(mixed) >= 3 and all(0 < sum(row.reward for row in group.rows) < 6 for group in mixed)
    products = [json.loads(line)["gram"] for line in (probed / "products.jsonl").read_text().splitlines()]
    assert len(products) == len(mixed) + 1
    model = load_policy(made[0], torch.device("cpu")).model
    tokens = [row.tokens for row in mixed[1].rows]
    expected = gram(rollout_gradients(model, mixed[1].prompt_tokens, tokens, 1.0, part="last_block"))
    torch.testing.assert_close(torch.tensor(products[1], dtype=torch.float64), expected)
    whole = gram(rollout_gradients(model, mixed[0].prompt_tokens, [row.tokens for row in mixed[0].rows], 1.0))
    torch.testing.assert_close(
        torch.tensor(products[-1], dtype=torch.float64), whole, rtol=0.1, atol=0.1 * float(whole.max())
    )


def test_a_stopped_probe_goes_on_to_the_same_bytes(made: tuple[Path, Path], probed: Path, tmp_path: Path) -> None:
    stops = 0
    while not (tmp_path / "out" / "meta.json").exists():
        try:
            probe(spec(), *made, tmp_path / "out", tmp_path / "state", stop_after(25))
        except Interrupted:
            stops += 1
            assert not (tmp_path / "out").exists()
    assert stops >= 2
    for name in ("groups.jsonl", "products.jsonl", "meta.json"):
        assert (tmp_path / "out" / name).read_bytes() == (probed / name).read_bytes()


def test_more_problems_than_there_are_is_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"probe\.problems: 1000 are asked for and 40 are there"):
        probe(spec(problems=1000), *made, tmp_path / "out", tmp_path / "state")


def test_a_rating_holds_scores_and_no_text(made: tuple[Path, Path], probed: Path, tmp_path: Path) -> None:
    rate(RATING, probed, made[0], tmp_path / "mini.jsonl")
    found = read_probe(list(read_lines(tmp_path / "mini.jsonl")))
    mixed = mixed_groups(read_groups(probed / "groups.jsonl"))
    assert found.groups == 8 and sum(found.rows.values()) == 48 and len(found.lines) == len(mixed)
    for line, group in zip(found.lines, mixed, strict=True):
        assert set(line["scores"]) == {"steps", "overlap"} and all(1 <= x <= 10 for x in line["scores"]["overlap"])
        right = line["verdicts"].count("correct")
        assert len(line["masks"]["steps"]["pairs"]) == right * (6 - right)
        assert line["problem"] == group.problem.id
        assert not {"text", "tokens", "prompt", "prompt_tokens", "solution"} & set(
            re.findall(r'"(\w+)":', json.dumps(line))
        )
    both = checked(found)
    assert len(both) == 15 and both["part"].between(-1.001, 1.001).all()
    frames = measured(found, "mini")
    assert set(frames.groups["arm"]) == {"steps", "overlap"} and len(frames.groups) == 2 * len(mixed)


def test_directions_are_those_of_the_gradients_themselves() -> None:
    rows = np.random.default_rng(0).normal(size=(7, 40)) * np.linspace(3, 1, 40)
    places, shares = directions(rows @ rows.T)
    _, spread, axes = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(places), np.abs((rows - rows.mean(0)) @ axes[:2].T), atol=1e-8)
    np.testing.assert_allclose(shares, (spread**2 / (spread**2).sum())[:2])


def test_a_probed_base_has_tables_pictures_and_a_section(made: tuple[Path, Path], probed: Path, tmp_path: Path) -> None:
    corpora = open_runs(make_study(tmp_path / "study", problems=4, samples=1, bootstrap=100))
    assert section(corpora) is None
    base, runs = next(iter(corpora.items()))
    moved = {base: replace(runs, results=tmp_path, source=Files(tmp_path, base))}
    (tmp_path / "probe").mkdir()
    rate(RATING, probed, made[0], tmp_path / "probe" / f"{base}.jsonl")
    (tmp_path / "tables" / base).mkdir(parents=True)
    write_probe(moved, tmp_path / "tables")
    frame = read_table(tmp_path / "tables" / base / "probe.csv")
    opposed = frame[frame["statistic"] == "opposed"].set_index("arm")["value"]
    assert opposed.between(0, 1).all() and opposed["steps"] == opposed["overlap"]  # of gradients alone
    draw_probe(moved, tmp_path / "figures")
    assert len(list((tmp_path / "figures" / base).glob("probe_*.png"))) == 3
    shown = section(moved)
    assert shown is not None and "8 prompts" in shown["sentences"][1] and "Rated by steps" in shown["sentences"][2]
