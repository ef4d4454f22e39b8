"""The head of a method's file: its idea, its formulas, and the rest."""

import inspect
import re
from dataclasses import dataclass
from types import ModuleType
from typing import Literal

_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Block:
    """A formula, whose lines and spaces are kept, or a paragraph."""

    kind: Literal["formula", "text"]
    text: str


@dataclass(frozen=True, slots=True)
class Head:
    """The first paragraph, and the blocks that follow it."""

    idea: str
    blocks: tuple[Block, ...]


def read_head(module: ModuleType) -> Head:
    """Take the docstring of a module apart; a block all of whose lines are indented is a formula."""
    parts = [part.strip("\n") for part in re.split(r"\n\s*\n", inspect.getdoc(module) or "") if part.strip()]
    blocks: list[Block] = []
    for part in parts[1:]:
        if not all(line.startswith(_INDENT) for line in part.splitlines()):
            blocks.append(Block("text", plain(part)))
        elif blocks and blocks[-1].kind == "formula":
            blocks[-1] = Block("formula", f"{blocks[-1].text}\n\n{_lines(part)}")
        else:
            blocks.append(Block("formula", _lines(part)))
    return Head(plain(parts[0]) if parts else "", tuple(blocks))


def plain(text: str) -> str:
    """One line, without the marks of literals and roles."""
    return re.sub(r":\w+:`~?([^`]*)`", r"\1", " ".join(text.split())).replace("`", "")


def _lines(part: str) -> str:
    """A formula to the left edge, without the marks of literals; what is aligned stays so."""
    return inspect.cleandoc(part.replace("`", ""))
