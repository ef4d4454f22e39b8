"""SIGTERM and Ctrl-C as a flag that long work looks at between its smallest steps."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dagrpo.errors import Interrupted

ShouldStop = Callable[[], bool]
STOPS = (signal.SIGTERM, signal.SIGINT)


def never() -> bool:
    """The flag of work that nobody interrupts."""
    return False


def check(should_stop: ShouldStop) -> None:
    """Raise :class:`Interrupted` if a stop was asked for."""
    if should_stop():
        raise Interrupted


@contextmanager
def stop_flag() -> Iterator[ShouldStop]:
    """Turn SIGTERM and SIGINT into a flag. A second one changes nothing: a terminal and a workflow often send both."""
    received: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)

    before = {number: signal.signal(number, note) for number in STOPS}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt_at_once() -> None:
    """Let SIGTERM and SIGINT raise :class:`Interrupted` wherever they arrive: for start-up, with nothing at stake."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    for number in STOPS:
        signal.signal(number, stop)
