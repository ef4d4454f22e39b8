"""What a judge is asked, and what counts as its reply."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from string import Template
from typing import Any

from dagrpo.records import Problem

Grades = dict[str, int]
Bounds = Mapping[str, tuple[int, int]]
"""The keys of a reply, and the smallest and largest whole number of each."""

THOUGHT_END = "</think>"

# Chat templates put such words between turns, and servers read them even inside a message.
_CONTROL = re.compile(r"<(?=[|｜][^<>\s]{1,40}[|｜]>|/?s>|/?(?:bos|eos|pad)>|(?:start|end)_of_turn>)|\[(?=/?INST\])")
_LOOKALIKE = {"<": "‹", "[": "⁅"}


@dataclass(frozen=True, slots=True)
class Rubric:
    """A versioned text of ours: the system message and the form of the question. ``sha256`` covers all of it."""

    name: str
    system: Template
    question: Template
    sha256: str

    def about(self) -> dict[str, str]:
        """Name and hash, for the run card."""
        return {"rubric": self.name, "rubric_sha256": self.sha256}


def load_rubric(name: str) -> Rubric:
    """Read a rubric of this package. A rubric is never edited once it was used: a new version is a new file."""
    text = (files("dagrpo.scorers") / "rubrics" / f"{name}.txt").read_text("utf-8")
    system, question = text.split("\n=====\n")
    return Rubric(name, Template(system), Template(question), sha256(text.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a judge. ``key`` identifies the answer wherever it was given: no endpoint enters it."""

    key: str
    messages: tuple[Mapping[str, str], ...]
    bounds: Bounds


def make_question(
    rubric: Rubric, judge: str, problem: Problem, reference: str, candidate: str, bounds: Bounds, mark: str
) -> Question:
    """Fill a rubric in. Of all that is asked only the candidate, near the end, is not the same for the whole group, so
    that a server which keeps prefixes reads the rest once.

    The candidate stands between tags that carry a mark which it cannot foresee: a secret of the run. So nothing in it
    can end its section. The mark is no part of the key: what is asked is the same under any.

    Args:
        judge: what decides the reply beside the text: the model, and what is sent along with the messages.
        reference, candidate: as they are shown, already within their budgets.
    """
    shown = {"problem": problem.prompt, "reference": reference, "candidate": candidate}
    key = sha256(json.dumps([judge, rubric.sha256, *shown.values()]).encode()).hexdigest()
    filled = {name: defused(text) for name, text in shown.items()} | {"mark": mark}
    system, question = rubric.system.substitute(mark=mark), rubric.question.substitute(filled)
    return Question(key, ({"role": "system", "content": system}, {"role": "user", "content": question}), bounds)


def shown_reference(problem: Problem, budget: int) -> str:
    """A problem's worked solution as a judge sees it, and its answer. One that is longer than ``budget`` characters
    loses its thought, if it has a closed one, and what is then still too long its middle."""
    solution = problem.solution or "(no worked solution)"
    if len(solution) > budget:
        worked = solution.rpartition(THOUGHT_END)[2].strip()
        solution = without_middle(worked or solution, budget)
    return f"{solution}\nFinal answer: {problem.answer}"


def defused(text: str) -> str:
    """Replace the first sign of each word that a chat template would take for the end of a turn."""
    return _CONTROL.sub(lambda match: _LOOKALIKE[match[0]], text)


def without_middle(text: str, budget: int) -> str:
    """Leave out the middle of a text that is longer than ``budget`` characters; the line in its place comes on top."""
    if len(text) <= budget:
        return text
    head = budget // 2
    tail = len(text) - (budget - head)
    return f"{text[:head]}\n[... {tail - head} characters are left out here ...]\n{text[tail:]}"


class BadReply(ValueError):
    """A reply that cannot be used; the message says why in words that can be counted."""


def read_reply(text: str, bounds: Bounds) -> Grades:
    """Read a judge's reply: one JSON object with exactly the keys of ``bounds``, whole numbers within them.

    Raises:
        BadReply: it is anything else, be it only a word before or after the object.
    """
    try:
        reply = json.loads(text, object_pairs_hook=_without_repeats)
    except BadReply:
        raise
    except (ValueError, RecursionError):
        raise BadReply("a reply that is not one JSON object") from None
    if not isinstance(reply, dict) or reply.keys() != bounds.keys():
        raise BadReply("a reply with other keys than asked for")
    if any(type(value) is not int for value in reply.values()):
        raise BadReply("a grade that is not a whole number")
    if any(not low <= reply[name] <= high for name, (low, high) in bounds.items()):
        raise BadReply("a grade out of range")
    return reply


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise BadReply("a reply with other keys than asked for")
    return dict(pairs)


def reply_schema(bounds: Bounds) -> dict[str, Any]:
    """The JSON schema of a reply, for servers that can hold a model to one."""
    return {
        "type": "object",
        "properties": {
            name: {"type": "integer", "minimum": low, "maximum": high} for name, (low, high) in bounds.items()
        },
        "required": list(bounds),
        "additionalProperties": False,
    }
