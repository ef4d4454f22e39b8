"""How long verdicts would take on free cores, whatever else the machine does: by processor time."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dagrpo.verify.workers import Workers

_TICK = os.sysconf("SC_CLK_TCK")


class Stopwatch:
    """``seconds``: this process's processor time, and the workers' divided by how many there are."""

    seconds: float = 0.0


@contextmanager
def stopwatch(workers: Workers) -> Iterator[Stopwatch]:
    """Measure a block that gives tasks to workers which have answered before."""
    watch = Stopwatch()
    own, theirs = time.process_time(), _processor_seconds(workers._process.pid)
    yield watch
    theirs = _processor_seconds(workers._process.pid) - theirs
    watch.seconds = time.process_time() - own + theirs / workers.count


def children(pid: int) -> set[int]:
    """Child processes that are alive."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def _processor_seconds(pool: int) -> float:
    """Of a process, its living children and those that it has buried."""
    own = _times(pool)
    return (sum(own) + sum(sum(_times(child)[:2]) for child in children(pool))) / _TICK


def _times(pid: int) -> list[int]:
    """User, system, and both of buried children (clock ticks); see proc(5)."""
    return [int(word) for word in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]]
