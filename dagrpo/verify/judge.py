"""Two independent judgements of a bare answer: for worker processes only, since either may not end.

``math_verify`` asks the library of that name; ``sympy`` is a reader and a comparison of our own. Both are asked a
second time without units. Neither is asked where our reader finds the answer too large to compute, or where it can
read the gold and not the answer: such an answer is prose, or noise that a parser may take seconds to reject.
"""

import logging
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import math_verify
from sympy import Expr, Rational, Symbol, UnevaluatedExpr

from dagrpo.verify.expression import TooLarge, read
from dagrpo.verify.settle import Judgement
from dagrpo.verify.text import characters, split_units, without_dollars
from dagrpo.verify.values import Unreadable, Value, same

logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns of the time limits that we replace by our own

_WHOLE = [math_verify.LatexExtractionConfig()]
_EXPONENT = re.compile(r"(?<![\w\\])(\d+(?:\.\d+)?)[eE]([+-]?\d+)(?!\w)")


def judge_sympy(gold: str, answer: str) -> Judgement:
    """Compare as values, read by :mod:`dagrpo.verify.expression`."""
    return _judge(gold, answer, _same_value)


def judge_math_verify(gold: str, answer: str) -> Judgement:
    """Ask math-verify about the whole answer: it is not left to pick one from among several, or out of prose."""
    return _judge(gold, answer, _verified)


JUDGES: dict[str, Callable[[str, str], Judgement]] = {"math_verify": judge_math_verify, "sympy": judge_sympy}


def _judge(gold: str, answer: str, equal: Callable[[str, str], bool]) -> Judgement:
    (wanted, _), (given, _) = split_units(gold, answer)
    readings = [(gold, answer), (wanted, given)]
    golds, answers = ([_read(text) for text in texts] for texts in zip(*readings, strict=True))
    if any(isinstance(value, TooLarge) for value in answers) and not any(isinstance(x, TooLarge) for x in golds):
        return Judgement.REFUSED
    if all(isinstance(value, Unreadable) for value in answers) and not all(isinstance(x, Unreadable) for x in golds):
        return Judgement.UNEQUAL  # the gold is a value, and the answer is none: prose, a slip, or noise
    return Judgement.of(any(equal(*reading) for reading in dict.fromkeys(readings)))


@lru_cache(maxsize=4096)
def _read(text: str) -> Value | TooLarge | Unreadable:
    """A value, or the reason why there is none."""
    try:
        return read(text)
    except (TooLarge, Unreadable) as reason:
        return reason


def _same_value(gold: str, answer: str) -> bool:
    wanted, given = _read(gold), _read(answer)
    if isinstance(wanted, Exception) or isinstance(given, Exception):
        return False
    try:
        return same(wanted, given)
    except Unreadable:
        return False


def _verified(gold: str, answer: str) -> bool:
    wanted, given = _parse(gold), _parse(answer)
    if not (wanted and given) or _apart(wanted[0], given[0]):
        return False
    return bool(math_verify.verify(list(wanted), list(given), timeout_seconds=None))


@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[Any, ...]:
    text = without_dollars(characters(text)).strip().rstrip(".")
    text = _EXPONENT.sub(r"\1\\times 10^{\2}", text)  # the e of which it would read as Euler's number
    return tuple(math_verify.parse(f"${text}$", _WHOLE, parsing_timeout=None))


def _apart(left: Any, right: Any) -> bool:
    """Whether both are expressions whose values differ: then math-verify says no, after a slow attempt to simplify."""
    if not all(isinstance(x, Expr) and not isinstance(x, Symbol) and not x.has(UnevaluatedExpr) for x in (left, right)):
        return False
    places = {symbol: Rational(7, 9) for symbol in left.free_symbols | right.free_symbols}
    a, b = (x.evalf(15, subs=places, maxn=100) for x in (left, right))
    return bool(a.is_Float and b.is_Float and abs(a - b) > 1e-3 * max(1, abs(a), abs(b)))
