"""An answer as text: one spelling for many, and the unit that an answer ends in.

Nothing here computes: every function is a few linear passes over the text, safe on whatever a model writes.
"""

import re
from functools import lru_cache

_CHARACTERS = str.maketrans(
    {
        "−": "-",
        "–": "-",
        "×": r"\times ",
        "·": r"\cdot ",
        "⋅": r"\cdot ",
        "÷": "/",
        "π": r"\pi ",
        "∞": r"\infty ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "≠": r"\ne ",
        "±": r"\pm ",
        "∪": r"\cup ",
        "√": r"\sqrt ",
        "⁄": "/",
        "½": r"\frac{1}{2}",
        "\n": " ",
        "\t": " ",
        "\u00a0": " ",
        "\u2009": " ",
        "\u202f": " ",
    }
)
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits)(?![a-zA-Z])\.?", ""),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"(?<=\d)(?:\\,|\{,\}|,\\!|\\!)(?=\d{3})", ","),  # thousands, spaced in one of TeX's ways
        (r"(?<!\\)\\!", ""),
        (r"(?<!\\)\\(?:[,;: ]|q?quad(?![a-zA-Z]))|~", " "),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree(?![a-zA-Z])", "°"),
        (r"\\(?:leq|leqslant|le)(?![a-zA-Z])", "<="),
        (r"\\(?:geq|geqslant|ge)(?![a-zA-Z])", ">="),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\[%#&]", lambda match: match[0][1]),
        (r"\\(?:text(?:bf|it|rm|normal|sf)?|math(?:rm|bf|it)|mbox|operatorname)\s*\{([^{}]*)\}", r'"\1"'),
        (r'"\s*(-?[\d.,]+|\([A-Za-z]\)|[ei])\s*[.:]?\s*"', r" \1 "),  # a number or a letter is itself in any face,
        (r'(?<![\d)}\]])(?<![\d)}\]] )"\s*([A-Za-z])\s*[.:]?\s*"', r" \1 "),  # unless after a value, where it is a unit
        (r"\s+", " "),
        (r"^ ?(?:=|\\approx(?![a-zA-Z]))", ""),
    )
)

_RAISED, _LOWERED = "⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "₀₁₂₃₄₅₆₇₈₉₋"
_SHIFTED = (
    (re.compile(f"[{_RAISED}]+"), "^", str.maketrans(_RAISED, "0123456789-")),
    (re.compile(f"[{_LOWERED}]+"), "_", str.maketrans(_LOWERED, "0123456789-")),
)
_ROOT = re.compile(r"√\s*(\d+(?:\.\d+)?|\([^()]*\)|[A-Za-z])")
_DOUBLED = re.compile(r"\\\\(?=[a-zA-Z])")  # a command escaped once too often; in a matrix, the end of a row
_TAIL = re.compile(r'(?<=[\d)\]}!" ])(?=[A-Za-z"°%])(["A-Za-z°%][^+=<>()|,;\\]*)$')
_BASE = re.compile(r"(-?[0-9][0-9A-F]*)_\{?([0-9]{1,2})\}?")
_LABEL = re.compile(r'(?:"[^"]*"|[A-Za-z]{3,}|[ .])+')
_NO_LABEL = re.compile(r"dozen|hundred|thousand|illion|squared|cubed|factorial|times|infinity")
_FACTOR = re.compile(r"[ .*]*(/)?[ .*]*(?:(square|sq\.?|cubic) +)?([a-z]+|[°%])(?:\^\{?(-?\d)\}?)?[ .*]*")
_SHAPES = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3}

# Spellings of a unit, its own name first.
_NAMES = """
mm millimeter millimetre; cm centimeter centimetre; m meter metre; km kilometer kilometre; in inch inches; ft foot feet;
yd yard; mi mile; mg milligram; g gram gramme; kg kilogram; lb lbs pound; oz ounce; ton tonne; ms millisecond;
s sec second; min minute; h hr hour; day; week; month; y yr year; ml milliliter millilitre; l liter litre; gal gallon;
dollar usd; cent; euro; ° degree deg; rad radian; % percent; hz hertz; n newton; j joule; w watt; v volt; pa pascal;
k kelvin; mol mole
"""
_UNITS: dict[str, tuple[tuple[str, int], ...]] = {
    **{name: ((names.split()[0], 1),) for names in _NAMES.split(";") for name in names.split()},
    **dict.fromkeys(("mph",), (("mi", 1), ("h", -1))),
    **dict.fromkeys(("kmh", "kph", "kmph"), (("km", 1), ("h", -1))),
    "unit": (),
}
_SHORT_WORDS = {*"mgshylnjwvk", "ms", "ml", "pa", "hz"}


