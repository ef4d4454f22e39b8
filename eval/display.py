"""What a reader sees of each table: header, cells and notes, made from the stored frames."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from eval.ranking import table as ranking
from eval.render import Cell, Display, interval, percent, signed

Frames = Mapping[str, pd.DataFrame]
Row = tuple[Cell, ...]


IN_DISTRIBUTION, OOD = AVERAGES = ("in_distribution", "out_of_distribution")
_TITLES = {
    IN_DISTRIBUTION: "average",
    OOD: "average OOD",
    "prompt_tokens": "prompt tokens",
    "response_tokens": "response tokens",
    "response_tokens_total": "response tokens",
    "optimiser_steps": "optimiser steps",
    "trained_tokens": "trained tokens",
    "left_out": "demonstrations left out",
    "no_answer": "no answer",
    "disagreement": "judges disagree",
    "masked_share": "rows masked, %",
    "mask/keep_pos": "positives kept, %",
    "mask/keep_neg": "negatives kept, %",
    "mask/empty_groups": "groups emptied, %",
    "mask/one_sided_groups": "groups left one-sided, %",
    "sum_lambda_A": "Σ λA of a group",
    "score/missing": "scores missing, %",
    "score/gap": "score gap",
    "anchor/kept": "anchors kept a step",
    "anchor/rejected": "anchors rejected a step",
    "level 0": "level 0 (routine)",
    "hard": "hard (level 2 and up)",
}
_PLAIN_MASKS = ("sum_lambda_A", "score/gap", "anchor/kept", "anchor/rejected")


def show(name: str, frames: Frames) -> Display:
    """Make the display of one of :data:`TABLES`."""
    return TABLES[name](frames)


def main(frames: Frames) -> Display:
    """Accuracy of every arm in every column."""
    frame = frames["main"]
    blocks = _columns(frame)
    header = ("arm", "seeds", *(heading(block) for block in blocks.values()))
    by_arm: list[tuple[str, Row]] = []
    for arm, first in _arms(frame):
        entries = [_row(block, arm) for block in blocks.values()]
        shown = (_entry(entry, bold=entry["best"]) for entry in entries)
        by_arm.append((arm, (Cell(first["label"]), Cell(str(first["seeds"])), *shown)))
    rows = _in_blocks(by_arm, sweeps(frame))
    sizes = [block.iloc[0] for block in blocks.values()]
    rows.append(
        (Cell("problems (samples)"), Cell(""), *(Cell(f"{size['problems']} ({size['samples']})") for size in sizes))
    )
    notes = (
        "Percent correct, averaged over samples, problems and seeds, with 95 % intervals (bootstrap over problems with "
        "their samples, and seeds). Averages give each family the same weight.",
        _bold(frame),
        *_seed_notes(frame),
        *_missing(frames),
    )
    return Display("Accuracy", header, tuple(rows), notes)


def differences(frames: Frames) -> Display:
    """Paired differences to the reference arm."""
    frame = frames["differences"]
    blocks = _columns(frame)
    reference = frame["reference"].iloc[0]
    header = ("arm", *(heading(block) for block in blocks.values()))
    few = sweeps(frames["main"])
    by_arm = [
        (arm, (Cell(first["label"]), *(_versus(_row(block, arm)) for block in blocks.values())))
        for arm, first in _arms(frame)
    ]
    rows = _in_blocks(by_arm, few)
    usual = ~frame["arm"].isin({"base", *few})
    could = [block.loc[usual[block.index], "detectable"].median() for block in blocks.values()]
    rows.append((Cell("could have been seen"), *(Cell(f"±{100 * value:.1f}") for value in could)))
    notes = (
        f"Percentage points over {reference} on the same problems and seeds, with 95 % intervals. Marked *: the "
        f"interval excludes a tie. By chance about {0.05 * len(frame):.0f} of these {len(frame)} intervals would.",
        "Last line: the smallest true difference that this table would have shown with 80 % power, "
        f"(z(.975) + z(.80)) · half-width / z(.975), for the median {'main' if few else 'trained'} arm.",
        *([f"Of an arm with fewer seeds than {reference}, over the seeds that both have."] if few else []),
        *_seed_notes(frames["main"]),
        *_missing(frames),
    )
    return Display(f"Differences to {reference}", header, tuple(rows), notes)


def difficulty(frames: Frames) -> Display:
    """Accuracy on routine and on hard prompts."""
    frame = frames["difficulty"].rename(columns={"prompts": "column"})
    blocks = _columns(frame)
    header = ("arm", *(_TITLES.get(name, name) for name in blocks))
    by_arm = [
        (arm, (Cell(first["label"]), *(_entry(_row(block, arm)) for block in blocks.values())))
        for arm, first in _arms(frame)
    ]
    rows = _in_blocks(by_arm, sweeps(frame))
    rows.append((Cell("problems"), *(Cell(str(block["problems"].iloc[0])) for block in blocks.values())))
    notes = (
        "Percent correct on problems in distribution, with 95 % intervals; macro average over the families that have "
        "such problems.",
        "The last columns sort problems by the base's own samples, so the base has 0 and 100 there by construction, "
        "and a model that is no better than the base would lie between.",
        *limits(frames),
    )
    return Display("Routine and hard prompts", header, tuple(rows), notes)


def regime(frames: Frames) -> Display:
    """The base on the training mixture."""
    frame = frames["regime"]
    k = int(frame["samples"].iloc[0])
    statistics = list(dict.fromkeys(frame["statistic"]))
    header = ("training prompts", "problems", *(_statistic(name, k) for name in statistics))
    rows = []
    for prompts, block in frame.groupby("prompts", sort=False):
        by_name = block.set_index("statistic")
        entries = (_entry(by_name.loc[name]) for name in statistics)
        rows.append((Cell(str(prompts)), Cell(str(block["problems"].iloc[0])), *entries))
    asked = frame[frame["prompts"] == "all"].set_index("statistic")
    rows.append((Cell("wanted"), Cell(""), *(Cell(_wanted(asked.loc[name])) for name in statistics)))
    rows.append((Cell("met"), Cell(""), *(Cell(_text(asked.loc[name]["met"])) for name in statistics)))
    notes = (f"Percent, with 95 % intervals over prompts. The base answered each prompt {k} times, as in training.",)
    return Display("The base on the training mixture", header, tuple(rows), notes)


def consumed(frames: Frames) -> Display:
    """What a run took, and what it drew as shares of what the reference arm drew."""
    frame = frames["consumed"]
    reference = frames["differences"]["reference"].iloc[0]
    drawn = ranking.shares(frame, reference=frame.loc[frame["label"] == reference, "arm"].iloc[0])
    keys = list(frame.columns[3:])
    against = [name for name, of_arms in drawn.items() if of_arms]
    header = ("arm", "seeds", *(_TITLES.get(key, key) for key in keys))
    header = (*header, *(f"{name} ({reference} = 1)" for name in against))
    by_arm = [
        (
            row["arm"],
            (
                Cell(row["label"]),
                Cell(str(row["seeds"])),
                *(Cell(f"{row[key]:,.0f}") for key in keys),
                *(Cell(ranking.share(drawn[name][row["arm"]], marked=name == "samples")) for name in against),
            ),
        )
        for _, row in frame.iterrows()
    ]
    notes = (
        "Of one run: means over the seeds of an arm. Trained tokens are those that a gradient was computed for.",
        *(
            ["Demonstrations left out: those of more tokens than a response may have, whose problems have none then."]
            if "left_out" in frame
            else []
        ),
        *(
            [
                f"Last columns: samples and response tokens that an arm drew, {reference} having drawn 1.00. With an "
                "equal rollout budget the samples are equal; a demonstration in the place of a sample makes them fewer."
            ]
            if against
            else []
        ),
    )
    return Display("What a run consumed", header, tuple(_in_blocks(by_arm, sweeps(frames["main"]))), notes)


def verdicts(frames: Frames) -> Display:
    """Rates of the verdicts."""
    frame = frames["verdicts"]
    keys = list(frame.columns[3:-2])
    header = ("arm", "problems", *(_TITLES.get(key, key) for key in keys), "response tokens", "samples")
    rows = []
    for scope, block in frame.groupby("scope", sort=False):
        of_scope = [
            (
                row["arm"],
                (
                    Cell(row["label"]),
                    Cell("in distribution" if scope == IN_DISTRIBUTION else "out of distribution"),
                    *(Cell("" if pd.isna(row[key]) else f"{100 * row[key]:.1f}") for key in keys),
                    Cell(f"{row['response_tokens']:.1f}"),
                    Cell(f"{row['samples']:,}"),
                ),
            )
            for _, row in block.iterrows()
        ]
        rows += _in_blocks(of_scope, sweeps(frames["main"]))
    notes = (
        "Percent of all samples, each sample counting once (the main table gives each family the same weight). "
        "Truncated: the budget ended before the answer. Response tokens: mean.",
        *(["Judges disagree: of the answers that both judged."] if "disagreement" in keys else []),
        *limits(frames),
    )
    return Display("Verdicts", header, tuple(rows), notes, names=2)


def masks(frames: Frames) -> Display:
    """What the score gate did."""
    frame = frames["masks"]
    keys = list(frame.columns[3:])
    header = ("arm", "seeds", *(_TITLES.get(key, key) for key in keys))
    rows = _rows(frame, _mask, sweeps(frames["main"]))
    note = (
        "Means over steps, then over seeds, of the arms that weigh rows by a score. Shares are of rows in groups with "
        "both signs."
        if rows
        else "No arm of this experiment has a score gate."
    )
    return Display("The score gate", header, rows, (note,))


TABLES: dict[str, Callable[[Frames], Display]] = {
    "main": main,
    "differences": differences,
    "ranking": ranking.show,
    "difficulty": difficulty,
    "regime": regime,
    "consumed": consumed,
    "verdicts": verdicts,
    "masks": masks,
}


def timing(frame: pd.DataFrame) -> Display:
    """Seconds of a run; apart from the tables, since they differ from run to run."""
    keys = list(frame.columns[3:])
    header = ("arm", "seeds", *(f"{key}, s" for key in keys))
    rows = _rows(frame, lambda key, value: f"{value:,.1f}", sweeps(frame))
    notes = ("Means over the seeds of an arm, while other jobs may have run beside it.",)
    return Display("Seconds of a run", header, rows, notes)


def side_by_side(frame: pd.DataFrame) -> Display:
    """Averages of each arm and its differences to the reference, the base corpora beside each other."""
    corpora = list(dict.fromkeys(frame["base"]))
    reference = frame["reference"].dropna().iloc[0]
    measures: dict[str, Callable[[Any], Cell]] = {
        "": lambda row: _entry(row, bold=row["best"]),
        f" over {reference}": lambda row: Cell("") if pd.isna(row["difference"]) else _versus(row),
    }
    shown = [
        (f"{heading(block)}{measure} ({base})", block.set_index("arm"), cell)
        for column in dict.fromkeys(frame["column"])
        for measure, cell in measures.items()
        for base in corpora
        if len(block := frame[(frame["base"] == base) & (frame["column"] == column)])
    ]
    rows = [
        (arm, (Cell(first["label"]), Cell(str(first["seeds"])), *(cell(block.loc[arm]) for _, block, cell in shown)))
        for arm, first in _arms(frame)
    ]
    notes = (
        f"Percent correct, and percentage points over {reference}, with 95 % intervals; each base corpus by itself. "
        "Marked *: the interval excludes a tie.",
        _bold(frame),
        *(["† Problems left out: see the tables of the corpus."] if frame["missing"].any() else []),
    )
    header = ("arm", "seeds", *(title for title, _, _ in shown))
    return Display("Base corpora side by side", header, tuple(_in_blocks(rows, sweeps(frame))), notes)


def title(key: str) -> str:
    """A column as a reader sees it."""
    return _TITLES.get(key, key)


def sweeps(frame: pd.DataFrame) -> set[str]:
    """Arms with fewer seeds than others, by the column ``seeds``."""
    trained = frame[frame["arm"] != "base"]
    return set(trained.loc[trained["seeds"] < trained["seeds"].max(), "arm"])


def limits(frames: Frames) -> tuple[str, ...]:
    """Sentences on what the evaluation leaves out; none where it leaves out nothing."""
    entries = frames["main"].drop_duplicates("column")
    cut = entries[[_text(limited).startswith("first") for limited in entries["limited"]]]
    named = ", ".join(f"{column} ({limited})" for column, limited in zip(cut["column"], cut["limited"], strict=True))
    return (*([f"Limited evaluation, no benchmark score: {named}."] if named else []), *_missing(frames))


def _missing(frames: Frames) -> tuple[str, ...]:
    entries = frames["main"].drop_duplicates("column")
    lacking = entries[(entries["missing"] > 0) & ~entries["column"].isin(AVERAGES)]
    named = ", ".join(
        f"{column} ({count})" for column, count in zip(lacking["column"], lacking["missing"], strict=True)
    )
    return (f"† Problems left out because some run lacks them: {named}.",) if named else ()


def _columns(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(name): block for name, block in frame.groupby("column", sort=False)}


def _arms(frame: pd.DataFrame) -> list[tuple[str, pd.Series]]:
    return [(row["arm"], row) for _, row in frame.drop_duplicates("arm").iterrows()]


def _rows(frame: pd.DataFrame, text: Callable[[str, float], str], few: set[str]) -> tuple[Row, ...]:
    """Rows of a table of plain numbers, whose first columns are arm, label and seeds."""
    keys = list(frame.columns[3:])
    rows = [
        (row["arm"], (Cell(row["label"]), Cell(str(row["seeds"])), *(Cell(text(key, row[key])) for key in keys)))
        for _, row in frame.iterrows()
    ]
    return tuple(_in_blocks(rows, few))


def _in_blocks(rows: Sequence[tuple[str, Row]], few: set[str]) -> list[Row]:
    """Rows of main arms, then, under a heading, those of arms with fewer seeds."""
    main = [row for arm, row in rows if arm not in few]
    below = [row for arm, row in rows if arm in few]
    return [*main, (Cell("with fewer seeds:"), *[Cell("")] * (len(below[0]) - 1)), *below] if below else main


def _row(block: pd.DataFrame, arm: str) -> pd.Series:
    return block[block["arm"] == arm].iloc[0]


def heading(block: pd.DataFrame) -> str:
    first = block.iloc[0]
    mark = " †" if first["missing"] else ""
    limited = f" ({first['limited']})" if _text(first["limited"]) else ""
    return _TITLES.get(first["column"], first["column"]) + limited + mark


def _entry(row: Any, bold: bool = False) -> Cell:
    return Cell(percent(row["mean"]), interval(row["low"], row["high"], percent), bool(bold))


def _versus(row: Any) -> Cell:
    mark = " *" if row["told_apart"] else ""
    return Cell(signed(row["difference"]) + mark, interval(row["difference_low"], row["difference_high"], signed))


def _bold(frame: pd.DataFrame) -> str:
    if not frame["best"].any():
        return "Nothing is bold: in no column is one arm better than each other by an interval that excludes a tie."
    if sweeps(frame):
        return (
            "Bold: better than each other arm of the upper block, by a paired interval that excludes a tie; in the "
            "lower block, better than each other arm of both."
        )
    return "Bold: better than each other arm of its column, by a paired interval that excludes a tie."


def _seed_notes(frame: pd.DataFrame) -> list[str]:
    seeds = frame.loc[frame["arm"] != "base", "seeds"]
    if seeds.max() < 2:
        return [
            "One seed an arm: the intervals know of problems and samples only, not of what another training run would "
            "give, so nothing is marked."
        ]
    if seeds.min() < 5:
        return [
            f"{seeds.min()} seeds say little about the spread between seeds, and resampling them would understate it: "
            "it is pooled over all trained arms (an arm that spreads more keeps its own), and drawn from Student's t."
        ]
    return []


def _statistic(name: str, k: int) -> str:
    if name.startswith("pass_at_"):
        return name.replace("pass_at_", "pass@")
    return {"none_right": f"0 of {k} right", "nearly_all_right": f"{k - 1} or {k} of {k} right"}.get(name, name)


def _wanted(row: Any) -> str:
    if pd.isna(row["wanted_low"]):
        return ""
    low, high = 100 * row["wanted_low"], 100 * row["wanted_high"]
    return f"{low:.0f} to {high:.0f}" if high < 100 else f"at least {low:.0f}"


def _mask(key: str, value: float) -> str:
    if pd.isna(value):
        return ""
    return f"{value:.2f}".replace("-", "−") if key in _PLAIN_MASKS else f"{100 * value:.1f}"


def _text(value: Any) -> str:
    return "" if pd.isna(value) else str(value)
