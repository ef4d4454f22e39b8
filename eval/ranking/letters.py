"""Letters that say which arms cannot be told apart: two arms share a letter if and only if they cannot."""

from collections.abc import Sequence
from string import ascii_letters

import numpy as np


def letters(apart: np.ndarray, order: Sequence[int]) -> list[tuple[str, ...]]:
    """Give each arm its letters, in alphabetical order; "a" is the first of the best arm's.

    The arms of a letter are a largest set of which no two can be told apart, and no letter can be left out. The
    algorithm is insert and absorb, then a sweep (Piepho, Journal of Computational and Graphical Statistics 13, 2004).

    Args:
        apart: which pairs can be told apart, symmetric, bool, shape (A, A).
        order: the arms from the best to the worst.
    """
    assert apart.shape == (len(order), len(order)) and np.array_equal(apart, apart.T) and not apart.diagonal().any()
    # A group is a set of places in the order, as the bits of an integer.
    ranked = apart[np.ix_(order, order)]
    groups = {(1 << len(order)) - 1}
    for first, second in np.argwhere(np.triu(ranked)).tolist():
        pair = 1 << first | 1 << second
        split = {group for group in groups if group & pair == pair}
        groups -= split
        for half in [group & ~(1 << place) for group in sorted(split) for place in (first, second)]:  # insert
            if not any(half & ~group == 0 for group in groups):  # absorb
                groups.add(half)
    members = sorted([place for place in range(len(order)) if group >> place & 1] for group in groups)
    members = _swept(members, len(order))
    found: dict[int, list[str]] = {arm: [] for arm in order}
    for number, group in enumerate(members):
        for place in group:
            found[order[place]].append(name(number))
    return [tuple(found[arm]) for arm in range(len(order))]


def name(number: int) -> str:
    """The letter of a group: a to z, A to Z, then a2 and so on."""
    again, place = divmod(number, len(ascii_letters))
    return ascii_letters[place] + (str(again + 1) if again else "")


def _swept(groups: list[list[int]], count: int) -> list[list[int]]:
    """Leave out, from the last to the first, each group whose pairs (and arms) are all in others."""
    matrices = np.zeros((len(groups), count, count), dtype=int)
    for matrix, group in zip(matrices, groups, strict=True):
        matrix[np.ix_(group, group)] = 1  # the diagonal holds the arm itself
    covered = matrices.sum(axis=0)
    kept = []
    for group, matrix in zip(reversed(groups), matrices[::-1], strict=True):
        if np.all(covered[matrix > 0] > 1):
            covered = covered - matrix
        else:
            kept.append(group)
    return kept[::-1]
