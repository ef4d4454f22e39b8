"""The published table with ours beneath it: numbers as a frame, and what a reader sees of it."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dagrpo.config import nearest
from dagrpo.errors import UserError
from eval.benchmark_tasks.tables import FOLDER
from eval.display import IN_DISTRIBUTION
from eval.published.read import AVERAGED, CERTAINTIES, COLUMNS, TITLES, Published, disagreements, read_published
from eval.render import Cell, Display, latex, markdown, signed
from eval.tables import read_table, to_csv

BASE_MODEL = "Qwen2.5-Math-7B"
CORRECTED = "corrected"  # shown in place of the certainty
_OURS = ("arm", "label", "seeds", "column", "limited", "missing", "mean", "low", "high", "best", "problems")
_TEXTS = ("source", "base", "label", "certainty", "limited", "mark", "note")


def read_ours(tables: Path) -> dict[str, pd.DataFrame]:
    """Read the main table of each base corpus from the tables of an experiment; none where none has been written.

    That of the benchmarks is taken where they ran, in place of that of the experiment's own evaluation.

    Raises:
        UserError: a file is no main table.
    """
    frames = {}
    for path in sorted(tables.glob("*/main.csv")):
        folder = path.parent
        path = asked if (asked := folder / FOLDER / path.name).is_file() else path
        try:
            frame = read_table(path)
        except ValueError as error:  # pandas' own errors of parsing are among them
            raise UserError(f"{path}: not a table ({error}); run `dagrpo tables` again") from None
        if lacking := [name for name in _OURS if name not in frame]:
            raise UserError(f"{path}: column {lacking[0]!r} is missing; run `dagrpo tables` again")
        frames[folder.name] = frame
    return frames


def compare(rows: Path, tables: Path | None, base_model: str = BASE_MODEL) -> tuple[pd.DataFrame, list[str]]:
    """Read published rows and the tables of an experiment: :func:`paper_table`, and remarks for its notes.

    Args:
        rows: file of published rows.
        tables: tables of an experiment; published rows alone where left out.
        base_model: whose published rows ours are compared with.
    """
    known = read_published(rows)
    ours = read_ours(tables) if tables else {}
    frame = paper_table(known, ours, base_model)
    remarks = [f"An average that does not follow from its columns: {found}." for found in disagreements(known)]
    if tables and not ours:
        remarks.insert(0, f"There are no tables in {tables} yet, so nothing of ours stands here.")
    shared = set(frame.loc[frame["kind"] == "ours", "base"])
    remarks += [
        f"No family of {base} is one of the benchmarks, so it is left out." for base in ours if base not in shared
    ]
    return frame, remarks


def write_paper(frame: pd.DataFrame, remarks: Sequence[str], folder: Path) -> None:
    """Write what :func:`compare` found to ``paper.csv``, ``.md`` and, as far as it fits on a page, ``.tex``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "paper.csv").write_bytes(to_csv(frame))
    (folder / "paper.md").write_text(markdown(show_paper(frame, remarks)), encoding="utf-8")
    (folder / "paper.tex").write_text(latex(show_paper(one_page(frame), remarks), "tab:paper"), encoding="utf-8")


def section(rows: Path, tables: Path) -> dict[str, Any]:
    """What the report shows: the table, and whether anything of ours stands in it."""
    frame, remarks = compare(rows, tables)
    return {"table": show_paper(frame, remarks), "ours": bool((frame["kind"] == "ours").any())}


