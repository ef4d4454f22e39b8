"""Sides of a comparison that differ in what a process is started with: each measurement is a process of its own."""

import os
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager


def measured(script: str, changes: Mapping[str, str | None], *words: str) -> dict[str, float]:
    """Run Python code that prints lines of a name and a number, and return these.

    Args:
        changes: to the environment; None takes a variable away.
    """
    environment = {name: value for name, value in {**os.environ, **changes}.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-c", script, *words], env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    lines = [line.rsplit(maxsplit=1) for line in done.stdout.splitlines()]
    return {name: float(value) for name, value in lines}


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Keep so many other processes busy meanwhile."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def header(sides: Iterable[str]) -> list[str]:
    """The head of a table of rows."""
    first, *others = sides
    return ["", first, *(column for other in others for column in (other, "times faster"))]


def row(name: str, took: Mapping[str, Sequence[float]]) -> list[str]:
    """A line of a table: median and spread of each side, and how many times faster than the first all others are."""
    first, *others = took.values()
    cells = [name, _cell(first)]
    for other in others:
        cells += [_cell(other), f"{statistics.median(first) / statistics.median(other):.2f}"]
    return cells


def _cell(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"
