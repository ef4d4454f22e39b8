"""Weights of groups of problems against numbers by hand, and against the gradients that they stand for."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dagrpo.objectives.group_weights import exponentiated, invariance_factor, returns_of, returns_split


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def approx(value: float | list[float]) -> object:
    return pytest.approx(value, abs=6e-7)


def test_exponentiated() -> None:
    loss, uniform = tensor(0.9, 0.3, 0.6), tensor(1, 1, 1) / 3
    slow, fast = exponentiated(uniform, loss, 0.01), exponentiated(uniform, loss, 1.0)
    assert slow.tolist() == approx([0.334334, 0.332334, 0.333332])
    assert (slow @ loss).item() == approx(0.6006)
    assert fast.tolist() == approx([0.436752, 0.239694, 0.323554])
    assert (fast @ loss).item() == approx(0.659117)
    assert exponentiated(uniform, loss, 0.0).tolist() == approx(uniform.tolist())
    assert exponentiated(uniform * 9, loss, 1e5).tolist() == approx([9.0, 0.0, 0.0])


def test_returns_split() -> None:
    signal = tensor(0.0, 0.25, 0.5, 1.0)
    assert returns_split(signal, tensor(0, 0, 1, 1)).tolist() == [0, 0, 1, 1]
    assert returns_split(signal, tensor(1, 1, 0, 0)).tolist() == [1, 1, 0, 0]
    assert returns_split(signal, tensor(0, 0, 0, 1)).tolist() == [0, 0, 0, 1]
    assert returns_split(signal, tensor(1, 1, 1, 1)).tolist() == [0.5] * 4
    assert returns_split(tensor(1, 1, 1), tensor(0, 1, 0)).tolist() == [0.5] * 3
    assert returns_split(tensor(), tensor()).tolist() == []


ROWS = st.lists(st.tuples(st.integers(0, 4), st.floats(-1, 1, width=32)), min_size=2, max_size=12)


@given(ROWS)
def test_no_threshold_gives_a_larger_variance(rows: list[tuple[int, float]]) -> None:
    signal, reward = (torch.tensor(column, dtype=torch.float64) for column in zip(*rows, strict=True))
    found = returns_split(signal, reward)
    variances = [returns_of(reward, (signal > bound).double()).var(correction=0) for bound in signal.unique()[:-1]]
    if variances:
        assert returns_of(reward, found).var(correction=0) >= max(variances) - 1e-9
    upper, lower = returns_of(reward, found)
    assert upper >= lower - 1e-9
    assert torch.equal(returns_split(signal.flip(0), reward.flip(0)), found.flip(0))


def test_returns_and_their_variance() -> None:
    reward, high = tensor(1, 1, 1, 0, 0, 0), tensor(1, 1, 0, 0, 0, 0)
    assert returns_of(reward, high).tolist() == [1, 0.25]
    assert returns_of(reward, high).var(correction=0).item() == approx(0.140625)


def test_invariance_factor_is_a_gradient() -> None:
    reward, high = tensor(1, 0, 0.5, 1, 0, 0.25).requires_grad_(), tensor(1, 1, 0.9, 0, 0.1, 0)
    objective = reward.mean() - 0.1 * returns_of(reward, high).var(correction=0)
    slope = 6 * torch.autograd.grad(objective, reward)[0]
    found = invariance_factor(reward.detach(), high, 0.1)
    torch.testing.assert_close(found, slope)
    assert found.mean().item() == pytest.approx(1.0)
    assert found[0] < 1 < found[5]


def test_invariance_factor_of_a_single_group_is_one() -> None:
    reward = tensor(1, 0, 1)
    for share in (0.0, 0.5, 1.0):
        assert invariance_factor(reward, torch.full_like(reward, share), 0.1).tolist() == [1, 1, 1]
