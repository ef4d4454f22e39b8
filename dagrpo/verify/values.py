"""Values that an answer can have, and when two of them are the same.

Kinds are compared by kind. A bare list stands for a set or, where the other side has an order, for a tuple; a set is
never a tuple. Two bare lists have as many items. Numbers are compared exactly. Two expressions differ where they
differ at a point, symbols standing for numbers; where they agree, a judge has the word.

A decimal of six or more significant digits may be a rounding or a cut: it is the same as what lies within one unit of
its last place, unless the other is a decimal as long, or a number that has no more places.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from math import gcd

import sympy
from sympy import Expr, Rational, Symbol

from dagrpo.verify.text import OPTIONS

_EXACT = Rational(1, 10**20)
_STEPS = (sympy.floor, sympy.ceiling)
_NEAR, _WIDE = ("1st", "2nd"), ("5th", "6th", "7th", "8th")
_SIGNED = ("all", "far", "0", "1", "2", "3", "4")
"""At "all" every symbol is negative, and at "far" 41 times as large; at the others those whose name has that bit, so
that any two letters differ."""


class Unreadable(Exception):
    """A text is no value, or an expression has none."""


class Foreign(Unreadable):
    """A text holds a command that the reader has not."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """One expression, how far (relatively) the number meant may lie from it, and its text in TeX."""

    expr: Expr
    spread: Rational = sympy.S.Zero
    text: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Items:
    """Values between brackets, which are ``""`` for a bare list, and ``:`` for a ratio. A pair may be a point or an
    interval; ``is_interval`` where it was written as an inequality."""

    opening: str
    closing: str
    values: tuple["Value", ...]
    is_interval: bool = field(default=False, compare=False)


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
    """``gap sign 0``, sign one of ``= < <= !=``, and its text in TeX."""

    sign: str
    gap: Expr
    text: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Words:
    """An answer in words, or a label, in lower case; the product of its letters, where it may be one."""

    text: str
    product: Scalar | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Choice:
    """The letter of an option, and what the option says."""

    letter: str
    value: "Value"


Value = Choice | Scalar | Items | Union | Matrix | Named | Relation | Words
Judge = Callable[[Scalar | Relation, Scalar | Relation], bool]
"""Whether two expressions, or two relations, that no point tells apart are the same."""


def kind(value: Value) -> str:
    """The kind of a value, in words."""
    if isinstance(value, Items):
        interval = len(value.values) == 2 and value.opening in ("(", "[")
        by_opening = {"": "list", "{": "set", ":": "ratio", "(": "tuple", "[": "list in brackets"}
        return "point or interval" if interval else by_opening[value.opening]
    if isinstance(value, Scalar):
        return "number" if value.expr.is_number else "expression"
    return {"Words": "text", "Named": "value under a name"}.get(type(value).__name__, type(value).__name__.lower())


_RANKS = {kind: rank for rank, kind in enumerate((Choice, Named, Items, Matrix, Union, Relation, Words, Scalar))}


def apart(gold: Value, answer: Value, judge: Judge) -> str | None:
    """Say why two values differ; ``None`` if they are the same. An answer may leave a name out or add one, but not
    change it. What holds of a gold and an answer holds the other way round, so that each rule stands here once.

    Raises:
        Unreadable: an expression has no finite value to compare.
    """
    if _RANKS[type(gold)] > _RANKS[type(answer)]:
        return apart(answer, gold, lambda one, other: judge(other, one))
    match gold, answer:
        case Choice(), Choice():
            return apart(gold.value, answer.value, judge) if gold.letter == answer.letter else "the letters differ"
        case Choice(), Scalar(expr=Symbol(name=letter)) if letter in OPTIONS:
            return None if letter == gold.letter and not _hedges(gold) else "the letters differ"
        case Choice(), _:
            return apart(gold.value, answer, judge)
        case Named(), Items(opening="" | "{") if _names(answer) == {gold.name}:
            return apart(gold.value, _without_names(answer), judge)
        case Named(), Items(opening="" | "{") if _names(answer) - {None, gold.name}:
            return "the names differ"
        case Named(), Named():
            return apart(gold.value, answer.value, judge) if gold.name == answer.name else "the names differ"
        case Named(value=Scalar(left)), Relation(sign="="):
            return _relations(Relation("=", Symbol(gold.name) - left), answer, None)
        case Named(), _:
            return apart(gold.value, answer, judge)
        case Items(), Items():
            return _items(gold, answer, judge)
        case Items(opening="(" | ""), Matrix():
            return _in_order(gold.values, _entries(answer), judge)
        case Items(opening=""), Union():
            return _as_sets(gold.values, answer.parts, judge)
        case Items(opening=":"), Scalar():
            return _ratio_and_number(gold, answer, judge)
        case Items(opening="" | "{"), _:
            return _as_sets(gold.values, (answer,), judge)
        case Matrix(), Matrix():
            if [len(row) for row in gold.rows] != [len(row) for row in answer.rows]:
                return "the shapes differ"
            return _in_order([x for row in gold.rows for x in row], [x for row in answer.rows for x in row], judge)
        case Union(), Union():
            return _as_sets(gold.parts, answer.parts, judge)
        case Relation(), Relation():
            return _relations(gold, answer, judge)
        case Words(), Words():
            return None if _singular(gold.text) == _singular(answer.text) else "the words differ"
        case Words(product=Scalar() as product), Scalar():
            return _scalars(product, answer, judge)
        case Scalar(), Scalar():
            return _scalars(gold, answer, judge)
    return f"{kind(gold)} against {kind(answer)}"


def _items(gold: Items, answer: Items, judge: Judge) -> str | None:
    openings = {gold.opening, answer.opening}
    if openings == {":"}:
        return _ratios(gold.values, answer.values)
    if openings == {"", "("} and (gold.is_interval or answer.is_interval):
        return "an interval against a list"
    if openings == {""} and (len(_names(gold)) > 1) != (
        len(_names(answer)) > 1
    ):  # names on one side only: the order tells which
        return _in_order(gold.values, answer.values, judge)
    if openings == {""} and len(gold.values) != len(answer.values):
        return f"{len(gold.values)} parts against {len(answer.values)}"
    if openings == {"", "{"} and max(len(_names(gold)), len(_names(answer))) > 1:
        return "a set does not say which value is whose"
    if openings == {"{"} and _holds_sets(gold) != _holds_sets(answer):
        return "a set of sets against a set"
    if openings <= {"", "{"}:
        return _as_sets(gold.values, answer.values, judge)
    same_brackets = (gold.opening, gold.closing) == (answer.opening, answer.closing)
    bare = "" in openings and (openings == {"", "("} or len(gold.values) != 2)
    if bare or same_brackets or (openings <= {"(", "["} and len(gold.values) > 2):
        return _in_order(gold.values, answer.values, judge)
    if openings <= {"(", "["}:
        return "the brackets differ"
    return f"{kind(gold)} against {kind(answer)}"


def _hedges(choice: Choice) -> bool:
    """Whether a choice says several things."""
    return isinstance(choice.value, Items) and choice.value.opening == ""


def _singular(text: str) -> str:
    """Words without the article in front and the s of a plural."""
    return re.sub(r"^the |(?<=[a-z]{3})s\b", "", text)


def _ratio_and_number(ratio: Items, number: Scalar, judge: Judge) -> str | None:
    """A ratio of two is their quotient, unless it may be a time of day: 12:30, which a ratio in lowest terms is not."""
    above, *below = (value for value in ratio.values if isinstance(value, Scalar))
    if len(below) != 1:
        return "a ratio against a number"
    hours, minutes = above.expr, below[0].expr
    if hours.is_Integer and minutes.is_Integer and 0 <= hours <= 24 and 10 <= minutes < 60 and gcd(hours, minutes) > 1:
        return "a time of day against a number"
    return _scalars(Scalar(hours / minutes, text=rf"\frac{{{above.text}}}{{{below[0].text}}}"), number, judge)


def _holds_sets(items: Items) -> bool:
    return any(isinstance(value, Items) and value.opening == "{" for value in items.values)


def _names(items: Items) -> set[str | None]:
    """The names of the parts, ``None`` for a part without."""
    return {value.name if isinstance(value, Named) else None for value in items.values}


def _without_names(items: Items) -> Items:
    values = tuple(value.value if isinstance(value, Named) else value for value in items.values)
    return Items(items.opening, items.closing, values)


def _as_sets(gold: Sequence[Value], answer: Sequence[Value], judge: Judge) -> str | None:
    if any(all(apart(g, a, judge) for a in answer) for g in gold) or any(
        all(apart(g, a, judge) for g in gold) for a in answer
    ):
        return "a part of one is missing from the other"
    if 1 in (len(gold), len(answer)) and len(gold) != len(answer):
        return f"{len(gold)} parts against {len(answer)}"
    if len(gold) == len(answer) and len(gold) > 2:
        for g in gold:
            if sum(apart(g, a, judge) is None for a in answer) != sum(apart(g, a, judge) is None for a in gold):
                return "a part occurs more often in one of them"
    return None


def _in_order(gold: Sequence[Value], answer: Sequence[Value], judge: Judge) -> str | None:
    if len(gold) != len(answer):
        return f"{len(gold)} parts against {len(answer)}"
    for place, (g, a) in enumerate(zip(gold, answer, strict=True), start=1):
        if reason := apart(g, a, judge):
            return f"part {place}: {reason}"
    return None


def _ratios(gold: Sequence[Value], answer: Sequence[Value]) -> str | None:
    left, right = ([x.expr for x in values if isinstance(x, Scalar)] for values in (gold, answer))
    if len(left) != len(right):
        return f"{len(left)} parts against {len(right)}"
    fits = all(_agree(a * right[0], b * left[0], _EXACT) for a, b in zip(left, right, strict=True))
    return None if fits else "the ratios differ"


def _entries(matrix: Matrix) -> tuple[Value, ...]:
    """The entries of a row or column vector; none for a larger matrix."""
    if len(matrix.rows) == 1:
        return matrix.rows[0]
    return tuple(row[0] for row in matrix.rows) if all(len(row) == 1 for row in matrix.rows) else ()


def _scalars(gold: Scalar, answer: Scalar, judge: Judge) -> str | None:
    left, right = gold.expr, answer.expr
    if left == right:
        return None
    if left.is_infinite or right.is_infinite:
        return "the numbers differ"
    least, most = sorted((gold.spread, answer.spread))
    as_long = least > 0 and most < 3 * least
    tolerance = _EXACT if as_long or most == 0 else most
    if left.is_Rational and right.is_Rational:
        if any(_is_exact(one.expr, other) for one, other in ((gold, answer), (answer, gold)) if other.spread):
            return "the numbers differ"
        return None if tolerance is not _EXACT and _close(left, right, tolerance) else "the numbers differ"
    if not _agree(left, right, tolerance):
        return "their values differ"
    return None if tolerance is not _EXACT or judge(gold, answer) else "the judge does not see that they are the same"


def _is_exact(number: Expr, decimal: Scalar) -> bool:
    """Whether a number ends where a decimal does, which is then no rounding of it: 2.999999 is not 3."""
    return bool((number / (decimal.spread * abs(decimal.expr))).is_Integer)


def _relations(gold: Relation, answer: Relation, judge: Judge | None) -> str | None:
    if gold.sign != answer.sign:
        return "the relations differ"
    (a, b), (c, d) = ([_at(gap, point, False) for point in ("1st", "2nd")] for gap in (gold.gap, answer.gap))
    if any(abs(value) < _EXACT for value in (a, b, c, d)):
        return "a relation says nothing"
    if not _close(a / c, b / d, _EXACT) or (gold.sign in ("<", "<=") and not sympy.re(a / c) > 0):
        return "the relations differ"
    return None if judge is None or judge(gold, answer) else "the judge does not see that they are the same"


def _agree(left: Expr, right: Expr, tolerance: Rational) -> bool:
    """Whether two expressions have the same values: everywhere for positive symbols, and where both are real also for
    negative ones.

    Raises:
        Unreadable: one of them has no finite value for positive symbols.
    """
    if not (left.free_symbols or right.free_symbols):
        return _close(_at(left, "", False), _at(right, "", False), tolerance)
    points = _WIDE if left.has(*_STEPS) or right.has(*_STEPS) else _NEAR
    if not all(_close(_at(left, point, False), _at(right, point, False), tolerance) for point in points):
        return False
    for point in _SIGNED:
        try:
            x, y = (_at(expr, point, True) for expr in (left, right))
        except Unreadable:
            continue
        if x.is_real and y.is_real and not _close(x, y, tolerance):
            return False
    return True


def _close(left: Expr, right: Expr, tolerance: Rational) -> bool:
    size = max(abs(left), abs(right))
    return bool(size < Rational(1, 10**100) or abs(left - right) < tolerance * size)


@lru_cache(maxsize=8192)
def _at(expr: Expr, point: str, signed: bool) -> Expr:
    """The value of an expression at a point, to 30 digits; what has no digit that is certain is zero."""
    places = {symbol: _place(symbol.name, point, signed) for symbol in expr.free_symbols}
    value = expr.evalf(30, subs=places, maxn=400)
    if not value.is_number or value.has(sympy.nan, sympy.zoo, sympy.oo):
        raise Unreadable
    parts = value.as_real_imag()
    if all(getattr(part, "_prec", 100) > 1 for part in parts):
        return value
    certain = [part if getattr(part, "_prec", 100) > 1 else sympy.S.Zero for part in parts]
    return certain[0] + sympy.I * certain[1]


def _place(name: str, point: str, signed: bool) -> Rational:
    """Where a symbol stands at a point: a fixed number between 1/2 and 3/2, or, signed, one or its negative.

    At wide and far points it is 41 times as large, so that steps, and sums with a constant, differ.
    """
    number = int.from_bytes(blake2b(f"{name}@{point}".encode(), digest_size=4).digest(), "big")
    negative = signed and (point in ("all", "far") or sum(name.encode()) >> int(point) & 1 == 1)
    return Rational(number % 9973 + 4987, -9973 if negative else 9973) * (41 if point == "far" or point in _WIDE else 1)
