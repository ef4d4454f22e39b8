"""A table for reading, and how it is written as Markdown and LaTeX."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

REHEARSAL = "A rehearsal, no result."
"""What stands on everything that a rehearsal shows."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A value and, smaller, its interval."""

    text: str
    detail: str = ""
    bold: bool = False


@dataclass(frozen=True, slots=True)
class Display:
    """A table for reading; ``header`` and each row have the same length, the first ``names`` columns are text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...]
    names: int = 1


def signed(share: float) -> str:
    """Percentage points with a sign and one decimal: 0.0123 -> +1.2."""
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def interval(low: float, high: float, shown: Callable[[float], str]) -> str:
    """An interval of accuracies or of their differences, in brackets; words where it is wider than all of accuracy."""
    return f"[{shown(low)}, {shown(high)}]" if high - low <= 1 else "not bounded"


def percent(share: float) -> str:
    """A share in percent, with one decimal: 0.123 -> 12.3."""
    return f"{100 * share:.1f}"


def markdown(shown: Display) -> str:
    """Render as a Markdown table under its title."""

    def text(cell: Cell) -> str:
        value = f"**{cell.text}**" if cell.bold else cell.text
        return f"{value} {cell.detail}".strip().replace("|", "\\|")

    aligned = ["left"] * shown.names + ["right"] * (len(shown.header) - shown.names)
    rows = [[text(cell) for cell in row] for row in shown.rows]
    header = [title.replace("|", "\\|") for title in shown.header]
    body = tabulate(rows, header, tablefmt="pipe", colalign=aligned, disable_numparse=True) if rows else ""
    return "\n\n".join(part for part in (f"**{shown.title}**", body, *shown.notes) if part) + "\n"


def latex(shown: Display, label: str) -> str:
    """Render as a LaTeX table, intervals under their values; it needs the packages booktabs and graphicx."""

    def text(cell: Cell) -> str:
        value = rf"\textbf{{{_tex(cell.text)}}}" if cell.bold else _tex(cell.text)
        return _stacked(value, rf"\scriptsize {_tex(cell.detail)}") if cell.detail else value

    def heading(title: str) -> str:
        name, bracket, limit = title.partition(" (")
        return _stacked(_tex(name), rf"\scriptsize {_tex(bracket.strip() + limit)}") if limit else _tex(title)

    align = "l" * shown.names + "r" * (len(shown.header) - shown.names)
    lines = [
        r"\begin{table*}[t]",
        r"\centering",
        rf"\caption{{{_tex(shown.title)}.}}",
        rf"\label{{{label}}}",
        r"\resizebox{\linewidth}{!}{%",
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        " & ".join(heading(title) for title in shown.header) + r" \\",
        r"\midrule",
        *(" & ".join(text(cell) for cell in row) + r" \\" for row in shown.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        rf"\par\smallskip\parbox{{\linewidth}}{{\footnotesize {' '.join(_tex(note) for note in shown.notes)}}}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def mark_rehearsal(folder: Path) -> None:
    """Say in every Markdown and LaTeX table of a folder that it is a rehearsal's, in front of its title."""
    for path in sorted(folder.rglob("*.md")):
        path.write_text(path.read_text("utf-8").replace("**", f"**{REHEARSAL} ", 1), "utf-8")
    for path in sorted(folder.rglob("*.tex")):
        path.write_text(path.read_text("utf-8").replace(r"\caption{", rf"\caption{{{REHEARSAL} ", 1), "utf-8")


def _stacked(above: str, below: str) -> str:
    return rf"\begin{{tabular}}[t]{{@{{}}r@{{}}}}{above}\\[-3pt]{{{below}}}\end{{tabular}}"


_TEX = {
    "\\": r"\textbackslash{}",
    **{char: f"\\{char}" for char in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # a row that begins with a bracket would be read as an option of the line break before it
    "−": "$-$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "≥": r"$\geq$",
    "→": r"$\to$",
    "λ": r"$\lambda$",
    "Σ": r"$\Sigma$",
    "δ": r"$\delta$",
    "γ": r"$\gamma$",
    "∞": r"$\infty$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "*": r"$^{*}$",
}


def _tex(text: str) -> str:
    return re.sub("[" + re.escape("".join(_TEX)) + "]", lambda match: _TEX[match.group()], text)
