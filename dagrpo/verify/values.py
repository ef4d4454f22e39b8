"""Values that an answer can have, and when two of them are the same.

Two expressions are the same if they agree to 20 digits at two points, symbols standing for positive numbers. A number
written as a decimal counts as measured: it is the same as whatever lies within a relative 1e-6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import sympy
from sympy import Expr, Rational, Symbol

_EXACT, _MEASURED = Rational(1, 10**20), Rational(1, 10**6)


class Unreadable(Exception):
    """A text is no value, or an expression has none."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One expression; ``measured`` if a decimal occurs in it."""

    expr: Expr
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Items:
    """Values between brackets, which are ``""`` for a bare list. A pair may be a point or an interval."""

    opening: str
    closing: str
    values: tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class Union:
    """A union of sets."""

    parts: tuple["Value", ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows of expressions."""

    rows: tuple[tuple["Value", ...], ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A value under a name: ``x = 5``, ``f(n) = 2n``, ``area = 5``."""

    name: str
    value: "Value"


@dataclass(frozen=True, slots=True)
class Relation:
    """``gap sign 0``, sign one of ``= < <= !=``."""

    sign: str
    gap: Expr


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, in lower case."""

    text: str


Value = Scalar | Items | Union | Matrix | Named | Relation | Words


def same(gold: Value, answer: Value) -> bool:
    """Compare two values. An answer may leave a name out or add one, but not change it.

    Raises:
        Unreadable: an expression has no finite value to compare.
    """
    match gold, answer:
        case Named(), Named():
            return gold.name == answer.name and same(gold.value, answer.value)
        case Named(value=Scalar(left)), Relation(sign="="):
            return _proportional(Symbol(gold.name) - left, answer.gap, False)
        case Relation(sign="="), Named(value=Scalar(right)):
            return _proportional(gold.gap, Symbol(answer.name) - right, False)
        case Named(), _:
            return same(gold.value, answer)
        case _, Named():
            return same(gold, answer.value)
        case Scalar(), Scalar():
            return _same_scalar(gold, answer)
        case Words(), Words():
            return gold.text == answer.text
        case Relation(), Relation():
            return gold.sign == answer.sign and _proportional(gold.gap, answer.gap, gold.sign in ("<", "<="))
        case Matrix(), Matrix():
            return len(gold.rows) == len(answer.rows) and all(map(_same_row, gold.rows, answer.rows))
        case Matrix(), Items(opening="(" | ""):
            return _same_row(_entries(gold), answer.values)
        case Items(opening="(" | ""), Matrix():
            return _same_row(gold.values, _entries(answer))
        case Union(), Union() | Items(opening=""):
            return _same_set(gold.parts, _members(answer))
        case Items(opening=""), Union():
            return _same_set(gold.values, answer.parts)
        case Items(), Items():
            return _same_items(gold, answer)
        case Items(opening="" | "{"), _:
            return _same_set(gold.values, (answer,))
        case _, Items(opening="" | "{"):
            return _same_set((gold,), answer.values)
    return False


def _same_items(gold: Items, answer: Items) -> bool:
    openings = {gold.opening, answer.opening}
    if openings <= {"", "{"}:
        return _same_set(gold.values, answer.values)
    if openings == {"", "("} or (gold.opening, gold.closing) == (answer.opening, answer.closing):
        return _same_row(gold.values, answer.values)
    return False


def _same_set(gold: Sequence[Value], answer: Sequence[Value]) -> bool:
    return all(any(same(g, a) for a in answer) for g in gold) and all(any(same(g, a) for g in gold) for a in answer)


def _same_row(gold: Sequence[Value], answer: Sequence[Value]) -> bool:
    return len(gold) == len(answer) and all(map(same, gold, answer))


def _members(value: Union | Items) -> tuple[Value, ...]:
    return value.parts if isinstance(value, Union) else value.values


def _entries(matrix: Matrix) -> tuple[Value, ...]:
    """The entries of a row or column vector; none for a larger matrix."""
    if len(matrix.rows) == 1:
        return matrix.rows[0]
    return tuple(row[0] for row in matrix.rows) if all(len(row) == 1 for row in matrix.rows) else ()


def _same_scalar(gold: Scalar, answer: Scalar) -> bool:
    left, right = gold.expr, answer.expr
    if left == right:
        return True
    if left.is_infinite or right.is_infinite:
        return False
    tolerance = _MEASURED if gold.measured or answer.measured else _EXACT
    if left.is_Rational and right.is_Rational:
        return bool(tolerance is _MEASURED and _close(left, right, tolerance))
    return all(_close(x, y, tolerance) for x, y in zip(_signature(left), _signature(right), strict=True))


def _proportional(left: Expr, right: Expr, positive: bool) -> bool:
    """Whether one gap is a constant multiple of the other, so that both relations say the same."""
    (a, b), (c, d) = _signature(left), _signature(right)
    if any(_close(value, sympy.S.Zero, _EXACT) for value in (a, b, c, d)):
        return False
    return _close(a / c, b / d, _EXACT) and (not positive or bool(sympy.re(a / c) > 0))


def _close(left: Expr, right: Expr, tolerance: Rational) -> bool:
    size = max(abs(left), abs(right))
    return bool(abs(left - right) <= tolerance * (max(size, 1) if tolerance is _EXACT else size))


@lru_cache(maxsize=4096)
def _signature(expr: Expr) -> tuple[Expr, Expr]:
    """Values of an expression at two fixed points, 30 digits each."""
    first, second = (
        expr.evalf(30, subs={symbol: _place(symbol.name, point) for symbol in expr.free_symbols}, maxn=400)
        for point in ("first", "second")
    )
    for value in (first, second):
        if not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo):
            raise Unreadable
    return first, second


def _place(name: str, point: str) -> Rational:
    """Where a symbol stands at a point: a fixed number between 1/2 and 3/2."""
    number = int.from_bytes(blake2b(f"{name}@{point}".encode(), digest_size=4).digest(), "big")
    return Rational(number % 9973 + 4987, 9973)
