"""The process that holds the imports, and forks itself for each job of a workflow's run.

A fork costs milliseconds where the imports cost seconds of a core. Nothing but imports happens before it, so that a job
computes what it would compute in a process of its own, to the bit. Between a job's command and its worker stands a
keeper, which passes signals on, and ends the worker if the command is killed.

    host ── fork ──> keeper ── fork ──> worker
                       ^
    command ───────────┘ (one connection a job)
"""

import gc
import os
import signal
import socket
import sys
import threading
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from dagrpo.jobs.wire import Reader, send

_IMPORTS = (
    "dagrpo.measurements.conflict",
    "dagrpo.policy.base",
    "dagrpo.problems",
    "dagrpo.trainer.job",
    "eval.report",
    "eval.sampling",
    "eval.tables",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen2.modeling_qwen2",
)
_POLL = 1.0  # seconds between looks at whether the workflow still runs


def load() -> None:
    """Import what jobs need, and start no thread: a fork carries the calling one alone.

    OpenBLAS and jemalloc do start native threads, and make them anew in a fork.
    """
    for module in _IMPORTS:
        import_module(module)
    if threading.active_count() > 1:
        raise RuntimeError(
            "an import has started a thread, so that no fork is safe; jobs load what they need themselves"
        )
    gc.freeze()  # else a worker's first collection copies every page of the imports


def serve(listener: socket.socket, workflow: int) -> list[str] | None:
    """Answer the commands of a workflow's jobs until the process of that number, which started this one, is gone.

    Returns twice: in each worker the words of its job, with the job's folder, environment and streams in place; in the
    host None.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers need no farewell
    listener.settimeout(_POLL)
    loaded = False
    while os.getppid() == workflow:
        with suppress(TimeoutError):
            connection, _ = listener.accept()
            if not loaded:  # not before: a workflow may have no job that needs them
                load()
                loaded = True
            if os.fork() == 0:
                listener.close()
                return _keep(connection)
            connection.close()
    return None


def _keep(connection: socket.socket) -> list[str]:
    """Start the worker of a job, keep it, and end with it; returns in the worker."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.setblocking(True)
    reader = Reader(connection)
    job = reader.next()
    if job is None:
        os._exit(0)
    worker = os.fork()
    if worker == 0:
        os.setpgid(0, 0)
        connection.close()
        return _become(job, reader.streams)
    with suppress(OSError):
        os.setpgid(worker, worker)  # whichever of the two comes first
    send(connection, {"worker": worker})
    for stream in reader.streams:
        os.close(stream)
    running = threading.Lock()
    threading.Thread(target=_pass_on, args=(reader, worker, running), daemon=True).start()
    os.waitid(os.P_PID, worker, os.WEXITED | os.WNOWAIT)
    with running:  # from here on its number may be another process's
        _, status = os.waitpid(worker, 0)
        with suppress(OSError):  # the command is gone
            send(connection, {"code": os.waitstatus_to_exitcode(status)})
        os._exit(0)


def _pass_on(reader: Reader, worker: int, running: threading.Lock) -> None:
    """Pass the command's signals on to its worker; once the command is gone, kill the worker and what it started."""
    while True:
        message = _next(reader)
        with running, suppress(ProcessLookupError):
            if message is None:
                os.killpg(worker, signal.SIGKILL)
                return
            os.kill(worker, message["signal"])


def _next(reader: Reader) -> dict[str, Any] | None:
    try:
        return reader.next()
    except OSError:
        return None


def _become(job: dict[str, Any], streams: list[int]) -> list[str]:
    """Take on a job's streams, folder and environment."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(job["folder"])
    os.umask(job["umask"])
    os.environ.clear()
    os.environ.update(job["environment"])
    return list(job["words"])


def main() -> None:
    """Serve on the socket of the first number, for the process of the second; in a worker, run its job."""
    listener, workflow = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    host = os.getpid()
    path = Path(listener.getsockname())
    try:
        words = serve(listener, workflow)
    finally:
        if os.getpid() == host:
            path.unlink(missing_ok=True)
            with suppress(OSError):
                path.parent.rmdir()
    listener.close()
    if words is not None:
        from dagrpo.cli import main as run

        sys.argv = ["dagrpo", *words]
        run()


if __name__ == "__main__":
    main()
