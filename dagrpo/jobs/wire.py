"""What a job's command and its host tell each other: JSON lines over a Unix socket."""

import json
import socket
from typing import Any

ADDRESS = "DAGRPO_JOB"
"""Environment variable of a job of the workflow: the path of its host's socket, empty where it has none."""

_CHUNK = 65536


def send(connection: socket.socket, message: dict[str, Any], streams: tuple[int, ...] = ()) -> None:
    """Send one message, and with it open files."""
    data = json.dumps(message).encode() + b"\n"
    if streams:
        sent = socket.send_fds(connection, [data], streams)
        data = data[sent:]
    connection.sendall(data)


class Reader:
    """The messages of a connection, one after another."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._held = connection, b""
        self.streams: list[int] = []

    def next(self) -> dict[str, Any] | None:
        """The next message, None where the other side has gone; open files that came with it join ``streams``."""
        while b"\n" not in self._held:
            data, streams, _, _ = socket.recv_fds(self._connection, _CHUNK, 3)
            self.streams += streams
            if not data:
                return None
            self._held += data
        line, _, self._held = self._held.partition(b"\n")
        return dict(json.loads(line))
