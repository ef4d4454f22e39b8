"""Frames and figures of conflict, on lines with a known truth."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from eval.conflict import Measured, _median, conflict_cosine, conflict_index, measured_groups, summarise
from eval.files import read_lines


def measured_line(step: int, number: int, draw: np.random.Generator, slope: float) -> dict[str, Any]:
    """A group of 8 of which the mask drops ``number % 3`` rows; cosines follow the gap with ``slope``, plus noise."""
    masked = number % 3
    gaps = draw.choice([-3.0, 0.0, 3.0, 6.0], size=4)
    cosines = np.clip(slope * gaps / 9 + draw.normal(0, 0.2, size=4), -1, 1)
    after = 0.5 - 0.2 * (masked > 0)
    same = {"anchor": False, "overlap": 0.5, "kept": True}
    pairs = [
        {"positive": i, "negative": 4 + i, "cosine": float(cosine), "score_gap": float(gap), **same}
        for i, (cosine, gap) in enumerate(zip(cosines, gaps, strict=True))
    ]
    return {
        "step": step, "problem": f"p{number}", "family": "sums", "level": 0, "rows": 8, "positives": 4, "negatives": 4,
        "kept_positives": 4 - masked, "kept_negatives": 4, "conflict_before": 0.5, "conflict_after": after,
        "conflict_random": 0.4, "conflict_random_by_side": 0.45, "shared_pairs": 3, "common_pairs": number % 2,
        "common_net_sum_before": 0.0, "common_net_sum_after": -0.5 * masked,
        "pairs": pairs,
    }  # fmt: skip


def write_measured(folder: Path, arms: dict[str, float], groups: int = 30, base: str = "mini") -> list[Path]:
    paths = []
    for arm, slope in arms.items():
        for seed in (0, 1):
            path = folder / base / arm / f"seed{seed}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            draw = np.random.default_rng(seed)
            lines = [measured_line(step, number, draw, slope) for step in (0, 50) for number in range(groups)]
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
            paths.append(path)
    return paths


def read_measured(paths: list[Path]) -> Measured:
    return measured_groups(
        ((path.parts[-3], path.parts[-2], int(path.stem.removeprefix("seed"))), list(read_lines(path)))
        for path in paths
    )


def conflict_frame(paths: list[Path]) -> pd.DataFrame:
    return summarise(read_measured(paths))


def _all_steps(frame: pd.DataFrame, arm: str) -> pd.DataFrame:
    return frame[(frame["arm"] == arm) & frame["step"].isna()].set_index("statistic")


def test_a_planted_rise_is_found_and_none_where_there_is_none(tmp_path: Path) -> None:
    frame = conflict_frame(write_measured(tmp_path, {"rising": 1.0, "flat": 0.0}))
    rising, flat = _all_steps(frame, "rising"), _all_steps(frame, "flat")
    for name in ("cosine_with_gap", "cosine_with_gap_within"):
        assert rising.loc[name, "low"] > 0.5
        assert abs(flat.loc[name, "value"]) < 0.15 and flat.loc[name, "high"] - flat.loc[name, "low"] < 0.3
    bins = rising.loc["cosine"].set_index("gap_low")
    assert list(bins.index) == [-3.0, 0.0, 3.0, 6.0]  # a gap on an edge is in the bin above
    assert bins["pairs"].sum() == 2 * 2 * 30 * 4
    for low, row in bins.iterrows():
        assert row["low"] <= row["value"] <= row["high"]
        assert row["value"] == pytest.approx(float(low) / 9, abs=0.08)


def test_conflict_is_compared_on_the_groups_that_the_mask_changes(tmp_path: Path) -> None:
    found = _all_steps(conflict_frame(write_measured(tmp_path, {"arm": 0.5})), "arm")
    values = {
        "conflict": 0.5, "conflict_before": 0.5, "conflict_after": 0.3, "conflict_random": 0.4,
        "after_minus_before": -0.2, "after_minus_random": -0.1, "after_minus_random_by_side": -0.15,
        "masked_whole": 0.0, "masked_in_part": 2 / 3, "masked_to_one_side": 0.0, "common_net_before": 0.0,
    }  # fmt: skip
    for name, value in values.items():
        assert found.loc[name, "value"] == pytest.approx(value), name
    assert found.loc["conflict", "groups"] == 120 and found.loc["conflict_after", "groups"] == 80
    drift = found.loc["common_net_after"]  # numbers 1, 3, 5 mod 6: one, none, two rows masked
    assert drift["value"] == pytest.approx(0.5) and drift["low"] < 0.5 < drift["high"] and drift["groups"] == 60


def test_steps_are_summarised_apart_and_identically(tmp_path: Path) -> None:
    paths = write_measured(tmp_path, {"arm": 0.5})
    frame = conflict_frame(paths)
    assert set(frame["step"].dropna()) == {0, 50}
    pd.testing.assert_frame_equal(frame, conflict_frame(paths))


def test_a_weighted_median_is_that_of_repeated_rows() -> None:
    draw = np.random.default_rng(0)
    values, group = draw.normal(size=40), draw.integers(0, 6, size=40)
    counts = draw.multinomial(6, [1 / 6] * 6, size=25)
    found = _median("x")(pd.DataFrame({"x": values}), group, counts)
    for median, count in zip(found, counts, strict=True):
        repeated = np.sort(np.repeat(values, count[group]))
        assert median == repeated[(len(repeated) - 1) // 2]


def test_runs_without_groups_or_scores_can_be_read(tmp_path: Path) -> None:
    empty = tmp_path / "mini" / "sft" / "seed0.jsonl"
    empty.parent.mkdir(parents=True)
    empty.write_text("")
    assert conflict_frame([empty]).empty and conflict_frame([]).empty
    line = measured_line(0, 0, np.random.default_rng(0), 0.0)
    bare = {**line, "conflict_after": None, "pairs": [{**pair, "score_gap": None} for pair in line["pairs"]]}
    empty.write_text(json.dumps(bare) + "\n")
    assert set(conflict_frame([empty])["statistic"]) >= {"conflict", "masked_whole"}


@pytest.mark.parametrize("arms", [1, 5])
def test_figures_can_be_drawn(tmp_path: Path, arms: int) -> None:
    measured = read_measured(write_measured(tmp_path, {f"arm{n}": 0.3 * n for n in range(arms)}, groups=8))
    frame = summarise(measured, resamples=50)
    labels = {"absent": "Absent", **{f"arm{n}": f"Arm {n}" for n in range(arms)}}
    for figure in (conflict_cosine(measured, frame, labels), conflict_index(frame, labels)):
        assert isinstance(figure, Figure)
        titles = {axis.get_title(loc="left") or axis.get_title() for axis in figure.axes}
        assert {f"Arm {n}" for n in range(arms)} <= titles and "Absent" not in titles
