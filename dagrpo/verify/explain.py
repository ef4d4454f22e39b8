"""Why an answer is right or wrong, in words: what one look says, how it reads, and each judge's reason."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

from dagrpo.verify.arithmetic import TooLarge, Undone
from dagrpo.verify.judge import JUDGES, as_library, as_value, opinion
from dagrpo.verify.settle import look, readings
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
    kind,
)

_NO_VALUE = {
    Unreadable: "no value",
    Foreign: "no value: the reader has not one of its commands",
    TooLarge: "more than can be computed",
    Undone: "a sum, product, integral or limit, which the reader leaves undone",
}


def explain(gold: str, answer: str, seconds: float) -> list[str]:
    """Say why an answer is right or wrong, a line for each step.

    Args:
        seconds: processor time that a step may take; one that takes more is said to be given up.
    """
    settled = look(gold, answer)
    if settled is not None:
        return [f"at one look: {settled.judgement.name.lower()}, {settled.reason}"]
    lines = []
    for pair in readings(gold, answer):
        for name, text in zip(("gold", "answer"), pair, strict=True):
            lines.append(f"{name} {text}: {_tried(partial(_reading, text), seconds)}")
    for judge in JUDGES:
        lines.append(f"{judge}: {_tried(partial(_said, judge, gold, answer), seconds)}")
    return lines


def show(value: Value) -> str:
    """A value in words and signs."""
    match value:
        case Scalar():
            return str(value.expr) + (" (rounded)" if value.spread else "")
        case Words():
            return repr(value.text)
        case Named():
            return f"{value.name} = {show(value.value)}"
        case Choice():
            return f"({value.letter}) {show(value.value)}"
        case Relation():
            return f"{value.gap} {value.sign} 0"
        case Union():
            return " or ".join(map(show, value.parts))
        case Matrix():
            return "; ".join(", ".join(map(show, row)) for row in value.rows)
        case Items():
            return value.opening + ", ".join(map(show, value.values)) + value.closing


def _reading(text: str) -> str:
    value = as_value(text)
    ours = _NO_VALUE[type(value)] if isinstance(value, Exception) else f"{kind(value)} {show(value)}"
    return f"{ours}; math-verify parses {as_library(text)[:1] or 'nothing'}"


def _said(judge: str, gold: str, answer: str) -> str:
    said = opinion(judge, gold, answer)
    return f"{said.judgement.name.lower()}, {said.reason}"


def _tried(step: Callable[[], str], seconds: float) -> str:
    try:
        with _limited(seconds):
            return step()
    except _GivenUp:
        return f"given up after {seconds:g} s of processor time"
    except Exception as error:  # the libraries raise all sorts of things on strange input
        return f"fails with {type(error).__name__}"


class _GivenUp(BaseException):
    """No exception that a library may catch as one of its own."""


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise _GivenUp

    before = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
