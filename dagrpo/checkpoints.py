"""Sealed checkpoints: folders of safetensors and JSON that are either whole or refused.

A folder is written aside, flushed, sealed by ``manifest.json`` (sha256 of every file) and renamed into place, so a
crash at any instant leaves the checkpoint before it intact.
"""

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

MANIFEST = "manifest.json"


class Damaged(Exception):
    """A checkpoint is not what its seal says."""


def save(
    folder: Path, tensors: Mapping[str, Tensor], data: Mapping[str, Any], files: Mapping[str, bytes] | None = None
) -> None:
    """Write one checkpoint folder atomically; an existing folder of that name is replaced.

    Args:
        folder: where it shall stand; its parent is made if needed.
        tensors: named tensors on any device.
        data: JSON-serialisable state.
        files: further files by name, as bytes.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    with disk_errors():
        save_file(
            {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
            aside / "tensors.safetensors",
        )
    (aside / "data.json").write_text(json.dumps(data, indent=1, sort_keys=True))
    for name, content in (files or {}).items():
        (aside / name).write_bytes(content)
    manifest = {path.name: _digest(path) for path in sorted(aside.iterdir())}
    (aside / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in aside.iterdir():
        flush(path)
    flush(aside)
    if folder.exists():
        shutil.rmtree(folder)
    aside.rename(folder)
    flush(folder.parent)


def load(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint back: its tensors (on the CPU) and its data.

    Raises:
        Damaged: a file is missing, truncated or altered; the sentence names it.
    """
    verify(folder)
    return load_file(folder / "tensors.safetensors"), json.loads((folder / "data.json").read_text())


def verify(folder: Path) -> None:
    """Compare every file with the seal. Raises :class:`Damaged`."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if not isinstance(manifest, dict):
            raise ValueError
    except (OSError, ValueError):
        raise Damaged(f"{folder}: the seal ({MANIFEST}) is missing or unreadable") from None
    for name, digest in manifest.items():
        path = folder / name
        if not path.is_file():
            raise Damaged(f"{folder}: {name} is missing")
        if _digest(path) != digest:
            raise Damaged(f"{folder}: {name} differs from its seal (truncated or altered)")
    if not {"tensors.safetensors", "data.json"} <= manifest.keys():
        raise Damaged(f"{folder}: the seal does not name all files")


def latest(root: Path) -> Path | None:
    """The newest intact ``step-*`` folder below a root, or ``None``; damaged ones are named on stderr and passed."""
    for folder in sorted(root.glob("step-*"), reverse=True):
        try:
            verify(folder)
        except Damaged as damage:
            print(f"checkpoint refused, the one before it is used: {damage}", file=sys.stderr, flush=True)
        else:
            return folder
    return None


def prune(root: Path, keep: int = 2) -> None:
    """Delete all but the newest ``keep`` checkpoints below a root."""
    for folder in sorted(root.glob("step-*"), reverse=True)[keep:]:
        shutil.rmtree(folder)


def step_folder(root: Path, step: int) -> Path:
    """Where the checkpoint after ``step`` steps stands."""
    return root / f"step-{step:08d}"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a single file aside, flush it, and rename it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.writing")
    aside.write_bytes(content)
    flush(aside)
    aside.replace(path)


@contextmanager
def disk_errors() -> Iterator[None]:
    """Raise as ``OSError`` what safetensors reports as an error of its own when the disk fails."""
    try:
        yield
    except SafetensorError as error:
        found = re.search(r"\(os error (\d+)\)", str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        digest = sha256()
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def flush(path: Path) -> None:
    """Force a file's or a folder's content to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
