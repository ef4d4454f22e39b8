"""Reductions over the rows of a group, given back to each row of it."""

import torch
from torch import Tensor


def group_sum(values: Tensor, group: Tensor) -> Tensor:
    """Sum ``values`` over each group: out_i = Σ_{j: g_j = g_i} v_j.

    Args:
        values: floating point, shape (N,).
        group: number of the row's group, int64, shape (N,); rows of a group need not be adjacent, nor numbers dense.

    Returns:
        The sum of the row's group, shape (N,).
    """
    _check(values, group)
    return values.new_zeros(_groups(group)).index_add(0, group, values)[group]


def group_max(values: Tensor, group: Tensor) -> Tensor:
    """Take the largest of ``values`` in each group, shapes as in :func:`group_sum`."""
    _check(values, group)
    return values.new_full((_groups(group),), -torch.inf).scatter_reduce(0, group, values, "amax")[group]


def group_min(values: Tensor, group: Tensor) -> Tensor:
    """Take the smallest of ``values`` in each group, shapes as in :func:`group_sum`."""
    return -group_max(-values, group)


def group_differs(values: Tensor, group: Tensor, include: Tensor) -> Tensor:
    """Flag the included rows of groups in which these differ in value: bool, (N,).

    Args:
        values: floating point, shape (N,).
        group: as in :func:`group_sum`.
        include: bool, shape (N,).
    """
    highest = group_max(torch.where(include, values, -torch.inf), group)
    return include & (highest > group_min(torch.where(include, values, torch.inf), group))


def _check(values: Tensor, group: Tensor) -> None:
    assert values.ndim == 1 and values.is_floating_point(), f"values: float (N,), found {values.dtype} {values.shape}"
    assert group.shape == values.shape and group.dtype == torch.int64, f"group: int64 (N,), found {group.shape}"


def _groups(group: Tensor) -> int:
    return int(group.max()) + 1 if group.numel() else 0