def characters(text: str) -> str:
    """Write mathematical characters as LaTeX commands, all spaces as one kind, and no command escaped twice."""
    for pattern, sign, digits in _SHIFTED:
        text = pattern.sub(rf"{sign}{{\g<0>}}", text).translate(digits)
    text = _ROOT.sub(r"\\sqrt{\1}", text).translate(_CHARACTERS)
    return text if r"\begin" in text else _DOUBLED.sub(r"\\", text)


def without_dollars(text: str) -> str:
    """Drop the marks of mathematics, ``$ $``, ``\\( \\)`` and ``\\[ \\]``; an escaped dollar is money and stays."""
    return re.sub(r"(?<!\\)(?:\$|\\[()\[\]])", "", text)


@lru_cache(maxsize=8192)
def clean(text: str) -> str:
    """Bring an answer to one spelling: no marks, spacing commands or sizes; words of ``\\text`` in quotes."""
    text = characters(text).strip()
    text = re.sub(r"^\\?\$\s*([\d.,]+)$", r"\1 dollar", text)
    text = without_dollars(text).replace(r"\$", "")
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text.strip().rstrip(".").strip()


def same_text(gold: str, answer: str) -> bool:
    """Compare two answers letter by letter, spacing and wrappers aside; words also without regard to case."""
    left, right = _bare(gold), _bare(answer)
    return bool(left) and (left == right or (left.isalpha() and left.lower() == right.lower()))


def split_units(gold: str, answer: str) -> tuple[tuple[str, str | None], tuple[str, str | None]]:
    """Split two answers into value and unit, the unit in one spelling ("cm^2", "h^-1 km", "base 8").

    A short word such as ``m`` may be a unit or a symbol. In the gold it is a unit in ``\\text`` only; in the answer
    also without, if there is no symbol in the gold.
    """
    wanted = _split(clean(gold), False)
    has_symbols = re.search(r"[A-Za-z]", re.sub(r'\\[a-zA-Z]+|"[^"]*"', "", wanted[0])) is not None
    return wanted, _split(clean(answer), not has_symbols)


@lru_cache(maxsize=8192)
def _split(text: str, short_words: bool) -> tuple[str, str | None]:
    """Value and unit; words after a value that name no known unit ("5 apples") are dropped, the unit is ``None``."""
    if match := _BASE.fullmatch(text):
        return match[1], f"base {match[2]}"
    match = _TAIL.search(text)
    if match is None or not text[: match.start()].strip():
        return text, None
    body, tail = text[: match.start()].strip(), match[1]
    unit = _unit(tail, short_words or '"' in tail)
    if unit is not None:
        return body, unit or None
    is_label = _LABEL.fullmatch(tail) is not None and _NO_LABEL.search(tail) is None
    return (body, None) if is_label else (text, None)


def nesting(text: str) -> int:
    """Count how deep brackets of any kind are nested, at most."""
    deepest = level = 0
    for character in text:
        if character in "{([":
            level += 1
            deepest = max(deepest, level)
        elif character in "})]":
            level -= 1
    return deepest


def _bare(text: str) -> str:
    # A space between digits stays: 1 2/3 is not 12/3.
    return re.sub(r"(?<!\d) | (?!\d)", "", clean(text).replace('"', ""))


def _unit(tail: str, short_words: bool) -> str | None:
    """One spelling of a unit; ``""`` where it only says that there is one ("square units"); ``None`` if unknown."""
    words = re.sub(r'[ "]*\^', "^", tail.lower()).replace('"', " ")
    words = re.sub(r"\bper\b", "/", words).strip()
    powers: dict[str, int] = {}
    position = 0
    while position < len(words):
        match = _FACTOR.match(words, position)
        if match is None:
            return None
        over, shape, word, exponent = match.groups()
        power = int(exponent or _SHAPES.get(shape, 1)) * (-1 if over else 1)
        names = _UNITS.get(word) or _UNITS.get(word.removesuffix("s"))
        if names is None or (word in _SHORT_WORDS and not short_words):
            return None
        for name, sign in names:
            powers[name] = powers.get(name, 0) + sign * power
        position = match.end()
    return " ".join(name if power == 1 else f"{name}^{power}" for name, power in sorted(powers.items()))
