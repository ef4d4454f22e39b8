"""Where tensors live."""

from typing import Literal

import torch

from dagrpo.errors import UserError


def resolve_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Turn a configured name into a device; ``auto`` takes a GPU where there is one.

    Raises:
        UserError: ``cuda`` is asked for and torch sees no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch sees no GPU; set device: auto, or install a CUDA build")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
