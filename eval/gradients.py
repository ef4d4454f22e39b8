"""The page's section on gradients: what the measured conflict says, in words and pictures, from stored frames."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd

from eval.conflict import Measured, conflict_cosine, conflict_index, measured_groups, summarise
from eval.figures import STYLE, write_figure
from eval.records import Runs, labels
from eval.tables import read_table, to_csv

TABLE = "conflict.csv"
_FIGURES = {
    "conflict_cosine": (
        "Cosine of gradients against score gap",
        "Each dot is a good and a bad row of a prompt: the cosine of their pushes (gradients times advantages) against "
        "their gap in score. Below zero they undo each other. Red: medians of bins, with 95 % intervals over groups; "
        "dotted: a cosine of zero, and the margin of 3.",
    ),
    "conflict_index": (
        "Conflict index before and after the mask",
        "The share of the pushes of a prompt's rows that is lost where they meet, in groups that the mask thins out: "
        "before it, after it, and after as many rows were dropped by lot.",
    ),
}


def measured(runs: Runs) -> Measured:
    """The measured groups on one base corpus, in table order."""
    return measured_groups(
        ((runs.base, arm, seed), lines)
        for arm, seed in runs.trained
        if (lines := runs.source.conflict(arm, seed)) is not None
    )


def write_conflict(corpora: Mapping[str, Runs], out: Path) -> None:
    """Write ``<base>/conflict.csv`` for each base corpus on which gradients were measured."""
    for base, runs in corpora.items():
        if any(runs.source.conflict(*run) is not None for run in runs.trained):
            (out / base / TABLE).write_bytes(to_csv(summarise(measured(runs))))


def draw_conflict(corpora: Mapping[str, Runs], out: Path) -> None:
    """Draw ``<base>/conflict_cosine`` and ``<base>/conflict_index``."""
    for base, runs in corpora.items():
        frame = _summary(runs)
        if frame is None:
            continue
        found, names = measured(runs), labels(runs)
        with mpl.rc_context(STYLE):
            write_figure(conflict_cosine(found, frame, names), out / base / "conflict_cosine")
            write_figure(conflict_index(frame, names), out / base / "conflict_index")


def section(corpora: Mapping[str, Runs]) -> dict[str, Any] | None:
    """What ``conflict.html.j2`` shows, or ``None`` where nothing was measured."""
    frames = {base: frame for base, runs in corpora.items() if (frame := _summary(runs)) is not None}
    if not frames:
        return None
    figures = [
        {
            "name": f"{base}/{name}",
            "caption": caption + (f" Base corpus {base}." if len(corpora) > 1 else ""),
            "alt": alt,
        }
        for base in frames
        for name, (alt, caption) in _FIGURES.items()
    ]
    names = labels(next(iter(corpora.values())))
    sentences = [
        "A good and a bad row of a prompt that are alike should push against each other (arXiv 2512.06337, section 3). "
        "This is measured on the mixed groups of chosen steps, with exact gradients; intervals are over groups.",
        *[sentence for base, frame in frames.items() for sentence in _sentences(base, frame, names)],
        "Where advantages add up to zero, a token that all rows of a prompt share is pushed neither way; a mask "
        "without a new baseline ends that, and what it adds is drift.",
    ]
    return {"title": "Gradients that oppose each other", "name": "conflict", "sentences": sentences, "figures": figures,
            "tables": ()}  # fmt: skip


def _summary(runs: Runs) -> pd.DataFrame | None:
    path = runs.tables / TABLE
    return read_table(path) if path.exists() else None


def _sentences(base: str, frame: pd.DataFrame, names: Mapping[str, str]) -> Iterator[str]:
    pooled = frame[frame["step"].isna() & frame["gap_low"].isna()]
    for arm, block in pooled.groupby("arm", sort=False):
        found = {row["statistic"]: row for _, row in block.iterrows()}
        parts = []
        if "cosine_with_gap" in found:
            parts.append(
                f"rank correlation of cosine and score gap {_figure(found['cosine_with_gap'])}, within prompts "
                f"{_figure(found['cosine_with_gap_within'])}, with the overlap of the texts "
                f"{_figure(found['cosine_with_overlap'])}"
            )
        if "conflict_after" in found:
            parts.append(
                f"conflict index of thinned groups {_figure(found['conflict_before'])} before the mask, "
                f"{_figure(found['conflict_after'])} after it, "
                f"{_figure(found['conflict_random'])} where lot drops as many"
            )
        if "common_net_after" in found:
            parts.append(
                f"net push on tokens that all rows share {_figure(found['common_net_before'])} before, "
                f"{_figure(found['common_net_after'])} after"
            )
        if parts:
            yield f"{names[str(arm)]} on {base}: {'; '.join(parts)}."


def _figure(row: pd.Series) -> str:
    text = f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"
    return text.replace("-", "−")
