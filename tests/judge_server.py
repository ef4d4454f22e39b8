"""A chat endpoint on loopback that plays good and bad judges: what tests of the judge share."""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GOOD = '{"answer": 4, "validity": 7, "completeness": 10}'

Play = Callable[["Visit"], None]


class Visit:
    """One request, and the ways to answer it. ``number`` counts the requests of a server from 0."""

    def __init__(self, handler: BaseHTTPRequestHandler, number: int, body: dict[str, Any]) -> None:
        self.handler, self.number, self.body = handler, number, body

    @property
    def question(self) -> str:
        text: str = self.body["messages"][-1]["content"]
        return text

    def say(self, content: Any, finish: str = "stop") -> None:
        """Answer with a chat completion."""
        completion = {"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": finish}]}
        self.send(200, json.dumps(completion).encode())

    def send(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        """Answer with raw bytes, of which a length may be claimed that is not theirs."""
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name.replace("_", "-"), value)
        self.handler.send_header("Content-Length", str(len(body) if length is None else length))
        self.handler.end_headers()
        self.handler.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients give up, as some tests want
            super().handle_error(request, client_address)


class JudgeServer:
    """Plays a judge; keeps what it was asked, in order, and how many requests were under way at once."""

    def __init__(self, play: Play) -> None:
        self.play = play
        self.visits: list[Visit] = []
        self.authorizations: list[str | None] = []
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer._lock:
                    visit = Visit(self, len(outer.visits), body)
                    outer.visits.append(visit)
                    outer.authorizations.append(self.headers.get("Authorization"))
                    outer._at_once += 1
                    outer.most_at_once = max(outer.most_at_once, outer._at_once)
                try:
                    assert self.path == "/v1/chat/completions", self.path
                    outer.play(visit)
                finally:
                    with outer._lock:
                        outer._at_once -= 1

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def asked(self) -> int:
        return len(self.visits)

    def serve(self) -> None:
        self._server.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def judge_server(play: Play) -> Iterator[JudgeServer]:
    """Run a server in a thread for the time of a ``with``."""
    server = JudgeServer(play)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def good(visit: Visit) -> None:
    visit.say(GOOD)


def slow(seconds: float) -> Play:
    def play(visit: Visit) -> None:
        time.sleep(seconds)
        visit.say(GOOD)

    return play
