"""The answer in words: what the tables of differences and averages say, never softened."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from eval import display
from eval.display import IN_DISTRIBUTION, OOD, Frames
from eval.records import BASE
from eval.render import signed

_WHERE = {IN_DISTRIBUTION: "in distribution", OOD: "out of distribution"}


def headline(corpora: Mapping[str, Frames], names: Mapping[str, str], subject: str | None, reference: str) -> str:
    """Answer the page's question in one sentence, from the average in distribution on each base corpus.

    Without an arm that the page asks about, it says which arm has the highest average.
    """
    if len(corpora) == 1:
        return answers(next(iter(corpora.values())), names, subject, reference)[0]
    if subject is None:
        parts = [(base, _best(_column(tables["main"]), _WHERE[IN_DISTRIBUTION])) for base, tables in corpora.items()]
        return " ".join(f"On {base}: {sentence}" for base, sentence in parts)
    parts = [
        (base, _clause(_column(tables["differences"]).set_index("arm").loc[subject], names[reference]))
        for base, tables in corpora.items()
    ]
    return f"{names[subject]}: " + "; ".join(f"on {base} it {clause}" for base, clause in parts) + "."


def answers(
    tables: Mapping[str, pd.DataFrame], names: Mapping[str, str], subject: str | None, reference: str
) -> list[str]:
    """Say in words what the differences table says: the question's answer first."""
    differences, main = tables["differences"], tables["main"]
    averages = [column for column in _WHERE if column in set(main["column"])]
    found = {column: differences[differences["column"] == column].set_index("arm") for column in averages}
    sentences = []
    if subject is not None:
        pair = (names[subject], names[reference])
        sentences += [verdict(found[column].loc[subject], *pair, _WHERE[column]) for column in averages]
    sentences += [_best(main[main["column"] == column], _WHERE[column]) for column in averages]
    base, where = found[averages[0]].loc[BASE], _WHERE[averages[0]]
    interval = _interval(-base["difference_high"], -base["difference_low"])
    gain = signed(-base["difference"])
    sentences.append(f"From the base to {names[reference]}, accuracy {where} moved by {gain} points ({interval}).")
    asked = tables["regime"].dropna(subset=["wanted_low"])
    met = int((asked["met"] == "yes").sum())
    sentences.append(
        f"Of {len(asked)} conditions for a base that is weak but not helpless, {met} hold (see its table)."
    )
    return sentences


def verdict(row: Any, subject: str, reference: str, where: str) -> str:
    """One sentence on a paired difference: better, worse, or not to be told apart."""
    interval = _interval(row["difference_low"], row["difference_high"])
    figures = f"{signed(row['difference'])} points {where} ({interval})"
    if row["told_apart"]:
        return f"{subject} {'beats' if row['difference'] > 0 else 'does worse than'} {reference} here: {figures}."
    if row["seeds"] < 2:
        return (
            f"One training run of each cannot tell {subject} from {reference}: {figures} between these checkpoints, "
            "and another seed could reverse it."
        )
    apart = f"{subject} and {reference} cannot be told apart here: {figures}"
    if row["detectable"] > 1:
        return f"{apart}."
    return (
        f"{apart}; a true difference of about {100 * row['detectable']:.1f} points would have been seen four times in "
        "five."
    )


def _column(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["column"] == IN_DISTRIBUTION]


def _clause(row: Any, reference: str) -> str:
    figures = f"{signed(row['difference'])} points, {_interval(row['difference_low'], row['difference_high'])}"
    if row["told_apart"]:
        return f"{'beats' if row['difference'] > 0 else 'does worse than'} {reference} ({figures})"
    return f"cannot be told from {reference} ({figures})"


def _best(block: pd.DataFrame, where: str) -> str:
    few = display.sweeps(block)
    block = block[~block["arm"].isin(few)]
    top = block.loc[block["mean"].idxmax()]
    # More than one arm can share the highest mean.
    leaders = block.loc[block["mean"] == top["mean"], "label"]
    better = f"better than each other {'main ' if few else ''}arm by an interval that excludes a tie"
    claim = better if top["best"] else f"but not {better}"
    among = " among the main arms" if few else ""
    return f"The highest average {where}{among} is {100 * top['mean']:.1f} %, of {' and '.join(leaders)}, {claim}."


def _interval(low: float, high: float) -> str:
    if high - low > 1:
        return "no interval: so few runs leave open more than all of accuracy"
    return f"95 % interval {signed(low)} to {signed(high)}"
