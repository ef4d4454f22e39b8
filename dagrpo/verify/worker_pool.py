"""The process behind a verifier: it holds the judges ready in memory, and forks the workers that use them.

A worker that exceeds its processor time, its wall-clock time or its memory dies alone; the next one is forked in
milliseconds, since nothing has to be imported again. :class:`dagrpo.verify.workers.Workers` starts it as
``python -m dagrpo.verify.worker_pool DESCRIPTOR WORKERS BYTES``; requests and replies are JSON lines on a socket.
"""

import gc
import json
import os
import resource
import selectors
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass

from dagrpo.verify.judge import JUDGES, warm
from dagrpo.verify.settle import Judgement

FAILED = "t"
_CHUNK = 32

# math-verify's parser learns its grammar as it goes: what it has met here is fast in every worker. It is asked about
# expressions, relations, and what our reader leaves undone.
_WARMING = (
    *("25", "2^{10}", "n!", r"-\frac{\sqrt{3}}{2}", r"3\pi+6i", r"\binom{5}{2}", r"\log_2 3", "|x-1|", "x^2+3x-1"),
    *("y=2x+1", r"x<y\le 3", r"e^{-2t}\sin x", r"f(x)=\frac{x+1}{x-1}", r"F_n=\sum_{k=0}^{n-1}F_k F_{n-k}"),
    *(r"\prod_{k=1}^n(k+1)", r"\int_0^1 f(x)dx", r"\lim_{x\to 0}\frac{\sin x}{x}", r"\gcd(12,18)"),
)


@dataclass(slots=True)
class Worker:
    """A forked process, on the tasks from ``at`` to ``stop``; it last reported at ``since`` (monotonic seconds)."""

    pid: int
    channel: socket.socket
    at: int = 0
    stop: int = 0
    since: float = 0.0


class WorkerPool:
    """A fixed number of workers, each replaced when it dies."""

    def __init__(self, count: int, memory: int) -> None:
        self.memory = memory
        self.selector = selectors.DefaultSelector()
        self.workers: list[Worker] = []
        for _ in range(count):
            self._fork()

    def run(self, tasks: list[list[str]], cpu: float, wall: float) -> str:
        """Judge tasks ``[judge, gold, answer]``: one character each, a :class:`Judgement` or ``FAILED``.

        Args:
            cpu: processor time that a task may take (seconds).
            wall: time that may pass until a task is done (seconds).
        """
        results = [FAILED] * len(tasks)
        size = max(1, min(_CHUNK, len(tasks) // (4 * len(self.workers))))
        waiting = deque((start, min(start + size, len(tasks))) for start in range(0, len(tasks), size))
        while waiting or any(worker.at < worker.stop for worker in self.workers):
            for worker in list(self.workers):
                if waiting and worker.at == worker.stop:
                    self._give(worker, *waiting.popleft(), tasks, cpu)
            busy = [worker for worker in self.workers if worker.at < worker.stop]
            soonest = min(worker.since for worker in busy) + wall
            for key, _ in self.selector.select(max(0.0, soonest - time.monotonic())):
                worker = key.data
                done = _receive(worker.channel)
                results[worker.at : worker.at + len(done)] = done.decode()
                worker.at, worker.since = worker.at + len(done), time.monotonic()
                if not done:
                    self._replace(worker)
                    if worker.at + 1 < worker.stop:  # the task that it died of stays failed
                        waiting.appendleft((worker.at + 1, worker.stop))
            for worker in busy:
                if worker in self.workers and worker.at < worker.stop and time.monotonic() > worker.since + wall:
                    os.kill(worker.pid, signal.SIGKILL)
        return "".join(results)

    def close(self) -> None:
        for worker in list(self.workers):
            self._bury(worker)

    def _give(self, worker: Worker, start: int, stop: int, tasks: list[list[str]], cpu: float) -> None:
        request = json.dumps({"cpu": cpu, "tasks": tasks[start:stop]}).encode() + b"\n"
        try:
            worker.channel.sendall(request)
        except (BrokenPipeError, ConnectionResetError):  # it was killed from outside while it had nothing to do
            self._replace(worker)
            worker = self.workers[-1]
            worker.channel.sendall(request)
        worker.at, worker.stop, worker.since = start, stop, time.monotonic()

    def _replace(self, worker: Worker) -> None:
        self._bury(worker)
        self._fork()

    def _bury(self, worker: Worker) -> None:
        self.workers.remove(worker)
        self.selector.unregister(worker.channel)
        worker.channel.close()
        os.kill(worker.pid, signal.SIGKILL)
        os.waitpid(worker.pid, 0)

    def _fork(self) -> None:
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self.selector.close()
            for worker in self.workers:
                worker.channel.close()  # or a worker would outlive the pool, held open by its siblings
            _work(theirs, self.memory)
        theirs.close()
        worker = Worker(pid, ours)
        self.workers.append(worker)
        self.selector.register(ours, selectors.EVENT_READ, worker)


def _receive(channel: socket.socket) -> bytes:
    try:
        return channel.recv(_CHUNK)
    except ConnectionResetError:  # it died with tasks unread
        return b""


def _work(channel: socket.socket, memory: int) -> None:
    """Life of a worker: judge what arrives, one character a task, until the pool closes the channel."""
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    for line in channel.makefile("rb"):
        request = json.loads(line)
        for judge, gold, answer in request["tasks"]:
            # RLIMIT_CPU counts whole seconds of a process's life. This timer counts fractions of a second of one task,
            # and ends the process in the same way: by a signal that nothing here handles.
            signal.setitimer(signal.ITIMER_PROF, request["cpu"])
            outcome = _judge(judge, gold, answer)
            signal.setitimer(signal.ITIMER_PROF, 0)
            channel.sendall(outcome.value.encode())
    os._exit(0)


def _judge(judge: str, gold: str, answer: str) -> Judgement:
    try:
        return JUDGES[judge](gold, answer)
    except Exception:  # the libraries raise all sorts of things on strange input; what cannot be compared is not equal
        return Judgement.UNEQUAL


def main() -> None:
    """Serve requests until the other side closes the socket."""
    descriptor, count, memory = map(int, sys.argv[1:])
    channel = socket.socket(fileno=descriptor)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    for text in _WARMING:
        warm(text)
    _judge("math_verify", "x^2-1", "(x-1)(x+1)")
    gc.collect()
    gc.freeze()  # the collector must not write to, and so copy, what workers share with this process
    # A worker must not hold this process's end: the verifier learns of its death by the closing of the socket.
    os.set_inheritable(descriptor, False)
    pool = WorkerPool(count, memory)
    channel.sendall(b"ready\n")
    try:
        for line in channel.makefile("rb"):
            request = json.loads(line)
            outcome = pool.run(request["tasks"], request["cpu"], request["wall"])
            channel.sendall(outcome.encode() + b"\n")
    except BrokenPipeError:
        pass
    pool.close()


if __name__ == "__main__":
    main()
