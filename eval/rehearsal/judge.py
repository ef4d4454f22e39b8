"""A stand-in for a judge: a chat endpoint on loopback that replies in the judge's form, without reading."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        choice = {"index": 0, "message": {"role": "assistant", "content": reply(asked)}, "finish_reason": "stop"}
        body = json.dumps({"object": "chat.completion", "model": asked["model"], "choices": [choice]}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def reply(asked: dict[str, Any]) -> str:
    """Grades that hang on the question alone and differ from one to another, so that a mask meets both kinds of rows.

    Args:
        asked: the body of the request.
    """
    draw = sha256(json.dumps(asked["messages"]).encode()).digest()[0]
    if "first_wrong_step" in str(asked["messages"][0]["content"]):
        return json.dumps({"first_wrong_step": draw % 2})
    return json.dumps(dict.fromkeys(("answer", "validity", "completeness"), 1 + draw % 10))


@contextmanager
def stand_in_judge(port: int) -> Iterator[str]:
    """Serve for the time of a ``with``; yields the base URL. ``port`` 0 takes a free one."""
    server = _Server(("127.0.0.1", port), _Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
