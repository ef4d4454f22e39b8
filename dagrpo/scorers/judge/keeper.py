"""Run a command for as long as the process lives that started this one, however that ends.

``python -m dagrpo.scorers.judge.keeper COMMAND...``: the standard input is a pipe whose other end the parent holds.
When it closes, even by ``kill -9``, the command and all that it started are ended, so that no GPU stays taken.
"""

import os
import signal
import subprocess
import sys
import threading

_PATIENCE = 20.0
"""Between SIGTERM and SIGKILL (seconds)."""


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to end
    command = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, start_new_session=True)

    def follow() -> None:
        os._exit(command.wait() & 0xFF)

    threading.Thread(target=follow, daemon=True).start()
    while sys.stdin.buffer.read(4096):
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(command.pid, number)
            command.wait(_PATIENCE)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
        break


if __name__ == "__main__":
    main()
