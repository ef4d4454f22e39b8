"""AdamW with a schedule, and its state as named tensors."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dagrpo.config import Optimizer

_STATE = ("step", "exp_avg", "exp_avg_sq")


def build(model: nn.Module, settings: Optimizer) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, 2019) with weight decay on matrices only."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas)


def learning_rate(settings: Optimizer, step: int, steps: int) -> float:
    """The rate of optimiser step ``step`` (from 0) of ``steps``: linear warm-up, then constant or cosine to zero."""
    warm = round(settings.warmup * steps)
    if step < warm:
        return settings.lr * (step + 1) / warm
    if settings.schedule == "constant":
        return settings.lr
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def state_tensors(model: nn.Module, optimizers: Mapping[str, torch.optim.AdamW]) -> dict[str, Tensor]:
    """Weights and the state of each optimiser by name, for a checkpoint."""
    tensors = {f"model/{name}": parameter.data for name, parameter in model.named_parameters()}
    for kind, optimizer in optimizers.items():
        for name, parameter in model.named_parameters():
            for part, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{kind}/{part}/{name}"] = value
    return tensors


def restore_model(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put the weights of :func:`state_tensors` back."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(tensors[f"model/{name}"])


def restore_optimizer(model: nn.Module, kind: str, optimizer: torch.optim.AdamW, tensors: Mapping[str, Tensor]) -> None:
    """Put the state that :func:`state_tensors` keeps of the optimiser ``kind`` back."""
    for name, parameter in model.named_parameters():
        parts = {part: tensors[f"{kind}/{part}/{name}"] for part in _STATE if f"{kind}/{part}/{name}" in tensors}
        if parts:
            # AdamW keeps its step counter on the CPU unless it is fused
            optimizer.state[parameter] = {
                part: value.clone() if part == "step" else value.to(parameter.device, copy=True)
                for part, value in parts.items()
            }
