"""What a machine has, read in one place, so that all verdicts are functions of a record."""

import ctypes
import os
import platform
import re
import shutil
import socket
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

_PATIENCE = 3.0
"""How long a host may take to answer (seconds)."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device by its driver's name, with its memory (bytes)."""

    name: str
    memory: float


@dataclass(frozen=True, slots=True)
class Machine:
    """What was found; ``None`` where there is none of it. Sizes are in bytes.

    ``torch_cuda`` is the CUDA that torch was built for, ``driver_cuda`` the newest that the driver serves; ``slurm`` is
    the version of ``sbatch``, and ``submits`` says whether the environment of `make setup-slurm` is there.
    """

    python: str
    packages: Mapping[str, str]
    torch_cuda: str | None = None
    driver: str | None = None
    driver_cuda: tuple[int, int] | None = None
    gpus: tuple[Gpu, ...] = ()
    free_disk: float = 0.0
    memory: float = 0.0
    slurm: str | None = None
    submits: bool = False
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def torch(self) -> str | None:
        return self.packages.get("torch")


def look(results: Path) -> Machine:
    """Read what this machine has; ``results`` is where an experiment writes. Nothing is started but short questions to
    the driver and to Slurm."""
    driver, gpus = _gpus()
    return Machine(
        python=platform.python_version(),
        packages=_packages(),
        torch_cuda=_torch_cuda(),
        driver=driver,
        driver_cuda=_driver_cuda() if gpus else None,
        gpus=gpus,
        free_disk=float(shutil.disk_usage(_existing(results)).free),
        memory=float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
        slurm=_slurm(),
        submits=Path(".venv-slurm/bin/snakemake").is_file(),
        environment=dict(os.environ),
    )


def answers(url: str) -> bool:
    """Whether something listens at the host of a URL; asked for three seconds at most, and nothing is sent."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        with socket.create_connection((parts.hostname or "", port), timeout=_PATIENCE):
            return True
    except OSError:
        return False


def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    for each in metadata.distributions():
        name = each.metadata["Name"]
        if name:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), each.version)
    return found


def _torch_cuda() -> str | None:
    try:
        from torch.version import cuda
    except ImportError:
        return None
    return cuda


def _gpus() -> tuple[str | None, tuple[Gpu, ...]]:
    """The driver's version and the devices that this process may use."""
    listed = _said(
        "nvidia-smi", "--query-gpu=index,uuid,name,memory.total,driver_version", "--format=csv,noheader,nounits"
    )
    rows = [[word.strip() for word in line.split(",")] for line in (listed or "").splitlines()]
    rows = [row for row in rows if len(row) == 5 and row[3].isdigit()]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        words = [word.strip() for word in visible.split(",") if word.strip()]
        rows = [row for row in rows if row[0] in words or any(row[1].startswith(word) for word in words)]
    gpus = tuple(Gpu(name, float(mib) * 2**20) for _, _, name, mib, _ in rows)
    return (rows[0][4] if rows else None), gpus


def _driver_cuda() -> tuple[int, int] | None:
    with suppress(OSError, AttributeError):
        number = ctypes.c_int()
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(number)) == 0:
            return number.value // 1000, number.value % 1000 // 10
    return None


def _slurm() -> str | None:
    said = _said("sbatch", "--version")
    return said.strip() if said else None


def _said(*command: str) -> str | None:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _existing(path: Path) -> Path:
    path = path.absolute()
    return path if path.exists() else _existing(path.parent)
