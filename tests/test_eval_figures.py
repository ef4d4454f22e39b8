"""Figures: all of them, in both forms, the same bytes from the same records."""

from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure

from eval.figures import FIGURES, Source, draw_figures
from eval.records import open_runs
from eval.tables import write_tables
from tests.eval_tree import ARMS, make_tree


def draw(results: Path) -> dict[str, bytes]:
    runs = open_runs(results)
    write_tables(runs, results / "tables")
    draw_figures(runs, results / "figures")
    return {path.name: path.read_bytes() for path in sorted((results / "figures").iterdir())}


def test_identical_records_give_identical_pictures(tmp_path: Path) -> None:
    first, second = (draw(make_tree(tmp_path / name, problems=4, samples=2)) for name in ("one", "two"))
    assert set(first) == {f"{name}.{form}" for name in FIGURES for form in ("svg", "png")}
    assert first == second
    assert all(b"<dc:date>" not in content for content in first.values())


def test_unknown_levels_and_one_seed_can_be_drawn(tmp_path: Path) -> None:
    arms = {"grpo": ("grpo", "GRPO", 0.5), "sft": ("sft", "SFT", 0.5)}
    pictures = draw(make_tree(tmp_path, problems=5, samples=1, levels=False, seeds=(0,), arms=arms, outside=()))
    assert all(len(content) > 1000 for content in pictures.values())


def test_an_arm_has_one_colour_and_the_two_of_the_question_stand_out() -> None:
    names = {"base": "Base", **{arm: label for arm, (_, label, _) in ARMS.items()}}
    source = Source({}, pd.DataFrame(), names, "grpo", "dagrpo")
    assert len(set(source.colours.values())) == len(names)
    assert [source.dashes[arm] for arm in ("grpo", "dagrpo")] == ["-", "-"]
    assert all(source.dashes[arm] != "-" for arm in names if arm not in ("grpo", "dagrpo"))


@pytest.mark.parametrize("arms", [1, 12])
def test_any_number_of_arms_fits(tmp_path: Path, arms: int) -> None:
    chosen = {"grpo": ("grpo", "GRPO", 0.5), **{f"arm{n}": ("sft", f"Arm {n}", 0.1 * n) for n in range(1, arms)}}
    runs = open_runs(make_tree(tmp_path, problems=3, samples=1, arms=chosen, bootstrap=100))
    write_tables(runs, tmp_path / "tables")
    if arms == 1:
        draw_figures(runs, tmp_path / "figures")
        return
    from eval.records import labels, load_metrics
    from eval.tables import read_tables

    source = Source(read_tables(tmp_path / "tables"), load_metrics(runs), labels(runs), "grpo", runs.subject)
    assert all(isinstance(FIGURES[name](source), Figure) for name in ("averages", "curves"))
