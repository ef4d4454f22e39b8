"""Six mathematical families and three out of distribution, each at four levels of difficulty.

A level is a number of worked steps: 1-2, 3, 4 and 5-6 in the mathematical families, the length of a list in the
others. No question is a single arithmetic fact, so facts may be taught without giving a question away.
"""

from collections.abc import Callable, Iterator

import numpy as np

from dagrpo import seeds
from dagrpo.config import MiniProblems
from dagrpo.errors import UserError
from dagrpo.problems.mini.expressions import canonical, evaluate, parse, side, solve
from dagrpo.records import Problem

FAMILIES = ("sums", "products", "divisors", "remainders", "equations", "brackets")
OUT_OF_DISTRIBUTION = ("maximum", "sorting", "counting")
LEVELS = (0, 1, 2, 3)
LARGEST = 60  # no number in a question or a worked solution is larger
_STEPS = ((1, 2), (3, 3), (4, 4), (5, 6))
_HELD_OUT = {"evaluation": 0.1, "development": 0.2}  # upper ends of their shares of all questions
_TRIES = 20_000

Draw = Callable[[np.random.Generator, int], str | None]  # None: out of range, draw again


def split_of(question: str) -> str:
    """Say whether a question is for ``train``, ``evaluation`` or ``development``.

    The content decides, whatever the seed, the family and the order of operands: no question can be in two.
    """
    place = seeds.key("split", canonical(parse(question))) / 2**64
    return next((split for split, end in _HELD_OUT.items() if place < end), "train")


def draw(family: str, level: int, rng: np.random.Generator) -> Problem:
    """Draw one problem of a family and level; all of its numbers lie in 0..:data:`LARGEST`."""
    while True:
        question = _DRAWS[family](rng, level)
        solved = solve(parse(question)) if question else None
        if question is None or solved is None:
            continue
        steps, answer = solved
        sound = all(0 <= value <= LARGEST for move in steps for value in (*move.operands, move.result))
        if sound and (family in OUT_OF_DISTRIBUTION or _STEPS[level][0] <= len(steps) <= _STEPS[level][1]):
            working = "".join(f"{move.text()};" for move in steps)
            return Problem(f"{family}-{level}-{question}", family, question, answer, f"{working}A{answer}", level)


def stream(family: str, level: int, *purpose: int | str) -> Iterator[Problem]:
    """Yield problems without end, of all splits, some more than once; the purpose keys the draws."""
    rng = seeds.generator(*purpose, family, level)
    while True:
        yield draw(family, level, rng)


def generate(spec: MiniProblems) -> dict[str, list[Problem]]:
    """Make the problems ``train``, ``evaluation`` and ``development``, in which no question occurs twice.

    Training problems are of the mathematical families, mixed by level as the spec weighs them and in random order;
    the other two have ``spec.evaluation`` problems of every family, spread evenly over the levels.

    Raises:
        UserError: where a family does not have as many distinct questions as asked for.
    """
    weights = np.array([spec.level_weights[level] for level in LEVELS for _ in FAMILIES])
    train = _apportion(spec.train, weights).reshape(len(LEVELS), len(FAMILIES))
    even = _apportion(spec.evaluation, np.ones(len(LEVELS)))
    sets: dict[str, list[Problem]] = {"train": [], "evaluation": [], "development": []}
    for family in FAMILIES + OUT_OF_DISTRIBUTION:
        for level in LEVELS:
            in_training = int(train[level, FAMILIES.index(family)]) if family in FAMILIES else 0
            wanted = {"train": in_training, "evaluation": int(even[level]), "development": int(even[level])}
            for split, problems in _fill(family, level, wanted, spec.seed).items():
                sets[split] += problems
    order = seeds.permutation(len(sets["train"]), spec.seed, "order of training problems")
    sets["train"] = [sets["train"][i] for i in order]
    return sets


