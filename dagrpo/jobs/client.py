"""A job's command: let the host of this run of the workflow do the work, as if it were done here.

It imports nothing heavy. It passes SIGTERM and Ctrl-C on to the work, and ends as the work ends: with the same exit
code, or by the same signal. If it is killed, the work is killed too.
"""

import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from dagrpo.jobs.wire import ADDRESS, Reader, send
from dagrpo.processes.signals import STOPS


def run_hosted(words: Sequence[str]) -> None:
    """Run ``dagrpo`` with these words in the host and end this process with it; return where there is no host."""
    path = os.environ.get(ADDRESS)
    if not path:
        return
    os.environ[ADDRESS] = ""  # what the work starts runs by itself
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(path)
            job = {"words": list(words), "folder": str(Path.cwd()), "environment": dict(os.environ), "umask": _umask()}
            send(connection, job, (0, 1, 2))
            reader = Reader(connection)
            started = reader.next()
        except OSError:  # the workflow that had it is gone, or runs on another node
            started = None
        if started is None:
            return

        def pass_on(number: int, _frame: FrameType | None) -> None:
            send(connection, {"signal": number})

        for number in STOPS:
            signal.signal(number, pass_on)
        ended = reader.next()
    if ended is None:
        print(
            "error: the process that keeps this job has died; run the same command again", file=sys.stderr, flush=True
        )
    _end_as(1 if ended is None else int(ended["code"]))


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _end_as(code: int) -> NoReturn:
    """End with an exit code or, where it is negative, by that signal."""
    if code < 0:
        if -code in STOPS:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)
