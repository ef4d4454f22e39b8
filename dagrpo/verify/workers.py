"""Judge answers in killable processes, and keep what hostile answers cost within bounds.

What a judge cannot compute is refused before it gets here; this module is for what slips through. How long a task may
take is decided by counting, never by a clock, so that neither the machine's load nor the number of workers changes a
verdict. With L the limit of a verdict: every task is first tried with L/100 of processor time. Those that did not end
are tried once more, in order, with L/4. The clock ends a try that gets no processor, after 10 L, as a last resort.
Second tries that end cost nothing, but those that fail may cost a call 0.6 L together: when the next one could exceed
that, the tasks that are left have failed.

So 64 answers that never end take at most 0.64 L + 0.6 L of processor time, divided among the workers, and some
milliseconds for each replaced worker.
"""

import json
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from os import environ, pathsep
from pathlib import Path

from dagrpo.errors import Interrupted
from dagrpo.processes.signals import ShouldStop
from dagrpo.verify.settle import Judgement

Task = tuple[str, str, str]
"""Name of a judge, gold, answer."""

MEMORY = 1 << 30
"""Address space of a worker (bytes)."""

_FIRST, _SECOND, _LOSS = 1 / 100, 1 / 4, 0.6
_WALL = 10
_POLL_SECONDS = 0.05


class Workers:
    """A pool process and its workers; started at once, in the background, and again after an interruption."""

    def __init__(self, count: int, seconds: float, should_stop: ShouldStop) -> None:
        self.count, self.seconds, self.should_stop = count, seconds, should_stop
        self._start()

    def judge(self, tasks: Sequence[Task]) -> list[Judgement | None]:
        """Judge tasks, in order; ``None`` where a task did not end within its limits.

        Raises:
            Interrupted: a stop was asked for; what was judged so far is dropped.
        """
        return try_twice(tasks, self._run, self.seconds)

    def close(self) -> None:
        """End the processes."""
        self._socket.close()
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair()
        root = str(Path(__file__).parents[2])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "dagrpo.verify.worker_pool", str(theirs.fileno()), str(self.count), str(MEMORY)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for the trainer, which ends the pool in its own time
            # Set order must not differ from run to run, and a worker is one thread.
            env={
                **environ,
                "PYTHONHASHSEED": "0",
                "OMP_NUM_THREADS": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "PYTHONPATH": pathsep.join(filter(None, (root, environ.get("PYTHONPATH")))),
            },
        )
        theirs.close()
        self._ready = False

    def _run(self, tasks: Sequence[Task], cpu: float) -> list[Judgement | None]:
        if not self._ready:
            self._receive()
            self._ready = True
        request = {"tasks": tasks, "cpu": cpu, "wall": _WALL * self.seconds}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        outcome = self._receive()
        return [Judgement(mark) if mark in _MARKS else None for mark in outcome]

    def _receive(self) -> str:
        received = b""
        while not received.endswith(b"\n"):
            if self.should_stop():
                self.close()
                self._start()
                raise Interrupted
            if select.select([self._socket], [], [], _POLL_SECONDS)[0]:
                part = self._socket.recv(1 << 16)
                if not part:
                    raise RuntimeError(
                        f"the verifier's process ended with code {self._process.wait()}; its own message stands above"
                    )
                received += part
        return received.decode().strip()


_MARKS = {judgement.value for judgement in Judgement}


def try_twice(
    tasks: Sequence[Task], run: Callable[[Sequence[Task], float], list[Judgement | None]], seconds: float
) -> list[Judgement | None]:
    """Try tasks, and those that did not end again, as the head of this module says.

    Args:
        run: judges tasks with an allowance of processor time (seconds) for each; ``None`` marks a failed try.
        seconds: L.
    """
    if not tasks:
        return []
    results = run(tasks, _FIRST * seconds)
    waiting = [index for index, result in enumerate(results) if result is None]
    allowance, left = _SECOND * seconds, _LOSS * seconds
    while waiting and left >= allowance:
        room = int(left / allowance)
        wave, waiting = waiting[:room], waiting[room:]
        for index, result in zip(wave, run([tasks[index] for index in wave], allowance), strict=True):
            results[index] = result
            left -= allowance * (result is None)
    return results
