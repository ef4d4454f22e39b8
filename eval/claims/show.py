"""Verdicts for readers: a frame to store, and from it the lines of the page and a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from eval.claims.plot import claim_plots
from eval.claims.schema import Claim, Unit
from eval.claims.verdicts import Finding, Judged, Verdict
from eval.render import Cell, Display, signed

_MOST = 1000
_SCALES = {"points": 1.0, "index": 1.0, "correlation": 2.0, "spikes": 100.0, "factor": np.log(100.0)}
"""Widths of the scales of quantities: all of accuracy, of a conflict index, of a correlation; every step a spike; a
hundredfold ratio, as a logarithm."""
_RATIOS = ("compute", "samples", "optimiser_steps", "trained_tokens")


def claims_frame(judged: Sequence[Judged]) -> pd.DataFrame:
    """One row for each claim and base corpus, in page order: claims that apply nowhere come last.

    ``estimate``, ``low``, ``high`` (the corrected interval; see :func:`bounds`), ``smallest`` and ``paper`` are arm
    minus rival, in shares, or ratios where the unit is a factor. ``overall`` is the verdict over all corpora.
    ``seeds_needed`` is empty unless seeds would settle the claim.
    """
    rows = []
    for one in sorted(judged, key=lambda one: one.verdict is Verdict.NOT_APPLICABLE):
        claim, unit = one.claim, one.claim.statistic.unit
        for corpus, found in one.corpora.items():
            rows.append(
                {
                    "claim": claim.id,
                    "label": claim.label,
                    "sentence": claim.sentence,
                    "where": claim.where,
                    "source": claim.source,
                    "statistic": claim.statistic.kind,
                    "unit": unit,
                    "direction": claim.direction,
                    "smallest": claim.smallest,
                    "paper": np.nan if claim.paper is None else claim.paper,
                    "overall": str(one.verdict),
                    "corpus": corpus,
                    "verdict": str(found.verdict),
                    "reason": found.reason,
                    **_numbers(claim, found),
                    "seeds": found.seeds,
                    "seeds_needed": pd.NA if found.seeds_needed is None else found.seeds_needed,
                    **{f"{key}_ratio": found.taken.get(key, np.nan) for key in _RATIOS},
                }
            )
    return pd.DataFrame(rows).astype({"seeds_needed": "Int64"})


def bounds(claim: Claim, found: Finding) -> tuple[float, float]:
    """The ends of the corrected interval that say something: both, unless it is wider than the scale of its quantity;
    then the end that decides, where one does; NaN for the others."""
    if found.high - found.low <= _SCALES[claim.statistic.unit] or np.isnan(found.estimate):
        return found.low, found.high
    decides = {Verdict.REPRODUCED: -claim.sign, Verdict.CONTRADICTED: claim.sign}.get(found.verdict, 0)
    return (found.low if decides < 0 else np.nan), (found.high if decides > 0 else np.nan)


def parts_frame(judged: Sequence[Judged]) -> pd.DataFrame:
    """What stands behind the verdicts: each part of each statistic, over all base seeds (none named) and on each."""
    rows = []
    for one in judged:
        for corpus, found in one.corpora.items():
            for part in found.parts:
                about = {"claim": one.claim.id, "corpus": corpus, "part": part.name, "unit": one.claim.statistic.unit}
                values = [("", part.effect.estimate), *((str(b), e) for b, e in part.effect.of_bases.items())]
                rows += [
                    {**about, "base_seed": base, "estimate": _natural(value, one.claim.statistic.unit)}
                    for base, value in values
                ]
    return pd.DataFrame(rows, columns=["claim", "corpus", "part", "unit", "base_seed", "estimate"])


def page_claims(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """What ``claims.html.j2`` shows of each claim: claim, where, verdict, sentence, corpora, plot (an ``<svg>``), found
    (for each corpus that it was judged on: corpus, verdict, text, detail), paper and smallest."""
    plots, several = claim_plots(frame), frame["corpus"].nunique() > 1
    shown = []
    for claim, block in frame.groupby("claim", sort=False):
        first = block.iloc[0]
        judged = block[block["verdict"] != Verdict.NOT_APPLICABLE]
        shown.append(
            {
                "claim": first["sentence"],
                "where": first["where"] if first["source"] == "ours" else f"arXiv 2512.06337, {first['where']}",
                "verdict": first["overall"],
                "sentence": line(block),
                "corpora": list(judged["corpus"]),
                "plot": plots[str(claim)],
                "found": [_found_on(row, several) for _, row in judged.iterrows()],
                "paper": _paper(first),
                "smallest": amount(first["smallest"], first["unit"]).removeprefix("+"),
            }
        )
    return shown


def line(block: pd.DataFrame) -> str:
    """One claim in one line of plain words: what was found on each corpus, the paper's figure, and what matters."""
    several = len(block) > 1
    if several and block["reason"].nunique() == 1 and block["estimate"].isna().all():
        block, several = block.iloc[:1], False
    sentences = [_found(row, several) for _, row in block.iterrows()]
    first = block.iloc[0]
    if (block["verdict"] == Verdict.NOT_APPLICABLE).all():
        return " ".join(sentences)
    if not pd.isna(first["paper"]):
        excluded = ((block["paper"] < block["low"]) | (block["paper"] > block["high"])).all()
        beyond = ", which these intervals exclude" if several else ", which this interval excludes"
        sentences.append(f"The paper has {amount(first['paper'], first['unit'])}{beyond if excluded else ''}.")
    if first["smallest"] > (first["unit"] == "factor"):
        least = first["smallest"] if first["unit"] == "factor" or first["direction"] == "higher" else -first["smallest"]
        least = 1 / least if first["unit"] == "factor" and first["direction"] == "lower" else least
        sentences.append(f"From {amount(least, first['unit'])} on it would matter.")
    return " ".join(sentences)


