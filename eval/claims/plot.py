"""The intervals of a claim as a small inline picture for a row of the page's table; pure functions of the frame.

The axis is turned so that the claimed way is to the right. Claims of one unit share a scale, and ratios stand on a
logarithmic one. An end beyond the scale is drawn as an arrow, an end that nothing is said of is left open.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

WIDTH, LINE, EDGE = 240, 15, 9
_MIDDLE = WIDTH / 2
_DOTS = (
    '<circle cx="{x}" cy="{y}" r="3.6"/>',
    '<path d="M{x} {y}m0-4.6l4.6 4.6l-4.6 4.6l-4.6-4.6z"/>',
    '<path d="M{x} {y}m-3.4-3.4h6.8v6.8h-6.8z"/>',
    '<path d="M{x} {y}m0-4.4l4.4 7.6h-8.8z"/>',
)
"""Markers of the base corpora, in table order."""


def claim_plots(frame: pd.DataFrame) -> dict[str, Markup]:
    """Draw each claim of a frame of claims: its id -> an ``<svg>``, empty where the claim applies nowhere.

    Args:
        frame: what :func:`eval.claims.show.claims_frame` made.
    """
    turned = _turned(frame[frame["estimate"].notna()])
    reach = {unit: _reach(block) for unit, block in turned.groupby("unit")}
    corpora = list(dict.fromkeys(frame["corpus"]))
    blocks = dict(list(turned.groupby("claim", sort=False)))
    return {
        str(claim): _picture(blocks[claim], corpora, reach[blocks[claim]["unit"].iloc[0]])
        if claim in blocks
        else Markup("")
        for claim in dict.fromkeys(frame["claim"])
    }


def marker(place: int) -> Markup:
    """The marker of a base corpus by its place in table order, as an ``<svg>`` for a legend."""
    dot = _DOTS[place % len(_DOTS)].format(x=6, y=6)
    return Markup(f'<svg class="plot key" width="12" height="12" viewBox="0 0 12 12" aria-hidden="true">{dot}</svg>')


def _turned(frame: pd.DataFrame) -> pd.DataFrame:
    """Estimates, ends, the paper's figure and the smallest that matters, with the claimed way to the right of 0."""
    ratio = frame["unit"] == "factor"
    sign = np.where(frame["direction"] == "higher", 1.0, -1.0)
    values = {
        key: np.log(frame[key].where(ratio, 1.0).astype(float)).where(ratio, frame[key].astype(float))
        for key in ("estimate", "low", "high", "paper", "smallest")
    }
    signed = {key: values[key] * sign for key in ("estimate", "low", "high", "paper")}
    up = frame["direction"] == "higher"
    ends = {"low": signed["low"].where(up, signed["high"]), "high": signed["high"].where(up, signed["low"])}
    return frame.assign(**{**signed, **ends, "smallest": values["smallest"]})


def _reach(block: pd.DataFrame) -> float:
    """How far the scale of a unit reaches on either side: over the paper's figures, and three of four of ours."""
    known = block[["paper", "smallest"]].abs().max().max()
    ours = block[["estimate", "low", "high"]].abs().stack()
    return 1.15 * max(float(known), float(ours.quantile(0.75))) or 1.0


def _picture(block: pd.DataFrame, corpora: Sequence[str], reach: float) -> Markup:
    rows = block.to_dict("records")
    height = LINE * len(rows) + 6
    first = rows[0]
    near = _x(-first["smallest"], reach), _x(first["smallest"], reach)
    parts = [
        f'<rect class="band" x="{near[0]}" y="0" width="{_short(near[1] - near[0])}" height="{height}"/>',
        f'<path class="zero" d="M{_short(_MIDDLE)} 0V{height}"/>',
    ]
    parts += [
        _row(row, corpora.index(row["corpus"]), 3 + LINE * (place + 0.5), reach) for place, row in enumerate(rows)
    ]
    if not pd.isna(first["paper"]):
        parts.append(f'<path class="paper" d="{_star(_x(first["paper"], reach), height / 2)}"/>')
    said = "estimate and corrected interval, as claimed to the right"
    return Markup(
        f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="{said}">{"".join(parts)}</svg>'
    )


def _row(row: dict[str, Any], corpus: int, y: float, reach: float) -> str:
    low, high, at = (row[key] for key in ("low", "high", "estimate"))
    # Where only one end says something, the line reaches from the estimate to it.
    start, end = (at if pd.isna(value) else value for value in (low, high))
    line = f'<path class="line" d="M{_x(start, reach)} {_short(y)}H{_x(end, reach)}"/>' if start < end else ""
    tips = [(side, _MIDDLE + side * (_MIDDLE - EDGE)) for side, tip in ((-1, start), (1, end)) if side * tip > reach]
    arrows = [f'<path class="line" d="M{_short(x)} {_short(y - 3)}l{3 * side} 3l{-3 * side} 3"/>' for side, x in tips]
    # An estimate beyond the scale is shown by the arrow alone.
    dot = _DOTS[corpus % len(_DOTS)].format(x=_x(at, reach), y=_short(y)) if abs(at) <= reach else ""
    return f'<g class="{str(row["verdict"]).replace(" ", "-")}">{line}{"".join(arrows)}{dot}</g>'


def _x(value: float, reach: float) -> float | int:
    return _short(_MIDDLE + float(np.clip(value / reach, -1, 1)) * (_MIDDLE - EDGE))


def _star(x: float, y: float) -> str:
    """A star with five points around a place, as a path."""
    turns = -np.pi / 2 + np.arange(10) * np.pi / 5
    radii = np.where(np.arange(10) % 2, 2.2, 5.2)
    points = [
        f"{_short(x + r * np.cos(turn))} {_short(y + r * np.sin(turn))}" for r, turn in zip(radii, turns, strict=True)
    ]
    return "M" + "L".join(points) + "z"


def _short(value: float) -> float | int:
    """A coordinate with one decimal at most, so that the page stays small."""
    rounded = round(float(value), 1)
    return int(rounded) if rounded == int(rounded) else rounded
