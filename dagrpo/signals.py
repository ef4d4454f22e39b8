"""SIGTERM and Ctrl-C as a flag that long work looks at between its smallest steps."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from dagrpo.errors import Interrupted

ShouldStop = Callable[[], bool]


def never() -> bool:
    """The flag of work that nobody interrupts."""
    return False


def check(should_stop: ShouldStop) -> None:
    """Raise :class:`Interrupted` if a stop was asked for."""
    if should_stop():
        raise Interrupted


@contextmanager
def stop_flag() -> Iterator[ShouldStop]:
    """Turn the first SIGTERM or SIGINT into a flag; a second one has its usual, abrupt effect."""
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