def paper_table(
    published: Sequence[Published], ours: Mapping[str, pd.DataFrame], base_model: str = BASE_MODEL
) -> pd.DataFrame:
    """Put ours beneath the rows of the first source, and other sources below: a row an entry, in shares (0 to 1).

    ``ours`` has the main table of each base corpus (:func:`eval.tables.comparison`). Entries of kind ``difference``
    are an arm less the published row of its method on ``base_model``: the first, and the first corrected one. The
    published figure is taken as exact, so the interval is that of the arm. An average of ours has an entry only where
    it is over the same benchmarks.

    Raises:
        UserError: nothing was published on ``base_model``.
    """
    models = list(dict.fromkeys(row.base_model for row in published))
    if base_model not in models:
        raise UserError(
            f"nothing is published on {base_model!r}{nearest(base_model, models)}; known: {', '.join(models)}"
        )
    comparable = [row for row in published if row.base_model == base_model]
    first = published[0].source
    entries = [entry for row in published if row.source == first for entry in _published_entries(row)]
    for corpus, frame in ours.items():
        entries += _our_entries(corpus, frame, comparable)
    entries += [entry for row in published if row.source != first for entry in _published_entries(row)]
    columns = ("kind", "source", "base", "method", "label", "certainty", "seeds", "column", "mean", "low", "high")
    return pd.DataFrame(entries, columns=[*columns, "std", "problems", "limited", "missing", "mark", "note"])


