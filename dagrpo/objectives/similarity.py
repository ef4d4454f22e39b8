"""How alike two responses are, by their tokens alone."""

from collections.abc import Sequence

import torch
from torch import Tensor


def ngrams(tokens: Sequence[int], n: int) -> frozenset[tuple[int, ...]]:
    """Collect the runs of ``n`` tokens; a response shorter than that counts as one run."""
    return frozenset(tuple(tokens[i : i + n]) for i in range(max(1, len(tokens) - n + 1)))


def jaccard(left: frozenset[tuple[int, ...]], right: frozenset[tuple[int, ...]]) -> float:
    """Divide what two sets share by what they hold together: 1 for equal sets, 0 for disjoint ones."""
    return len(left & right) / len(left | right) if left or right else 1.0


def distances(responses: Sequence[Sequence[int]], advantage: Tensor, group: Tensor, n: int) -> Tensor:
    """Measure how far each response is from the nearest one on the other side of its group.

        d_i = 1 - max_{k: A_k A_i < 0} |G_i ∩ G_k| / |G_i ∪ G_k|        G: the set of a response's n-grams

    Args:
        responses: token ids of N rows.
        advantage: floating point, shape (N,); only its sign is read.
        group: int64, shape (N,).
        n: tokens of an n-gram.

    Returns:
        In [0, 1], shape (N,); inf where the advantage is 0 or the other side is empty.
    """
    found = torch.full_like(advantage, torch.inf)
    signs, groups = advantage.sign().tolist(), group.tolist()
    sets = [ngrams(tokens, n) if sign else frozenset() for tokens, sign in zip(responses, signs, strict=True)]
    rows: dict[int, list[int]] = {}
    for i, number in enumerate(groups):
        rows.setdefault(number, []).append(i)
    for members in rows.values():
        for i in members:
            alike = [jaccard(sets[i], sets[k]) for k in members if signs[i] * signs[k] < 0]
            if alike:
                found[i] = 1 - max(alike)
    return found
