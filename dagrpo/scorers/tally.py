"""Numbers of a run that outlive its processes."""

from collections import Counter
from pathlib import Path


class Tally:
    """Sums by name over all processes of a run and all its starts. Each process adds lines to files of its own, so that
    nothing needs a lock and nothing is lost when one dies. Without a folder, of this process alone."""

    def __init__(self, folder: Path | None, rank: int = 0) -> None:
        self.folder, self.rank = folder, rank
        self._here: Counter[str] = Counter()

    def add(self, name: str, number: int) -> None:
        """Add to a sum; on disk at once where there is a folder."""
        self._here[name] += number
        if self.folder is not None and number:
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / f"{name}-{self.rank}.txt").open("ab", buffering=0) as file:
                file.write(b"%d\n" % number)

    def total(self, name: str) -> int:
        """The sum of all processes, of this start and the ones before."""
        if self.folder is None:
            return self._here[name]
        return sum(int(line) for path in self.folder.glob(f"{name}-*.txt") for line in path.read_bytes().split())
