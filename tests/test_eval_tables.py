"""Tables: the right numbers, the right marks, the same bytes."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from eval.cli import app
from eval.display import TABLES, show
from eval.records import open_runs
from eval.render import Cell, Display, latex, markdown, signed
from eval.tables import read_tables, write_tables
from tests.eval_tree import FAMILIES, make_tree


def tables_of(results: Path) -> dict[str, pd.DataFrame]:
    write_tables(open_runs(results), results / "tables")
    return read_tables(results / "tables")


def written(results: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((results / "tables").iterdir())}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = make_tree(tmp_path_factory.mktemp("tables") / "toy")
    outcome = CliRunner().invoke(app, ["tables", "--results", str(results)])
    assert outcome.exit_code == 0, outcome.output
    return results


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One seed, no levels, some families cut short: the shape of a short run on real rows."""
    results = make_tree(
        tmp_path_factory.mktemp("tables") / "single",
        seeds=(0,),
        problems=5,
        samples=1,
        levels=False,
        limited={"sums": [5, 30], "sorting": [5, 1200]},
        arms={"grpo": ("grpo", "GRPO", 0.5), "sft": ("sft", "SFT", 9.0)},
    )
    tables_of(results)
    return results


def test_every_table_is_written_in_three_forms(tree: Path) -> None:
    assert set(written(tree)) == {f"{name}.{form}" for name in TABLES for form in ("csv", "md", "tex")}


def test_identical_records_give_identical_bytes(tree: Path, tmp_path: Path) -> None:
    again = make_tree(tmp_path / "toy")
    tables_of(again)
    assert written(again) == written(tree)


def test_seconds_stand_apart(tree: Path, tmp_path: Path) -> None:
    results = make_tree(tmp_path / "toy")
    path = results / "runs" / "grpo" / "seed0" / "timings.jsonl"
    path.write_text(
        "".join(json.dumps({"step": n, "rollout": 9.0, "score": 0, "update": 1.0}) + "\n" for n in range(2))
    )
    tables_of(results)
    assert written(results) == written(tree)
    timing = pd.read_csv(results / "timing.csv").set_index("arm")
    assert timing.loc["grpo", "rollout"] == pytest.approx((18 + 30 * 0.2) / 2)
    assert timing.loc["grpo", "total"] == pytest.approx(timing.loc["grpo", ["rollout", "score", "update"]].sum())


def test_means_are_those_of_the_samples(tree: Path) -> None:
    frames = read_tables(tree / "tables")
    rows = [
        json.loads(line)
        for seed in (0, 1)
        for line in (tree / f"samples/dagrpo/seed{seed}.jsonl").read_text().splitlines()
    ]
    main = frames["main"].set_index(["arm", "column"])
    by_family = {
        family: np.mean([r["verdict"] == "correct" for r in rows if r["family"] == family]) for family in FAMILIES
    }
    for family, share in by_family.items():
        assert main.loc[("dagrpo", family), "mean"] == pytest.approx(share)
    inside = np.mean([by_family[name] for name in ("sums", "products", "gcd_of_two")])
    assert main.loc[("dagrpo", "in_distribution"), "mean"] == pytest.approx(inside)
    assert main.loc[("dagrpo", "in_distribution"), ["problems", "samples"]].tolist() == [60, 240]
    versus = frames["differences"].set_index(["arm", "column"]).loc[("dagrpo", "in_distribution")]
    assert versus["difference"] == pytest.approx(inside - main.loc[("grpo", "in_distribution"), "mean"])
    assert versus["reference"] == "GRPO"
    verdicts = frames["verdicts"].set_index(["arm", "scope"]).loc[("dagrpo", "out_of_distribution")]
    outside = [r for r in rows if r["family"] in ("sorting", "counting")]
    assert verdicts["truncated"] == pytest.approx(np.mean([r["verdict"] == "truncated" for r in outside]))
    assert verdicts["response_tokens"] == pytest.approx(np.mean([r["tokens"] for r in outside]))


def test_columns_are_in_reading_order(tree: Path) -> None:
    shown = show("main", read_tables(tree / "tables"))
    assert shown.header == (
        "arm",
        "seeds",
        "sums",
        "products",
        "gcd_of_two",
        "average",
        "sorting",
        "counting",
        "average OOD",
    )
    assert [row[0].text for row in shown.rows][:3] == ["Base", "SFT", "GRPO"]
    assert all(len(row) == len(shown.header) for row in shown.rows)


def test_a_mark_needs_an_interval_that_excludes_a_tie(tree: Path) -> None:
    frame = read_tables(tree / "tables")["differences"]
    excludes = (frame["difference_low"] > 0) | (frame["difference_high"] < 0)
    assert frame["told_apart"].equals(excludes)
    assert frame.loc[(frame["arm"] == "random_reward") & (frame["column"] == "in_distribution"), "told_apart"].all()
    text = (tree / "tables/differences.md").read_text()
    assert text.count(" * [") == int(excludes.sum())


