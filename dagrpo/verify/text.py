"""An answer as text: one spelling for many, and the unit that an answer ends in.

Nothing here computes: every function is a few linear passes over the text, safe on whatever a model writes.
"""

import re
import unicodedata
from functools import cache, lru_cache

OPTIONS = "ABCDEFGHIJ"
"""What stands in front of a value in running text as the letter of an option; a later letter is a symbol there."""
# How TeX writes what Unicode's own tables leave as it is.
_TEX = {
    **dict.fromkeys("×✕✖", r"\times "),
    **dict.fromkeys("·⋅∙", r"\cdot "),
    **dict.fromkeys("÷∕⁄", "/"),
    **dict.fromkeys("≤⩽≦", "<="),
    **dict.fromkeys("≥⩾≧", ">="),
    **dict.fromkeys("°º˚∘", "°"),
    **dict.fromkeys("′’‘", "'"),
    **dict.fromkeys("“”", '"'),
    "≠": "!=",
    "≈": r"\approx ",
    "±": r"\pm ",
    "∓": r"\mp ",
    "∞": r"\infty ",
    "∈": r"\in ",
    "∶": ":",
    "∣": "|",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "√": r"\sqrt ",
    "∅": r"\emptyset ",
    "⟨": r"\langle ",
    "⟩": r"\rangle ",
    "∠": r"\angle ",
    "△": r"\triangle ",
    "⊥": r"\perp ",
    "。": ".",
    "、": ",",
    "ℝ": r"\mathbb{R}",
    "…": r"\ldots ",
}
_GREEK = re.compile(r"GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?(\w+)")
_REWRITES = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|bm|boldsymbol|underline|boxed|fbox)"
         r"(?![a-zA-Z])\.?", ""),
        (r"\\(?:textcolor|color|colorbox)\s*\{[^{}]*\}", ""),
        (r"\\[dtc]frac(?![a-zA-Z])", r"\\frac"),
        (r"\\[dt]binom(?![a-zA-Z])", r"\\binom"),
        (r"(?<=[\w)}])\s*\*\*\s*(?=[-\w({])", "^"),
        (r"(?<=[)\]}])\s*U\s*(?=[(\[{\\])", r" \\cup "),
        (r"\\frac\s*(\d)\s*(\d)", r"\\frac{\1}{\2}"),
        (r"(?<=\d)\s*(?:\\,|\{\s*,\s*\}|,\\!|\\!)\s*(?=\d{3})", ","),  # thousands, spaced in one of TeX's ways
        (r"(?<!\\)\\(?:[!,;: ]|q?quad(?![a-zA-Z])|hspace\{[^{}]*\})|~", " "),
        (r"(?:\^\s*\{\s*\\circ\s*\}|\^?\s*\\(?:degree|circ)(?![a-zA-Z])|°)(?:\s*(?=[CF]\s*$))?", "°"),
        (r"\\(angle|triangle)\s*\{([A-Z]+)\}", r"\\\1 \2"),
        (r"^\s*\(?([A-Z])[).:]+\s*$", r"\1"),
        (r"\\(?:leq?(?:slant|q)?)(?![a-zA-Z])", "<="),
        (r"\\(?:geq?(?:slant|q)?)(?![a-zA-Z])", ">="),
        (r"\\neq?(?![a-zA-Z])", "!="),
        (r"\\lt(?![a-zA-Z])", "<"),
        (r"\\gt(?![a-zA-Z])", ">"),
        (r"\\(?:[lr]?vert|mid)(?![a-zA-Z])", "|"),
        (r"\\l(?:brace)(?![a-zA-Z])", r"\\{"),
        (r"\\r(?:brace)(?![a-zA-Z])", r"\\}"),
        (r"\\[%#&]", lambda match: match[0][1]),
        (r"\\(?:text(?:bf|it|rm|normal|sf|tt)?|math(?:rm|bf|it|sf|tt)|mbox|operatorname)\*?\s*\{([^{}]*)\}", r'"\1"'),
        (r'\\frac\s*\{\s*"([^"]*)"\s*\}\s*\{\s*"([^"]*)"\s*\}', r'"\1/\2"'),
        (r"\\(?:math)?(?:rm|bf|it|sf|tt)\s+([A-Za-z0-9])(?![A-Za-z0-9])", r" \1 "),
        (r"^<([^<>]*,[^<>]*)>$", r"(\1)"),
        (rf'^"\s*\(?([{OPTIONS}])[):.]+\s*"(?=\s*\S)', r"(\1) "),
        (r'"\s*(\w(?:\s*,\s*\w(?!\w))+)\s*"', r" \1 "),
        (r'"\s*(-?[\d.]+(?:\s*(?:,|\band\b|\bor\b)\s*-?[\d.]+)+)\s*"', r" \1 "),
        (r'"\s*(-?[\d.,]+|\([A-Za-z]\)|[ei])\s*[.:]?\s*"', r" \1 "),  # a number or a letter is itself in any face,
        (r'(?<![\d)}\]])(?<![\d)}\]] )"\s*([A-Za-z])\s*[.:]?\s*"', r" \1 "),  # unless after a value, where it is a unit
        (r"(?<=[\d}])\s*(k?)\\Omega\s*$", r' "\1ohm"'),
        (r'(?<=[\d}])[\s"]*\\mu[\s"]*([a-zA-Z]+)"?\s*$', r' "micro\1"'),
        (r"\s+", " "),
        (r"^ ?(?:=|\\approx(?![a-zA-Z]))", ""),
        (r"(?<!\.)\s*[.,;]?[\s\\]*$", ""),  # an ellipsis stays
    )
)  # fmt: skip
_ROOT = re.compile(r"([√∛∜])\s*(\d+(?:\.\d+)?|\([^()]*\)|[A-Za-z])")
_DEGREE = {"√": "", "∛": "[3]", "∜": "[4]"}
_DOUBLED = re.compile(r"\\\\(?=[a-zA-Z])")  # a command escaped once too often; in a matrix, the end of a row
_COMMAS = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?!\d)")
_SPACES = re.compile(r"(-?\d{1,3}(?: \d{3})+(?:\.\d+)?)((?: ?[^\d\s/\\,;].*)?)")
_BRACKET = re.compile(r"[(\[]|\\\{")
_TAIL = re.compile(r'(?<=[\d)\]}!" ])(?=[A-Za-z"°%])(["A-Za-z°%][^+=<>()|,;\\]*)$')
_BASE = re.compile(r"(-?[0-9][0-9A-F]*)_\{?([0-9]{1,2})\}?")
_LABEL = re.compile(
    r'(?=.*(?:"[^"\d]*(?=[A-Za-z]{2})[A-Za-z]*[aeiouAEIOU]|[A-Za-z]{4}|'
    r"\b(?!sin|cos|tan|cot|sec|log|gcd|lcm|max|min|mod|det)[b-df-hj-np-tv-z][aeiou][b-df-hj-np-tv-z]\b))"
    r'(?:"[^"\d]*"|[A-Za-z]{3,}|[ .])+'
)
"""Words in quotes, with a vowel, or in running text: there one of four letters at least, or of three with a vowel in
the middle ("5 men"), since fewer may be symbols."""
_NO_LABEL = re.compile(  # words that make another number of it, or none
    r"dozen|hundred|thousand|illion|squared|cubed|factorial|times|infinity|teen|twent|"
    r"(?:thir|for|fif|six|seven|eigh|nine)ty|\b(?:(?:third|fourth|quarter|fifth|sixth|seventh|eighth|ninth|tenth)s?|"
    r"zero|one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|half|halves|tens|twice|doubled|tripled|"
    r"mil|bn|mn|lakh|crore|gross|plus|minus|negative|mod|modulo|than|versus|vs|and|or|nor|but|maybe|perhaps|if|not|"
    r"never|wrong|incorrect|except|to|for|base|"
    r"pairs?|couples?|twos|threes|fours|fives|true|false|none|no|"
    r"january|february|march|april|may|june|july|august|september|october|november|december)\b"
)
_FACTOR = re.compile(
    r"[ .*]*(/)?[ .*]*(?:(square|sq\.?|cubic) +)?(°[cf](?![a-z])|[a-z]+|[°%])(?:\^\{?(-?\d)\}?)?[ .*]*"
)
CHOICE = re.compile(rf'\(?([{OPTIONS}])(?:\)|[.:](?= ))\s*(?![-+*/,;^_=<>!|&)]|"?\s*(?:or|and)\b)(\S.*)')
"""The letter of an option, and what it says."""
_OPERATOR = re.compile(r"(?:[-+*/^_=<>]|\\(?:times|cdot|div|pm|mp|in|cup|cap))$")
_ANGLE = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![a-z])")
_CLOCK = re.compile(r'[" ]*([ap])\.? ?m\.?[" ]*')
_SHAPES = {"square": 2, "sq": 2, "sq.": 2, "cubic": 3}
_LIST = re.compile(r', |;|,(?!\d{3}(?!\d))|"?\s*\b(?:and|or)\b\s*"?')
_COMMA_DECIMAL = re.compile(r"-?(?:0,\d+|\d+,(?:\d{1,2}|\d{4,}))(?:\s*[^\d\s,][^\d,]*)?")
"""A number with a decimal comma, and its unit."""

