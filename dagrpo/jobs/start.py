"""Start the host of a workflow's run."""

import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from dagrpo.jobs.environment import with_defaults
from dagrpo.jobs.wire import ADDRESS


def start_host(log: Path) -> None:
    """Start a host that lives as long as this process, and name it to the jobs that this process starts from now on.

    Only on Linux: elsewhere the libraries that it holds are not safe to fork.
    """
    if sys.platform != "linux":
        return
    path = Path(tempfile.mkdtemp(prefix="dagrpo-jobs-")) / "host"  # short, as a socket's path must be
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(128)  # jobs may ask before the imports are there
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as stream:
            subprocess.Popen(
                [sys.executable, "-P", "-m", "dagrpo.jobs.host", str(listener.fileno()), str(os.getpid())],
                pass_fds=(listener.fileno(),),
                stdin=subprocess.DEVNULL,
                env=with_defaults(os.environ),
                stdout=stream,
                stderr=stream,
                start_new_session=True,  # Ctrl-C is for the commands, which pass it on
            )
    os.environ[ADDRESS] = str(path)
