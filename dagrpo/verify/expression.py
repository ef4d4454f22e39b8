"""Read a mathematical answer (LaTeX or plain) as a value.

A recursive-descent reader that builds sympy expressions. It evaluates no code, and refuses to compute what is too
large to write down.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from math import log10

import sympy
from sympy import Expr, Integer, Rational, Symbol

from dagrpo.verify.text import clean
from dagrpo.verify.values import Items, Matrix, Named, Relation, Scalar, Union, Unreadable, Value, Words

MAX_DIGITS = 10_000


class TooLarge(Exception):
    """A text asks for a number of more than ``MAX_DIGITS`` digits, or for a computation as large."""


_NUMBER = r"(?:\d+\.\d+|\.\d+|\d+)(?:[eE][+-]?\d+(?![a-zA-Z]))?"
_TOKEN = re.compile(
    rf'\s*(?:(?P<number>{_NUMBER})|(?P<words>"[^"]*")|(?P<letters>[A-Za-z]+)'
    r"|(?P<other>\\begin\{[a-z]+\}(?:\{[|lcr]*\})?|\\end\{[a-z]+\}|\\[a-zA-Z]+|\\\\|\\[{}|]|<=|>=|!=|[^\s\"]))"
)
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|dot)\{(\d+)\}")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?![\d])")

_NUMBER_WORDS = dict(
    zip("zero one two three four five six seven eight nine ten eleven twelve".split(), range(13), strict=True)
)
_FUNCTIONS: dict[str, Callable[[Expr], Expr]] = {
    name: getattr(sympy, name) for name in "sin cos tan cot sec csc sinh cosh tanh coth asin acos atan exp log".split()
} | {
    "arcsin": sympy.asin,
    "arccos": sympy.acos,
    "arctan": sympy.atan,
    "ln": sympy.log,
    "lg": lambda x: sympy.log(x, 10),
}
_INVERSES = {"sin": sympy.asin, "cos": sympy.acos, "tan": sympy.atan}
_CONSTANTS = {r"\pi": sympy.pi, r"\infty": sympy.oo, "e": sympy.E, "i": sympy.I}
_GREEK = {
    "\\" + name
    for name in (
        "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
        "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega hbar ell"
    ).split()
}
_ACCENTS = {"\\" + name for name in "hat bar vec dot ddot tilde mathcal mathbb".split()}
_COMMANDS = {"\\" + name for name in _FUNCTIONS} | {r"\pi", r"\sqrt", r"\infty"}
_WORDS = {"yes", "no", "odd", "all", "none", "sun", "mon", "tue", "wed", "thu", "fri", "sat", "red"}
_UNDONE = {r"\sum", r"\prod", r"\int", r"\iint", r"\oint", r"\lim", r"\bigcup"}
_REPLACED = {r"\cdot": "*", r"\times": "*", r"\ast": "*", r"\div": "/", r"\approx": "=", r"\ne": "!=", r"\neq": "!="}
_RELATIONS = {"=", "<", ">", "<=", ">=", "!=", r"\in"}
_SEPARATORS = {",", ";", "or", "and"}
_CLOSING = {"(": (")", "]"), "[": ("]", ")"), r"\{": (r"\}",)}


@lru_cache(maxsize=4096)
def read(text: str) -> Value:
    """Read an answer.

    Raises:
        Unreadable: the text is no value that this reader knows.
        TooLarge: the text asks for more than can be computed.
    """
    tokens = _tokens(clean(text))
    try:
        if r"\pm" in tokens or r"\mp" in tokens:
            return _both(_Reader(tokens, 1).answer(), _Reader(tokens, -1).answer())
        return _Reader(tokens, 1).answer()
    except RecursionError:
        raise Unreadable from None


def _both(plus: Value, minus: Value) -> Value:
    if isinstance(plus, Named) and isinstance(minus, Named):
        return Named(plus.name, _both(plus.value, minus.value))
    if isinstance(plus, Items) and isinstance(minus, Items) and plus.opening == "":
        return Items("", "", plus.values + minus.values)
    return Items("", "", (plus, minus))


def _tokens(text: str) -> list[str]:
    """Split a clean answer: numbers, quoted words, commands, signs, and letters one by one."""
    if not re.search(r"[(\[]|\\\{", text):  # between brackets a comma separates
        text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    text = _REPEATING.sub(_repeating, text)
    tokens: list[str] = []
    for match in _TOKEN.finditer(text):
        if letters := match["letters"]:
            tokens += _letters(letters)
        elif words := match["words"]:
            inner = words.strip('" ').lower()
            tokens += [inner if inner in _SEPARATORS else str(_NUMBER_WORDS.get(inner, f'"{inner}"'))] if inner else []
        else:
            token = match["number"] or match["other"]
            tokens.append(_REPLACED.get(token, token))
    return tokens


def _repeating(match: re.Match[str]) -> str:
    """A repeating decimal as a fraction: 0.1(6) is (16 - 1) / 90."""
    whole, once, again = match.groups()
    above = int(f"{whole}{once}{again}") - int(f"{whole}{once}" or 0)
    return rf"\frac{{{above}}}{{{(10 ** len(again) - 1) * 10 ** len(once)}}}"


def _letters(letters: str) -> list[str]:
    lower = letters.lower()
    if "\\" + letters in _COMMANDS:
        return ["\\" + letters]
    if lower in _SEPARATORS:
        return [lower]
    if lower in _NUMBER_WORDS:
        return [str(_NUMBER_WORDS[lower])]
    if len(letters) > 3 or lower in _WORDS:
        return [f'"{lower}"']
    return list(letters)


class _Reader:
    """One pass over the tokens of an answer; ``sign`` says how to take plus-minus."""

    def __init__(self, tokens: list[str], sign: int) -> None:
        self.tokens, self.sign = list(tokens), sign
        self.at = self.bars = 0

    # ------------------------------------------------------------ values

    def answer(self) -> Value:
        values = self.listing()
        if self.at < len(self.tokens) or not values:
            raise Unreadable
        return values[0] if len(values) == 1 else Items("", "", tuple(values))

    def listing(self) -> list[Value]:
        values = [self.clause()]
        while self.next() in _SEPARATORS:
            while self.next() in _SEPARATORS:
                self.at += 1
            values.append(self.clause())
        return values

    def clause(self) -> Value:
        """One value, or a chain such as ``a = b = c`` or ``1 < x <= 2``."""
        start = self.at
        parts, signs = [self.united()], list[str]()
        name = "".join(token for token in self.tokens[start : self.at] if token not in "{}")
        while self.next() in _RELATIONS:
            signs.append(self.take())
            parts.append(self.united())
        if not signs:
            return parts[0]
        if signs == [r"\in"]:
            return parts[1]
        if set(signs) == {"="}:
            return self._equation(name, parts)
        scalars = [part.expr for part in parts if isinstance(part, Scalar)]
        if len(scalars) < len(parts):
            raise Unreadable
        return _inequality(scalars, signs)

    def _equation(self, name: str, parts: list[Value]) -> Value:
        first, last = parts[0], parts[-1]
        if isinstance(first, Words) or re.fullmatch(r"\\?[A-Za-z]+(_\w+)?'?(\(\\?\w+\))?", name):
            return Named(name.strip('"'), last)
        if not all(isinstance(part, Scalar) for part in parts):
            raise Unreadable
        left, right = (part.expr for part in (first, last) if isinstance(part, Scalar))
        if left.free_symbols or right.free_symbols:
            return Relation("=", left - right)
        if left != right:  # "7 = 5" states nothing
            raise Unreadable
        return last

    def united(self) -> Value:
        parts = [self.sum()]
        while self.next() == r"\cup":
            self.at += 1
            parts.append(self.sum())
        return parts[0] if len(parts) == 1 else Union(tuple(parts))

    # ------------------------------------------------------------ arithmetic

    def sum(self) -> Value:
        value = self.product()
        while (sign := self.next()) in ("+", "-", r"\pm", r"\mp"):
            self.at += 1
            left, right = _scalar(value), _scalar(self.product())
            factor = {"+": 1, "-": -1, r"\pm": self.sign, r"\mp": -self.sign}[sign]
            value = Scalar(left.expr + factor * right.expr, left.measured or right.measured)
        return value

    def product(self) -> Value:
        value = self.signed()
        while True:
            token = self.next()
            if token in ("*", "/", ":"):
                self.at += 1
            elif not self.starts_factor():
                return value
            left, right = _scalar(value), _scalar(self.signed())
            expr = left.expr / right.expr if token in ("/", ":") else left.expr * right.expr
            value = Scalar(_finite(expr), left.measured or right.measured)

    def signed(self) -> Value:
        if (sign := self.next()) in ("+", "-", r"\pm", r"\mp"):
            self.at += 1
            value = _scalar(self.signed())
            factor = {"+": 1, "-": -1, r"\pm": self.sign, r"\mp": -self.sign}[sign]
            return Scalar(factor * value.expr, value.measured)
        return self.power()

    def power(self) -> Value:
        value = self.postfix()
        if self.next() != "^":
            return value
        self.at += 1
        base, exponent = _scalar(value), self.exponent()
        return Scalar(_power(base.expr, exponent.expr), base.measured or exponent.measured)

    def exponent(self) -> Scalar:
        if self.next() in ("+", "-"):
            return _scalar(self.signed())
        return self.braced() if self.next() == "{" else _scalar(self.power())

    def postfix(self) -> Value:
        value = self.atom()
        while (token := self.next()) in ("!", "%", "°"):
            self.at += 1
            inner = _scalar(value)
            if token == "!":
                value = Scalar(_factorial(inner.expr))
            elif token == "%":
                value = Scalar(inner.expr / 100, inner.measured)
        return value

    def starts_factor(self) -> bool:
        """Whether a factor follows without a sign between: a number never does, since "5 5" is not 25."""
        token = self.next()
        if token is None or token[0].isdigit() or token[0] in '."':
            return False
        if token == "|":
            return self.bars == 0
        return (
            token.isalpha()
            and token not in _SEPARATORS
            or token in ("(", "{", "[")
            or (
                token.startswith("\\")
                and token not in _RELATIONS | {r"\cup", r"\}", r"\{", r"\|", r"\\", r"\pm", r"\mp"}
                and not token.startswith(r"\end")
            )
        )

    # ------------------------------------------------------------ atoms

    def atom(self) -> Value:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            return self.number(token)
        if token.startswith('"'):
            return self.words(token)
        if token in _CONSTANTS:
            return Scalar(_CONSTANTS[token])
        if token.isalpha() or token in _GREEK:
            return Scalar(Symbol(token + self.subscript()))
        if token in _ACCENTS:
            return self.accented(token)
        if token in _CLOSING:
            return self.bracketed(token)
        if token == "{":
            self.at -= 1
            return self.braced()
        if token == "|":
            return self.absolute()
        if token == r"\frac":
            above, below = self.argument(), self.argument()
            return Scalar(_finite(above.expr / below.expr), above.measured or below.measured)
        if token == r"\sqrt":
            return self.root()
        if token == r"\binom":
            above, below = self.argument().expr, self.argument().expr
            if above.is_number and above > MAX_DIGITS:
                raise TooLarge
            return Scalar(sympy.binomial(above, below))
        if token[1:] in _FUNCTIONS:
            return self.function(token[1:])
        if token in (r"\emptyset", r"\varnothing"):
            return Items("{", "}", ())
        if token.startswith(r"\begin"):
            return self.matrix()
        if token in _UNDONE:
            raise TooLarge
        raise Unreadable

    def number(self, token: str) -> Scalar:
        if len(token) > 1000 or abs(int(re.split("[eE]", token)[1] if "e" in token.lower() else 0)) > 1000:
            raise TooLarge
        value, measured = Rational(token), not token.isdigit()
        if token.isdigit() and (fraction := self.mixed()) is not None:
            value += fraction
        return Scalar(value, measured)

    def mixed(self) -> Rational | None:
        """The fraction of a mixed number such as ``2 1/2`` or ``2\\frac{1}{2}``, where one follows."""
        ahead = self.tokens[self.at : self.at + 7]
        if len(ahead) >= 3 and ahead[0].isdigit() and ahead[1] == "/" and ahead[2].isdigit():
            above, below, used = ahead[0], ahead[2], 3
        elif ahead[:2] == [r"\frac", "{"] and ahead[3:5] == ["}", "{"] and ahead[6:] == ["}"]:
            above, below, used = ahead[2], ahead[5], 7
        elif ahead[:1] == [r"\frac"] and len(ahead) > 1 and ahead[1].isdigit() and len(ahead[1]) == 2:
            above, below, used = ahead[1][0], ahead[1][1], 2
        else:
            return None
        if not (above.isdigit() and below.isdigit() and int(above) < int(below)):
            return None
        self.at += used
        return Rational(int(above), int(below))

    def words(self, token: str) -> Words:
        text = [token]
        while (self.next() or "").startswith('"'):
            text.append(self.take())
        return Words(" ".join(text).replace('"', ""))

    def subscript(self) -> str:
        if self.next() != "_":
            return "'" * self.skip("'")
        self.at += 1
        if self.next() != "{":
            return "_" + self.take()
        start = self.at
        while self.take() != "}":
            pass
        return "_" + "".join(self.tokens[start + 1 : self.at - 1])

    def accented(self, token: str) -> Value:
        inner = self.take()
        if inner == "{":
            inner = self.take()
            self.expect("}")
        if token == r"\mathbb" and inner == "R":
            return Items("(", ")", (Scalar(-sympy.oo), Scalar(sympy.oo)))
        return Scalar(Symbol(f"{token} {inner}{self.subscript()}"))

    def bracketed(self, opening: str) -> Value:
        bars, self.bars = self.bars, 0
        values = [] if self.next() in _CLOSING[opening] else self.listing()
        closing = self.take()
        if closing not in _CLOSING[opening]:
            raise Unreadable
        self.bars = bars
        if len(values) == 1 and opening != r"\{":
            return values[0]
        return Items(opening[-1], closing[-1], tuple(values))

    def braced(self) -> Scalar:
        self.expect("{")
        value = _scalar(self.sum())
        self.expect("}")
        return value

    def argument(self) -> Scalar:
        """What a command applies to: a group in braces, or the single character that follows."""
        token = self.next()
        if token == "{":
            return self.braced()
        if token is not None and token.isdigit() and len(token) > 1:
            self.tokens[self.at] = token[1:]
            return Scalar(Integer(token[0]))
        return _scalar(self.atom())

    def root(self) -> Scalar:
        degree: Expr = Integer(2)
        if self.next() == "[":
            self.at += 1
            degree = _scalar(self.sum()).expr
            self.expect("]")
        inner = self.argument()
        return Scalar(_power(inner.expr, _finite(1 / degree)), inner.measured)

    def absolute(self) -> Scalar:
        self.bars += 1
        inner = _scalar(self.sum())
        self.expect("|")
        self.bars -= 1
        return Scalar(sympy.Abs(inner.expr), inner.measured)

    def function(self, name: str) -> Scalar:
        apply, power = _FUNCTIONS[name], None
        if name == "log" and self.next() == "_":
            self.at += 1
            base = self.argument().expr
            apply = lambda x: sympy.log(x, base)  # noqa: E731
        if self.next() == "^":
            self.at += 1
            power = self.exponent().expr
            if power == -1 and name in _INVERSES:
                apply, power = _INVERSES[name], None
        inner = _scalar(self.power())
        while self.starts_factor() and self.next() not in ("(", "[") and (self.next() or "")[1:] not in _FUNCTIONS:
            factor = _scalar(self.power())
            inner = Scalar(inner.expr * factor.expr, inner.measured or factor.measured)
        expr = _finite(apply(inner.expr))
        return Scalar(expr if power is None else _power(expr, power), inner.measured)

    def matrix(self) -> Matrix:
        rows: list[tuple[Value, ...]] = []
        row: list[Value] = []
        while True:
            row.append(self.sum())
            token = self.take()
            if token == "&":
                continue
            rows.append(tuple(row))
            row = []
            if token == r"\\" and not (self.next() or "").startswith(r"\end"):
                continue
            if token == r"\\":
                token = self.take()
            if not token.startswith(r"\end"):
                raise Unreadable
            return Matrix(tuple(rows))

    # ------------------------------------------------------------ tokens

    def next(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self) -> str:
        token = self.next()
        if token is None:
            raise Unreadable
        self.at += 1
        return token

    def expect(self, wanted: str) -> None:
        if self.take() != wanted:
            raise Unreadable

    def skip(self, token: str) -> int:
        start = self.at
        while self.next() == token:
            self.at += 1
        return self.at - start


def _scalar(value: Value) -> Scalar:
    if not isinstance(value, Scalar):
        raise Unreadable
    return value


def _finite(expr: Expr) -> Expr:
    if expr.has(sympy.zoo, sympy.nan):
        raise Unreadable
    return expr


def _power(base: Expr, exponent: Expr) -> Expr:
    if base.is_Add and exponent.is_Integer and abs(exponent) > 100:
        raise TooLarge
    if base.is_number and exponent.is_number and exponent.is_real and base not in (0, 1, -1):
        if abs(exponent) > 4 * MAX_DIGITS:
            raise TooLarge
        if base.is_Rational:
            digits = log10(max(abs(base.p), base.q, 2))
            if digits * float(abs(exponent)) > MAX_DIGITS or (not exponent.is_Integer and digits > 300):
                raise TooLarge
    return _finite(base**exponent)


def _factorial(expr: Expr) -> Expr:
    if expr.is_number and (not expr.is_Integer or expr > 1000):
        raise TooLarge
    return sympy.factorial(expr)


def _inequality(parts: list[Expr], signs: list[str]) -> Value:
    """An interval where a lone symbol is bounded by numbers, a relation otherwise."""
    if all(sign in (">", ">=") for sign in signs):
        parts, signs = parts[::-1], [sign.replace(">", "<") for sign in signs[::-1]]
    if len(parts) > 3 or not all(sign in ("<", "<=") for sign in signs) and signs != ["!="]:
        raise Unreadable
    if signs == ["!="]:
        return Relation("!=", parts[0] - parts[1])
    closed = [sign == "<=" for sign in signs]
    low, high = -sympy.oo, sympy.oo
    if len(parts) == 3:
        low, middle, high = parts
    elif parts[0].is_Symbol:
        middle, high = parts
        closed = [False, *closed]
    else:
        low, middle = parts
        closed = [*closed, False]
    if middle.is_Symbol and low.is_number and high.is_number:
        return Items("[" if closed[0] else "(", "]" if closed[1] else ")", (Scalar(low), Scalar(high)))
    if len(parts) == 3:
        raise Unreadable
    return Relation(signs[0], parts[0] - parts[1])
