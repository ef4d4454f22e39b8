"""End a run that hangs: say what each process was doing, and which state the next start goes on from.

A hang costs a cluster's whole allocation otherwise. Every process has a thread that watches its steps. Several
processes publish the age of their last sign of life, and none ends while another one is alive: it may be the one that
waits for a judge.
"""

import faulthandler
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from dagrpo.errors import EXIT_INTERRUPTED
from dagrpo.processes.heartbeat import age, beat
from dagrpo.processes.world import World

FEWEST = 3
"""Steps that make a median."""


class Ages(Protocol):
    """Tells every process how long ago each gave its last sign of life (seconds)."""

    def youngest(self, mine: float) -> float: ...


class Alone:
    """One process."""

    def youngest(self, mine: float) -> float:
        return mine


class Shared:
    """Processes that torchrun started, through another connection to their store: threads must not share one."""

    def __init__(self, world: World) -> None:
        import torch.distributed as dist

        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        self._store = dist.TCPStore(address, port, is_master=False, timeout=timedelta(seconds=30))
        self._rank, self._size = world.rank, world.size
        self._publish(0.0)

    def youngest(self, mine: float) -> float:
        self._publish(mine)
        signs = [
            float(self._store.get(name)) for rank in range(self._size) if self._store.check([name := self._name(rank)])
        ]
        return min(mine, *(time.time() - sign for sign in signs)) if signs else mine

    def _publish(self, mine: float) -> None:
        self._store.set(self._name(self._rank), str(time.time() - mine))

    def _name(self, rank: int) -> str:
        return f"dagrpo/alive/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{rank}"


@contextmanager
def watch(
    world: World,
    factor: float,
    sealed: Callable[[], int],
    least: float = 600.0,
    first: float = 7200.0,
    poll: float = 30.0,
) -> Iterator[Callable[[], None]]:
    """Watch a run; yields what is to be called after each step.

    Args:
        factor: a step may take so many times the median of the steps before it.
        sealed: tells how many steps the newest sealed state holds.
        least: and so long at any rate (seconds).
        first: how long the first steps may take, of which there is no median yet (seconds).
        poll: time between two looks (seconds).

    Where no process of the run has shown a sign of life for longer, each writes the stacks of its threads to stderr and
    ends with exit code 75: the same command goes on from the newest sealed state.
    """
    durations: list[float] = []
    began = [time.monotonic()]
    over = threading.Event()
    ages: Ages = Shared(world) if world.size > 1 else Alone()

    def step_done() -> None:
        now = time.monotonic()
        durations.append(now - began[0])
        began[0] = now
        beat()

    def limit() -> float:
        return max(least, factor * statistics.median(durations)) if len(durations) >= FEWEST else max(least, first)

    def look() -> None:
        while not over.wait(poll):
            if age() > limit() and ages.youngest(age()) > limit():
                _end(world, age(), durations, sealed())
            elif world.size > 1:
                ages.youngest(age())

    beat()
    threading.Thread(target=look, name="watchdog", daemon=True).start()
    try:
        yield step_done
    finally:
        over.set()


def _end(world: World, silent: float, durations: list[float], sealed: int) -> None:
    usual = f"; the median step takes {statistics.median(durations):.0f} s" if durations else ""
    print(
        f"process {world.rank + 1} of {world.size} hangs: no sign of life for {silent:.0f} s{usual}. This is what it "
        f"is doing. The newest sealed state holds {sealed} steps: run the same command again to continue from it",
        file=sys.stderr,
        flush=True,
    )
    faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
    sys.stderr.flush()
    os._exit(EXIT_INTERRUPTED)
