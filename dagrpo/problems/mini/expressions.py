"""Questions as expression trees, and the steps by which a tree may be reduced to its value.

One generator, :func:`moves`, says which steps are open at any moment; its first move is the taught one. Worked
solutions are written by always taking the first, and responses are checked by looking for theirs among all. So a
step counts only if it is true *and* does something for this question.
"""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import combinations

_INFIX = {"+", "-", "*", "/"}
_COMMUTING = {"+", "*", "min", "max"}
_STEP = re.compile(
    r"([0-9]{1,9})([+\-*/])([0-9]{1,9})=([0-9]{1,9})|(min|max)\(([0-9]{1,9}(?:,[0-9]{1,9})+)\)=([0-9]{1,9})"
)


@dataclass(frozen=True, slots=True)
class Sum:
    """Signed terms: ``a-b+c`` is ``((1, a), (-1, b), (1, c))``."""

    terms: "Terms"


@dataclass(frozen=True, slots=True)
class Call:
    """``*``, ``/`` (exact), ``%``, ``gcd``, ``max``, ``sort``, or ``count`` (how many of the rest exceed the first)."""

    name: str
    args: tuple["Tree", ...]


Tree = int | Sum | Call
Terms = tuple[tuple[int, Tree], ...]


@dataclass(frozen=True, slots=True)
class Move:
    """One open step: its operation and operands, its true result, and the tree that a given result leads to."""

    name: str
    operands: tuple[int, ...]
    result: int
    then: Callable[[int], Tree]

    def text(self, result: int | None = None) -> str:
        """Write the step as ``lhs=rhs``, with another result than the true one where given."""
        parts = [str(operand) for operand in self.operands]
        lhs = self.name.join(parts) if self.name in _INFIX else f"{self.name}({','.join(parts)})"
        return f"{lhs}={self.result if result is None else result}"


@lru_cache(maxsize=8192)
def parse(question: str) -> Tree:
    """Read a question; an equation in ``x`` becomes the expression that solves it.

    Raises:
        ValueError: where the text is not one of ours.
    """
    left, equals, right = question.partition("=")
    tree = _solved(side(left), side(right)) if equals else side(left)
    if _has_x(tree):
        raise ValueError(f"x is not given: {question!r}")
    return tree


def side(text: str) -> Tree:
    """Read an expression, or one side of an equation, as it stands. Raises ``ValueError`` like :func:`parse`."""
    try:
        return _tree(ast.parse(text, mode="eval").body)
    except SyntaxError:
        raise ValueError(f"not a question of the miniature: {text!r}") from None


def moves(tree: Tree) -> Iterator[Move]:
    """Yield every open step, the taught one first: innermost and leftmost."""
    match tree:
        case Sum(terms):
            for i, (_, term) in enumerate(terms):
                yield from _within(term, partial(_with_term, terms, i))
            yield from _pairs(terms)
        case Call(name, args):
            for i, arg in enumerate(args):
                yield from _within(arg, partial(_with_arg, name, args, i))
            numbers = tuple(arg for arg in args if isinstance(arg, int))
            if len(numbers) == len(args):
                yield from _RULES[name](numbers)


def solve(tree: Tree) -> tuple[list[Move], str] | None:
    """Take the taught steps to the end: the steps and the answer; ``None`` where they lead out of the whole numbers."""
    steps: list[Move] = []
    here = tree
    while (move := next(moves(here), None)) is not None:
        steps.append(move)
        here = move.then(move.result)
    if isinstance(here, int):
        return steps, str(here)
    if not isinstance(tree, Call) or tree.name not in ("sort", "count"):
        return None
    values = [value for value in tree.args if isinstance(value, int)]
    if tree.name == "sort":
        return steps, ",".join(str(value) for value in sorted(values))
    return steps, str(sum(value > values[0] for value in values[1:]))


def evaluate(tree: Tree, x: int) -> int:
    """Compute one side of an equation at a known ``x``; it may hold sums and products."""
    match tree:
        case Sum(terms):
            return sum(sign * evaluate(term, x) for sign, term in terms)
        case Call("x", ()):
            return x
        case Call("*", (a, b)):
            return evaluate(a, x) * evaluate(b, x)
        case int():
            return tree
    raise ValueError(f"no side of an equation: {tree}")


