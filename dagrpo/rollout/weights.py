"""Weights as digests, so that an engine with a copy of them can be asked whether it holds those of the trainer."""

from collections.abc import Iterable, Iterator
from hashlib import sha256

import torch
from torch import Tensor
from transformers import PreTrainedModel


def trained_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Every weight by its name in a checkpoint; a tied one comes under each of its names."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        yield name, parameter.detach()


def digests(weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype) -> dict[str, str]:
    """Sha256 (hex) of the shape and the values of each weight, by name, after a cast to ``dtype``."""
    return {name: _digest(weight, dtype) for name, weight in weights}


def label(known: dict[str, str]) -> str:
    """One digest (hex) for all."""
    return sha256("\n".join(f"{name} {known[name]}" for name in sorted(known)).encode()).hexdigest()


def _digest(weight: Tensor, dtype: torch.dtype) -> str:
    # A weight that is read back through a product has lost the sign of its zeros: 0 + (-0) is 0.
    values = (weight.to(dtype) + 0).cpu().contiguous()
    digest = sha256(f"{tuple(values.shape)};".encode())
    digest.update(values.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
