"""Which responses of a prompt are compared with each other.

All functions read the rows of a step in any order. Arguments they share:
    group: int64, shape (N,).
    usable: bool, shape (N,); the other rows take part in nothing.
    key: int64, shape (N,), identifies a row; it decides between equals, at random, since keys are hashes.
Pairs have the shape (2, P): the places of the first of each pair, and of the second.
"""

import torch
from torch import Tensor


def every_pair(group: Tensor, usable: Tensor) -> Tensor:
    """Pair every two usable rows of a group, once: (2, P)."""
    _check(group, usable)
    together = (group[:, None] == group[None, :]) & usable[:, None] & usable[None, :]
    return together.triu(1).nonzero().T


def ordered_pairs(value: Tensor, group: Tensor, usable: Tensor) -> Tensor:
    """Pair every two usable rows of a group that differ in value, the better one first: (2, P).

    Args:
        value: floating point, shape (N,).
    """
    _check(group, usable, value)
    together = (group[:, None] == group[None, :]) & usable[:, None] & usable[None, :]
    return (together & (value[:, None] > value[None, :])).nonzero().T


def best_and_worst(value: Tensor, group: Tensor, key: Tensor, usable: Tensor) -> Tensor:
    """Pair the best usable row of each group with the worst one: (2, P), without groups whose values are all equal.

    Args:
        value: floating point, shape (N,).
    """
    best, worst = (best_of_group(one, group, key, usable).nonzero().flatten().tolist() for one in (value, -value))
    place = {int(group[row]): row for row in worst}
    pairs = [(row, place[int(group[row])]) for row in best if value[row] > value[place[int(group[row])]]]
    return torch.tensor(pairs, dtype=torch.long, device=group.device).reshape(-1, 2).T


def best_of_group(value: Tensor, group: Tensor, key: Tensor, usable: Tensor) -> Tensor:
    """Flag the usable row of the greatest value in each group, the one of the lowest key among equals: bool, (N,).

    Args:
        value: floating point, shape (N,); no NaN where usable.
    """
    _check(group, usable, value)
    chosen: dict[int, tuple[float, int, int]] = {}
    columns = zip(value.tolist(), group.tolist(), key.tolist(), usable.tolist(), strict=True)
    for row, (worth, number, name, flag) in enumerate(columns):
        rank = (-worth, name, row)
        if flag and rank < chosen.get(number, (torch.inf, 0, 0)):
            chosen[number] = rank
    flags = torch.zeros_like(usable)
    flags[[row for _, _, row in chosen.values()]] = True
    return flags


def balanced_mean(values: Tensor, owner: Tensor) -> Tensor:
    """Average the values of each owner, and then the owners: a scalar, 0 where there are none.

    Args:
        values: floating point, shape (P,).
        owner: int64, shape (P,), such as the group of each pair.
    """
    if not len(owner):
        return values.sum()
    _, of, counts = owner.unique(return_inverse=True, return_counts=True)
    return (values / counts[of]).sum() / len(counts)


def _check(group: Tensor, usable: Tensor, *columns: Tensor) -> None:
    assert group.ndim == 1 and group.dtype == torch.int64, f"group: int64 (N,), found {group.dtype} {group.shape}"
    assert usable.shape == group.shape and usable.dtype == torch.bool, f"usable: bool (N,), found {usable.shape}"
    for column in columns:
        assert column.shape == group.shape and column.is_floating_point(), f"value: float (N,), found {column.shape}"