def canonical(tree: Tree) -> str:
    """Write a tree so that reordered operands give the same text."""
    match tree:
        case Sum(terms):
            return "sum(" + ",".join(sorted(f"{sign:+d}{canonical(term)}" for sign, term in terms)) + ")"
        case Call(name, args):
            parts = [canonical(arg) for arg in args]
            fixed = {"/": 2, "%": 2, "count": 1}.get(name, 0)
            return f"{name}({','.join(parts[:fixed] + sorted(parts[fixed:]))})"
    return str(tree)


def normal(step: str) -> str | None:
    """Bring a written step into one form whatever the order of its operands; ``None`` where it is no step."""
    found = _STEP.fullmatch(step)
    if found is None:
        return None
    left, infix, right, result, function, operands, value = found.groups()
    numbers = [int(left), int(right)] if infix else [int(part) for part in operands.split(",")]
    name = infix or function
    if name in _COMMUTING:
        numbers.sort()
    return f"{name}{numbers}={int(result or value)}"


def _within(part: Tree, rebuild: Callable[[Tree], Tree]) -> Iterator[Move]:
    """The steps inside a part, each leading to the whole tree again."""
    if not isinstance(part, int):
        for move in moves(part):
            yield Move(move.name, move.operands, move.result, partial(_rebuilt, rebuild, move.then))


def _rebuilt(rebuild: Callable[[Tree], Tree], then: Callable[[int], Tree], value: int) -> Tree:
    return rebuild(then(value))


def _with_term(terms: Terms, i: int, new: Tree) -> Tree:
    return _sum((*terms[:i], (terms[i][0], new), *terms[i + 1 :]))


def _with_arg(name: str, args: tuple[Tree, ...], i: int, new: Tree) -> Tree:
    return _call(name, (*args[:i], new, *args[i + 1 :]))


def _pairs(terms: Terms) -> Iterator[Move]:
    numbers = [(i, sign, term) for i, (sign, term) in enumerate(terms) if isinstance(term, int)]
    for (i, sign, a), (j, other, b) in combinations(numbers, 2):
        if sign == other:
            yield Move("+", (a, b), a + b, partial(_merged, terms, i, j, sign))
        else:
            plus, minus = (a, b) if sign > 0 else (b, a)
            if plus >= minus:
                yield Move("-", (plus, minus), plus - minus, partial(_merged, terms, i, j, 1))


def _merged(terms: Terms, i: int, j: int, sign: int, value: int) -> Tree:
    return _sum((*terms[:i], (sign, value), *terms[i + 1 : j], *terms[j + 1 :]))


def _product(args: tuple[int, ...]) -> Iterator[Move]:
    a, b = args
    for factor, other in ((a, b), (b, a)):
        tens, units = factor // 10 * 10, factor % 10
        if tens and units:
            yield Move("*", (tens, other), tens * other, partial(_beside, units, other))
            yield Move("*", (units, other), units * other, partial(_beside, tens, other))
    yield Move("*", (a, b), a * b, _value)


def _beside(factor: int, other: int, value: int) -> Tree:
    return _sum(((1, value), (1, _call("*", (factor, other)))))


def _value(value: int) -> Tree:
    return value