def claims_table(frame: pd.DataFrame) -> Display:
    """The verdicts as a table, the base corpora beside each other."""
    corpora = list(dict.fromkeys(frame["corpus"]))
    header = ("claim", "verdict", *corpora, "paper", "smallest that matters")
    rows = []
    for _, block in frame.groupby("claim", sort=False):
        first, by_corpus = block.iloc[0], block.set_index("corpus")
        cells = (_cell(by_corpus.loc[corpus]) for corpus in corpora)
        smallest = amount(first["smallest"], first["unit"]).removeprefix("+")
        rows.append((Cell(first["label"]), Cell(first["overall"]), *cells, Cell(_paper(first)), Cell(smallest)))
    notes = (
        "Arm minus rival. Intervals are widened so that those of all claims on a corpus hold together in 95 of 100 "
        "such experiments.",
    )
    return Display("Claims and verdicts", header, tuple(rows), notes, names=2)


def amount(value: float, unit: Unit) -> str:
    """An effect in words: points of accuracy, a ratio, spikes, or a plain number."""
    match unit:
        case "points":
            return f"{signed(value)} points"
        case "factor":
            # Two seeds leave a ratio open over hundreds of powers of ten: no reader needs their digits.
            return f"×{value:.2f}" if value < _MOST else f"×{_MOST} or more"
        case "spikes":
            return f"{_plain(value, 1)} spikes in 100 steps"
        case _:
            return _plain(value, 2)


def _found(row: Any, several: bool) -> str:
    start = f"On {row['corpus']}: " if several else ""
    if pd.isna(row["estimate"]):
        reason = _text(row["reason"])
        return f"{start}{reason}." if several else f"{reason[:1].upper()}{reason[1:]}."
    reason = f", {row['verdict']}" if several else ""
    reason += f": {row['reason']}" if _text(row["reason"]) else ""
    consumed = ""
    if not pd.isna(row["compute_ratio"]):
        consumed = (
            f" Per run it took {row['compute_ratio']:.2f} times the compute, {row['samples_ratio']:.2f} times the "
            f"samples and {row['optimiser_steps_ratio']:.2f} times the optimiser steps."
        )
    return f"{start}{_measured(row)}{reason}.{consumed}"


def _measured(row: Any) -> str:
    """Estimate and interval in words, or that so few seeds leave open more than the whole scale."""
    estimate, seeds = amount(row["estimate"], row["unit"]), f"over {row['seeds']} seeds"
    low, high = _ends(row)
    if low and high:
        return f"{estimate} (interval {low} to {high}) {seeds}"
    if low or high:
        return f"{estimate} ({f'at least {low}' if low else f'at most {high}'}) {seeds}"
    few = {1: "one seed", 2: "two seeds", 3: "three seeds"}.get(row["seeds"], f"{row['seeds']} seeds")
    return (
        f"{estimate} {seeds}, with no interval: {few} cannot show it, since they leave open more than its whole scale"
    )


def _cell(row: Any) -> Cell:
    if pd.isna(row["estimate"]):
        return Cell(row["verdict"])
    return Cell(f"{amount(row['estimate'], row['unit'])} {row['verdict']}", _bounded(row))


def _found_on(row: Any, several: bool) -> dict[str, str]:
    """What one corpus says of a claim, for a row of the page: the verdict only where corpora may differ."""
    verdict = row["verdict"] if several else ""
    return {
        "corpus": row["corpus"] if several else "",
        "verdict": verdict,
        "text": amount(row["estimate"], row["unit"]),
        "detail": _bounded(row),
    }


def _bounded(row: Any) -> str:
    """The interval in brackets, or that so few seeds do not bound it."""
    low, high = _ends(row)
    return f"[{low or '…'}, {high or '…'}]" if low or high else f"not bounded by {row['seeds']} seeds"


def _paper(first: Any) -> str:
    return "" if pd.isna(first["paper"]) else amount(first["paper"], first["unit"])


def _ends(row: Any) -> tuple[str, ...]:
    """Both ends of an interval, empty where nothing is said of one."""
    return tuple("" if pd.isna(row[end]) else amount(row[end], row["unit"]).split(" ")[0] for end in ("low", "high"))


def _numbers(claim: Claim, found: Finding) -> dict[str, float]:
    low, high = bounds(claim, found)
    named = {"estimate": found.estimate, "low": low, "high": high}
    return {key: _natural(value, claim.statistic.unit) for key, value in named.items()}


def _natural(value: float, unit: Unit) -> float:
    return float(np.exp(value)) if unit == "factor" else value


def _plain(value: float, decimals: int) -> str:
    return f"{value:+.{decimals}f}".replace("-", "−")


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)
