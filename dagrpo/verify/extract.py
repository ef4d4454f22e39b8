"""Find the answer in a response.

Thoughts (``<think>…</think>``) are set apart first; an unfinished one is discarded. Two rules say what they count for:

``optional``          a response needs none, and the box of a finished thought counts where no answer stands outside
``required``          what stands between the end of the first thought and that of a second is all that counts; without
                      a finished thought there is no answer (the reward of LUFFY, arXiv 2504.14945, whose protocol
                      DaGRPO follows: reward_impl_version 3 of its code)

Then the first rule that finds something decides:

``boxed``             the last non-empty ``\\boxed{…}`` (or ``\\fbox``) outside thoughts that is closed
``answer_tag``        the last non-empty ``<answer>…</answer>`` outside thoughts
``phrase``            what follows the last "answer is", "answer:" (also in Chinese, which Qwen's models fall into),
                      "####" or heading "Final Answer" outside thoughts, up to the sentence's end; of a sentence
                      ("the largest n is 34") what follows its last verb
``boxed_in_thought``  the last non-empty box of a finished thought, where thoughts are optional
``bare``              multiple choice only: a single line that is nothing but an option

Boxes that follow each other with nothing between but a joining word, a comma, marks of mathematics or a name
("``x = \\boxed{1}`` and ``y = \\boxed{2}``") are the parts of one answer, a list: all of them are the answer, so a
spray of guesses is none. A paragraph's end, or any other word between, leaves the last box alone.

A response that the budget cut is held to what was complete before the cut, so ``boxed`` and ``answer_tag`` alone apply:
the cut may have shortened a phrase, and taken back a thought.

A multiple-choice answer is then reduced to its letter. ``letter``: one letter of the options, bracketed, dotted or
bare, followed by nothing, by its own option's text, or by words that name no other letter. ``option_text``: the text of
exactly one option. An answer that names several options names none.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Literal

from dagrpo.records import Finish
from dagrpo.verify.text import clean, same_text

ThoughtRule = Literal["optional", "required"]

_BRACE = re.compile(r"(?P<box>\\{1,2}(?:boxed|fbox)\s*\{)|\\.|(?P<open>\{)|(?P<close>\})", re.DOTALL)
_JOINT = re.compile(
    r"(?:(?!\n\s*\n)"
    r"(?:[\s$,;&*}]|\\[()\[\],;:! ]|\\q?quad\b|\\(?:text|mathrm)\s*\{|\b(?:and|or)\b|\bfor part \([a-z]\)|"
    r"(?:[A-Za-z]\w*\s*=)))*"
)
_NO_FORMULA = re.compile(r"\\(?:text|mathrm)|(?<![\\A-Za-z])[A-Za-z]{3}|=")
_NAME = re.compile(r"([A-Za-z]\w*)\s*=[\s$]*$")
_PHRASE = re.compile(
    r"(?i:\b(?:answer|option|choice)\b\**\s*(?:is|:)\s*:?)|####|(?i:\bfinal answer\b[ \t]*[*:]*[ \t]*(?=\n))"
    r"|答案(?:是|为|:|\uff1a)"
)
_VERB = re.compile(  # the last verb of a main clause that does not begin with a value
    r"(?![$\s]*[-+.\d\\([{])(?:(?!\b(?:because|since|if|when|where|which|while|so|not|but|or)\b).)*"
    r"\b(?:is|are|equals?(?! to)|was)\b\s*:?\s*(?:(?:equal to|given by|exactly|simply|about|approximately)\s+)?(?=\S)",
    re.DOTALL,
)
_SENTENCE_END = re.compile(r"\.(?=\s)|\n")
_OPTION = re.compile(r"(?i:(?:option|choice|answer)\s+)?[(\[]?([A-Za-z])(?:[)\].:,]+|$)\s*(.*)", re.DOTALL)
_OTHER_OPTION = re.compile(r"(?<![A-Za-z])([A-Z])(?=[)\].:,]|$|\s+(?:and|or|&)\b)")


@dataclass(frozen=True, slots=True)
class Extraction:
    """An answer and the rule that found it (``none`` where no rule did)."""

    answer: str | None
    rule: str


def extract(
    response: str, finish: Finish, choices: Sequence[str] | None = None, thought: ThoughtRule = "optional"
) -> Extraction:
    """Find the answer of a response; of a multiple-choice question its letter, where it names one."""
    return _reduced(_find(*_outside_and_in_thoughts(response, thought), finish, choices), choices)


def given(answer: str, choices: Sequence[str] | None = None) -> Extraction:
    """A bare answer as it stands (rule ``given``); of a multiple-choice question its letter, where it names one."""
    answer = answer.strip()
    return _reduced(Extraction(answer, "given") if answer else Extraction(None, "none"), choices)


def _reduced(found: Extraction, choices: Sequence[str] | None) -> Extraction:
    if found.answer is None or choices is None:
        return found
    letter, rule = read_choice(found.answer, choices)
    return Extraction(letter or found.answer, f"{found.rule}/{rule}")


def read_choice(answer: str, choices: Sequence[str]) -> tuple[str | None, str]:
    """Reduce an answer to the letter of an option, and name the rule: ``letter``, ``option_text`` or ``none``."""
    texts = [index for index, choice in enumerate(choices) if same_text(choice, answer)]
    if len(texts) == 1:
        return ascii_uppercase[texts[0]], "option_text"
    match = _OPTION.fullmatch(clean(answer).replace('"', "").strip())
    if match is None or (letter := match[1].upper()) not in ascii_uppercase[: len(choices)]:
        return None, "none"
    rest = match[2].strip()
    if rest and not same_text(choices[ascii_uppercase.index(letter)], rest):
        others = {other for other in _OTHER_OPTION.findall(rest) if other in ascii_uppercase[: len(choices)]} - {letter}
        if others or any(same_text(choice, rest) for choice in choices):
            return None, "none"
    return letter, "letter"


def _outside_and_in_thoughts(response: str, thought: ThoughtRule) -> tuple[str, str]:
    if thought == "optional":
        return split_thoughts(response)
    _, *after = response.split("</think>")
    return (after[0], "") if after else ("", "")


def _find(outside: str, thoughts: str, finish: Finish, choices: Sequence[str] | None) -> Extraction:
    if (answer := boxed_answer(outside)) is not None:
        return Extraction(answer, "boxed")
    if (answer := _last_tag(outside)) is not None:
        return Extraction(_last_phrase(answer, choices is None) or answer, "answer_tag")
    if finish == "stop":
        if (answer := _last_phrase(outside, choices is None)) is not None:
            return Extraction(answer, "phrase")
        if (answer := boxed_answer(thoughts)) is not None:
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
    """Content of the box that opens last, of those that are closed and not empty."""
    boxes = _boxes(text)
    return boxes[-1].content if boxes else None


def boxed_answer(text: str) -> str | None:
    """The last box, or the boxes that it ends a row of, as a list; under their names, if each has one."""
    boxes = _boxes(text)
    if not boxes:
        return None
    parts = boxes[-1:]
    for box in reversed(boxes[:-1]):
        if box.end > parts[0].start or not _JOINT.fullmatch(text, box.end, parts[0].start):
            break
        parts.insert(0, box)
    if len({part.content for part in parts}) == 1:
        return parts[0].content
    names = [_NAME.search(text, max(0, part.start - 40), part.start) for part in parts]
    if all(names):
        return ", ".join(f"{name[1]} = {part.content}" for name, part in zip(names, parts, strict=True) if name)
    return ", ".join(part.content for part in parts)


@dataclass(frozen=True, slots=True)
class _Box:
    start: int
    end: int
    content: str


def _boxes(text: str) -> list[_Box]:
    """The boxes that are closed and not empty, in the order in which they open. One pass, whatever the nesting."""
    opened: list[tuple[int, int] | None] = []
    found: list[tuple[int, int, int]] = []
    for match in _BRACE.finditer(text):
        if match["box"]:
            opened.append((match.start(), match.end()))
        elif match["open"]:
            opened.append(None)
        elif match["close"] and opened and (box := opened.pop()) is not None:
            found.append((*box, match.start()))
    found.sort(reverse=True)
    kept: list[_Box] = []
    for start, inside, end in found:
        content = text[inside:end].strip()
        if not kept or end < kept[-1].start:
            kept += [_Box(start, end + 1, content)] if content else []
        elif not _NO_FORMULA.search(content):  # of nested boxes the inner one, unless both are one formula
            while kept and kept[-1].start < end:
                kept.pop()
            kept.append(_Box(start, end + 1, content))
    return kept[::-1]


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


def _last_phrase(text: str, in_sentences: bool) -> str | None:
    for match in reversed(list(_PHRASE.finditer(text))):
        tail = text[match.end() :].lstrip(" \t\n*_")
        end = _SENTENCE_END.search(tail)
        if answer := tail[: end.start() if end else None].replace("**", "").strip(" \t*_.`"):
            return answer[verb.end() :] if in_sentences and (verb := _VERB.match(answer)) else answer
    return None