# Spellings of a unit, its own name first.
_NAMES = """
mm millimeter millimetre; cm centimeter centimetre; m meter metre; km kilometer kilometre; in inch inches; ft foot feet;
yd yard; mi mile; mg milligram; g gram gramme; kg kilogram; lb lbs pound; oz ounce; ton tonne; ms millisecond;
s sec second; min minute; h hr hour; day; week; month; y yr year; ml milliliter millilitre; l liter litre; gal gallon;
dollar usd; cent; euro eur; yen; rupee rs; yuan; ° degree deg; rad radian; % percent pct percentage; hz hertz;
n newton; j joule; w watt; v volt; pa pascal; k kelvin; mol mole; °c celsius; °f fahrenheit; ohm; kohm kiloohm;
microm micrometer micrometre um; micros microsecond; microg microgram; acre; am; pm
"""
_UNITS: dict[str, tuple[tuple[str, int], ...]] = {
    **{name: ((names.split()[0], 1),) for names in _NAMES.split(";") for name in names.split()},
    **dict.fromkeys(("mph",), (("mi", 1), ("h", -1))),
    **dict.fromkeys(("kmh", "kph", "kmph"), (("km", 1), ("h", -1))),
    "unit": (),
}
_DIMENSIONS = {
    unit: number
    for number, units in enumerate(
        (
            "mm cm m km in ft yd mi microm",
            "mg g kg lb oz ton tonne microg",
            "ms s min h day week month y micros am pm",
            "ml l gal",
            "dollar usd cent euro yen rupee yuan",
            "° rad",
        )
    )
    for unit in units.split()
}
_SHORT_WORDS = {*"mgshylnjwvk", "ms", "ml", "pa", "hz", "rs", "am", "pm", "um"}
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2}")
_STUCK = re.compile(r"[\d)}\]][A-Za-z]$")
"""A letter directly after a value: a factor."""
_OTHER_LETTER = re.compile(r"(?<![A-Za-z°])[^\W\d_mgshlyLNJWVK](?![A-Za-z])")
"""A letter alone that is no unit: kelvins are K, and k is a thousand, M a million, n a number."""


