"""Weights as digests, so that an engine with a copy of them can be asked whether it holds those of the trainer."""

from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel


def trained_weights(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """Every weight by its name in a checkpoint; a tied one comes under each of its names."""
    for name, parameter in model.named_parameters(remove_duplicate=False):
        yield name, parameter.detach()


def digests(weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype) -> dict[str, str]:
    """Shape and digest (64 bits, hex) of each weight, by name, after a cast to ``dtype``.

    Accidents change a digest, and it is made where the weights are, so that those of a GPU need not leave it after each
    update; it withstands no intent.
    """
    return {name: _digest(weight, dtype) for name, weight in weights}


def label(known: dict[str, str]) -> str:
    """One digest (hex) for all."""
    return sha256("\n".join(f"{name} {known[name]}" for name in sorted(known)).encode()).hexdigest()


def _digest(weight: Tensor, dtype: torch.dtype) -> str:
    """The sum, modulo 2^64, of all words of 64 bits, each times an odd number of its own place."""
    # A weight that is read back through a product has lost the sign of its zeros: 0 + (-0) is 0.
    values = (weight.to(dtype) + 0).flatten()
    words = F.pad(values, (0, -len(values) % (8 // values.element_size()))).view(torch.int64)
    factors, total = _factors(words.device), 0
    for number, part in enumerate(words.split(len(factors))):
        total += (2 * number + 1) * int((part * factors[: len(part)]).sum())
    return f"{tuple(weight.shape)} {total % 2**64:016x}"


@cache
def _factors(device: torch.device) -> Tensor:
    return torch.arange(2**20, device=device) * -7046029254386353131 | 1  # 2^64 over the golden ratio: far apart
