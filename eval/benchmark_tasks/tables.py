"""Tables of the real benchmarks of an experiment: the numbers, and what a reader sees of them.

They stand in ``tables/<base>/benchmarks/`` and have the form of the tables beside them.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pandas as pd

from eval import display, tables
from eval.benchmark_tasks.benchmarks import BENCHMARKS
from eval.display import AVERAGES
from eval.records import Runs, labels, load_evaluation
from eval.render import Display, latex, markdown

FOLDER = "benchmarks"
_TITLES = {
    "main": "The benchmarks: avg@k",
    "differences": "The benchmarks: differences to {}",
    "majority": "The benchmarks: maj@k",
    "verdicts": "The benchmarks: verdicts",
}

_MAJORITY = (
    "Percent of questions to which the most frequent answer of k samples is right, with 95 % intervals; where several "
    "are equally frequent, the share of them that is right."
)


def write_benchmarks(runs: Runs, out: Path) -> None:
    """Write the tables of one base corpus to ``<out>/benchmarks/``: csv, md and tex."""
    folder = out / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in compute(runs).items():
        (folder / f"{name}.csv").write_bytes(tables.to_csv(frame))
    for name, shown in read_benchmarks(out).items():
        (folder / f"{name}.md").write_text(markdown(shown), encoding="utf-8")
        label = f"tab:{runs.experiment.name}-{runs.base}-{FOLDER}-{name}"
        (folder / f"{name}.tex").write_text(latex(shown, label), encoding="utf-8")


def compute(runs: Runs) -> dict[str, pd.DataFrame]:
    """Compute every table of :attr:`eval.records.Runs.benchmarks`; ``majority`` only where some benchmark has k > 1."""
    evaluation, names = load_evaluation(runs), labels(runs)
    main, differences = tables.comparison(runs, evaluation, names)
    found = {"main": main, "differences": differences, "verdicts": tables.verdicts(runs, evaluation, names)}
    samples = evaluation.frame.groupby("family")["samples"].max()
    if several := set(samples.index[samples > 1]):
        agreed, _ = tables.comparison(runs, evaluation, names, values="majority")
        found["majority"] = agreed[agreed["column"].isin(several)]
    return found


def read_benchmarks(out: Path) -> dict[str, Display]:
    """What a reader sees of the tables that :func:`write_benchmarks` wrote, by name; empty where it wrote none."""
    paths = {name: out / FOLDER / f"{name}.csv" for name in _TITLES}
    frames = {name: tables.read_table(path) for name, path in paths.items() if path.is_file()}
    return {name: _show(name, frames) for name in frames}


def _show(name: str, frames: Mapping[str, pd.DataFrame]) -> Display:
    main = frames["majority" if name == "majority" else "main"]
    titles = {column: _title(str(column), of) for column, of in main.drop_duplicates("column").groupby("column")}
    named = {
        key: frame.assign(column=frame["column"].replace(titles)) if "column" in frame else frame
        for key, frame in {**frames, "main": main}.items()
    }
    shown = display.show("main" if name == "majority" else name, named)
    reference = frames["differences"]["reference"].iloc[0]
    no_figure = [one.title for one in BENCHMARKS.values() if one.no_figure and one.name in titles]
    meaning = (_MAJORITY,) if name == "majority" else shown.notes[:1]
    notes = [
        *display.limits(named),
        *(note for note in (*meaning, *shown.notes[1:]) if note not in display.limits(named)),
        *(f"{title}: some of its questions speak of a figure that no copy of the set has." for title in no_figure),
    ]
    return replace(shown, title=_TITLES[name].format(reference), notes=tuple(notes))


def _title(column: str, entry: pd.DataFrame) -> str:
    if column in AVERAGES:
        return column
    k = int(entry["samples"].iloc[0] // entry["problems"].iloc[0])
    return BENCHMARKS[column].title + (f", k = {k}" if k > 1 else "")
