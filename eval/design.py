"""When a study was fixed: the commit that last changed its experiment file."""

import subprocess
from pathlib import Path

from dagrpo.files.checkpoints import write_atomically

DESIGN = "design.txt"


def of_file(name: str) -> str:
    """Say which commit last changed ``config/<name>.yaml`` of the repository that this runs in, and when.

    Empty where there is no such file, no git, or the file differs from what is committed.
    """
    path = f"config/{name}.yaml"
    if not Path(path).is_file() or _git("status", "--porcelain", "--", path) != "":
        return ""
    commit = _git("log", "-1", "--format=%H, %cI", "--", path)
    return f"The experiment, {path}, was last changed in commit {commit}." if commit else ""


def read(folder: Path) -> str:
    """What a ledger says of its study's design; empty where it says nothing."""
    path = folder / DESIGN
    return path.read_text("utf-8").strip() if path.is_file() else ""


def keep(folder: Path, sentence: str) -> None:
    """Write it into a ledger that says nothing yet: arms and seeds that are added later do not change the design."""
    if sentence and not read(folder):
        write_atomically(folder / DESIGN, f"{sentence}\n".encode())


def _git(*words: str) -> str | None:
    """What git prints; ``None`` where it fails or is missing."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
