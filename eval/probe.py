"""What the gradients of a base's own groups say: tables, pictures and the page's section, from ``dagrpo rate-probe``.

The same statistics as of the runs' snapshots (:mod:`eval.conflict`), with a scorer where those have an arm.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from eval.conflict import Measured, conflict_cosine, conflict_index, summarise
from eval.figures import GREY, STYLE, _grid, write_figure
from eval.records import Runs
from eval.tables import read_table, to_csv

TABLE, ROWS = "probe.csv", "probe_rows.csv"
PICTURED = 6
"""Prompts of which the gradients are drawn: the first with mixed groups, in the order of the draw."""


@dataclass(frozen=True, slots=True)
class Probed:
    """Lines of mixed groups (:func:`dagrpo.measurements.probe.described`), in the order of the draw; of all groups,
    their number and how many rows had which verdict."""

    groups: int
    rows: Mapping[str, int]
    lines: list[dict[str, Any]]


def read_probe(told: list[dict[str, Any]]) -> Probed:
    """Read the lines of ``dagrpo rate-probe``."""
    about, *lines = told
    return Probed(about["groups"], about["rows"], lines)


def measured(probed: Probed, base: str) -> Measured:
    """Groups and pairs as frames, each scorer as an arm."""
    groups: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for line in probed.lines:
        for scorer, found in line["masks"].items():
            run = {"base": base, "arm": scorer, "seed": 0, "step": 0}
            pairs += [{**run, "group": len(groups), **pair} for pair in found["pairs"]]
            groups.append({**run, **{name: value for name, value in found.items() if name != "pairs"}})
    return Measured(
        pd.DataFrame(groups), pd.DataFrame(pairs).astype({"cosine": float, "score_gap": float, "overlap": float})
    )


def checked(probed: Probed) -> pd.DataFrame:
    """Cosines of all pairs of rows of the groups that were measured twice: ``part`` of the model, and the ``whole``."""
    rows = []
    for line in probed.lines:
        if "whole_gram" in line:
            part, whole = (_cosines(np.array(line[name])) for name in ("gram", "whole_gram"))
            first, second = np.triu_indices(len(part), 1)
            rows += [
                {"problem": line["problem"], "part": part[i, j], "whole": whole[i, j]}
                for i, j in zip(first, second, strict=True)
            ]
    return pd.DataFrame(rows, columns=["problem", "part", "whole"])


def directions(gram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two principal directions of some gradients, from their inner products alone.

    Args:
        gram: (N, N).

    Returns:
        coordinates, (N, 2), and the share of the spread that each direction holds, (2,).
    """
    centred = gram - gram.mean(0) - gram.mean(1)[:, None] + gram.mean()
    values, vectors = np.linalg.eigh(centred)
    values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
    vectors = vectors * np.where(vectors[np.abs(vectors).argmax(0), range(len(gram))] < 0, -1, 1)  # a sign is free
    return vectors[:, :2] * np.sqrt(values[:2]), values[:2] / values.sum()


def write_probe(corpora: Mapping[str, Runs], out: Path) -> None:
    """Write ``<base>/probe.csv`` and ``<base>/probe_rows.csv`` for each base that was probed."""
    for base, runs in corpora.items():
        if (told := runs.source.probe()) is None:
            continue
        probed = read_probe(told)
        if probed.lines:
            (out / base / TABLE).write_bytes(to_csv(summarise(measured(probed, base))))
        counts: dict[str, float] = {"prompts": probed.groups, "mixed": len(probed.lines), **probed.rows}
        both = checked(probed)
        if len(both):
            counts |= {
                "checked_pairs": len(both),
                "check_correlation": float(np.corrcoef(both["part"], both["whole"])[0, 1]),
                "check_largest_difference": float((both["part"] - both["whole"]).abs().max()),
            }
        (out / base / ROWS).write_bytes(to_csv(pd.DataFrame({"what": list(counts), "value": list(counts.values())})))


def draw_probe(corpora: Mapping[str, Runs], out: Path) -> None:
    """Draw ``<base>/probe_cosine``, ``<base>/probe_index`` and ``<base>/probe_prompts``."""
    for base, runs in corpora.items():
        told = runs.source.probe()
        if told is None or not (runs.tables / TABLE).exists():
            continue
        probed, frame = read_probe(told), read_table(runs.tables / TABLE)
        names = {scorer: scorer for scorer in probed.lines[0]["masks"]}
        with mpl.rc_context(STYLE):
            write_figure(conflict_cosine(measured(probed, base), frame, names), out / base / "probe_cosine")
            write_figure(conflict_index(frame, names), out / base / "probe_index")
            write_figure(prompts(probed), out / base / "probe_prompts")


def prompts(probed: Probed) -> Figure:
    """Gradients of some prompts' rows along their two principal directions, coloured by score: the paper's picture.

    The first scorer rates them. Right rows are discs, wrong rows crosses.
    """
    shown = probed.lines[:PICTURED]
    scorer = next(iter(shown[0]["scores"]))
    figure, axes = _grid(len(shown), across=3, height=2.0)
    for number, (axis, line) in enumerate(zip(axes, shown, strict=False)):
        places, shares = directions(np.array(line["gram"]))
        scores, right = np.array(line["scores"][scorer], dtype=float), np.array(line["verdicts"]) == "correct"
        style: dict[str, Any] = {"cmap": "viridis", "vmin": 1, "vmax": 10, "zorder": 3}
        for rows, marker in ((right, "o"), (~right, "X")):
            x, y = places[rows].T
            dots = axis.scatter(x, y, c=scores[rows], marker=marker, s=34, linewidths=0.5, edgecolors=GREY, **style)
        axis.axhline(0, color=GREY, linewidth=0.5)
        axis.axvline(0, color=GREY, linewidth=0.5)
        axis.set_title(f"prompt {number + 1} ({line['family']})")
        axis.set_xlabel(f"direction 1 ({shares[0]:.0%} of the spread)")
        axis.set_ylabel(f"direction 2 ({shares[1]:.0%})")
        axis.set_xticklabels([])
        axis.set_yticklabels([])
    for axis in axes[len(shown) :]:
        axis.axis("off")
    figure.colorbar(dots, ax=axes, label=f"score ({scorer})", shrink=0.7)
    return figure


