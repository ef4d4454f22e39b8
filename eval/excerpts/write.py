"""The job that writes the excerpts of an experiment."""

import json
from collections.abc import Mapping
from pathlib import Path

from dagrpo.files.checkpoints import write_atomically
from eval.excerpts.lens import lens
from eval.excerpts.samples import samples
from eval.records import Runs


def write_excerpts(corpora: Mapping[str, Runs], out: Path) -> None:
    """Write ``lens.json`` and ``samples.json`` to a folder."""
    for name, content in (("lens", lens(corpora)), ("samples", samples(corpora))):
        text = json.dumps({name: content}, ensure_ascii=False, separators=(",", ":"))
        write_atomically(out / f"{name}.json", text.encode())
