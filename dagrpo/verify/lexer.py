"""Split a clean answer into tokens: numbers, words in quotes, commands, signs, and letters one by one."""

import re

SEPARATORS = frozenset({",", ";", "or", "and"})
FUNCTIONS = frozenset(
    re.findall(r"\w+", "sin cos tan cot sec csc sinh cosh tanh coth asin acos atan arcsin arccos arctan exp log ln lg")
)

DIGITS = frozenset("0123456789")
_NUMBER = r"(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+(?![a-zA-Z]))?"
_TOKEN = re.compile(
    rf'\s*(?:(?P<number>{_NUMBER})|(?P<words>"[^"]*")|(?P<letters>[A-Za-z]+)'
    r"|(?P<other>\\begin\{[a-z]+\}(?:\{[|lcr]*\})?|\\end\{[a-z]+\}|\\[a-zA-Z]+|\\\\|\\[{}|]|<=|>=|!=|[^\s\"]))"
)
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|dot)\{(\d+)\}")
_THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?!\d)")
_BRACKET = re.compile(r"[(\[]|\\\{")
_REPLACED = {r"\cdot": "*", r"\times": "*", r"\ast": "*", r"\div": "/", r"\approx": "=", r"\ne": "!=", r"\neq": "!="}
_NUMBER_WORDS = {
    word: str(number)
    for number, word in enumerate(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
    )
}
_SHORT_WORDS = frozenset({"yes", "no", "odd", "all", "red"})


def tokens(text: str) -> list[str]:
    """Split a clean answer; what a letter run means ("or", "sin", "Monday", "xy") is decided here.

    Words stand in double quotes, number words become digits, and a repeating decimal a fraction.
    """
    if not _BRACKET.search(text):  # between brackets a comma separates
        text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    text = _REPEATING.sub(_repeating, text)
    found: list[str] = []
    for match in _TOKEN.finditer(text):
        if letters := match["letters"]:
            found += _letters(letters)
        elif words := match["words"]:
            found += _word(words.strip('" ,').lower())
        else:
            token = match["number"] or match["other"]
            found.append(_REPLACED.get(token, token))
    return found


def _letters(letters: str) -> list[str]:
    if letters in FUNCTIONS or letters in ("pi", "sqrt", "infty"):
        return ["\\" + letters]
    lower = letters.lower()
    if len(letters) > 3 or lower in SEPARATORS or lower in _NUMBER_WORDS or lower in _SHORT_WORDS:
        return _word(lower)
    return list(letters)


def _word(word: str) -> list[str]:
    if not word:
        return []
    return [word if word in SEPARATORS else _NUMBER_WORDS.get(word, f'"{word}"')]


def _repeating(match: re.Match[str]) -> str:
    """A repeating decimal as a fraction: 0.1(6) is (16 - 1) / 90."""
    whole, once, again = match.groups()
    above = int(f"{whole}{once}{again}") - int(f"{whole}{once}" or 0)
    return rf"\frac{{{above}}}{{{(10 ** len(again) - 1) * 10 ** len(once)}}}"
