"""Where a number comes from: versions, hardware and the code that made it."""

import os
import platform
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

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
            "cores": os.cpu_count(),
            "platform": platform.platform(),
        },
        "code_hash": code_hash(),
    }


@cache
def code_hash() -> str:
    """Sha256 over the sources of the core package, so that results of different code can be told apart."""
    root = Path(__file__).parent
    digest = sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
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
