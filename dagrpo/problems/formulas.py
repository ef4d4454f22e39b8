"""Arithmetic as text: which equations a text holds, and a formula's evaluation one operation at a time, exactly."""

import ast
import operator
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

_ALLOWED = "+-*/(). \t0123456789"
_LONGEST = 160
_OPERATIONS = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}
_REWRITES = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"\\(?:times|cdot)(?![a-zA-Z])|[×·⋅]|(?<=\d)[ \t]?x[ \t]?(?=\d)"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])|÷"), "/"),
    (re.compile("[−–]"), "-"),
    (re.compile(r"\\[!,;:()\[\]]|\\\$|[$&~]"), ""),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
    (re.compile(r"(?<=[\d)])[ \t]+[A-Za-z]+(?=[ \t]*[-+*/=)])"), ""),  # units
    (re.compile(r"^[ \t]*(?:\d+[.)]|[-*])[ \t]+", re.MULTILINE), ""),  # numbers and bullets of a list
)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation on two numbers and its value."""

    left: Fraction
    sign: str
    right: Fraction
    value: Fraction


@dataclass(frozen=True, slots=True)
class Equation:
    """An equation of a text: the operations of its left side, and whether the right side is what they come to."""

    operations: tuple[Operation, ...]
    right: bool


def operations(formula: str) -> tuple[Operation, ...] | None:
    """Evaluate a formula of ``+ - * /``, brackets and decimals; none where it is another text or divides by zero.

    Returns:
        its operations in the order in which they are carried out, the last of which has the formula's value; no
        operation where it is a bare number.
    """
    read = _read(formula)
    return None if read is None else tuple(read[1])


def equations(text: str) -> list[Equation]:
    """The equations of a text, in order, each link of a chain ``a = b = c`` one; those without an operation on their
    left side, and those that are no arithmetic, are left out.

    A right side in decimals is right where it is the value rounded to as many.
    """
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return [found for line in re.split(r"[\n;]|<<|>>", text) for found in _links(line)]


def written(value: Fraction) -> str | None:
    """A number as a decimal of at most four places; none where it has more."""
    scaled = value * 10**4
    if scaled.denominator != 1:
        return None
    whole, rest = divmod(abs(scaled.numerator), 10**4)
    return f"{'-' * (value < 0)}{whole}{f'.{rest:04}'.rstrip('0') if rest else ''}"


def _links(line: str) -> Iterator[Equation]:
    for before, after in pairwise(line.split("=")):
        left, right = _tail(before), _head(after)
        read, claimed = _read(left), _read(right)
        if read is None or claimed is None or not read[1]:
            continue
        places = len(right.partition(".")[2])
        rounding = Fraction(1, 2 * 10**places) if places and not claimed[1] else 0
        yield Equation(tuple(read[1]), abs(read[0] - claimed[0]) <= rounding)


def _tail(text: str) -> str:
    return text[len(text.rstrip(_ALLOWED)) :].strip().lstrip(".)*/")


def _head(text: str) -> str:
    return text[: len(text) - len(text.lstrip(_ALLOWED))].strip().rstrip(".(+-*/ ")


def _read(formula: str) -> tuple[Fraction, list[Operation]] | None:
    formula = formula.strip()
    if len(formula) > _LONGEST or formula.strip(_ALLOWED):
        return None
    try:
        tree = ast.parse(formula, mode="eval")
        done: list[Operation] = []
        return _value(tree.body, formula, done), done
    except (SyntaxError, ValueError, ZeroDivisionError, MemoryError, RecursionError):
        return None


def _value(node: ast.expr, text: str, done: list[Operation]) -> Fraction:
    match node:
        case ast.Constant():
            return Fraction(text[node.col_offset : node.end_col_offset])
        case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
            value = _value(node.operand, text, done)
            return -value if isinstance(node.op, ast.USub) else value
        case ast.BinOp() if type(node.op) in _OPERATIONS:
            sign, apply = _OPERATIONS[type(node.op)]
            left, right = _value(node.left, text, done), _value(node.right, text, done)
            done.append(Operation(left, sign, right, apply(left, right)))
            return done[-1].value
    raise ValueError("no arithmetic")