def test_only_a_clear_winner_is_bold(tmp_path: Path) -> None:
    arms = {"grpo": ("grpo", "GRPO", 0.0), "great": ("sft", "Great", 6.0)}
    frames = tables_of(make_tree(tmp_path / "clear", arms=arms, seeds=(0, 1, 2)))
    average = frames["main"][frames["main"]["column"] == "in_distribution"].set_index("arm")
    assert average["best"].to_dict() == {"base": False, "grpo": False, "great": True}
    assert "**" in (tmp_path / "clear/tables/main.md").read_text().split("\n", 1)[1]
    assert r"\textbf{" in (tmp_path / "clear/tables/main.tex").read_text()


def test_one_seed_marks_nothing_and_says_why(single: Path) -> None:
    frames = read_tables(single / "tables")
    assert not frames["main"]["best"].any()
    assert not frames["differences"]["told_apart"].any()
    assert "One seed an arm" in (single / "tables/main.md").read_text()


def test_two_seeds_come_with_a_warning(tree: Path) -> None:
    assert "2 seeds say little about the spread between seeds" in (tree / "tables/main.md").read_text()


def test_a_limited_evaluation_is_marked_in_every_header(single: Path) -> None:
    shown = show("main", read_tables(single / "tables"))
    assert shown.header[2:] == (
        "sums (first 5 of 30)",
        "products",
        "gcd_of_two",
        "average (limited)",
        "sorting (first 5 of 1200)",
        "counting",
        "average OOD (limited)",
    )
    for name in ("difficulty", "verdicts"):
        assert (
            "Limited evaluation, no benchmark score: sums (first 5 of 30)" in (single / f"tables/{name}.md").read_text()
        )


def test_missing_problems_are_marked(tmp_path: Path) -> None:
    results = make_tree(tmp_path / "toy", problems=4, samples=1)
    path = results / "samples/grpo/seed1.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines() if '"sums-2"' not in line))
    shown = show("main", tables_of(results))
    assert shown.header[2] == "sums †"
    assert any("left out because some run lacks them: sums (1)" in note for note in shown.notes)


def test_difficulty_sorts_by_level_and_by_the_base(tree: Path, single: Path) -> None:
    frame = read_tables(tree / "tables")["difficulty"]
    assert list(frame["prompts"].unique()) == [
        "level 0",
        "level 1",
        "level 2",
        "level 3",
        "hard",
        "base never right",
        "base always right",
    ]
    of_base = frame[frame["arm"] == "base"].set_index("prompts")["mean"]
    assert of_base["base never right"] == 0
    assert of_base["base always right"] == 1
    assert of_base["level 0"] > of_base["hard"]
    unknown = read_tables(single / "tables")["difficulty"]
    assert set(unknown["prompts"]) <= {"base never right", "base always right"}


def test_the_regime_is_judged(tree: Path) -> None:
    frame = read_tables(tree / "tables")["regime"]
    rows = [json.loads(line) for line in (tree / "samples/profile.jsonl").read_text().splitlines()]
    right = np.array([row["verdict"] == "correct" for row in rows]).reshape(-1, 8).sum(axis=1)
    found = frame[frame["prompts"] == "all"].set_index("statistic")
    assert found.loc["pass_at_1", "mean"] == pytest.approx(right.mean() / 8)
    assert found.loc["none_right", "mean"] == pytest.approx((right == 0).mean())
    assert found.loc["nearly_all_right", "mean"] == pytest.approx((right >= 7).mean())
    assert found.loc["mixed", "mean"] == pytest.approx(((right > 0) & (right < 8)).mean())
    for name, (low, high) in {"pass_at_1": (0.2, 0.5), "none_right": (0.2, 1), "nearly_all_right": (0.2, 1)}.items():
        assert found.loc[name, "met"] == ("yes" if low <= found.loc[name, "mean"] <= high else "no")


def test_arms_without_a_gate_have_no_masks(tree: Path, single: Path) -> None:
    masks = read_tables(tree / "tables")["masks"].set_index("arm")
    assert list(masks.index) == ["dagrpo_no_anchors", "dagrpo"]
    assert 0.1 < masks.loc["dagrpo", "masked_share"] < 0.4
    assert read_tables(single / "tables")["masks"].empty
    assert "No arm of this experiment has a score gate." in (single / "tables/masks.md").read_text()


def test_consumption_is_a_mean_over_seeds(tree: Path) -> None:
    frame = read_tables(tree / "tables")["consumed"].set_index("arm")
    assert frame.loc["grpo", ["seeds", "samples", "prompt_tokens"]].tolist() == [2, 1920, 9000]


def test_text_is_escaped() -> None:
    shown = Display(
        "A_title", ("arm", "50 %"), ((Cell("R&D_1 | x"), Cell("−1.0", "[−2.0, 0.0]", bold=True)),), ("δ ≥ 3 #1",)
    )
    source = latex(shown, "tab:x")
    assert r"R\&D\_1" in source
    assert r"50 \%" in source
    assert r"\textbf{$-$1.0}" in source
    assert r"$\delta$ $\geq$ 3 \#1" in source
    assert source.count("{") == source.count("}") + source.count(r"\{") - source.count(r"\}")
    text = markdown(shown)
    assert r"R&D_1 \| x" in text
    assert "**−1.0** [−2.0, 0.0]" in text


@pytest.mark.parametrize(("share", "text"), [(0.0123, "+1.2"), (-0.05, "−5.0"), (0.0, "0.0"), (-0.0001, "0.0")])
def test_points_have_a_sign(share: float, text: str) -> None:
    assert signed(share) == text
