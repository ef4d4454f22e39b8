"""Published figures on the nine benchmarks, and the check of their averages.

``results/published.csv`` has a row for each published row: figures in percent as printed, where they were read, and
what is known against them. Its benchmark columns are named as families are, so that a table of ours joins by name.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from pathlib import Path

from dagrpo.config import nearest
from dagrpo.errors import UserError
from eval.display import IN_DISTRIBUTION, OOD

TITLES = {
    "aime2024": "AIME 2024",
    "aime2025": "AIME 2025",
    "amc_val83": "AMC",
    "math500": "MATH-500",
    "minerva_math": "Minerva",
    "olympiadbench": "OlympiadBench",
    IN_DISTRIBUTION: "average",
    "arc_challenge": "ARC-c",
    "gpqa_diamond": "GPQA-diamond",
    "mmlu_pro": "MMLU-Pro",
    OOD: "average OOD",
}
COLUMNS = tuple(TITLES)
AVERAGED = {
    IN_DISTRIBUTION: COLUMNS[: COLUMNS.index(IN_DISTRIBUTION)],
    OOD: COLUMNS[COLUMNS.index(IN_DISTRIBUTION) + 1 : -1],
}
CERTAINTIES = {
    "paper": "read in the source",
    "rerun": "read in the source, which ran another's method again",
    "own report": "the method's own figures, as the source quotes them",
    "second-hand": "read in notes on the source only",
}
_STD = "_std"
_ABOUT = ("source", "arxiv", "table", "base_model", "method", "label", "certainty")
_HEADER = (*_ABOUT, "corrected", *COLUMNS, "average_over", "note")


@dataclass(frozen=True, slots=True)
class Published:
    """One published row, in percent; ``values`` lacks the columns that were not printed, ``std`` is over seeds.

    ``method`` is the name of the arm that it compares with. ``corrected`` rows repeat earlier ones without their
    errors. ``average_over`` are the benchmarks that the average in distribution is over.
    """

    source: str
    arxiv: str
    table: str
    base_model: str
    method: str
    label: str
    certainty: str
    corrected: bool
    values: Mapping[str, Decimal]
    std: Mapping[str, Decimal]
    average_over: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A printed average that its columns cannot give, whatever was rounded away; both in percent."""

    row: Published
    column: str
    printed: Decimal
    recomputed: Fraction

    def __str__(self) -> str:
        return (
            f"{self.row.source}, {self.row.label}, {TITLES[self.column]}: {self.printed} printed, "
            f"{float(self.recomputed):.1f} from its columns"
        )


def read_published(path: Path) -> tuple[Published, ...]:
    """Read published rows, in the order of the file.

    Raises:
        UserError: the file cannot be read, a column is missing or unknown, a cell does not hold what it should, or a
            row occurs twice.
    """
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines(), strict=True))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); it is part of the repository: get it") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error}); get it from the repository again") from None
    header = lines[0] if lines else []
    _check_header(header, path)
    rows: dict[tuple[str, ...], Published] = {}
    for number, cells in enumerate(lines[1:], start=2):
        where = f"{path}, line {number}"
        if len(cells) != len(header):
            raise UserError(f"{where}: {len(cells)} cells under {len(header)} columns; quote cells that hold commas")
        row = _row(dict(zip(header, cells, strict=True)), where)
        key = (row.source, row.base_model, row.method, row.label)
        if key in rows:
            raise UserError(f"{where}: {', '.join(key)} occurs twice; give it another label, or delete it")
        rows[key] = row
    return tuple(rows.values())


def disagreements(rows: Sequence[Published]) -> list[Disagreement]:
    """List the printed averages that do not follow from their columns within rounding.

    A figure printed as 12.3 may have been anything from 12.25 to 12.35. An average disagrees if no such figures give
    one that is printed as it is. Averages with a column missing are left out: nothing can be said.
    """
    found = []
    for row in rows:
        for average, members in (AVERAGED | {IN_DISTRIBUTION: row.average_over}).items():
            if average not in row.values or not all(member in row.values for member in members):
                continue
            figures = [row.values[member] for member in members]
            recomputed = sum(map(Fraction, figures), Fraction()) / len(figures)
            slack = _half(row.values[average]) + sum(map(_half, figures), Fraction()) / len(figures)
            if abs(Fraction(row.values[average]) - recomputed) > slack:
                found.append(Disagreement(row, average, row.values[average], recomputed))
    return found


def _check_header(header: Sequence[str], path: Path) -> None:
    if lacking := [name for name in _HEADER if name not in header]:
        raise UserError(f"{path}: column {lacking[0]!r} is missing; get the file from the repository again")
    known = [*_HEADER, *(column + _STD for column in COLUMNS)]
    if unknown := [name for name in header if name not in known]:
        raise UserError(f"{path}: unknown column {unknown[0]!r}{nearest(unknown[0], known)}")
    if len(set(header)) < len(header):
        raise UserError(f"{path}: a column occurs twice; delete one of them")


def _row(cells: Mapping[str, str], where: str) -> Published:
    for name in _ABOUT:
        if not cells[name].strip():
            raise UserError(f"{where}: {name} is empty; fill it in")
    if not re.fullmatch(r"\d{4}\.\d{5}", cells["arxiv"]):
        raise UserError(f"{where}: arxiv is {cells['arxiv']!r}; write an identifier such as 2512.06337")
    if cells["certainty"] not in CERTAINTIES:
        raise UserError(f"{where}: certainty is {cells['certainty']!r}; choose from: {', '.join(CERTAINTIES)}")
    if cells["corrected"] not in ("", "yes"):
        raise UserError(f"{where}: corrected is {cells['corrected']!r}; write yes, or nothing")
    over = tuple(cells["average_over"].split()) or AVERAGED[IN_DISTRIBUTION]
    if unknown := [name for name in over if name not in AVERAGED[IN_DISTRIBUTION]]:
        raise UserError(
            f"{where}: average_over names {unknown[0]!r}{nearest(unknown[0], list(AVERAGED[IN_DISTRIBUTION]))}"
        )
    values = {name: _number(cells[name], name, where) for name in COLUMNS if cells[name]}
    spread = {name: cells.get(name + _STD, "") for name in COLUMNS}
    if not values:
        raise UserError(f"{where}: holds no figure; delete it")
    if lone := [name for name in COLUMNS if spread[name] and name not in values]:
        raise UserError(f"{where}: {lone[0]}{_STD} stands without {lone[0]}; fill that in, or delete it")
    return Published(
        **{name: cells[name] for name in _ABOUT},
        corrected=cells["corrected"] == "yes",
        values=values,
        std={name: _number(text, name + _STD, where) for name, text in spread.items() if text},
        average_over=over,
        note=cells["note"],
    )


def _number(text: str, name: str, where: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not (value.is_finite() and 0 <= value <= 100):
        raise UserError(f"{where}: {name} is {text!r}; write percent from 0 to 100")
    return value


def _half(printed: Decimal) -> Fraction:
    """Half a unit of the last digit printed."""
    return Fraction(Decimal(1).scaleb(int(printed.as_tuple().exponent))) / 2
