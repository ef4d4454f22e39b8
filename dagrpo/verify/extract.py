"""Find the answer in a response.

Thoughts (``<think>…</think>``) are set apart first; an unfinished one is discarded, and a ``</think>`` that nothing
opened closes a thought that the prompt's template opened. Then the first rule that finds something decides:

``boxed``             the last non-empty ``\\boxed{…}`` (or ``\\fbox``) outside thoughts that is closed
``answer_tag``        the last non-empty ``<answer>…</answer>`` outside thoughts
``phrase``            what follows the last "answer is", "answer:" or "####" outside thoughts, up to the sentence's end
``boxed_in_thought``  the last non-empty box of a finished thought
``bare``              multiple choice only: a single line that is nothing but an option

A response that the budget cut is held to what was complete before the cut, so ``boxed`` and ``answer_tag`` alone apply:
the cut may have shortened a phrase, and taken back a thought.

A multiple-choice answer is then reduced to its letter. ``letter``: one letter of the options, bracketed, dotted or
bare, followed by nothing, by its own option's text, or by words that name no other letter. ``option_text``: the text of
exactly one option. An answer that names several options names none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dagrpo.records import Finish
from dagrpo.verify.text import clean, same_text

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_BRACE = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)
_PHRASE = re.compile(r"(?i:\b(?:answer|option|choice)\b\**\s*(?:is|:)\s*:?)|####")
_SENTENCE_END = re.compile(r"\.(?=\s)|\n")
_OPTION = re.compile(r"(?i:(?:option|choice|answer)\s+)?[(\[]?([A-Za-z])(?:[)\].:,]+|$)\s*(.*)", re.DOTALL)
_OTHER_OPTION = re.compile(r"(?<![A-Za-z])([A-Z])(?=[)\].:,]|$|\s+(?:and|or|&)\b)")


@dataclass(frozen=True, slots=True)
class Extraction:
    """An answer and the rule that found it (``none`` where no rule did)."""

    answer: str | None
    rule: str


def extract(response: str, finish: Finish, choices: Sequence[str] | None = None) -> Extraction:
    """Find the answer of a response; of a multiple-choice question its letter, where it names one."""
    found = _find(response, finish, choices)
    if found.answer is None or choices is None:
        return found
    letter, rule = read_choice(found.answer, choices)
    return Extraction(letter or found.answer, f"{found.rule}/{rule}")


def read_choice(answer: str, choices: Sequence[str]) -> tuple[str | None, str]:
    """Reduce an answer to the letter of an option, and name the rule: ``letter``, ``option_text`` or ``none``."""
    texts = [index for index, choice in enumerate(choices) if same_text(choice, answer)]
    if len(texts) == 1:
        return LETTERS[texts[0]], "option_text"
    match = _OPTION.fullmatch(clean(answer).replace('"', "").strip())
    if match is None or (letter := match[1].upper()) not in LETTERS[: len(choices)]:
        return None, "none"
    rest = match[2].strip()
    if rest and not same_text(choices[LETTERS.index(letter)], rest):
        others = {other for other in _OTHER_OPTION.findall(rest) if other in LETTERS[: len(choices)]} - {letter}
        if others or any(same_text(choice, rest) for choice in choices):
            return None, "none"
    return letter, "letter"


def _find(response: str, finish: Finish, choices: Sequence[str] | None) -> Extraction:
    outside, thoughts = split_thoughts(response)
    if (answer := last_box(outside)) is not None:
        return Extraction(answer, "boxed")
    if (answer := _last_tag(outside)) is not None:
        return Extraction(_last_phrase(answer) or answer, "answer_tag")
    if finish == "stop":
        if (answer := _last_phrase(outside)) is not None:
            return Extraction(answer, "phrase")
        if (answer := last_box(thoughts)) is not None:
            return Extraction(answer, "boxed_in_thought")
        line = outside.strip()
        if choices is not None and "\n" not in line and read_choice(line, choices)[0] is not None:
            return Extraction(line, "bare")
    return Extraction(None, "none")


def split_thoughts(response: str) -> tuple[str, str]:
    """Return what stands outside thoughts, and what stands in finished ones."""
    outside: list[str] = []
    thoughts: list[str] = []
    thought: list[str] | None = None
    for piece in re.split(r"(</?think>)", response):
        if piece == "<think>":
            thought = [] if thought is None else thought
        elif piece == "</think>":
            if thought is None:
                thought, outside = outside, []
            thoughts += [*thought, "\n"]
            thought = None
        else:
            (outside if thought is None else thought).append(piece)
    return "".join(outside), "".join(thoughts)


def last_box(text: str) -> str | None:
    """Content of the box that opens last, of those that are closed and not empty. One pass, whatever the nesting."""
    opened: list[int | None] = []
    last: tuple[int, str] | None = None
    for match in _BRACE.finditer(text):
        if match["box"]:
            opened.append(match.end())
        elif match["open"]:
            opened.append(None)
        elif match["close"] and opened:
            start = opened.pop()
            if (
                start is not None
                and (last is None or start > last[0])
                and (content := text[start : match.start()].strip())
            ):
                last = (start, content)
    return last[1] if last else None


def _last_tag(text: str) -> str | None:
    end = len(text)
    while (end := text.rfind("</answer>", 0, end)) >= 0:
        start = text.rfind("<answer>", 0, end)
        if start < 0:
            return None
        if content := text[start + len("<answer>") : end].strip():
            return content
        end = start
    return None


def _last_phrase(text: str) -> str | None:
    for match in reversed(list(_PHRASE.finditer(text))):
        tail = text[match.end() :].lstrip(" \t\n*_")
        end = _SENTENCE_END.search(tail)
        if answer := tail[: end.start() if end else None].replace("**", "").strip(" \t*_.`"):
            return answer
    return None
