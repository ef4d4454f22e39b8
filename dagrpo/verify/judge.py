"""Two judgements of a bare answer: for worker processes only, since either may not end.

Gold and answer are read once, into typed values, and compared by kind; what differs there differs for both judges. The
word on two expressions, or relations, that no point tells apart is the judge's: ``sympy`` takes the agreement of their
values for the proof, ``math_verify`` asks the library of that name to parse both texts and to show it. A gold that the
reader does not know, for a command that it has not, goes to math-verify whole.

Each pair is read twice, with units and without. An answer that is too large to compute is refused.
"""

import logging
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import math_verify
import sympy
from sympy import Symbol

from dagrpo.verify.expression import TooLarge, Undone, read
from dagrpo.verify.settle import Judgement, Opinion, readings
from dagrpo.verify.text import characters, without_dollars
from dagrpo.verify.values import Foreign, Judge, Relation, Scalar, Unreadable, Value, Words, apart

logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it warns of the time limits that we replace by our own

_WHOLE = [math_verify.LatexExtractionConfig()]
_EXPONENT = re.compile(r"(?<![\w\\])(\d+(?:\.\d+)?)[eE]([+-]?\d+)(?!\w)")
_COMMAND = re.compile(r"\\[a-zA-Z]+")


def judge_sympy(gold: str, answer: str) -> Judgement:
    """Compare as values, read by :mod:`dagrpo.verify.expression`."""
    return opinion("sympy", gold, answer).judgement


def judge_math_verify(gold: str, answer: str) -> Judgement:
    """Compare as values, and leave expressions to math-verify."""
    return opinion("math_verify", gold, answer).judgement


JUDGES: dict[str, Callable[[str, str], Judgement]] = {"math_verify": judge_math_verify, "sympy": judge_sympy}


def warm(text: str) -> None:
    """Let both readers meet a text: what math-verify's parser learns of the grammar of TeX, workers inherit."""
    as_value(text)
    as_library(text)


def opinion(judge: str, gold: str, answer: str) -> Opinion:
    """What a judge says of an answer, and why."""
    pairs = readings(gold, answer)
    golds, answers = ([as_value(text) for text in texts] for texts in zip(*pairs, strict=True))
    if any(isinstance(value, TooLarge) for value in answers) and not any(isinstance(x, TooLarge) for x in golds):
        return Opinion(Judgement.REFUSED, "the answer asks for more than can be computed")
    reasons = []
    for pair, wanted, given in zip(pairs, golds, answers, strict=True):
        reason = _apart(judge, pair, wanted, given)
        if reason is None:
            return Opinion(Judgement.EQUAL, f"{pair[0]} and {pair[1]} are the same")
        reasons.append(reason)
    return Opinion(Judgement.UNEQUAL, reasons[-1])


def _apart(judge: str, pair: tuple[str, str], wanted: "_Read", given: "_Read") -> str | None:
    if not isinstance(wanted, Exception) and not isinstance(given, Exception):
        try:
            return apart(wanted, given, _PROOFS[judge])
        except Unreadable:
            return "one of them has no finite value"
    if judge == "sympy" or not _may_ask(wanted, given):
        return "one of them is no value that the reader knows"
    if not all(map(_keeps_symbols, pair)):
        return "math-verify loses a symbol"
    return None if _verified(*pair) else "math-verify sees no value that is the same"


def _may_ask(wanted: "_Read", given: "_Read") -> bool:
    """Whether math-verify is asked about texts that cannot be read: where the gold has a command that the reader has
    not. Beside a gold that is a value, an answer that cannot be read is none: a slip, a hedge or noise, which
    math-verify may take seconds to reject."""
    return isinstance(wanted, Foreign | Undone) and (
        isinstance(given, Foreign | Undone) or not isinstance(given, Exception | Words)
    )


_Read = Value | TooLarge | Unreadable


@lru_cache(maxsize=4096)
def as_value(text: str) -> _Read:
    """How the reader reads a text: a value, or the reason why there is none."""
    try:
        return read(text)
    except (TooLarge, Unreadable) as reason:
        return reason


def _keeps_symbols(text: str) -> bool:
    """Whether math-verify reads the letters of a text as symbols: it takes the gcd of two of them for 1. Those that a
    sum or an integral binds are its own."""
    letters = {letter.lower() for letter in re.findall(r"[A-Za-z]", _COMMAND.sub(" ", text))} - {"e", "i"}
    parsed = as_library(text)
    free = {letter for value in parsed[:1] for symbol in getattr(value, "free_symbols", ()) for letter in str(symbol)}
    return isinstance(as_value(text), Undone) or letters <= {letter.lower() for letter in free}


def _agreed(gold: Scalar | Relation, answer: Scalar | Relation) -> bool:
    """That they agree at some points is the proof, unless one of them has steps, which may lie between."""
    exprs = [value.expr if isinstance(value, Scalar) else value.gap for value in (gold, answer)]
    return not any(expr.free_symbols and expr.has(sympy.floor, sympy.ceiling) for expr in exprs)


def _proved(gold: Scalar | Relation, answer: Scalar | Relation) -> bool:
    return _verified(gold.text, answer.text)


_PROOFS: dict[str, Judge] = {"math_verify": _proved, "sympy": _agreed}


def _verified(gold: str, answer: str) -> bool:
    wanted, given = as_library(gold), as_library(answer)
    if not (wanted and given):
        return False
    if isinstance(wanted[0], sympy.Tuple) != isinstance(given[0], sympy.Tuple):
        return False
    if math_verify.verify(list(wanted), list(given), timeout_seconds=None):
        return True
    return bool(math_verify.verify(_positive(wanted[0]), _positive(given[0]), timeout_seconds=None))


def _positive(value: Any) -> Any:
    """With symbols that stand for positive numbers, so that roots can be taken apart."""
    if not isinstance(value, sympy.Basic) or value.has(sympy.Abs):
        return value
    return value.xreplace({symbol: Symbol(symbol.name, positive=True) for symbol in value.free_symbols})


@lru_cache(maxsize=4096)
def as_library(text: str) -> tuple[Any, ...]:
    """How math-verify reads a text; empty if it cannot."""
    text = without_dollars(characters(text)).strip().rstrip(".")
    text = _EXPONENT.sub(r"\1\\times 10^{\2}", text)  # the e of which it would read as Euler's number
    return tuple(math_verify.parse(f"${text}$", _WHOLE, parsing_timeout=None))
