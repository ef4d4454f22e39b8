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
from tests.eval_tree import BASE, CORPORA, FAMILIES, SMALL_STUDY, make_study, make_tree


def tables_of(results: Path) -> dict[str, pd.DataFrame]:
    write_tables(open_runs(results), results / "tables")
    return read_tables(results / "tables" / BASE)


def written(results: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((results / "tables" / BASE).iterdir())}


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


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two base corpora, two base seeds, and two arms with fewer seeds."""
    results = make_study(tmp_path_factory.mktemp("tables") / "study", problems=6, samples=2, arms=SMALL_STUDY)
    write_tables(open_runs(results), results / "tables")
    return results


def test_every_table_is_written_in_three_forms(tree: Path) -> None:
    files = {f"{name}.{form}" for name in TABLES for form in ("csv", "md", "tex")}
    assert set(written(tree)) == {*files, "pairs.csv"}


def test_identical_records_give_identical_bytes(tree: Path, tmp_path: Path) -> None:
    again = make_tree(tmp_path / "toy")
    tables_of(again)
    assert written(again) == written(tree)


def test_seconds_stand_apart(tree: Path, tmp_path: Path) -> None:
    results = make_tree(tmp_path / "toy")
    path = results / "runs" / BASE / "grpo" / "seed0" / "timings.jsonl"
    path.write_text(
        "".join(json.dumps({"step": n, "rollout": 9.0, "score": 0, "update": 1.0}) + "\n" for n in range(2))
    )
    tables_of(results)
    assert written(results) == written(tree)
    timing = pd.read_csv(results / "timing" / "school.csv").set_index("arm")
    assert timing.loc["grpo", "rollout"] == pytest.approx((18 + 30 * 0.2) / 2)
    assert timing.loc["grpo", "total"] == pytest.approx(timing.loc["grpo", ["rollout", "score", "update"]].sum())


def test_means_are_those_of_the_samples(tree: Path) -> None:
    frames = read_tables(tree / "tables" / BASE)
    rows = [
        json.loads(line)
        for seed in (0, 1)
        for line in (tree / f"samples/school/dagrpo/seed{seed}.jsonl").read_text().splitlines()
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
    shown = show("main", read_tables(tree / "tables" / BASE))
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
    frame = read_tables(tree / "tables" / BASE)["differences"]
    excludes = (frame["difference_low"] > 0) | (frame["difference_high"] < 0)
    assert frame["told_apart"].equals(excludes)
    assert frame.loc[(frame["arm"] == "random_reward") & (frame["column"] == "in_distribution"), "told_apart"].all()
    text = (tree / "tables/school/differences.md").read_text()
    assert text.count(" * [") == int(excludes.sum())


def test_only_a_clear_winner_is_bold(tmp_path: Path) -> None:
    arms = {"grpo": ("grpo", "GRPO", 0.0), "great": ("sft", "Great", 6.0)}
    frames = tables_of(make_tree(tmp_path / "clear", arms=arms, seeds=(0, 1, 2)))
    average = frames["main"][frames["main"]["column"] == "in_distribution"].set_index("arm")
    assert average["best"].to_dict() == {"base": False, "grpo": False, "great": True}
    assert "**" in (tmp_path / "clear/tables/school/main.md").read_text().split("\n", 1)[1]
    assert r"\textbf{" in (tmp_path / "clear/tables/school/main.tex").read_text()


def test_one_seed_marks_nothing_and_says_why(single: Path) -> None:
    frames = read_tables(single / "tables" / BASE)
    assert not frames["main"]["best"].any()
    assert not frames["differences"]["told_apart"].any()
    assert "One seed an arm" in (single / "tables/school/main.md").read_text()


def test_two_seeds_come_with_a_warning(tree: Path) -> None:
    assert "2 seeds say little about the spread between seeds" in (tree / "tables/school/main.md").read_text()


def test_a_limited_evaluation_is_marked_in_every_header(single: Path) -> None:
    shown = show("main", read_tables(single / "tables" / BASE))
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
            "Limited evaluation, no benchmark score: sums (first 5 of 30)"
            in (single / f"tables/school/{name}.md").read_text()
        )


def test_missing_problems_are_marked(tmp_path: Path) -> None:
    results = make_tree(tmp_path / "toy", problems=4, samples=1)
    path = results / "samples/school/grpo/seed1.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines() if '"sums-2"' not in line))
    shown = show("main", tables_of(results))
    assert shown.header[2] == "sums †"
    assert any("left out because some run lacks them: sums (1)" in note for note in shown.notes)


def test_difficulty_sorts_by_level_and_by_the_base(tree: Path, single: Path) -> None:
    frame = read_tables(tree / "tables" / BASE)["difficulty"]
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
    unknown = read_tables(single / "tables" / BASE)["difficulty"]
    assert set(unknown["prompts"]) <= {"base never right", "base always right"}


def test_the_regime_is_judged(tree: Path) -> None:
    frame = read_tables(tree / "tables" / BASE)["regime"]
    rows = [json.loads(line) for line in (tree / "samples/school/profile.jsonl").read_text().splitlines()]
    right = np.array([row["verdict"] == "correct" for row in rows]).reshape(-1, 8).sum(axis=1)
    found = frame[frame["prompts"] == "all"].set_index("statistic")
    assert found.loc["pass_at_1", "mean"] == pytest.approx(right.mean() / 8)
    assert found.loc["none_right", "mean"] == pytest.approx((right == 0).mean())
    assert found.loc["nearly_all_right", "mean"] == pytest.approx((right >= 7).mean())
    assert found.loc["mixed", "mean"] == pytest.approx(((right > 0) & (right < 8)).mean())
    for name, (low, high) in {"pass_at_1": (0.2, 0.5), "none_right": (0.2, 1), "nearly_all_right": (0.2, 1)}.items():
        assert found.loc[name, "met"] == ("yes" if low <= found.loc[name, "mean"] <= high else "no")


def test_arms_without_a_gate_have_no_masks(tree: Path, single: Path) -> None:
    masks = read_tables(tree / "tables" / BASE)["masks"].set_index("arm")
    assert list(masks.index) == ["dagrpo_no_anchors", "dagrpo"]
    assert 0.1 < masks.loc["dagrpo", "masked_share"] < 0.4
    assert read_tables(single / "tables" / BASE)["masks"].empty
    assert "No arm of this experiment has a score gate." in (single / "tables/school/masks.md").read_text()


def test_consumption_is_a_mean_over_seeds(tree: Path) -> None:
    frame = read_tables(tree / "tables" / BASE)["consumed"].set_index("arm")
    assert frame.loc["grpo", ["seeds", "samples", "prompt_tokens"]].tolist() == [2, 1920, 9000]


def test_demonstrations_that_were_left_out_are_shown(tmp_path: Path) -> None:
    results = make_tree(tmp_path / "toy", seeds=(0,), problems=2, samples=1)
    path = results / "runs" / BASE / "grpo" / "seed0" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"demonstrations_left_out": 17}))
    frames = tables_of(results)
    assert frames["consumed"].set_index("arm").loc[["grpo", "sft"], "left_out"].tolist() == [17, 0]
    shown = markdown(show("consumed", frames))
    assert "demonstrations left out |" in shown and "those of more tokens than a response may have" in shown


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


def of_all(results: Path) -> dict[str, bytes]:
    folder = results / "tables"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*")) if path.is_file()}


def test_each_corpus_has_its_tables_and_one_stands_over_them(study: Path, tree: Path, tmp_path: Path) -> None:
    files = {f"{base}/{name}.{form}" for base in CORPORA for name in TABLES for form in ("csv", "md", "tex")}
    files |= {f"{base}/pairs.csv" for base in CORPORA}
    assert set(of_all(study)) == files | {f"side_by_side.{form}" for form in ("csv", "md", "tex")}
    assert {path.name for path in (study / "timing").iterdir()} == {f"{base}.csv" for base in CORPORA}
    assert not list((tree / "tables").glob("side_by_side.*"))
    again = make_study(tmp_path / "study", problems=6, samples=2, arms=SMALL_STUDY)
    write_tables(open_runs(again), again / "tables")
    assert of_all(again) == of_all(study)


def right(study: Path, arm: str, seed: int) -> float:
    """Share of correct samples in distribution; each family has as many."""
    lines = (study / f"samples/working/{arm}/seed{seed}.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    return float(np.mean([row["verdict"] == "correct" for row in rows if row["family"] not in ("sorting", "counting")]))


def test_means_are_over_own_seeds_and_differences_over_common_ones(study: Path) -> None:
    frames = read_tables(study / "tables/working")
    main = frames["main"].set_index(["arm", "column"]).xs("in_distribution", level="column")
    assert main["seeds"].to_dict() == {"base": 2, "sft": 8, "grpo": 8, "dagrpo": 8, "delta_0": 4, "delta_5": 4}
    grpo = [right(study, "grpo", seed) for seed in range(8)]
    few = [right(study, "delta_0", seed) for seed in range(4)]
    base = [right(study, "base", seed) for seed in (0, 1)]
    assert main["mean"][["base", "grpo", "delta_0"]].tolist() == pytest.approx(list(map(np.mean, (base, grpo, few))))
    versus = frames["differences"].set_index(["arm", "column"]).xs("in_distribution", level="column")["difference"]
    assert versus["delta_0"] == pytest.approx(np.mean(few) - np.mean(grpo[:4]))
    assert versus["delta_0"] != pytest.approx(np.mean(few) - np.mean(grpo), abs=1e-6)
    assert versus["base"] == pytest.approx(np.mean(base) - np.mean(grpo))


def test_corpora_stand_side_by_side(study: Path) -> None:
    frame = pd.read_csv(study / "tables/side_by_side.csv").set_index(["base", "arm", "column"])
    for base in CORPORA:
        frames = read_tables(study / "tables" / base)
        for name, keys in (("main", ["mean", "low", "high"]), ("differences", ["difference", "told_apart"])):
            own = frames[name].set_index(["arm", "column"])
            assert frame.loc[(base, "dagrpo", "in_distribution"), keys].tolist() == (
                own.loc[("dagrpo", "in_distribution"), keys].tolist()
            )
    header, rows = (study / "tables/side_by_side.md").read_text().split("\n\n")[1].split("\n", 1)
    assert [title.strip() for title in header.strip("|").split("|")] == [
        "arm",
        "seeds",
        *(
            f"{average}{measure} ({base})"
            for average in ("average", "average OOD")
            for measure in ("", " over GRPO")
            for base in CORPORA
        ),
    ]
    names = [row.split("|")[1].strip() for row in rows.splitlines()[1:]]
    assert names == ["Base", "SFT", "GRPO", "DaGRPO", "with fewer seeds:", "DaGRPO, δ = 0", "DaGRPO, δ = 5"]


def test_arms_with_fewer_seeds_stand_below_in_every_table(study: Path, tree: Path) -> None:
    for name in TABLES:
        text = (study / f"tables/guessing/{name}.md").read_text()
        assert ("with fewer seeds:" in text) == (name not in ("regime", "ranking")), name
        assert "with fewer seeds:" not in (tree / f"tables/school/{name}.md").read_text()
    assert (
        "Of an arm with fewer seeds than GRPO, over the seeds" in (study / "tables/guessing/differences.md").read_text()
    )


@pytest.mark.parametrize(("gain", "bold"), [(3.5, {"great"}), (9.0, {"great", "few"})])
def test_an_arm_with_fewer_seeds_is_bold_only_where_it_beats_all(tmp_path: Path, gain: float, bold: set[str]) -> None:
    arms = {"grpo": ("grpo", "GRPO", 0.0), "few": ("sft", "Few", gain), "great": ("sft", "Great", 3.5)}
    frames = tables_of(
        make_tree(tmp_path, arms=arms, seeds=(0, 1, 2, 3), fewer={"few": (0, 1)}, families={"sums": -2.0}, problems=60)
    )
    average = frames["main"][frames["main"]["column"] == "in_distribution"].set_index("arm")
    assert set(average.index[average["best"]]) == bold
    assert "in the lower block, better than each other arm of both" in (tmp_path / "tables/school/main.md").read_text()
