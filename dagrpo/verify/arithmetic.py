"""Operations on expressions that refuse what is too large to write down, instead of computing it."""

from collections.abc import Callable
from math import log10

import sympy
from sympy import Expr

from dagrpo.verify.values import Unreadable

MAX_DIGITS = 10_000

CONSTANTS = {r"\pi": sympy.pi, r"\infty": sympy.oo, "e": sympy.E, "i": sympy.I}
INVERSES: dict[str, Callable[[Expr], Expr]] = {"sin": sympy.asin, "cos": sympy.acos, "tan": sympy.atan}
_RENAMED: dict[str, Callable[[Expr], Expr]] = {
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "ln": sympy.log,
    "lg": lambda x: sympy.log(x, 10),
}


class TooLarge(Exception):
    """A text asks for a number of more than ``MAX_DIGITS`` digits, or for a computation as large."""


class Undone(TooLarge):
    """A text asks for a sum, product, integral or limit, which may be as large."""


def finite(expr: Expr) -> Expr:
    """Return an expression, unless something in it was divided by zero."""
    if expr.has(sympy.zoo, sympy.nan):
        raise Unreadable
    return expr


def function(name: str) -> Callable[[Expr], Expr]:
    """The function of a name, such as ``sin`` or ``arcsin``; ``log`` is natural."""
    return _RENAMED.get(name) or getattr(sympy, name)


def literal(text: str) -> Expr:
    """An integer, decimal or number in scientific notation, exactly."""
    exponent = text.lower().partition("e")[2]
    if len(text) > 1000 or len(exponent) > 6 or abs(int(exponent or 0)) > MAX_DIGITS:
        raise TooLarge
    return sympy.Rational(text)


def power(base: Expr, exponent: Expr) -> Expr:
    """Raise to a power."""
    if base.is_Add and exponent.is_Integer and abs(exponent) > 100:
        raise TooLarge
    if base.is_number and exponent.is_number and exponent.is_real and base not in (0, 1, -1):
        if abs(exponent) > 4 * MAX_DIGITS:
            raise TooLarge
        if base.is_Rational:
            digits = log10(max(abs(base.p), base.q, 2))
            if digits * float(abs(exponent)) > MAX_DIGITS or (not exponent.is_Integer and digits > 300):
                raise TooLarge
    return finite(base**exponent)


def factorial(expr: Expr) -> Expr:
    """Factorial of a number up to 3,000, or of a symbol."""
    if expr.is_number and not (expr.is_Integer and expr <= 3000):
        raise TooLarge
    return sympy.factorial(expr)


def double_factorial(expr: Expr) -> Expr:
    """Product of every second number down from one up to 3,000."""
    if not (expr.is_Integer and expr >= 0):
        raise Unreadable
    if expr > 3000:
        raise TooLarge
    return sympy.factorial2(expr)


def binomial(above: Expr, below: Expr) -> Expr:
    """Binomial coefficient, from up to ``MAX_DIGITS``; of a symbol, where it is a long product, up to 100."""
    if above.is_number and not (above.is_real and above <= MAX_DIGITS):
        raise TooLarge
    if below.is_number and not (below.is_real and below <= (MAX_DIGITS if above.is_Integer else 100)):
        raise TooLarge
    return sympy.binomial(above, below)
