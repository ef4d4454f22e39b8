"""Long work in batches: what is finished is on disk, and the next call goes on after it."""

import json
import shutil
from pathlib import Path
from typing import Any

from dagrpo.files.checkpoints import flush


class Partial:
    """Finished batches on disk: a file of records, and after each batch a line that says how long the file is."""

    def __init__(self, folder: Path, identity: str) -> None:
        self.records, self.log = folder / "records.jsonl", folder / "batches.log"
        lines = self.log.read_text().split("\n")[:-1] if self.log.exists() else []
        if not lines or lines[0] != identity:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            self.records.touch()
            self.log.write_text(identity + "\n")
            lines = [identity]
        self.batches = len(lines) - 1
        self.log.write_text("\n".join(lines) + "\n")
        with self.records.open("r+b") as stream:
            stream.truncate(int(lines[-1]) if self.batches else 0)

    def append(self, records: list[dict[str, Any]]) -> None:
        """Add a batch; once this returns, no stop loses it."""
        _append(self.records, "".join(json.dumps(record) + "\n" for record in records))
        _append(self.log, f"{self.records.stat().st_size}\n")
        self.batches += 1

    def content(self) -> bytes:
        """What was appended so far: JSON Lines."""
        return self.records.read_bytes()

    def read(self) -> list[dict[str, Any]]:
        """The records that were appended so far."""
        return [json.loads(line) for line in self.content().splitlines()]


def _append(path: Path, text: str) -> None:
    with path.open("a") as stream:
        stream.write(text)
    flush(path)
