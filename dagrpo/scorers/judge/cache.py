"""Replies of judges on disk, by the hash of what was asked, in a folder that all runs and nodes share.

Each process appends to a file of its own and reads the others'. So nothing is ever locked or overwritten, which network
file systems do not do reliably: a reader may at worst not see a reply yet, and then asks again.
"""

import json
import os
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path

from dagrpo.errors import UserError
from dagrpo.scorers.judge.prompt import BadReply, Grades, Question, read_reply


class Cache:
    """The folder as one process sees it; not for several threads at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[bytes, str] = {}
        self._texts: dict[str, str] = {}  # equal grades are one string: a run has half a million replies
        self._seen: dict[Path, int] = {}
        self._own: Path | None = None

    def find(self, questions: Iterable[Question]) -> dict[str, Grades]:
        """Look questions up: key -> grades, of those that any process answered before.

        Raises:
            UserError: the folder cannot be read.
        """
        self._read_on()
        found = {}
        for question in questions:
            text = self._known.get(bytes.fromhex(question.key))
            try:
                if text is not None:
                    found[question.key] = read_reply(text, question.bounds)
            except BadReply:
                continue  # it was damaged, and is asked again
        return found

    def keep(self, question: Question, grades: Grades) -> None:
        """Store a valid reply at once, so that what was paid for survives any end of the process.

        Raises:
            UserError: the folder cannot be written to.
        """
        text = json.dumps(grades)
        line = json.dumps({"key": question.key, "grades": text}) + "\n"
        try:
            if self._own is None:
                name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
                self._own = self.folder / name
                self.folder.mkdir(parents=True, exist_ok=True)
            with self._own.open("ab", buffering=0) as file:
                file.write(line.encode())
        except OSError as error:
            raise self._unusable(error) from None
        self._remember(question.key, text)

    def _read_on(self) -> None:
        """Read what was added to any file since the last time, up to the last whole line."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self.folder.glob("*.jsonl")):
                start = self._seen.get(path, 0)
                if path == self._own or path.stat().st_size <= start:
                    continue
                with path.open("rb") as file:
                    file.seek(start)
                    added = file.read()
                end = added.rfind(b"\n") + 1
                self._seen[path] = start + end
                for line in added[:end].splitlines():
                    self._learn(line)
        except OSError as error:
            raise self._unusable(error) from None

    def _learn(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            self._remember(entry["key"], entry["grades"])
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # a writer was cut off, or its disk failed: that reply is asked for again

    def _remember(self, key: str, text: str) -> None:
        self._known.setdefault(bytes.fromhex(key), self._texts.setdefault(text, text))

    def _unusable(self, error: Exception) -> UserError:
        return UserError(
            f"{self.folder}: the judge's cache cannot be used ({error}); set scorer.options.cache to a folder that can "
            "be written to, local or shared"
        )
