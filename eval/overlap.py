"""How far the training questions are questions of the evaluation: the table of it."""

from pathlib import Path

import pandas as pd

from eval.render import Cell, Display, latex, markdown

NAME = "contamination"


def write_contamination(path: Path, tables: Path, experiment: str) -> None:
    """Write the summary of an experiment's training set to the tables, where there is one: csv, md and tex."""
    if not path.is_file():
        return
    (tables / f"{NAME}.csv").write_bytes(path.read_bytes())
    shown = show(pd.read_csv(path))
    (tables / f"{NAME}.md").write_text(markdown(shown), encoding="utf-8")
    (tables / f"{NAME}.tex").write_text(latex(shown, f"tab:{experiment}-{NAME}"), encoding="utf-8")


def read_contamination(tables: Path) -> Display | None:
    """What a reader sees of the table; ``None`` where there is none."""
    path = tables / f"{NAME}.csv"
    return show(pd.read_csv(path)) if path.is_file() else None


def show(frame: pd.DataFrame) -> Display:
    """Make the display: a row a benchmark."""
    rows = tuple(
        (
            Cell(str(row["benchmark"])),
            Cell(f"{row['questions']:,}"),
            Cell(f"{row['met_in_training']:,}"),
            Cell(f"{100 * row['share']:.1f}"),
            Cell(f"{row['training_rows']:,}"),
        )
        for _, row in frame.iterrows()
    )
    first = frame.iloc[0]
    met, training, ngram, threshold = (first[key] for key in ("met", "training", "ngram", "threshold"))
    notes = (
        f"{met:,} of {training:,} training questions share at least {100 * threshold:.0f} % of their word "
        f"{ngram}-grams, or of the other's where that has fewer, with a question of a benchmark. All questions of a "
        "benchmark were compared, also those that were not asked.",
    )
    header = ("benchmark", "questions", "met in training", "%", "training rows")
    return Display("Training questions met in the evaluation", header, rows, notes)
