"""Losses and gradients that are not finite, put into the updates of a run."""

from collections.abc import Callable, Collection
from typing import Any, Literal

import torch
from torch import Tensor

from dagrpo.trainer import learn

Where = Literal["loss", "gradient"]


class _Gradient(torch.autograd.Function):
    """The identity, with a gradient that is not finite."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, value: float) -> Tensor:
        ctx.value = value
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0] * ctx.value, None


def poisoned(value: float, where: Where, updates: Collection[int]) -> Callable[..., Any]:
    """``learn._accumulate``, which spoils the last micro-batch of the updates of these numbers, counted from 0."""
    plain, calls = learn._accumulate, [0]
    spoilt: Any = learn.micro_loss

    def spoiling(*arguments: Any) -> Any:
        loss = spoilt(*arguments)
        return loss * value if where == "loss" else _Gradient.apply(loss, value)

    def accumulate(*arguments: Any) -> None:
        setattr(learn, "micro_loss", spoiling if calls[0] in updates else spoilt)  # noqa: B010
        calls[0] += 1
        try:
            plain(*arguments)
        finally:
            setattr(learn, "micro_loss", spoilt)  # noqa: B010

    return accumulate