def _fill(family: str, level: int, wanted: dict[str, int], seed: int) -> dict[str, list[Problem]]:
    found: dict[str, list[Problem]] = {split: [] for split in wanted}
    seen = set()
    for tries, problem in enumerate(stream(family, level, seed, "problems")):
        if all(len(found[split]) >= wanted[split] for split in wanted):
            return found
        if tries == _TRIES:
            short = next(split for split in wanted if len(found[split]) < wanted[split])
            raise UserError(
                f"problems: only {len(found[short])} distinct {short} questions of family {family!r} at level {level}, "
                f"{wanted[short]} wanted; lower problems.{'train' if short == 'train' else 'evaluation'}"
            )
        content = canonical(parse(problem.prompt))
        split = split_of(problem.prompt)
        if content not in seen and len(found[split]) < wanted[split]:
            seen.add(content)
            found[split].append(problem)
    raise AssertionError("the stream has no end")


def _apportion(total: int, weights: np.ndarray) -> np.ndarray:
    """Cut a total into whole parts in proportion to weights (largest remainders, the first where equal)."""
    exact = total * weights / weights.sum()
    parts = np.floor(exact).astype(int)
    rest = np.argsort(-(exact - parts), kind="stable")[: total - parts.sum()]
    parts[rest] += 1
    return parts


def _number(rng: np.random.Generator, low: int, high: int) -> int:
    return int(rng.integers(low, high, endpoint=True))


