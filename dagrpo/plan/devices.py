"""Public figures of a few GPUs, and the share of them that training is taken to reach."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dagrpo.config import nearest
from dagrpo.errors import UserError

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU by its maker's data sheet: memory (bytes), dense rates (FLOP/s) in bf16 and in fp32 without tensor cores,
    bandwidth of its memory, and of its ``link`` to others of the node in one direction (bytes/s); and shares of them:
    ``mfu`` of the rate in an update or a prefill, ``mbu`` of both bandwidths, ``usable`` of the memory, the rest being
    the driver's, the libraries' and what fragments."""

    name: str
    memory: float
    bf16: float
    fp32: float
    bandwidth: float
    link: float
    mfu: float = 0.35
    mbu: float = 0.5
    usable: float = 0.92
    source: str = "data sheet; shares assumed"


DEVICES = {
    "a100-40": Device("A100 40GB", 40e9, 312e12, 19.5e12, 1.555e12, 300e9),
    "a100": Device("A100 80GB", 80e9, 312e12, 19.5e12, 2.039e12, 300e9),
    "h100": Device("H100 SXM 80GB", 80e9, 989e12, 67e12, 3.35e12, 450e9),
    "h200": Device("H200 SXM 141GB", 141e9, 989e12, 67e12, 4.8e12, 450e9),
    "l40s": Device("L40S 48GB", 48e9, 362e12, 91.6e12, 0.864e12, 32e9),
    "rtx4090": Device("GeForce RTX 4090 24GB", 24e9, 165e12, 82.6e12, 1.008e12, 32e9),
}


def find_device(name: str, measured: Path | None = None) -> Device:
    """A GPU of the table; its bf16 rate, bandwidth and shares are those of a file that ``benchmarks.gpu_check`` wrote,
    where one is given. Raises :class:`UserError` for an unknown name, or a file that is none such."""
    if name not in DEVICES:
        raise UserError(f"--gpu: {name!r} is not in the table{nearest(name, list(DEVICES))}")
    return DEVICES[name] if measured is None else _measured(DEVICES[name], measured)


def _measured(device: Device, path: Path) -> Device:
    try:
        figures: dict[str, dict[str, Any]] = json.loads(path.read_text())
        best, share = figures["best"], min(figures["share"].values(), key=lambda one: one["update_of_matmul"])
        return replace(
            device,
            bf16=best["matmul_tflop_per_s"] * 1e12,
            bandwidth=best["copy_gb_per_s"] * 1e9,
            mfu=share["update_of_matmul"],
            mbu=share["decode_of_copy"],
            source=str(path),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"--measured: {path} is not a file of benchmarks.gpu_check ({type(error).__name__}: {error}); write one "
            "with python -m benchmarks.gpu_check --out FILE"
        ) from None
