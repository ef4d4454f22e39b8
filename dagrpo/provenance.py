"""Where a number comes from: versions, hardware and the code that made it."""

import os
import platform
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

APART = (
    "cli.py",
    "doctor",
    "hub.py",
    "jobs",
    "loggers.py",
    "measurements",
    "plan",
    "processes/gpu_slot.py",
    "processes/launch.py",
    "progress.py",
    "scaffold",
)
"""Parts of the core package that no training run goes through, or that cannot change what it computes."""
PACKAGES = ("torch", "transformers", "safetensors", "tokenizers", "math-verify", "sympy", "numpy")


def card(device: torch.device, versions: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Versions, hardware and code hash of this process, the same for identical runs on one machine.

    Args:
        versions: further packages that took part.
    """
    return {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in PACKAGES},
            **(versions or {}),
        },
        "hardware": {
            "device": _device_name(device),
            "processor": _processor(),
            "instructions": torch.backends.cpu.get_cpu_capability(),
            "cores": os.cpu_count(),
            "platform": platform.platform(),
        },
        "code_hash": code_hash(),
    }


@cache
def code_hash() -> str:
    """Sha256 over the sources of the core package, so that results of different code can be told apart."""
    return _hash_of(())


@cache
def training_hash() -> str:
    """Sha256 over those sources that training goes through: runs with the same one were trained by the same code."""
    return _hash_of(APART)


def source_hash(module: str) -> str:
    """Sha256 of the source file of a module, such as a method's."""
    spec = find_spec(module)
    assert spec is not None and spec.origin is not None
    return sha256(Path(spec.origin).read_bytes()).hexdigest()


def _hash_of(apart: tuple[str, ...]) -> str:
    root = Path(__file__).parent
    digest = sha256()
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if not any(place.is_relative_to(part) for part in apart):
            digest.update(str(place).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or platform.machine()
    return platform.processor() or platform.machine()