def _quotient(args: tuple[int, ...]) -> Iterator[Move]:
    a, b = args
    if b and a % b == 0:
        yield Move("/", (a, b), a // b, _value)


def _remainder(args: tuple[int, ...]) -> Iterator[Move]:
    a, b = args
    if 0 < b <= a:
        yield Move("-", (a, b), a - b, partial(_with_arg, "%", args, 0))


def _common_divisor(args: tuple[int, ...]) -> Iterator[Move]:
    small, large = sorted(args)
    if 0 < small < large:
        yield Move("-", (large, small), large - small, partial(_with_arg, "gcd", args, args.index(large)))


def _maximum(args: tuple[int, ...]) -> Iterator[Move]:
    for (i, a), (j, b) in combinations(enumerate(args), 2):
        rest = (*args[:i], *args[i + 1 : j], *args[j + 1 :])
        yield Move("max", (a, b), max(a, b), partial(_with_arg, "max", (0, *rest), 0))


def _sorting(args: tuple[int, ...]) -> Iterator[Move]:
    if len(args) > 1:
        yield Move("min", args, min(args), partial(_without, "sort", args, args.index(min(args))))


def _counting(args: tuple[int, ...]) -> Iterator[Move]:
    for i, value in enumerate(args[1:], start=1):
        yield Move("max", (args[0], value), max(args[0], value), partial(_without, "count", args, i))


def _without(name: str, args: tuple[int, ...], i: int, _value: int) -> Tree:
    return Call(name, args[:i] + args[i + 1 :])


_RULES: dict[str, Callable[[tuple[int, ...]], Iterator[Move]]] = {
    "*": _product,
    "/": _quotient,
    "%": _remainder,
    "gcd": _common_divisor,
    "max": _maximum,
    "sort": _sorting,
    "count": _counting,
}


def _sum(terms: Terms) -> Tree:
    """A sum, or its only term; a sum on the left opens into the terms around it."""
    if terms and terms[0][0] > 0 and isinstance(terms[0][1], Sum):
        terms = terms[0][1].terms + terms[1:]
    return terms[0][1] if len(terms) == 1 and terms[0][0] > 0 else Sum(terms)


def _call(name: str, args: tuple[Tree, ...]) -> Tree:
    """A call, or its value where no step is left to take."""
    match name, args:
        case ("max", (only,)):
            return only
        case ("gcd", (int() as a, int() as b)) if a == b:
            return a
        case ("%", (int() as a, int() as b)) if 0 <= a < b:
            return a
    return Call(name, args)


_X = Call("x", ())
_OPERATORS: dict[type[ast.operator], str] = {ast.Mult: "*", ast.Div: "/", ast.Mod: "%"}


def _tree(node: ast.expr) -> Tree:
    match node:
        case ast.Constant(value=int(number)):
            return number
        case ast.Name(id="x"):
            return _X
        case ast.BinOp(left, ast.Add(), right):
            return _sum(((1, _tree(left)), (1, _tree(right))))
        case ast.BinOp(left, ast.Sub(), right):
            return _sum(((1, _tree(left)), (-1, _tree(right))))
        case ast.BinOp(left, operator, right) if type(operator) in _OPERATORS:
            return _call(_OPERATORS[type(operator)], (_tree(left), _tree(right)))
        case ast.Call(func=ast.Name(id=name), args=args) if name in _RULES:
            return _call(name, tuple(_tree(arg) for arg in args))
    raise ValueError(f"not a question of the miniature: {ast.unparse(node)!r}")


def _has_x(tree: Tree) -> bool:
    match tree:
        case Sum(terms):
            return any(_has_x(term) for _, term in terms)
        case Call(_, args):
            return tree == _X or any(_has_x(arg) for arg in args)
    return False


def _solved(left: Tree, right: Tree) -> Tree:
    """Peel operations off the side that holds x until x stands alone."""
    if _has_x(right):
        left, right = _gathered(left, right)
    while left != _X:
        match left:
            case Sum(terms):
                held = [term for sign, term in terms if sign > 0 and _has_x(term)]
                moved = tuple((-sign, term) for sign, term in terms if not _has_x(term))
                if len(held) != 1 or len(moved) != len(terms) - 1:
                    raise ValueError("x must stand in one term, with a plus")
                left, right = held[0], _sum(((1, right), *moved))
            case Call("*", (factor, inner)) if _has_x(inner) and not _has_x(factor):
                left, right = inner, _call("/", (right, factor))
            case Call("/", (inner, divisor)) if _has_x(inner) and not _has_x(divisor):
                left, right = inner, _call("*", (right, divisor))
            case _:
                raise ValueError("x is out of reach")
    return right


def _gathered(left: Tree, right: Tree) -> tuple[Tree, Tree]:
    """Turn ``a*x+b=c*x+d`` into ``(a-c)*x=d-b``."""
    match left, right:
        case (
            Sum(((1, Call("*", (a, x))), (left_sign, b))),
            Sum(((1, Call("*", (c, y))), (right_sign, d))),
        ) if x == y == _X and right_sign > 0:
            return _call("*", (_sum(((1, a), (-1, c))), _X)), _sum(((1, d), (-left_sign, b)))
    raise ValueError("x on both sides must read a*x+b=c*x+d")
