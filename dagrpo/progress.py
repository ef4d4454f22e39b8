"""Progress of long work: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 10.0


class Report(Protocol):
    def __call__(self, done: int, **figures: float) -> None:
        """Say how many units are done, and the few figures that matter."""


@contextmanager
def progress(title: str, total: int) -> Iterator[Report]:
    """Report on ``total`` units of work to stderr."""
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(title, total=total, figures="")

            def draw(done: int, **figures: float) -> None:
                bar.update(task, completed=done, figures=_text(figures))

            yield draw
        return

    started = last = time.monotonic()
    first: int | None = None

    def write(done: int, **figures: float) -> None:
        nonlocal last, first
        now = time.monotonic()
        first = done if first is None else first
        if done < total and now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        left = (now - started) / max(1, done - first) * (total - done)
        print(f"{title}: {done}/{total}, {left:.0f} s left  {_text(figures)}", file=sys.stderr, flush=True)

    yield write


def _text(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in figures.items())