def characters(text: str) -> str:
    """Write every character in TeX's ASCII, by Unicode's tables, and no command escaped twice.

    Compatibility forms (fullwidth, superscript, vulgar fractions, styled letters) become what they stand for, digits
    of any script decimal digits, every dash and minus one sign, every space one kind; what has no width is dropped.
    """
    if not text.isascii():
        text = _ROOT.sub(lambda match: rf"\sqrt{_DEGREE[match[1]]}{{{match[2]}}}", unicodedata.normalize("NFC", text))
        text = re.sub(r"\}\^\{|\}_\{", "", "".join(_marked(text))).translate(_UNMARKED)
    return text if r"\begin" in text else _DOUBLED.sub(r"\\", text)


_UNMARKED = str.maketrans({"\ue000": "{", "\ue001": "}"})


def _marked(text: str) -> list[str]:
    """The characters in TeX; scripts between marks, so that a run of them can be joined."""
    joined: list[str] = []
    script = ""
    for character in text:
        shape, content = ("", character) if character.isascii() else _character(character)
        if shape != script:
            joined.append(("\ue001" if script else "") + (f"{shape}\ue000" if shape else ""))
            script = shape
        joined.append(content)
    return [*joined, "\ue001" if script else ""]


@cache
def _character(character: str) -> tuple[str, str]:
    """``^``, ``_`` or nothing, and the character in TeX."""
    category, name = unicodedata.category(character), unicodedata.name(character, "")
    shape, _, codes = unicodedata.decomposition(character).partition(" ")
    meant = "".join(chr(int(code, 16)) for code in codes.split()) if shape.startswith("<") else ""
    greek = _GREEK.fullmatch(name)
    if character in _TEX:
        return "", _TEX[character]
    if category in ("Cf", "Co") or name.startswith("VARIATION SELECTOR"):
        return "", ""
    if category in ("Zs", "Zl", "Zp", "Cc"):
        return "", " "
    if category == "Pd" or name.endswith("MINUS SIGN"):
        return "", "-"
    if category == "Nd":
        return "", str(unicodedata.decimal(character))
    if category == "Sc" and not meant:
        return "", f' "{name.removesuffix(" SIGN").split()[-1].lower()}" '
    if shape == "<fraction>":
        above, _, below = meant.partition("⁄")
        return "", rf"\frac{{{above}}}{{{below or 1}}}"
    if shape in ("<super>", "<sub>"):
        return "^" if shape == "<super>" else "_", "".join(_character(c)[1] if c > "~" else c for c in meant)
    if greek:
        letter = greek[2].lower().replace("lamda", "lambda")
        return "", rf"\{letter if greek[1] == 'SMALL' else letter.capitalize()} "
    plain = unicodedata.normalize("NFKC", character)
    return "", plain if plain == character else "".join(_character(c)[1] if c > "~" else c for c in plain)