def _pick(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[_number(rng, 0, len(options) - 1)]


def _chain(rng: np.random.Generator, start: str, value: int, count: int) -> str:
    """Append terms to an expression of known value, so that the running value stays in range."""
    text = start
    for _ in range(count):
        up = value < 2 or (value < LARGEST and rng.random() < 0.5)
        term = _number(rng, 1, min(30, LARGEST - value)) if up else _number(rng, 1, min(30, value - 1))
        value += term if up else -term
        text += f"{'+' if up else '-'}{term}"
    return text


def _sums(rng: np.random.Generator, level: int) -> str:
    start = _number(rng, 1, LARGEST)
    return _chain(rng, str(start), start, _number(rng, max(2, _STEPS[level][0]), _STEPS[level][1]))


def _factors(rng: np.random.Generator, long: bool) -> tuple[str, int]:
    """A product in range; with ``long``, one factor has two digits."""
    a = _number(rng, 11, LARGEST // 2) if long else _number(rng, 2, 9)
    b = _number(rng, 2, max(2, min(9, LARGEST // a)))
    return (f"{a}*{b}" if rng.random() < 0.5 else f"{b}*{a}"), a * b


def _products(rng: np.random.Generator, level: int) -> str | None:
    """Short (s) and long (l) products and further terms (c)."""
    shapes = (("sc",), ("scc", "ss", "l"), ("lc", "ssc"), ("ls", "sss", "lcc", "lsc", "sssc"))
    shape = _pick(rng, shapes[level])
    text, value = _factors(rng, shape[0] == "l")
    for kind in shape[1:].replace("c", ""):
        more, product = _factors(rng, kind == "l")
        down = value > product and rng.random() < 0.5
        text += f"{'-' if down else '+'}{more}"
        value += -product if down else product
    return _chain(rng, text, value, shape.count("c")) if value <= LARGEST else None


def _divisor(rng: np.random.Generator, steps: int) -> str:
    """A greatest common divisor that takes the given number of subtractions, built from its end."""
    a = b = 1
    for _ in range(steps):
        a, b = (a + b, b) if rng.random() < 0.5 else (a, a + b)
    common = _number(rng, 1, max(1, min(12, LARGEST // max(a, b))))
    return f"gcd({common * a},{common * b})"


def _remainder(rng: np.random.Generator, steps: int) -> str:
    """A remainder that takes the given number of subtractions."""
    divisor = _number(rng, 2, max(2, LARGEST // (steps + 1)))
    return f"{steps * divisor + _number(rng, 0, divisor - 1)}%{divisor}"


def _procedure(one: Callable[[np.random.Generator, int], str]) -> Draw:
    """Questions in one procedure: alone or with a term more; at the last level with a second one, or further terms."""

    def question(rng: np.random.Generator, level: int) -> str:
        steps = _number(rng, *_STEPS[level])
        term, factor = _number(rng, 1, 30), _number(rng, 2, 9)
        if level < LEVELS[-1]:
            return one(rng, steps) if steps == 1 or rng.random() < 0.5 else f"{one(rng, steps - 1)}{_sign(rng)}{term}"
        first = _number(rng, 2, steps - 3)
        return _pick(
            rng,
            (
                f"{one(rng, first)}{_sign(rng)}{one(rng, steps - 1 - first)}",
                f"{one(rng, steps - 2)}*{factor}{_sign(rng)}{term}",
                f"{one(rng, steps - 2)}+{term}-{factor}",
            ),
        )

    return question


def _sign(rng: np.random.Generator) -> str:
    return "+" if rng.random() < 0.5 else "-"


_EQUATIONS = (  # the empty braces take the constant that makes x whole
    ("x+{c}={}", "{a}*x+{c}={}", "{a}*x-{c}={}", "x-{c}={}"),
    ("{a}*x+{c}={d}*x+{}", "{a}*(x+{b})-{c}={}", "{a}*(x+{b})+{c}={}", "{a}*x+{b}-{c}={}"),
    ("{a}*(x+{b})-{c}={}+{f}", "{a}*x-{c}={d}*{e}-{}", "{a}*(x+{b})-{c}+{f}={}"),
    ("{a}*(x+{b})+{c}={d}*{e}+{}", "{a}*(x-{b})-{c}={d}*{e}-{}", "{a}*(x+{b})+{c}-{f}={d}*{e}+{}"),
)


def _equations(rng: np.random.Generator, level: int) -> str | None:
    x, a, b, c, d, e, f = (_number(rng, 2, high) for high in (12, 9, 12, 30, 9, 9, 20))
    shape = _pick(rng, _EQUATIONS[level])
    left, right = shape.format(0, a=a, b=b, c=c, d=d, e=e, f=f).split("=")
    missing = evaluate(side(left), x) - evaluate(side(right), x)
    constant = -missing if shape.endswith("-{}") else missing
    return shape.format(constant, a=a, b=b, c=c, d=d, e=e, f=f) if 0 < constant <= LARGEST else None


def _brackets(rng: np.random.Generator, level: int) -> str | None:
    text, _ = _nested(rng, _number(rng, *_STEPS[level]))
    return text if "(" in text else None


def _nested(rng: np.random.Generator, operations: int) -> tuple[str, int]:
    """A random expression and its value; each part of it is in range."""
    if operations == 0:
        number = _number(rng, 1, 20)
        return str(number), number
    left = _number(rng, 0, operations - 1)
    a, x = _nested(rng, left)
    b, y = _nested(rng, operations - 1 - left)
    fits = {"+": x + y <= LARGEST, "-": x > y, "*": min(x, y) > 1 and x * y <= LARGEST, "/": x > y > 1 and x % y == 0}
    if not any(fits.values()):
        return f"{b}-{_bracketed(a, '-', True)}", y - x
    operator = _pick(rng, tuple(name for name in fits if fits[name]))
    value = {"+": x + y, "-": x - y, "*": x * y, "/": x // max(y, 1)}[operator]
    return f"{_bracketed(a, operator, False)}{operator}{_bracketed(b, operator, True)}", value


def _bracketed(text: str, operator: str, right: bool) -> str:
    needed = not text.isdigit() and (operator in "*/" or (right and operator == "-"))
    return f"({text})" if needed else text


def _list(name: str, sizes: tuple[tuple[int, int], ...]) -> Draw:
    def question(rng: np.random.Generator, level: int) -> str:
        values = rng.choice(LARGEST, size=_number(rng, *sizes[level]), replace=False) + 1
        return f"{name}({','.join(str(value) for value in values)})"

    return question


_DRAWS: dict[str, Draw] = {
    "sums": _sums,
    "products": _products,
    "divisors": _procedure(_divisor),
    "remainders": _procedure(_remainder),
    "equations": _equations,
    "brackets": _brackets,
    "maximum": _list("max", ((2, 3), (4, 4), (5, 5), (6, 7))),
    "sorting": _list("sort", ((2, 2), (3, 3), (4, 4), (5, 5))),
    "counting": _list("count", ((3, 3), (4, 4), (5, 6), (7, 7))),
}
