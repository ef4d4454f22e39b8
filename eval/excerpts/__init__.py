"""What the page shows of texts: chosen training groups, and chosen samples. Every choice is drawn by a seed."""

from pathlib import Path
from typing import Any

from eval.files import read_json

SAMPLES = 4
"""Samples of a problem that are shown of a run, the first ones."""


def read_excerpts(folder: Path) -> dict[str, Any]:
    """The excerpts of an experiment by the names ``lens`` and ``samples``, empty lists where none were made."""
    paths = {name: folder / f"{name}.json" for name in ("lens", "samples")}
    return {name: read_json(path)[name] if path.is_file() else [] for name, path in paths.items()}
