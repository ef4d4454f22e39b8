"""Figures: all of them, in both forms, the same bytes from the same records."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from eval.figures import FIGURES, INK, Source, draw_figures, read_source, side_by_side, swept
from eval.records import Runs, open_runs
from eval.tables import write_tables
from tests.eval_tree import ARMS, BASE, SMALL_STUDY, make_study, make_tree


def draw(results: Path) -> dict[str, bytes]:
    runs = open_runs(results)
    write_tables(runs, results / "tables")
    draw_figures(runs, results / "figures")
    folder = results / "figures"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*g"))}


def test_identical_records_give_identical_pictures(tmp_path: Path) -> None:
    first, second = (draw(make_tree(tmp_path / name, problems=4, samples=2)) for name in ("one", "two"))
    names = [*FIGURES, *(f"methods/{arm}" for arm in ARMS)]
    assert set(first) == {f"school/{name}.{form}" for name in names for form in ("svg", "png")}
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


def test_arms_with_fewer_seeds_are_drawn_apart_and_corpora_side_by_side(tmp_path: Path) -> None:
    results = make_study(tmp_path, problems=4, samples=1, arms=SMALL_STUDY, bootstrap=100)
    write_tables(open_runs(results), results / "tables")
    corpora = open_runs(results)
    source = read_source(corpora["working"])
    assert list(source.arms) == ["base", "sft", "grpo", "dagrpo"]
    assert list(source.swept) == ["delta_0", "delta_5"]
    assert {source.colours[arm] for arm in source.swept} == {INK}

    for name, arms, markers in (
        ("accuracy", 4, "o"),
        ("sweeps", 4, "o"),
        ("side_by_side", 4, "oD"),
        ("side_by_side_sweeps", 4, "oD"),
    ):
        axis = drawn(corpora, name).axes[0]
        labels = [label.get_text() for label in axis.get_yticklabels()]
        assert len(labels) == arms, name
        assert ("DaGRPO, δ = 0" in labels) == ("sweeps" in name)
        dots = [line for line in axis.lines if line.get_marker() != "None" and np.size(line.get_xdata())]
        assert "".join(dict.fromkeys(line.get_marker() for line in dots)) == markers
        assert len(dots) == arms * len(markers)


def drawn(corpora: dict[str, Runs], name: str) -> Figure:
    """One figure of the study, as it would be written."""
    sources = {base: read_source(runs) for base, runs in corpora.items()}
    if name.startswith("side_by_side"):
        return side_by_side(sources, of_sweeps=name.endswith("sweeps"))
    return swept(sources["working"]) if name == "sweeps" else FIGURES[name](sources["working"])


@pytest.mark.parametrize("arms", [1, 12, 20])
def test_any_number_of_arms_fits(tmp_path: Path, arms: int) -> None:
    chosen = {"grpo": ("grpo", "GRPO", 0.5), **{f"arm{n}": ("sft", f"Arm {n}", 0.1 * n) for n in range(1, arms)}}
    make_tree(tmp_path, problems=3, samples=1, arms=chosen, bootstrap=100)
    corpora = open_runs(tmp_path)
    write_tables(corpora, tmp_path / "tables")
    if arms == 1:
        draw_figures(corpora, tmp_path / "figures")
        return
    source = read_source(corpora[BASE])
    assert isinstance(FIGURES["averages"](source), Figure)
    (legend,) = filter(None, (axis.get_legend() for axis in FIGURES["curves"](source).axes))
    told = [text.get_text() for text in legend.get_texts()]
    assert told == (
        ["GRPO", "Arm 19", "each of 18 other arms"] if arms == 20 else [label for _, label, _ in chosen.values()]
    )
