"""Answers so plain that both judges say of them what exact arithmetic says, at a thousandth of the cost.

A plain number is an integer, a decimal or a fraction, times a square root or π at most; a plain answer is one of those,
or several, infinity among them, between round or square brackets. A test holds the judges to what is decided here.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from math import copysign, inf, pi, sqrt
from typing import Literal

_FACTOR = r"(?:\\sqrt\{?(?P<root>(?<=\{)\d{1,9}(?=\})|(?<!\{)\d)\}?|(?P<pi>\\pi(?![a-zA-Z])))"
_NUMBER = re.compile(rf"(?P<sign>-?)(?P<scale>\d{{1,12}}|\d{{0,9}}\.\d{{1,9}})? ?{_FACTOR}?(?:/(?P<below>\d{{1,9}}))?")
_FRACTION = re.compile(rf"(-?)\\frac\{{([^/]+)\}}\{{(\d{{1,9}})\}} ?({_FACTOR}?)")
_UNITS = {"1": 1.0, "pi": pi, "infinity": inf}
_BRACKETS = re.compile(r"([(\[])(.*)([)\]])")


@dataclass(frozen=True, slots=True)
class Number:
    """A number by its sign and square, which are exact for a root too, times 1, π or infinity."""

    signed_square: Fraction
    unit: Literal["1", "pi", "infinity"]

    def __float__(self) -> float:
        return copysign(sqrt(abs(self.signed_square)), self.signed_square) * _UNITS[self.unit]

    def apart(self, other: "Number") -> bool:
        """Whether two numbers differ by more than any rounding."""
        left, right = float(self), float(other)
        return abs(left - right) > 1e-5 * max(1.0, min(abs(left), abs(right)))


@dataclass(frozen=True, slots=True)
class Plain:
    """A number (no brackets), or several between brackets."""

    brackets: str
    numbers: tuple[Number, ...]


def read_plain(text: str) -> Plain | None:
    """Read a clean answer; ``None`` unless it is plain."""
    bracketed = _BRACKETS.fullmatch(text)
    if bracketed is None:
        number = _number(text)
        return None if number is None else Plain("", (number,))
    opening, inner, closing = bracketed.groups()
    numbers = [number for number in map(_end, inner.split(",")) if number is not None]
    if len(numbers) < 2 or len(numbers) <= inner.count(","):
        return None
    if (opening, closing) != ("(", ")") and float(numbers[0]) >= float(numbers[1]):
        return None  # an interval that holds nothing
    return Plain(opening + closing, tuple(numbers))


def compare(gold: Plain, answer: Plain) -> bool | None:
    """Whether two plain answers are equal; ``None`` where that is for a judge to say."""
    if gold == answer:
        return True
    if gold.brackets != answer.brackets:
        return None
    if len(gold.numbers) != len(answer.numbers):
        return False
    return False if any(map(Number.apart, gold.numbers, answer.numbers)) else None


def _end(text: str) -> Number | None:
    sign, infinite, rest = text.strip().partition(r"\infty")
    if infinite and not rest and sign in ("", "-"):
        return Number(Fraction(-1 if sign else 1), "infinity")
    return _number(text)


def _number(text: str) -> Number | None:
    text = text.strip()
    if fraction := _FRACTION.fullmatch(text):
        sign, above, below, factor = fraction.group(1, 2, 3, 4)
        text = f"{sign}{above}{factor}/{below}"
    match = _NUMBER.fullmatch(text)
    if match is None or not (match["scale"] or match["root"] or match["pi"]):
        return None
    below = int(match["below"] or 1)
    if below == 0:
        return None
    scale = Fraction(match["scale"] or 1) / below
    square = scale**2 * int(match["root"] or 1)
    return Number(-square if match["sign"] else square, "pi" if match["pi"] and square else "1")
