"""AdamW with a schedule, and its state as named tensors."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dagrpo.config import Optimizer
from dagrpo.files.checkpoints import Stored
from dagrpo.policy.sharding import fill, held

_MOMENTS = ("exp_avg", "exp_avg_sq")


def build(model: nn.Module, settings: Optimizer) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, 2019) with weight decay on matrices only."""
    parameters = [parameter for _, parameter in _learning(model)]
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


def state_tensors(
    model: nn.Module, optimizers: Mapping[str, torch.optim.AdamW], leads: bool = True
) -> dict[str, Tensor]:
    """The weights that learn and the state of each optimiser by name, for a checkpoint: of sharded ones the rows held
    here. Frozen weights are those of the base.

    Args:
        leads: whether this process also gives what all processes have alike.
    """
    tensors = {f"model/{name}": held(parameter) for name, parameter in _learning(model)}
    for kind, optimizer in optimizers.items():
        for name, parameter in _learning(model):
            for part, value in optimizer.state.get(parameter, {}).items():
                if part != "step" or leads:
                    tensors[f"{kind}/{part}/{name}"] = held(value)
    return {name: tensor for name, tensor in tensors.items() if tensor.numel()}


def _learning(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


@torch.no_grad()
def restore_model(model: nn.Module, stored: Stored) -> None:
    """Put the weights of :func:`state_tensors` back."""
    for name, parameter in _learning(model):
        fill(parameter, stored, f"model/{name}")


@torch.no_grad()
def restore_optimizer(model: nn.Module, kind: str, optimizer: torch.optim.AdamW, stored: Stored) -> None:
    """Put the state that :func:`state_tensors` keeps of the optimiser ``kind`` back."""
    for name, parameter in _learning(model):
        if f"{kind}/step/{name}" not in stored:
            continue
        # AdamW keeps its step counter on the CPU unless it is fused
        state = {part: torch.zeros_like(parameter) for part in _MOMENTS}
        for part, target in state.items():
            fill(target, stored, f"{kind}/{part}/{name}")
        optimizer.state[parameter] = {"step": stored[f"{kind}/step/{name}"].clone(), **state}
