"""Read a mathematical answer (LaTeX or plain) as a value.

A recursive-descent reader that builds sympy expressions. It evaluates no code, and refuses to compute what is too
large to write down.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from operator import add, mul, sub

import sympy
from sympy import Expr, Integer, Rational, Symbol

from dagrpo.verify import arithmetic
from dagrpo.verify.arithmetic import TooLarge, Undone
from dagrpo.verify.lexer import DIGITS, FUNCTIONS, LABEL, SEPARATORS, tokens
from dagrpo.verify.text import CHOICE, clean
from dagrpo.verify.values import (
    Choice,
    Foreign,
    Items,
    Matrix,
    Named,
    Relation,
    Scalar,
    Union,
    Unreadable,
    Value,
    Words,
    apart,
)

__all__ = ["TooLarge", "read"]

_SYMBOLS = """
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau upsilon phi
varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega hbar ell
"""
_GREEK = {"\\" + name for name in _SYMBOLS.split()}
_ACCENTS = {
    *(r"\hat", r"\bar", r"\vec", r"\dot", r"\ddot", r"\tilde", r"\mathcal", r"\mathbb"),
    *(r"\overline", r"\overrightarrow", r"\widehat", r"\overset"),
}
_FIGURES = {r"\angle", r"\triangle"}
_UNDONE = {r"\sum", r"\prod", r"\int", r"\iint", r"\oint", r"\lim", r"\bigcup"}
_SIGNS = {"+", "-", r"\pm", r"\mp"}
_RELATIONS = {"=", "<", ">", "<=", ">=", "!=", r"\in", r"\approx"}
_NO_FACTOR = {
    *_RELATIONS,
    *_SIGNS,
    r"\cup",
    r"\rfloor",
    r"\rceil",
    r"\}",
    r"\{",
    r"\|",
    r"\\",
    r"\rangle",
    r"\over",
    r"\choose",
}
_NO_FACTOR |= {r"\setminus", r"\backslash"}
_CLOSING = {"(": (")", "]"), "[": ("]", ")"), r"\{": (r"\}",), r"\langle": (r"\rangle",)}
_DEFINED = re.compile(
    rf"(?!\\(?:sqrt|binom|{'|'.join(FUNCTIONS)}|frac[^~]))"
    r"(?:~?[A-Z]+(_~?\w+)?(:~?[A-Z]+(_~?\w+)?)+"  # the ratio of two quantities
    r"|\\frac~[A-Z]{2}~[A-Z]{2}"  # or of two distances
    r"|~?\\?[A-Za-z]+(_\w+)?'?(\^-1)?(\(\\?\w+\))?"  # a symbol, a label, a function or its value at a place
    r"|\([A-Za-z](,[A-Za-z])+\)|\|[A-Z]+\||\\(angle|triangle)[A-Z]+)"  # several symbols, a length, a figure
)
"""What names a value that stands behind an equals sign. An expression of a symbol does not: it leaves the symbol
open."""
_FUNCTION_NAMES = frozenset("fgh")
_PLACES = re.compile(r"-?\d*(?:\.(\d*))?")
_PROSE = re.compile(r'"|(?<![\\A-Za-z])[A-Za-z]{4}')
_STOREYS = 3
"""No answer is a tower of more powers."""
_CLOCK = re.compile(r"\d{1,2}:0\d(:\d\d)?")


@lru_cache(maxsize=4096)
def read(text: str) -> Value:
    """Read an answer; a text with words in it that is nothing else is words.

    Raises:
        Unreadable: the text is no value that this reader knows.
        TooLarge: the text asks for more than can be computed.
    """
    text = clean(text)
    if _CLOCK.fullmatch(text):
        return Words(text)
    if choice := CHOICE.fullmatch(text):
        return Choice(choice[1], read(choice[2]))
    try:
        found = tokens(text)
        if r"\pm" in found or r"\mp" in found:
            return _both(_Reader(found, 1).answer(), _Reader(found, -1).answer())
        return _Reader(found, 1).answer()
    except (Unreadable, ValueError, RecursionError) as reason:
        if _PROSE.search(text):
            return Words(re.sub(r'["\s.,!?]+', " ", text).strip().lower())
        raise reason if isinstance(reason, Unreadable) else Unreadable from None


def _both(plus: Value, minus: Value) -> Value:
    if isinstance(plus, Items) and isinstance(minus, Items) and plus.opening == "":
        return Items("", "", plus.values + minus.values)
    return Items("", "", (plus, minus))


class _Reader:
    """One pass over the tokens of an answer; ``sign`` says how to take plus-minus."""

    def __init__(self, tokens: list[str], sign: int) -> None:
        self.tokens = list(tokens)
        self.factor = {"+": 1, "-": -1, r"\pm": sign, r"\mp": -sign}
        self.at = self.bars = self.storeys = self.turning = 0

    # ------------------------------------------------------------ values

    def answer(self) -> Value:
        values = self.listing()
        if self.at < len(self.tokens):
            raise Unreadable
        return _bare(values)

    def listing(self) -> list[Value]:
        """Values between commas and the like; tuples, where semicolons part them as well (``1, 2; 3, 4``)."""
        groups = [[self.clause()]]
        commas = False
        while self.next() in SEPARATORS:
            marks = {self.take()}
            while self.next() in SEPARATORS:
                marks.add(self.take())
            if marks == {";"}:
                groups.append([])
            commas |= marks == {","}
            groups[-1].append(self.clause())
        if commas and len(groups) > 1 and _are_alike(groups):
            return [_as_tuple(group) for group in groups]
        return [value for group in groups for value in group]

    def clause(self) -> Value:
        """One value, or a chain such as ``a = b = c`` or ``1 < x <= 2``."""
        start = self.at
        parts, signs = [self.union()], list[str]()
        name = "".join(token for token in self.tokens[start : self.at] if token not in "{}")
        while self.next() in _RELATIONS:
            signs.append(self.take())
            parts.append(self.union())
        if r"\approx" in signs:
            parts, signs = _without_rounding(name, parts, signs)
        if not signs:
            return parts[0]
        if signs == [r"\in"]:
            return Named(name, parts[1]) if _DEFINED.fullmatch(name) else parts[1]
        if set(signs) == {"="}:
            return _equation(name, parts, self.text(start))
        return _inequality([_scalar(part) for part in parts], signs, self.text(start))

    def union(self) -> Value:
        parts = [self.ratio()]
        while self.next() in (r"\cup", r"\setminus", r"\backslash"):
            if self.take() == r"\cup":
                parts.append(self.ratio())
            else:
                parts[-1:] = _without_points(parts[-1], self.ratio())
        return parts[0] if len(parts) == 1 else Union(tuple(parts))

    def ratio(self) -> Value:
        parts = [self.worded()]
        while self.next() == ":":
            self.at += 1
            parts.append(self.worded())
        if len(parts) == 1:
            return parts[0]
        if any(_scalar(part).expr == 0 for part in parts):
            raise Unreadable  # 0:1 is no 0:3
        return Items(":", ":", tuple(map(_scalar, parts)))

    def worded(self) -> Value:
        """A sum that knows its text."""
        start = self.at
        value = self.sum()
        return replace(value, text=self.text(start)) if isinstance(value, Scalar) else value

    def text(self, start: int) -> str:
        """What was read from a token on, in TeX."""
        taken = "".join(_spaced(token, self.factor) for token in self.tokens[start : self.at])
        return taken.strip()

    # ------------------------------------------------------------ arithmetic

    def sum(self) -> Value:
        value = self.product()
        while (sign := self.next()) in self.factor:
            self.at += 1
            value = _combine(add if self.factor[sign] == 1 else sub, value, self.product())
        if self.next() in (r"\over", r"\choose"):
            operation = _divide if self.take() == r"\over" else arithmetic.binomial
            value = _apply(operation, value, self.sum())
        return value

    def product(self) -> Value:
        value = self.signed()
        while True:
            sign = self.next()
            if sign in ("*", "/"):
                self.at += 1
            elif not self.starts_factor():
                return value
            value = _combine(_divide if sign == "/" else mul, value, self.signed())

    def signed(self) -> Value:
        if (sign := self.next()) not in self.factor:
            return self.power()
        self.at += 1
        return _combine(mul, Scalar(Integer(self.factor[sign])), self.signed())

    def power(self) -> Value:
        value = self.postfix()
        if self.next() != "^":
            return value
        self.at += 1
        self.storeys += 1
        if self.storeys > _STOREYS:
            raise TooLarge
        value = _apply(arithmetic.power, value, self.exponent())
        self.storeys -= 1
        return value

    def exponent(self) -> Value:
        return self.braced() if self.next() == "{" else self.signed()

    def postfix(self) -> Value:
        value = self.atom()
        while (sign := self.next()) in ("!", "%", "°"):
            self.at += 1
            if sign == "!" and self.next() == "!":
                self.at += 1
                value = _apply(arithmetic.double_factorial, value)
            elif sign == "!":
                value = _apply(arithmetic.factorial, value)
            elif sign == "%":
                value = _apply(_divide, value, Scalar(Integer(100)))
            elif self.turning:
                value = _apply(mul, value, Scalar(sympy.pi / 180))
        return value

    def starts_factor(self) -> bool:
        """Whether a factor follows without a sign between. A number does after a bracket only: "5 5" is not 25."""
        token = self.next()
        if token is not None and token[0] in DIGITS:
            return self.tokens[self.at - 1] == ")"
        if token is None or token in SEPARATORS or token in _NO_FACTOR or token.startswith(r"\end"):
            return False
        if token == "|":
            return self.bars == 0
        return token.isalpha() or token in ("(", "{", "[") or token.startswith("\\")

    # ------------------------------------------------------------ atoms

    def atom(self) -> Value:
        token = self.take()
        if token[0] in DIGITS or (token[0] == "." and len(token) > 1):
            return self.number(token)
        if token in arithmetic.CONSTANTS:
            return Scalar(arithmetic.CONSTANTS[token])
        if token.isalpha() or token in _GREEK:
            return Scalar(Symbol(token + self.subscript() + self.place()))
        if token.startswith(LABEL):
            return _label(token.removeprefix(LABEL))
        if token in _FIGURES:
            while (self.next() or "").isalpha():
                token += self.take() + self.subscript()
            return Scalar(Symbol(token))
        if token in _CLOSING:
            return self.bracketed(token)
        if token.startswith('"'):
            return self.words(token)
        if token[1:] in FUNCTIONS:
            return self.function(token[1:])
        if token.startswith((r"\begin{vm", r"\begin{Vm")):
            raise Unreadable  # a determinant or a norm
        if token.startswith(r"\begin"):
            return self.matrix()
        if token in _ACCENTS:
            return self.accented(token)
        if token in _UNDONE:
            raise Undone
        match token:
            case "{":
                return self.group()
            case "|":
                return self.absolute()
            case r"\lfloor" | r"\lceil":
                inner = self.sum()
                self.expect(token.replace("l", "r", 1))
                return _apply(sympy.floor if "floor" in token else sympy.ceiling, inner)
            case r"\frac":
                return _apply(_divide, self.argument(), self.argument())
            case r"\sqrt":
                return self.root()
            case r"\binom":
                return _apply(arithmetic.binomial, self.argument(), self.argument())
            case r"\ldots" | r"\cdots" | r"\dots":
                return Scalar(Symbol(r"\ldots"))
            case r"\emptyset" | r"\varnothing":
                return Items("{", "}", ())
        raise Foreign if token.startswith("\\") else Unreadable

    def number(self, token: str) -> Value:
        whole = set(token) <= DIGITS
        value = arithmetic.literal(token)
        value = Scalar(value, _spread(token, value))
        return _apply(add, value, Scalar(self.mixed())) if whole else value

    def mixed(self) -> Rational:
        """The fraction of a mixed number such as ``2 1/2`` or ``2\\frac{1}{2}``; zero where none follows."""
        ahead = " ".join(self.tokens[self.at : self.at + 7])
        match = re.match(r"(?a)(\d+) / (\d+)|\\frac { (\d+) } { (\d+) }|\\frac (\d)(\d)(?!\d)", ahead)
        above, below = (int(part) for part in match.groups() if part is not None) if match else (0, 1)
        if not 0 < above < below:
            if match and "frac" in match[0]:
                raise Unreadable  # 1 5/3 is neither a mixed number nor a product that anybody writes
            return Integer(0)
        assert match is not None
        self.at += match[0].count(" ") + 1
        return Rational(above, below)

    def words(self, token: str) -> Words:
        text = [token]
        while (self.next() or "").startswith('"'):
            text.append(self.take())
        return Words(" ".join(text).replace('"', ""))

    def place(self) -> str:
        """Where a function is taken, as in ``f(0)``."""
        ahead = self.tokens[self.at : self.at + 3]
        is_place = len(ahead) == 3 and ahead[0] == "(" and ahead[1][0] in DIGITS and ahead[2] == ")"
        if is_place:
            self.at += 3
            return "".join(ahead)
        if self.tokens[self.at - 1] not in _FUNCTION_NAMES or self.next() != "(":
            return ""
        self.at += 1
        places = self.listing()
        self.expect(")")
        return f"({', '.join(str(_scalar(place).expr) for place in places)})"

    def subscript(self) -> str:
        if self.next() == "'":
            return self.take()
        if self.next() != "_":
            return ""
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
            inner = ""
            while (part := self.take()) != "}":
                inner += part.removeprefix(LABEL)
        if token == r"\mathbb" and inner == "R":
            return Items("(", ")", (Scalar(-sympy.oo), Scalar(sympy.oo)))
        return Scalar(Symbol(f"{token} {inner}{self.subscript()}"))

    def bracketed(self, opening: str) -> Value:
        bars, self.bars = self.bars, 0
        if opening == r"\{" and self.tokens[self.at : self.at + 2][1:] in (["|"], [":"]) and self.take().isalpha():
            self.at += 1  # the set of x with a property is the property
            value = self.clause()
            self.expect(r"\}")
            return value
        values = [] if self.next() in _CLOSING[opening] else self.listing()
        closing = self.take()
        if closing not in _CLOSING[opening]:
            raise Unreadable
        self.bars = bars
        if len(values) != 2 and closing != _CLOSING[opening][0]:
            raise Unreadable  # only an interval has two kinds of ends
        if len(values) == 1 and opening != r"\{":
            return values[0]
        if opening == r"\langle":
            opening, closing = "()"
        return Items(opening[-1], closing[-1], tuple(values))

    def group(self) -> Value:
        """What stands between braces, which TeX does not show: one value, or a bare list."""
        values = self.listing()
        self.expect("}")
        return _bare(values)

    def braced(self) -> Value:
        self.expect("{")
        value = self.sum()
        self.expect("}")
        return value

    def argument(self) -> Value:
        """What a command applies to: a group in braces, or the single character that follows."""
        token = self.next()
        if token is not None and len(token) > 1 and set(token) <= DIGITS:
            self.tokens[self.at] = token[1:]
            return Scalar(Integer(token[0]))
        return self.braced() if token == "{" else self.atom()

    def root(self) -> Value:
        degree: Value = Scalar(Integer(2))
        if self.next() == "[":
            self.at += 1
            degree = self.sum()
            self.expect("]")
        return _apply(lambda inner, n: arithmetic.power(inner, _divide(1, n)), self.argument(), degree)

    def absolute(self) -> Value:
        self.bars += 1
        inner = self.sum()
        self.expect("|")
        self.bars -= 1
        return _apply(sympy.Abs, inner)

    def function(self, name: str) -> Value:
        apply, exponent = arithmetic.function(name), None
        base = None
        if name == "log" and self.next() == "_":
            self.at += 1
            base = self.argument()
        if self.next() == "^":
            self.at += 1
            exponent = _scalar(self.exponent())
            if exponent.expr == -1 and name in arithmetic.INVERSES:
                apply, exponent = arithmetic.INVERSES[name], None
        self.turning += 1
        inner = self.power()
        while self.starts_factor() and self.next() not in ("(", "[") and self.tokens[self.at][1:] not in FUNCTIONS:
            inner = _apply(mul, inner, self.power())
        self.turning -= 1
        value = _apply(apply, inner) if base is None else _apply(apply, inner, base)
        return value if exponent is None else _apply(arithmetic.power, value, exponent)

    def matrix(self) -> Matrix:
        rows: list[tuple[Value, ...]] = []
        while not rows or not (self.next() or "").startswith(r"\end"):
            row = [self.worded()]
            while self.next() == "&":
                self.at += 1
                row.append(self.worded())
            rows.append(tuple(row))
            if self.next() == r"\\":
                self.at += 1
            elif not (self.next() or "").startswith(r"\end"):
                raise Unreadable
        self.at += 1
        return Matrix(tuple(rows))

    # ------------------------------------------------------------ tokens

    def next(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self) -> str:
        if self.at >= len(self.tokens):
            raise Unreadable
        self.at += 1
        return self.tokens[self.at - 1]

    def expect(self, wanted: str) -> None:
        if self.take() != wanted:
            raise Unreadable


def _spaced(token: str, factor: dict[str, int]) -> str:
    if token in (r"\pm", r"\mp"):
        token = "+" if factor[token] == 1 else "-"
    if token.startswith('"'):
        return rf"\text{{{token[1:-1]}}}"
    return f" {token} " if token.isalnum() or token[0] in "\\." else token.removeprefix(LABEL)


def _apply(operation: Callable[..., Expr], *values: Value) -> Scalar:
    """Combine scalars; the result lies as far from what was meant as the worst of them."""
    scalars = [_scalar(value) for value in values]
    expr = operation(*(scalar.expr for scalar in scalars))
    return Scalar(arithmetic.finite(expr), max(scalar.spread for scalar in scalars))


def _combine(operation: Callable[..., Expr], left: Value, right: Value) -> Value:
    """Combine scalars or matrices."""
    if not (isinstance(left, Matrix) or isinstance(right, Matrix)):
        return _apply(operation, left, right)
    shapes = [(len(x.rows), len(x.rows[0])) if isinstance(x, Matrix) else None for x in (left, right)]
    matrices = [_sympy_matrix(x) if isinstance(x, Matrix) else _scalar(x).expr for x in (left, right)]
    fits = (
        shapes[0] == shapes[1]
        if operation in (add, sub)
        else None in shapes
        or (operation is mul and shapes[0] is not None and shapes[1] is not None and shapes[0][1] == shapes[1][0])
    )
    if not fits or (operation is _divide and shapes[1] is not None):
        raise Unreadable
    result = matrices[0] / matrices[1] if operation is _divide else operation(*matrices)
    return Matrix(tuple(tuple(Scalar(x, text=sympy.latex(x)) for x in result.row(i)) for i in range(result.rows)))


def _sympy_matrix(matrix: Matrix) -> sympy.Matrix:
    if len({len(row) for row in matrix.rows}) > 1:
        raise Unreadable
    return sympy.Matrix([[_scalar(entry).expr for entry in row] for row in matrix.rows])


def _are_alike(groups: list[list[Value]]) -> bool:
    """Whether groups have the same names, each once, or none, and as many parts."""
    names = [tuple(value.name for value in group if isinstance(value, Named)) for group in groups]
    is_named = len(names[0]) == len(set(names[0])) == len(groups[0])
    return len({(len(group), name) for group, name in zip(groups, names, strict=True)}) == 1 and (
        is_named or not names[0]
    )


def _bare(values: list[Value]) -> Value:
    """One value, or a bare list; a name in front of the first alone is that of all (``x = 1, 2``)."""
    first, *others = values
    if not others:
        return first
    if isinstance(first, Named) and not any(isinstance(value, Named | Relation) for value in others):
        return Named(first.name, Items("", "", (first.value, *others)))
    return Items("", "", tuple(values))


def _as_tuple(group: list[Value]) -> Value:
    """A group between semicolons; names, which say what each part is, aside."""
    values = tuple(value.value if isinstance(value, Named) else value for value in group)
    return values[0] if len(values) == 1 else Items("(", ")", values)


def _without_points(line: Value, points: Value) -> list[Value]:
    """The intervals that are left of the real line without some of its points."""
    whole = Items("(", ")", (Scalar(-sympy.oo), Scalar(sympy.oo)))
    if line != whole or not isinstance(points, Items) or points.opening != "{" or not points.values:
        raise Unreadable
    numbers = sorted({_scalar(point).expr for point in points.values}, key=_order)
    ends = [-sympy.oo, *numbers, sympy.oo]
    return [Items("(", ")", (Scalar(low), Scalar(high)), is_interval=True) for low, high in pairwise(ends)]


def _order(number: Expr) -> float:
    if not (number.is_number and number.is_real):
        raise Unreadable
    return float(number)


def _solved(parts: list[Scalar], signs: list[str]) -> tuple[list[Scalar], list[str]]:
    """An inequality that is linear in one symbol, solved for it: ``-x > -1`` is ``x < 1``."""
    if len(parts) != 2 or any(part.expr.is_Symbol for part in parts):
        return parts, signs
    gap = sympy.expand(parts[0].expr - parts[1].expr)
    if len(gap.free_symbols) != 1:
        return parts, signs
    (symbol,) = gap.free_symbols
    slope = gap.coeff(symbol, 1)
    bound = sympy.expand(slope * symbol - gap)
    if not (slope.is_real and slope != 0 and bound.is_number):
        return parts, signs
    sides = [Scalar(symbol, text=symbol.name), Scalar(bound / slope, text=sympy.latex(bound / slope))]
    return (sides if slope > 0 else sides[::-1]), signs


def _absolute(parts: list[Scalar], signs: list[str]) -> Named | None:
    """Where the absolute value of a symbol is bounded by numbers, the two sides of zero."""
    middle = next((at for at, part in enumerate(parts) if isinstance(part.expr, sympy.Abs)), None)
    if middle is None or not parts[middle].expr.args[0].is_Symbol:
        return None
    bounds = [part.expr for at, part in enumerate(parts) if at != middle]
    if not all(bound.is_number and bound.is_real and bound >= 0 for bound in bounds):
        return None
    low, near = (parts[0].expr, signs[0]) if middle else (None, "")
    high, far = (parts[-1].expr, signs[-1]) if middle < len(parts) - 1 else (sympy.oo, "<")
    outer = ("[", "]") if far == "<=" else ("(", ")")
    name = parts[middle].expr.args[0].name
    if low is None:
        return Named(name, Items(*outer, (Scalar(-high), Scalar(high)), is_interval=True))
    inner = ("]", "[") if near == "<=" else (")", "(")
    sides = (
        Items(outer[0], inner[0], (Scalar(-high), Scalar(-low)), is_interval=True),
        Items(inner[1], outer[1], (Scalar(low), Scalar(high)), is_interval=True),
    )
    return Named(name, Union(sides))


def _scalar(value: Value) -> Scalar:
    if isinstance(value, Words) and value.product is not None:
        return value.product
    if not isinstance(value, Scalar):
        raise Unreadable
    return value


def _spread(token: str, value: Expr) -> Rational:
    """One unit of the last place of a decimal of six digits or more, relative to it; else zero."""
    mantissa, _, exponent = token.lower().partition("e")
    whole, _, places = mantissa.partition(".")
    if not places or len((whole + places).lstrip("0")) < 6:
        return sympy.S.Zero
    return abs(Rational(10) ** (int(exponent or 0) - len(places)) / value)


def _label(letters: str) -> Words:
    different = len(set(letters)) == len(letters) <= 3
    product = sympy.Mul(*map(Symbol, letters)) if different else None
    return Words(letters.lower(), None if product is None else Scalar(product, text=" ".join(letters)))


def _divide(above: Expr, below: Expr) -> Expr:
    if below == 0:
        raise Unreadable
    return above / below


def _without_rounding(name: str, parts: list[Value], signs: list[str]) -> tuple[list[Value], list[str]]:
    """Of ``a = b \\approx c`` what stands before the sign, if c is near; of ``x \\approx c`` a value under a name."""
    at = signs.index(r"\approx")
    if at == 0 and (isinstance(parts[0], Words) or _DEFINED.fullmatch(name)):
        return parts[:2], ["="]
    left, right = (_scalar(part).expr for part in parts[at : at + 2])
    if len(signs) > at + 1 or not (left.is_number and right.is_number):
        raise Unreadable
    places = _PLACES.fullmatch(_scalar(parts[at + 1]).text.replace(" ", ""))
    # Within a unit of the last place of a decimal; of any other expression, within a hundredth.
    allowed = Rational(1, 10 ** len(places[1] or "")) if places else abs(left).evalf(15, maxn=100) / 100
    if not abs(left - right).evalf(15, maxn=100) <= allowed:
        raise Unreadable
    return parts[: at + 1], signs[:at]


def _equation(name: str, parts: list[Value], text: str) -> Value:
    first, last = parts[0], parts[-1]
    if isinstance(first, Words) and isinstance(last, Words):
        return Relation("=", Symbol(first.text) - Symbol(last.text), text)
    if isinstance(first, Words) or _DEFINED.fullmatch(name):
        return Named(name.strip('"~'), last)
    if all(apart(first, part, lambda *_: True) is None for part in parts[1:]):  # one value, written in several ways
        return last
    left, right = _scalar(first).expr, _scalar(last).expr
    if not (left.free_symbols or right.free_symbols):
        raise Unreadable  # "7 = 5" states nothing
    return Relation("=", left - right, text)


def _inequality(parts: list[Scalar], signs: list[str], text: str) -> Value:
    """An interval where a lone symbol is bounded by numbers, a relation otherwise."""
    if all(sign in (">", ">=") for sign in signs):
        parts, signs = parts[::-1], [sign.replace(">", "<") for sign in signs[::-1]]
    if signs == ["!="]:
        name, hole = sorted(parts, key=lambda part: bool(part.expr.is_number))
        if name.expr.is_Symbol and hole.expr.is_number:
            sides = Items("(", ")", (Scalar(-sympy.oo), hole)), Items("(", ")", (hole, Scalar(sympy.oo)))
            return Named(str(name.expr), Union(sides))
        return Relation("!=", parts[0].expr - parts[1].expr, text)
    if len(parts) > 3 or not all(sign in ("<", "<=") for sign in signs):
        raise Unreadable
    parts, signs = _solved(parts, signs)
    if (bounded := _absolute(parts, signs)) is not None:
        return bounded
    low, high, opening, closing = Scalar(-sympy.oo), Scalar(sympy.oo), "(", ")"
    middle = 0 if parts[0].expr.is_Symbol else 1
    if middle == 1:
        low, opening = parts[0], "[" if signs[0] == "<=" else "("
    if middle < len(parts) - 1:
        high, closing = parts[-1], "]" if signs[-1] == "<=" else ")"
    if parts[middle].expr.is_Symbol and low.expr.is_number and high.expr.is_number:
        return Named(str(parts[middle].expr), Items(opening, closing, (low, high), is_interval=True))
    relations = tuple(
        Relation(sign, left.expr - right.expr, text if len(signs) == 1 else f"{left.text}{sign}{right.text}")
        for left, sign, right in zip(parts, signs, parts[1:], strict=False)
    )
    return relations[0] if len(relations) == 1 else Items("", "", relations)
