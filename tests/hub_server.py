"""A stand-in for the hub on loopback: files of data sets by their path, and sets that ask for a login."""

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0" * 40


@contextmanager
def hub(files: Mapping[str, bytes], gated: Collection[str] = ()) -> Iterator[tuple[str, list[str]]]:
    """Serve files by ``<path>`` as the hub does, and refuse what begins with a gated prefix.

    Yields the address, and a list that grows with the paths that are asked for by GET.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            asked.append(self.path)
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            data = files.get(self.path)
            if any(self.path.startswith(prefix) for prefix in gated):
                self._head(401, 0, {"X-Error-Code": "GatedRepo", "X-Error-Message": "log in"})
            elif data is None:
                self._head(404, 0, {"X-Error-Code": "EntryNotFound"})
            else:
                self._head(200, len(data), {"X-Repo-Commit": COMMIT, "ETag": f'"{sha256(data).hexdigest()}"'})
                if body:
                    self.wfile.write(data)

        def _head(self, status: int, length: int, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(length)}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
