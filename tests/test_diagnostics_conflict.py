"""Conflict as pure functions: vectors by hand, bounds, controls, and what a mask leaves on shared tokens."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dagrpo.diagnostics.conflict import (
    conflict_index,
    net_coefficients,
    shared_pairs,
    shuffled_weights,
    signed_cosines,
)
from dagrpo.diagnostics.gradients import gradient_rows, gram
from dagrpo.objectives.gates import margin_mask
from dagrpo.seeds import generator


def _f64(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_tabular_policy_gives_the_numbers_worked_out_by_hand() -> None:
    """Contexts h0 and h1, three tokens, uniform; o1 = (a, a) is right and o2 = (a, b) wrong: A = +-1/2.

    g1 = (2, -1, -1 | 2, -1, -1) / 3 and g2 = (2, -1, -1 | -1, 2, -1) / 3, so the shared first token cancels:
    g1 / 2 - g2 / 2 = (0, 0, 0 | 1/2, -1/2, 0).
    """
    table = torch.zeros(2, 3, dtype=torch.float64, requires_grad=True)
    advantage = _f64(0.5, -0.5)
    likelihoods = (table.log_softmax(-1)[[0, 1], [0, second]].sum() for second in (0, 1))
    rows = gradient_rows(likelihoods, [table])
    assert torch.allclose(rows, _f64(2, -1, -1, 2, -1, -1, 2, -1, -1, -1, 2, -1).view(2, 6) / 3)
    assert torch.allclose(advantage @ rows, _f64(0, 0, 0, 0.5, -0.5, 0))
    cosines = signed_cosines(gram(rows), advantage)
    assert float(cosines[0, 1]) == pytest.approx(-0.25)
    assert float(conflict_index(gram(rows), advantage)) == pytest.approx(1 - 0.612372, abs=1e-6)
    # The paper's mean over tokens halves both gradients here, and neither number changes.
    assert float(conflict_index(gram(rows / 2), advantage)) == pytest.approx(0.387628, abs=1e-6)
    assert torch.allclose(signed_cosines(gram(rows / 2), advantage), cosines)


def test_the_ends_of_the_index() -> None:
    alike = torch.ones(2, 2, dtype=torch.float64)  # both gradients equal
    assert float(conflict_index(alike, _f64(0.5, -0.5))) == 1
    assert float(conflict_index(alike, _f64(0.5, 0.25))) == 0
    assert float(conflict_index(alike, _f64(0.5, 0))) == 0
    assert float(conflict_index(torch.eye(2).double(), _f64(1, -1))) == pytest.approx(1 - 1 / math.sqrt(2))
    assert math.isnan(conflict_index(alike, _f64(0, 0)))
    assert bool(signed_cosines(alike, _f64(0.5, 0))[0, 1].isnan())


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_the_index_is_a_share_and_knows_no_scale(seed: int, rows: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    gradients, coefficient = torch.randn(rows, 4, generator=draw), torch.randn(rows, generator=draw)
    index = conflict_index(gram(gradients), coefficient)
    assert 0 <= float(index) <= 1
    assert torch.allclose(index, conflict_index(gram(3 * gradients), -2 * coefficient))
    direct = 1 - (coefficient @ gradients).norm() / (coefficient[:, None] * gradients).norm(dim=1).sum()
    assert float(index) == pytest.approx(float(direct), abs=1e-5)


def test_inner_products_do_not_depend_on_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    whole = gram(rows)
    monkeypatch.setattr("dagrpo.diagnostics.gradients.CHUNK", 7)
    assert torch.allclose(gram(rows), whole)


def test_the_control_drops_as_many_rows_by_lot() -> None:
    advantage = _f64(0.5, 0.5, 0, -0.5, -0.5, -0.5)
    weight = _f64(1, 0, 1, 0, 0, 1)
    for within, sides in ((False, [[0, 1, 3, 4, 5]]), (True, [[0, 1], [3, 4, 5]])):
        drawn = shuffled_weights(weight, advantage, 200, generator("test"), within)
        assert bool((drawn[:, 2] == 1).all())
        for side in sides:
            assert bool((drawn[:, side].sum(1) == weight[side].sum()).all())
            assert drawn[:, side].mean(0).tolist() == pytest.approx([float(weight[side].mean())] * len(side), abs=0.12)
        assert torch.equal(drawn, shuffled_weights(weight, advantage, 200, generator("test"), within))


def test_responses_share_pairs_up_to_the_first_difference() -> None:
    responses = [(1, 2, 3), (1, 2, 4), (1, 5, 3), (9, 2, 3)]
    # The token 1 after the prompt; then 2 after (1). The 3 of rows 0 and 2 and the 2 of row 3 follow other contexts.
    assert sorted(shared_pairs(responses)) == [(0, 1), (0, 1, 2)]
    assert shared_pairs([(1, 2), (1, 2)]) == [(0, 1), (0, 1)]
    assert shared_pairs([(1, 2), (1,)]) == [(0, 1)]
    assert shared_pairs([(1,)]) == []


def test_a_pair_of_both_sides_keeps_the_difference_of_two_advantages() -> None:
    """The net coefficient A_j / |o_j| + A_k / |o_k| of DaGRPO's section 3: with equal lengths it vanishes."""
    advantage = _f64(0.5, -0.5)
    assert net_coefficients([(0, 1)], advantage / _f64(4, 4)).tolist() == [0]
    assert net_coefficients([(0, 1)], advantage / _f64(2, 5)).tolist() == pytest.approx([0.15])
    assert net_coefficients([], advantage).shape == (0,)


@pytest.mark.parametrize(
    ("reward", "score", "drift"),
    [
        ([1, 1, 1, 0, 0, 0, 0, 1], [8, 6, 9, 5, 2, 4, 1, 10], 0.5),  # three rows masked
        ([0, 0, 0, 0, 0, 0, 0, 1], [4, 3, 5, 2, 1, 3, 4, 10], 0.0),  # none masked
        ([0, 0, 0, 0, 0, 0, 0, 1], [6, 3, 5, 2, 1, 3, 4, 8], -0.75),  # the only good row is masked
    ],
)
def test_the_mask_brings_drift_to_tokens_that_all_rows_share(
    reward: list[float], score: list[float], drift: float
) -> None:
    """Σ A = 0 leaves such a token exactly alone; Σ λ A does not (delta = 3)."""
    responses = [(7, 8, row) for row in range(8)]
    common = [pair for pair in shared_pairs(responses) if len(pair) == 8]
    assert len(common) == 2
    advantage = _f64(*reward) - _f64(*reward).mean()
    assert net_coefficients(common, advantage).tolist() == [0, 0]
    kept = margin_mask(advantage, _f64(*score), torch.zeros(8, dtype=torch.long), 3.0)
    assert net_coefficients(common, kept * advantage).tolist() == [drift, drift]