def section(corpora: Mapping[str, Runs]) -> dict[str, Any] | None:
    """What the page shows of the probes, in the form of ``conflict.html.j2``; ``None`` where no base was probed."""
    found = {base: runs for base, runs in corpora.items() if (runs.tables / ROWS).exists()}
    if not found:
        return None
    sentences = [
        "Before any training: the base's own rollouts, each differentiated by itself. If alike rows of both sides "
        "oppose each other (arXiv 2512.06337, sections 1 and 3), the cosine of their pushes lies below zero where "
        "their scores are close, and dropping such rows lowers conflict by more than dropping as many by lot.",
    ]
    figures = []
    for base, runs in found.items():
        counts = read_table(runs.tables / ROWS).set_index("what")["value"]
        sentences.append(_counted(base, counts))
        if (runs.tables / TABLE).exists():
            sentences += list(_sentences(read_table(runs.tables / TABLE)))
            figures += [
                {"name": f"{base}/{name}", "alt": alt, "caption": f"{caption} Base {base}."}
                for name, (alt, caption) in _FIGURES.items()
            ]
    return {"title": "Gradients of the base's own groups", "name": "probe", "sentences": sentences, "figures": figures,
            "tables": ()}  # fmt: skip


_FIGURES = {
    "probe_prompts": (
        "Gradients of some prompts' rows along two directions",
        "The first prompts of the draw with right and wrong rows: the gradient of each row along the two principal "
        "directions of its prompt. Discs are right, crosses wrong; the colour is the score.",
    ),
    "probe_cosine": (
        "Cosine of gradients against score gap, by scorer",
        "Each dot is a right and a wrong row of a prompt: the cosine of their pushes against their gap in score. Below "
        "zero they undo each other. Red: medians of bins, with 95 % intervals over prompts.",
    ),
    "probe_index": (
        "Conflict index before and after the mask, by scorer",
        "The share of the pushes of a prompt's rows that is lost where they meet, in groups that the mask thins out.",
    ),
}


def _counted(base: str, counts: pd.Series) -> str:
    rows = counts[[name for name in counts.index if name not in ("prompts", "mixed") and "check" not in name]]
    text = (
        f"{base}: {counts['prompts']:.0f} prompts, {counts['mixed']:.0f} with right and wrong rows; of all "
        f"{rows.sum():.0f} rows {counts.get('correct', 0):.0f} are right, and the budget cuts "
        f"{counts.get('truncated', 0):.0f}."
    )
    if "checked_pairs" in counts:
        text += (
            f" Against gradients of the whole model in fp32, on {counts['checked_pairs']:.0f} pairs of rows, the "
            f"cosines used here have a correlation of {counts['check_correlation']:.2f} and differ by "
            f"{counts['check_largest_difference']:.2f} at most."
        )
    return text


def _sentences(frame: pd.DataFrame) -> Iterator[str]:
    pooled = frame[frame["gap_low"].isna()]
    for scorer, block in pooled.groupby("arm", sort=False):
        found = {row["statistic"]: _figure(row) for _, row in block.iterrows()}
        parts = [text.format(**found) for names, text in _TEXTS if names <= found.keys()]
        yield f"Rated by {scorer}: {'; '.join(parts)}."


_TEXTS = (
    ({"opposed"}, "{opposed} of the right-wrong pairs oppose each other"),
    (
        {"cosine_with_gap", "cosine_with_gap_within"},
        "rank correlation of cosine and score gap {cosine_with_gap}, within prompts {cosine_with_gap_within}",
    ),
    (
        {"cosine_with_overlap", "cosine_with_overlap_within"},
        "of cosine and shared n-grams {cosine_with_overlap}, within prompts {cosine_with_overlap_within}",
    ),
    (
        {"cosine_with_gap_given_overlap", "cosine_with_overlap_given_gap"},
        "of cosine and gap at equal overlap {cosine_with_gap_given_overlap}, of cosine and overlap at equal gap "
        "{cosine_with_overlap_given_gap}",
    ),
    (
        {"conflict_before", "conflict_after", "conflict_random"},
        "conflict index of thinned groups {conflict_before} before the mask, {conflict_after} after it, "
        "{conflict_random} where lot drops as many",
    ),
    (
        {"common_net_before", "common_net_after"},
        "net push on tokens that all rows share {common_net_before} before the mask, {common_net_after} after it",
    ),
)


def _figure(row: pd.Series) -> str:
    return f"{row['value']:.2f} [{row['low']:.2f}, {row['high']:.2f}]".replace("-", "−")


def _cosines(gram: np.ndarray) -> np.ndarray:
    norm = np.sqrt(np.diagonal(gram))
    return gram / (norm[:, None] * norm[None, :])
