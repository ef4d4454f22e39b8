"""Which rows are compared, and that no order of the rows decides it."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dagrpo.objectives.advantages import likelihood_weight
from dagrpo.objectives.groups import group_differs
from dagrpo.objectives.pairs import balanced_mean, best_and_worst, best_of_group, every_pair, ordered_pairs

GROUP = torch.tensor([0, 0, 1, 0, 1, 2])
VALUE = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.5, 1.0])
KEY = torch.tensor([9, 1, 2, 4, 3, 5])
ALL = torch.ones(6, dtype=torch.bool)


def as_set(pairs: Tensor) -> set[tuple[int, int]]:
    return set(map(tuple, pairs.T.tolist()))


def test_every_pair() -> None:
    assert as_set(every_pair(GROUP, ALL)) == {(0, 1), (0, 3), (1, 3), (2, 4)}
    assert as_set(every_pair(GROUP, ALL & (torch.arange(6) != 3))) == {(0, 1), (2, 4)}


def test_ordered_pairs() -> None:
    assert as_set(ordered_pairs(VALUE, GROUP, ALL)) == {(0, 1), (3, 1)}
    assert ordered_pairs(VALUE, GROUP, ~ALL).shape == (2, 0)


def test_best_and_worst() -> None:
    """Rows 0 and 3 are equally good, and row 3 has the lower key; groups 1 and 2 have nothing to compare."""
    assert as_set(best_and_worst(VALUE, GROUP, KEY, ALL)) == {(3, 1)}
    assert as_set(best_and_worst(VALUE, GROUP, -KEY, ALL)) == {(0, 1)}
    assert best_and_worst(VALUE, GROUP, KEY, ~ALL).shape == (2, 0)


def test_best_of_group() -> None:
    assert best_of_group(VALUE, GROUP, KEY, ALL).tolist() == [False, False, True, True, False, True]
    assert not best_of_group(VALUE, GROUP, KEY, ~ALL).any()
    assert best_of_group(VALUE, GROUP, KEY, VALUE < 1).tolist() == [False, True, True, False, False, False]


ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.booleans()), min_size=1, max_size=12)


@given(ROWS, st.randoms(use_true_random=False))
def test_no_builder_reads_the_order_of_rows(rows: list[tuple[int, int, bool]], shuffler) -> None:  # type: ignore[no-untyped-def]
    group, value, usable = (torch.tensor(column) for column in zip(*rows, strict=True))
    value, key = value.double(), torch.arange(len(rows)) * 7919 % 101
    order = list(range(len(rows)))
    shuffler.shuffle(order)
    place = torch.tensor(order)

    def by_key(pairs: Tensor, keys: Tensor, ordered: bool = True) -> set[object]:
        named = keys[pairs].T.tolist()
        return {tuple(pair) if ordered else frozenset(pair) for pair in named}

    moved = value[place], group[place], key[place], usable[place]
    assert by_key(every_pair(group, usable), key, False) == by_key(every_pair(moved[1], moved[3]), moved[2], False)
    ordered = ordered_pairs(value, group, usable), ordered_pairs(moved[0], moved[1], moved[3])
    assert by_key(ordered[0], key) == by_key(ordered[1], moved[2])
    assert by_key(best_and_worst(value, group, key, usable), key) == by_key(best_and_worst(*moved), moved[2])
    assert torch.equal(best_of_group(value, group, key, usable)[place], best_of_group(*moved))


def test_balanced_mean_gives_each_owner_one_voice() -> None:
    values = torch.tensor([1.0, 3.0, 10.0], requires_grad=True)
    assert balanced_mean(values, torch.tensor([4, 4, 7])).item() == 6.0
    assert torch.autograd.grad(balanced_mean(values, torch.tensor([4, 4, 7])), values)[0].tolist() == [0.25, 0.25, 0.5]
    assert balanced_mean(values[:0], torch.tensor([], dtype=torch.long)).item() == 0.0


def test_group_differs() -> None:
    assert group_differs(VALUE, GROUP, ALL).tolist() == [True, True, False, True, False, False]
    assert group_differs(VALUE, GROUP, VALUE > 0).tolist() == [False] * 6
    assert group_differs(VALUE[:0], GROUP[:0], ALL[:0]).tolist() == []


def test_likelihood_weight() -> None:
    reward, group = torch.tensor([1.0, 0, 0, 1, 5], dtype=torch.float64), torch.tensor([0, 0, 0, 0, 1])
    weight = likelihood_weight(reward, group, torch.ones(5, dtype=torch.bool), 1.0)
    assert weight.tolist() == pytest.approx([1.462117, 0.537883, 0.537883, 1.462117, 1.0], abs=6e-7)
    worth = np.exp(np.array([1, 0, 0, 1]) / 0.3)
    assert likelihood_weight(reward, group, group == 0, 0.3).tolist() == pytest.approx([*worth / worth.mean(), 0.0])
    assert likelihood_weight(reward, group, group == 0, 1e-3).tolist() == pytest.approx([2.0, 0, 0, 2.0, 0])
    assert all(math.isfinite(value) for value in likelihood_weight(reward * 1e6, group, group >= 0, 1e-3).tolist())