def without_dollars(text: str) -> str:
    """Drop the marks of mathematics, ``$ $``, ``\\( \\)`` and ``\\[ \\]``; an escaped dollar is money and stays."""
    return re.sub(r"(?<!\\)(?:\$|\\[()\[\]])", "", text)


@lru_cache(maxsize=8192)
def clean(text: str) -> str:
    """Bring an answer to one spelling: no marks, spacing commands or sizes; words of ``\\text`` in quotes."""
    text = characters(text).strip()
    text = re.sub(r'^\\?\$\s*([\d.,]+)$|^ ?"(\w+)" ?([\d.,]+)$', lambda m: f'{m[1] or m[3]} "{m[2] or "dollar"}"', text)
    text = without_dollars(text).replace(r"\$", "")
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    text = text.strip()
    if not _BRACKET.search(text):  # between brackets a comma separates
        text = _COMMAS.sub(lambda match: match[0].replace(",", ""), text)
        if match := _SPACES.fullmatch(text):
            text = match[1].replace(" ", "") + match[2]
    return text


def same_text(gold: str, answer: str) -> bool:
    """Compare two answers letter by letter, spacing and wrappers aside; words also without regard to case."""
    if gold == answer:
        return True
    left, right = _bare(gold), _bare(answer)
    is_word = len(left) > 1 and left.isalpha()  # a single letter is a symbol or a label, in its own case
    return bool(left) and (left == right or (is_word and left.lower() == right.lower()))


