"""Sealed checkpoints: folders of safetensors and JSON that are either whole or refused.

A folder is written aside, flushed, sealed by ``manifest.json`` (sha256 of every file) and renamed into place, so a
crash at any instant leaves the checkpoint before it intact. Where several processes hold parts of the tensors, each
writes a file of its own; a tensor is what its parts make one below the other, in the order of the files' names, so that
any number of processes can read it.
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

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dagrpo.processes.world import ALONE, World

MANIFEST = "manifest.json"


class Damaged(Exception):
    """A checkpoint is not what its seal says."""


class Stored(Mapping[str, Tensor]):
    """The tensors of a checkpoint by name, on the CPU, each read when it is asked for.

    Args:
        files: which files of the folder hold them.
    """

    def __init__(self, folder: Path, files: str = "tensors*.safetensors") -> None:
        self._parts: dict[str, list[Any]] = {}
        for path in sorted(folder.glob(files)):
            file = safe_open(path, "pt")
            for name in file.keys():  # noqa: SIM118 - a file of safetensors is no mapping
                self._parts.setdefault(name, []).append(file)

    def __getitem__(self, name: str) -> Tensor:
        parts = [file.get_tensor(name) for file in self._parts[name]]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, of which nothing is read."""
        shapes = [file.get_slice(name).get_shape() for file in self._parts[name]]
        return (sum(shape[0] for shape in shapes), *shapes[0][1:]) if shapes[0] else ()

    def rows(self, name: str, first: int, end: int) -> Tensor:
        """Rows ``first`` to ``end - 1`` of a tensor, one at least; no others are read."""
        found, start = [], 0
        for file in self._parts[name]:
            part = file.get_slice(name)
            count = part.get_shape()[0]
            low, high = max(first - start, 0), min(end - start, count)
            if low < high:
                found.append(part[low:high])
            start += count
        return torch.cat(found)


def save(
    folder: Path,
    tensors: Mapping[str, Tensor],
    data: Mapping[str, Any],
    files: Mapping[str, bytes] | None = None,
    world: World = ALONE,
) -> None:
    """Write one checkpoint folder atomically; an existing folder of that name is replaced.

    Args:
        folder: where it shall stand; its parent is made if needed. All processes of the world must see it.
        tensors: named tensors on any device: of each, the rows that this process holds.
        data: JSON-serialisable state.
        files: further files by name, as bytes.
        world: the processes that write it, all of which call this.
    """
    aside = folder.with_name(f".{folder.name}.writing")
    name = "tensors.safetensors"
    if world.size > 1:
        name = f"tensors-{world.rank + 1:05d}-of-{world.size:05d}.safetensors"
    world.once(lambda: _begin(aside))
    digests = world.each(lambda: {name: _write_tensors(aside / name, tensors)})
    seals = {name: digest for one in digests for name, digest in one.items()}
    world.once(lambda: _finish(aside, folder, data, files or {}, seals))


def _begin(aside: Path) -> None:
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    with disk_errors():
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    flush(path)
    return _digest(path)


def _finish(
    aside: Path, folder: Path, data: Mapping[str, Any], files: Mapping[str, bytes], seals: Mapping[str, str]
) -> None:
    """Add what there is once, seal everything, and put the folder in place."""
    (aside / "data.json").write_text(json.dumps(data, indent=1, sort_keys=True))
    for name, content in files.items():
        (aside / name).write_bytes(content)
    manifest = {path.name: seals.get(path.name) or _digest(path) for path in sorted(aside.iterdir())}
    (aside / MANIFEST).write_text(json.dumps(manifest, indent=1))
    for path in aside.iterdir():
        flush(path)
    flush(aside)
    if folder.exists():
        shutil.rmtree(folder)
    aside.rename(folder)
    flush(folder.parent)


def load(folder: Path) -> tuple[Stored, dict[str, Any]]:
    """Read a checkpoint back: its tensors and its data.

    Raises:
        Damaged: a file is missing, truncated or altered; the sentence names it.
    """
    verify(folder)
    return Stored(folder), data_of(folder)


def data_of(folder: Path) -> dict[str, Any]:
    """The data of a checkpoint that was verified before."""
    data: dict[str, Any] = json.loads((folder / "data.json").read_text())
    return data


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
    if "data.json" not in manifest or not any(name.endswith(".safetensors") for name in manifest):
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
