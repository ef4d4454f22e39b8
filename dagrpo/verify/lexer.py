"""Split a clean answer into tokens: numbers, words in quotes, commands, signs, and letters.

When letters are a word, a label, or a product of symbols:

- Letters in ``\\text`` and its like are text.
- A run that stands next to an operator, a digit, a script or a bracket is algebra: a product of symbols where it has up
  to three letters (``2ab`` is ``2ba``), one symbol with a long name where it has more (``width``).
- A run that stands alone, as the answer or as one item of it, is a product of symbols if it could be nothing else: two
  different small letters, none of them an o, or three without a vowel or that follow each other in the alphabet, and no
  common word (``xy`` is ``yx``, ``abc`` is ``cba``, but ``cat`` is not ``act``).
- Every other run alone is a word or a label, and equal to the same letters in the same order only: ``east``, ``no``,
  ``Sam``, ``ABC``, ``HHT``, ``IV``. Where its letters are different it is, against algebra that is written with an
  operator, a product as well (``RC`` is ``R \\cdot C``, but not ``CR``). Capitals with spaces between are such a run.
- Several runs in a row are prose.

Single letters are symbols. Number words are numbers, with a hyphen or a space where they are so written
(``twenty-five``); a number word next to any other hyphen is prose (``five-six``).
"""

import re

SEPARATORS = frozenset({",", ";", "or", "and"})
FUNCTIONS = frozenset(
    re.findall(r"\w+", "sin cos tan cot sec csc sinh cosh tanh coth asin acos atan arcsin arccos arctan exp log ln lg")
)
DIGITS = frozenset("0123456789")
LABEL = "~"
"""First character of a token that is a run of letters alone."""

_NUMBER = r"(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)(?:[eE][+-]?[0-9]+(?![a-zA-Z]))?"
_TOKEN = re.compile(
    rf'\s*(?:(?P<number>{_NUMBER})|(?P<words>"[^"]*")|(?P<letters>[A-Z](?: [A-Z])+(?![A-Za-z])|[A-Za-z]+)'
    r"|(?P<other>\\begin\{[a-z]+\}(?:\{[|lcr]*\})?|\\end\{[a-z]+\}|\\[a-zA-Z]+|\\\\|\\[{}|]|<=|>=|!=|[^\s\"]))"
)
_REPEATING = re.compile(r"(\d*)\.(\d*)\\(?:overline|dot|bar)\s*\{(\d+)\}|(\d*)\.(\d*)\((\d+)\)")
_REPLACED = {r"\cdot": "*", r"\times": "*", r"\ast": "*", r"\div": "/"}
_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = ["ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NUMBER_WORDS = {
    **{word: str(number) for number, word in enumerate(_ONES + _TEENS)},
    **{word: str(10 * number) for number, word in enumerate(_TENS, start=2)},
    "infinity": r"\infty",
}
_COMPOUND = re.compile(rf"(?i)\b({'|'.join(_TENS)})[- ]({'|'.join(_ONES[1:])})\b")
_HYPHEN = re.compile(rf"(?i)\b(?:{'|'.join(_NUMBER_WORDS)})-\w|\w-(?:{'|'.join(_NUMBER_WORDS)})\b")
_COMMON = frozenset({"yes", "red", "all", "add", "sum", "set", "man", "men", "sat", "fri", "may", "big", "he", "she"})
_VOWELS = frozenset("aeiou")
_OPENS = SEPARATORS | {"(", "[", "{", r"\{", "=", "<", ">", "<=", ">=", "!=", r"\in", "&", r"\\", ":", r"\approx"}
_CLOSES = SEPARATORS | {")", "]", "}", r"\}", "=", "<", ">", "<=", ">=", "!=", r"\in", "&", r"\\", ":", r"\approx"}


def tokens(text: str) -> list[str]:
    """Split a clean answer. Words stand in double quotes, a run of letters alone begins with ``LABEL``, number words
    become digits, and a repeating decimal a fraction.

    Raises:
        ValueError: the text is prose.
    """
    text = _COMPOUND.sub(lambda match: str(int(_NUMBER_WORDS[match[1].lower()]) + _ONES.index(match[2].lower())), text)
    if _HYPHEN.search(text):
        raise ValueError("prose")
    found: list[str] = []
    for match in _TOKEN.finditer(_REPEATING.sub(_repeating, text)):
        if letters := match["letters"]:
            found.append(_run(letters.replace(" ", "")))
        elif words := match["words"]:
            found += _word(words.strip('" ,.').lower())
        else:
            token = match["number"] or match["other"]
            found.append(_REPLACED.get(token, token))
    resolved: list[str] = []
    for at, token in enumerate(found):
        if len(token) == 1 or not token.isalpha() or token in SEPARATORS:
            resolved.append(token)
            continue
        before, after = found[at - 1] if at else ",", found[at + 1] if at + 1 < len(found) else ","
        if len(before) > 1 and before.isalpha() and before not in SEPARATORS:
            raise ValueError("prose")
        if before in _OPENS and after in _CLOSES and not _is_product(token):
            resolved.append(LABEL + token)
        else:
            resolved += token if len(token) <= 3 else [token]
    return resolved


def _is_product(letters: str) -> bool:
    if len(set(letters)) < len(letters) or not letters.islower() or letters in _COMMON:
        return False
    if len(letters) == 2:
        return "o" not in letters
    follow = ord(max(letters)) - ord(min(letters)) == 2
    return len(letters) == 3 and (follow or not set(letters) & _VOWELS)


def _run(letters: str) -> str:
    if letters in FUNCTIONS or letters in ("pi", "sqrt", "infty"):
        return "\\" + letters
    if letters in ("inf", "oo"):
        return r"\infty"
    lower = letters.lower()
    return lower if lower in SEPARATORS else _NUMBER_WORDS.get(lower, letters)


def _word(word: str) -> list[str]:
    if not word:
        return []
    if word.isdecimal():
        return [word]
    return [word if word in SEPARATORS else _NUMBER_WORDS.get(word, f'"{word}"')]


def _repeating(match: re.Match[str]) -> str:
    """A repeating decimal as a fraction: 0.1(6) is (16 - 1) / 90."""
    whole, once, again = (match[place] if match[3] else match[place + 3] for place in (1, 2, 3))
    above = int(f"{whole}{once}{again}") - int(f"{whole}{once}" or 0)
    return rf"\frac{{{above}}}{{{(10 ** len(again) - 1) * 10 ** len(once)}}}"