def one_page(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep of :func:`paper_table` what fits on a printed page: the first source, ours, and the corrected rows."""
    kept = (frame["kind"] != "published") | (frame["source"] == frame["source"].iloc[0])
    return frame[kept | (frame["certainty"] == CORRECTED)]


def show_paper(frame: pd.DataFrame, remarks: Sequence[str] = ()) -> Display:
    """Make what a reader sees of :func:`paper_table`; ``remarks`` are added to its notes."""
    frame = frame.assign(**{name: _texts(frame[name]) for name in _TEXTS})
    numbers = {note: i for i, note in enumerate(dict.fromkeys(filter(None, frame["note"])), start=1)}
    rows: list[tuple[Cell, ...]] = []
    heading = ""
    for _, block in frame.groupby(["kind", "source", "base", "method", "label"], sort=False):
        row = block.iloc[0]
        if heading != (heading := _heading(row)):
            rows.append((Cell(heading), *[Cell("")] * (len(COLUMNS) + 1)))
        label = f"{row['label']} [{numbers[row['note']]}]" if row["note"] else row["label"]
        cells = block.set_index("column")
        shown = (_cell(cells.loc[column]) if column in cells.index else Cell("") for column in COLUMNS)
        rows.append((Cell(label), Cell(_reading(row)), *shown))
    listed = " ".join(f"[{number}] {note}" for note, number in numbers.items())
    meanings = CERTAINTIES | {CORRECTED: "the source's own run, without an error of earlier ones"}
    notes = [
        "Percent correct. Published figures are as printed, ± their standard deviation over seeds where it is given; "
        "they have no intervals, so none is bold. "
        + "; ".join(f"{name}: {meaning}" for name, meaning in meanings.items()).capitalize()
        + ".",
        *_notes_on_ours(frame),
        *remarks,
        *([listed] if listed else []),
    ]
    header = ("method", "certainty", *TITLES.values())
    return Display("Published figures, and ours", header, tuple(rows), tuple(notes), names=2)


def _published_entries(row: Published) -> Iterator[dict[str, Any]]:
    about = {"kind": "published", "source": f"{row.source}, arXiv {row.arxiv}", "base": row.base_model}
    reading = CORRECTED if row.corrected else row.certainty
    about |= {"method": row.method, "label": row.label, "certainty": reading, "note": row.note}
    for column, value in row.values.items():
        std = float(row.std[column]) / 100 if column in row.std else None
        yield {**about, "column": column, "mean": float(value) / 100, "std": std}


def _our_entries(corpus: str, frame: pd.DataFrame, published: Sequence[Published]) -> Iterator[dict[str, Any]]:
    """Entries of each arm, and beneath them its differences."""
    columns = _shared(list(dict.fromkeys(frame["column"])))
    trained = frame.loc[frame["arm"] != "base", "seeds"]
    measured = trained.empty or trained.max() > 1  # of one seed an arm, another seed could reverse any order
    for arm, block in frame[frame["column"].isin(columns)].groupby("arm", sort=False):
        about = {"base": corpus, "method": arm}
        rows = list(block.assign(limited=_texts(block["limited"])).to_dict("records"))
        for row in rows:
            kept = {name: row[name] for name in _OURS if name not in ("arm", "best")}
            yield {**about, "kind": "ours", "source": "ours", **kept, "mark": "best" if row["best"] else ""}
        for other in _rivals(str(arm), published):
            label = f"− {other.label} ({other.source})"
            for row in rows:
                if row["column"] not in other.values or (
                    row["column"] == IN_DISTRIBUTION and other.average_over != AVERAGED[IN_DISTRIBUTION]
                ):
                    continue
                theirs = float(other.values[row["column"]]) / 100
                mean, low, high = (row[name] - theirs for name in ("mean", "low", "high"))
                apart = measured and not row["limited"] and (low > 0 or high < 0)
                kept = {name: row[name] for name in ("seeds", "column", "limited", "missing")}
                entry = {"mean": mean, "low": low, "high": high, "mark": "told apart" if apart else ""}
                yield {**about, "kind": "difference", "source": other.source, "label": label, **kept, **entry}


def _rivals(arm: str, published: Sequence[Published]) -> list[Published]:
    of_method = [row for row in published if row.method == arm]
    corrected = [row for row in of_method[1:] if row.corrected]
    return of_method[:1] + corrected[:1]


def _shared(columns: Sequence[str]) -> list[str]:
    """Columns of ours that a published table has too; an average only where it is over the same benchmarks."""
    shared = [name for name in columns if name in COLUMNS and name not in AVERAGED]
    start = 0
    for average, members in AVERAGED.items():
        if average in columns:
            if set(columns[start : columns.index(average)]) == set(members):
                shared.append(average)
            start = columns.index(average) + 1
    return shared


def _heading(row: pd.Series) -> str:
    if row["kind"] == "published":
        return f"{row['source']}, {row['base']}:"
    return f"ours, {row['base']}:"


def _reading(row: pd.Series) -> str:
    if row["kind"] == "published":
        return str(row["certainty"])
    return f"{row['seeds']:.0f} seed{'s' if row['seeds'] > 1 else ''}" if row["kind"] == "ours" else ""


def _cell(entry: pd.Series) -> Cell:
    if entry["kind"] == "published":
        return Cell(f"{100 * entry['mean']:.1f}", "" if pd.isna(entry["std"]) else f"±{100 * entry['std']:.1f}")
    marks = (" ‡" if entry["limited"] else "") + (" †" if entry["missing"] else "")
    if entry["kind"] == "ours":
        interval = f"[{100 * entry['low']:.1f}, {100 * entry['high']:.1f}]"
        return Cell(f"{100 * entry['mean']:.1f}{marks}", interval, entry["mark"] == "best")
    marks += " *" if entry["mark"] == "told apart" else ""
    return Cell(signed(entry["mean"]) + marks, f"[{signed(entry['low'])}, {signed(entry['high'])}]")


def _notes_on_ours(frame: pd.DataFrame) -> Iterator[str]:
    ours = frame[frame["kind"] == "ours"]
    if ours.empty:
        return
    yield (
        "Ours: with 95 % intervals; bold as in the main table of the corpus. Beneath an arm, in percentage points: its "
        "difference to the published row of its method, and to the one that corrects it. The published figure is "
        "taken as exact, so the interval is of ours alone. Marked *: it excludes a tie, with two or more seeds. A "
        "difference is of all that differs, the base model first, and not of the method alone."
    )
    for base, block in ours.groupby("base", sort=False):
        present = set(block["column"])
        if lacking := [TITLES[column] for column in COLUMNS if column not in present]:
            yield f"Blank in {base}, which has no such family, or an average over others: {', '.join(lacking)}."
        if unmatched := sorted(set(block["method"]) - set(frame.loc[frame["kind"] == "difference", "method"])):
            yield f"Nothing published to compare in {base}: {', '.join(unmatched)}."
        families = block.drop_duplicates("column")
        cut = families[[text.startswith("first") for text in families["limited"]]]
        if len(cut):
            named = (f"{TITLES[row['column']]} ({row['limited']})" for _, row in cut.iterrows())
            yield f"‡ {base} was evaluated on a part only, so this is no benchmark score: {', '.join(named)}."
        gaps = [TITLES[row["column"]] for _, row in families[families["missing"] > 0].iterrows()]
        if gaps:
            yield f"† Problems left out because some run lacks them ({base}): {', '.join(gaps)}."


def _texts(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), "").astype(str)