def pointed(gold: str, answer: str) -> str:
    """An answer with a decimal comma in the decimal spelling of the gold, where that has a point."""
    is_decimal = "." in gold and "," not in gold and _COMMA_DECIMAL.fullmatch(answer.strip())
    return answer.replace(",", ".") if is_decimal else answer


def split_units(gold: str, answer: str) -> tuple[tuple[str, str | None], tuple[str, str | None]]:
    """Split two answers into value and unit, the unit in one spelling ("cm^2", "h^-1 km", "base 8").

    A short word such as ``m`` may be a unit or a symbol. In the gold it is a unit in ``\\text`` only; in the answer
    also without, if there is no symbol in the gold: after a space ("5 m"), or where the gold has a unit ("5m").
    """
    wanted = _split(clean(gold), False)
    has_symbols = re.search(r"[A-Za-z]", re.sub(r'\\[a-zA-Z]+|"[^"]*"', "", wanted[0])) is not None
    given = clean(answer)
    is_stuck = wanted[1] is None and _STUCK.search(given) is not None
    return wanted, _split(given, not has_symbols and not is_stuck)


def clashing(unit: str | None, other: str | None) -> bool:
    """Whether two units differ. Words that name no known unit ("5 red apples") may say more or less, but not another
    thing."""
    if unit is None or other is None or unit == other or {unit, other} in ({"°", "°c"}, {"°", "°f"}):
        return False
    left, right = ({word.removesuffix("s") for word in re.findall(r"[a-z]+", text)} for text in (unit, other))
    return not (unit[0] == other[0] == "~" and (left <= right or right <= left))


@lru_cache(maxsize=8192)
def _split(text: str, short_words: bool) -> tuple[str, str | None]:
    """Value and unit; words after a value that name no known unit are a unit that starts with ``~``."""
    if match := _BASE.fullmatch(text):
        return match[1], f"base {match[2]}"
    if not _BRACKET.search(text) and (marks := _LIST.findall(text)):
        pieces = [_split(piece.strip(), short_words) for piece in _LIST.split(text)]
        units = {unit for _, unit in pieces if unit is not None}
        if len(units) == 1:
            return "".join(f"{body}{mark} " for (body, _), mark in zip(pieces, [*marks, ""], strict=True)), units.pop()
        return text, None
    match = _TAIL.search(text)
    body, tail = ("", "") if match is None else (text[: match.start()].strip(), match[1])
    if not body or _OPERATOR.search(body) or CHOICE.fullmatch(text):
        return text, None
    if clock := _CLOCK.fullmatch(tail):
        return body, f"{clock[1]}m"
    if "°" in tail and _ANGLE.search(body):
        return text, None
    unit = _unit(tail, short_words or '"' in tail)
    if unit is not None:
        return body, unit or None
    words = re.sub(r"[^a-z]+", " ", tail.lower()).strip()
    is_label = _LABEL.fullmatch(tail) is not None and _NO_LABEL.search(tail.lower()) is None
    is_label &= not all(word in _UNITS for word in words.split())  # units that make no unit together
    is_label &= _WORD.search(body) is None  # words after a word are its text
    return (body, f"~{words}" if words else None) if is_label else (text, None)


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
    if _OTHER_LETTER.search(tail):
        return None
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
            if name in ("%", "°") and name in powers:
                return None
            powers[name] = powers.get(name, 0) + sign * power
            alike = [one for one in powers if one != name and _DIMENSIONS.get(one, one) == _DIMENSIONS.get(name)]
            if any(powers[one] * powers[name] > 0 for one in alike):
                return None  # nothing is measured in days times weeks
        position = match.end()
    return " ".join(name if power == 1 else f"{name}^{power}" for name, power in sorted(powers.items()))
