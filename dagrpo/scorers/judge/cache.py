"""Replies of judges on disk, by the hash of what was asked: one SQLite file that many processes share."""

import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random

from dagrpo.errors import UserError
from dagrpo.scorers.judge.prompt import BadReply, Grades, Question, read_reply

_PATIENCE = 30.0
"""How long another process may hold the file (seconds)."""


class Cache:
    """An open file of replies; use it in a ``with``. One thread at a time.

    Raises:
        UserError: the file cannot be opened or is no such cache.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
            # SQLite does not wait when two processes turn on the write-ahead log of a new file at once.
            for attempt in Retrying(
                retry=retry_if_exception_type(sqlite3.OperationalError),
                wait=wait_random(0.01, 0.1),
                stop=stop_after_delay(_PATIENCE / 10),
                reraise=True,
            ):
                with attempt:
                    self._file.execute("PRAGMA journal_mode=WAL")
            self._file.execute("PRAGMA synchronous=NORMAL")
            self._file.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, grades TEXT NOT NULL)")
        except (OSError, sqlite3.Error) as error:
            raise _unusable(path, error) from None

    def __enter__(self) -> "Cache":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def find(self, questions: Sequence[Question]) -> dict[str, Grades]:
        """Look questions up: key -> grades, of those that were answered before."""
        found = {}
        for question in questions:
            try:
                row = self._file.execute("SELECT grades FROM replies WHERE key = ?", (question.key,)).fetchone()
                if row is not None:
                    found[question.key] = read_reply(row[0], question.bounds)
            except BadReply:
                continue  # a damaged row is asked again
            except sqlite3.Error as error:
                raise _unusable(self.path, error) from None
        return found

    def keep(self, question: Question, grades: Grades) -> None:
        """Store a valid reply at once, so that what was paid for survives any end of the process."""
        try:
            self._file.execute("INSERT OR REPLACE INTO replies VALUES (?, ?)", (question.key, json.dumps(grades)))
        except sqlite3.Error as error:
            raise _unusable(self.path, error) from None


def _unusable(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{path}: the judge's cache cannot be used ({error}); free or move the file, or set scorer.options.cache to a "
        "path on a local disk"
    )
