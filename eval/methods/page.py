"""The method pages of a report: what the method of each arm is, what it took, and how its training went."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from dagrpo.config import Strict
from eval.display import title
from eval.methods.functions import shown
from eval.methods.head import Head, read_head
from eval.methods.slots import Stage, stages
from eval.ranking.table import joined, words
from eval.records import Runs
from eval.render import Cell, Display, interval, percent

Cards = Mapping[tuple[str, int], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a method: its default, and what the arm was trained with where that differs (else empty)."""

    name: str
    default: str
    set_to: str
    description: str


@dataclass(frozen=True, slots=True)
class Showing:
    """What an arm came to on one base corpus; ``figure`` names its curves."""

    corpus: str
    results: tuple[str, ...]
    consumed: Display
    figure: str


@dataclass(frozen=True, slots=True)
class MethodPage:
    """All that the report shows of one arm."""

    arm: str
    label: str
    method: str
    file: str
    head: Head
    stages: tuple[Stage, ...]
    options: tuple[Option, ...]
    training: str
    showings: tuple[Showing, ...]


def method_pages(
    corpora: Mapping[str, Runs],
    names: Mapping[str, str],
    cards: Cards,
    tables: Mapping[str, Mapping[str, pd.DataFrame]],
) -> list[MethodPage]:
    """Make the page of each trained arm, in table order.

    Args:
        corpora: the runs on each base corpus.
        names: labels of the arms.
        cards: run cards of the first corpus, for the options that the arms were trained with.
        tables: the tables of each base corpus.
    """
    from dagrpo.algorithm import find_method  # imports torch

    runs = next(iter(corpora.values()))
    pages = []
    for arm in dict.fromkeys(arm for arm, _ in runs.trained):
        settings = runs.experiment.arms[arm]
        method = find_method(settings.method)
        given = cards[arm, runs.seeds[arm][0]]["options"]
        pages.append(
            MethodPage(
                arm=arm,
                label=names[arm],
                method=method.name,
                file=f"{method.module.replace('.', '/')}.py",
                head=read_head(importlib.import_module(method.module)),
                stages=stages(method.algorithm(given, f"options of {arm}"), method.build),
                options=options(method.options, method.resolved(given)),
                training=", ".join(f"{key} = {shown(value)}" for key, value in _flat(settings.train)),
                showings=tuple(
                    showing(base, tables[base], arm, runs.experiment.evaluation.reference) for base in corpora
                ),
            )
        )
    return pages


def options(kind: type[Strict], resolved: Strict) -> tuple[Option, ...]:
    """Options with defaults and descriptions, and those that were set otherwise."""
    required = any(field.is_required() for field in kind.model_fields.values())
    usual = None if required else kind()
    found = []
    for name, field in kind.model_fields.items():
        value = getattr(resolved, name)
        default = field.default if usual is None else getattr(usual, name)
        asked = field.is_required()
        set_to = shown(value) if asked or value != default else ""
        found.append(Option(name, "none" if asked else shown(default), set_to, field.description or ""))
    return tuple(found)


def showing(base: str, tables: Mapping[str, pd.DataFrame], arm: str, reference: str) -> Showing:
    """What an arm came to on one base corpus, and what it took, beside the reference arm."""
    ranked = tables["ranking"]
    own = ranked[ranked["arm"] == arm]
    results = tuple(
        f"{words(row['column'])}: {percent(row['mean'])} % {interval(row['low'], row['high'], percent)}, "
        f"rank {row['rank']} of {int((ranked['column'] == row['column']).sum())}, {_lettered(row['letters'])}"
        for _, row in own.iterrows()
    )
    return Showing(base, results, consumed(tables["consumed"], arm, reference), f"{base}/methods/{arm}")


def consumed(frame: pd.DataFrame, arm: str, reference: str) -> Display:
    """What a run of the arm took, beside one of the reference arm, and the share of the two."""
    by_arm = frame.set_index("arm")
    columns = [arm] if arm == reference else [arm, reference]
    rows = []
    for key in frame.columns[3:]:
        values = [0.0 if pd.isna(by_arm.loc[one, key]) else by_arm.loc[one, key] for one in columns]
        over = [f"{values[0] / values[1]:.2f}" if values[1] else ""] if len(values) > 1 else []
        rows.append(tuple(Cell(text) for text in (title(key), *(f"{value:,.0f}" for value in values), *over)))
    header = ("of one run", *(by_arm.loc[one, "label"] for one in columns), *(["share"] if len(columns) > 1 else []))
    return Display("Consumed", header, tuple(rows), ())


def _lettered(letters: str) -> str:
    return f"letter{'s' if ' ' in letters else ''} {joined(letters)}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Sequence[tuple[str, Any]]:
    """Settings by their full names: {"rl": {"lr": 1}} -> rl.lr."""
    pairs: list[tuple[str, Any]] = []
    for key, value in settings.items():
        pairs += _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(prefix + key, value)]
    return pairs
