import math
from collections.abc import Sequence
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dagrpo.objectives.gates import (
    distance_mask,
    drop_unscored,
    margin_mask,
    margins,
    pairwise_weight,
    recentred,
    soft_gate,
    two_sided,
)

NAN = math.nan


def mask(
    advantage: Sequence[float],
    score: Sequence[float],
    group: Sequence[int] | None = None,
    delta: float = 3.0,
    dtype: torch.dtype = torch.float64,
) -> list[float]:
    number = torch.tensor([0] * len(advantage) if group is None else group)
    return margin_mask(torch.tensor(advantage, dtype=dtype), torch.tensor(score, dtype=dtype), number, delta).tolist()


def by_the_letter(advantage: Sequence[float], score: Sequence[float], delta: float) -> list[float]:
    """DaGRPO, Eq. 8 and 9, in plain Python for one group."""
    best_negative = max((s for a, s in zip(advantage, score, strict=True) if a < 0), default=-math.inf)
    worst_positive = min((s for a, s in zip(advantage, score, strict=True) if a > 0), default=math.inf)
    weights = []
    for a, s in zip(advantage, score, strict=True):
        gap = s - best_negative if a > 0 else worst_positive - s
        weights.append(1.0 if a == 0 or gap >= delta else 0.0)
    return weights


def test_the_margin_is_inclusive() -> None:
    assert mask([0.5, 0.5, -0.5, -0.5], [7, 9, 4, 6]) == [0, 1, 1, 0]


def test_one_high_negative_masks_every_positive() -> None:
    assert mask([0.5, 0.5, -0.5, -0.5], [8, 9, 1, 9]) == [0, 0, 1, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("parts", [3, 6, 15, 21])
def test_ties_of_ratios_are_ties(parts: int, dtype: torch.dtype) -> None:
    """S = 1 + 9 k / parts: a third of the scale is a gap of 3 whatever the rounding."""
    for low in range(parts - parts // 3 + 1):
        good, bad = 1 + 9 * ((low + parts // 3) / parts), 1 + 9 * (low / parts)
        assert mask([0.5, -0.5], [good, bad], dtype=dtype) == [1, 1]
        assert mask([0.5, -0.5], [good - 0.01, bad], dtype=dtype) == [0, 0]


def test_zero_advantage_is_kept_and_is_no_extreme() -> None:
    assert mask([0.5, 0.0, -0.5], [8, 10, 2]) == [1, 1, 1]
    assert mask([0.5, 0.0, -0.5], [8, 1, 2]) == [1, 1, 1]


@pytest.mark.parametrize("sign", [1, -1])
def test_an_empty_side_masks_nothing(sign: int) -> None:
    assert mask([sign * 0.5, sign * 0.1], [1, 10]) == [1, 1]


def test_missing_scores_are_kept_and_are_no_extremes() -> None:
    assert mask([0.5, 0.5, -0.5, -0.5], [NAN, 8, NAN, 2]) == [1, 1, 1, 1]
    assert mask([0.5, 0.5, -0.5, -0.5], [NAN, 4, NAN, 2]) == [1, 0, 1, 0]
    assert mask([0.5, -0.5], [NAN, NAN]) == [1, 1]
    assert mask([0.5, 0.5, -0.5], [9, 1, NAN]) == [1, 1, 1]


def test_groups_do_not_mix() -> None:
    assert mask([0.5, 0.5, -0.5, -0.5], [6, 9, 5, 1], group=[0, 7, 0, 7]) == [0, 1, 0, 1]


def test_dtype_follows_the_advantage() -> None:
    group = torch.zeros(2, dtype=torch.int64)
    for dtype in (torch.float32, torch.float64):
        assert margin_mask(torch.zeros(2, dtype=dtype), torch.ones(2), group, 3.0).dtype == dtype


def test_no_rows() -> None:
    assert margin_mask(torch.zeros(0), torch.zeros(0), torch.zeros(0, dtype=torch.int64), 3.0).shape == (0,)


group_rows = st.lists(st.tuples(st.sampled_from([-0.5, 0.0, 0.5]), st.integers(1, 10)), min_size=1, max_size=10)


@given(group_rows, st.sampled_from([-math.inf, 0, 1, 2, 3, 4, 5]))
def test_agrees_with_the_equations_read_by_the_letter(rows: list[tuple[float, int]], delta: float) -> None:
    advantage, score = [a for a, _ in rows], [float(s) for _, s in rows]
    assert mask(advantage, score, delta=delta) == by_the_letter(advantage, score, delta)


@given(group_rows, st.floats(-2, 10), st.floats(0, 5))
def test_a_larger_margin_never_keeps_more(rows: list[tuple[float, int]], delta: float, more: float) -> None:
    advantage, score = [a for a, _ in rows], [float(s) for _, s in rows]
    loose, strict = mask(advantage, score, delta=delta), mask(advantage, score, delta=delta + more)
    assert all(s <= w for s, w in zip(strict, loose, strict=True))
    assert mask(advantage, score, delta=-math.inf) == [1] * len(rows)


@given(group_rows, st.randoms(use_true_random=False), st.integers(-3, 3))
def test_order_and_shift_of_scores_do_not_matter(rows: list[tuple[float, int]], random: Random, shift: int) -> None:
    expected = mask([a for a, _ in rows], [float(s) for _, s in rows])
    order = list(range(len(rows)))
    random.shuffle(order)
    shuffled = mask([rows[i][0] for i in order], [float(rows[i][1] + shift) for i in order])
    assert shuffled == [expected[i] for i in order]


# A group of seven: right rows score 8, 6, 9, wrong ones 5, 2, 4, 1.
SEVEN = [4 / 7] * 3 + [-3 / 7] * 4
SEVEN_SCORES = [8.0, 6, 9, 5, 2, 4, 1]


def tensors(advantage: Sequence[float], score: Sequence[float]) -> tuple[Tensor, Tensor, Tensor]:
    columns = torch.tensor(advantage, dtype=torch.float64), torch.tensor(score, dtype=torch.float64)
    return *columns, torch.zeros(len(advantage), dtype=torch.int64)


def test_margins() -> None:
    assert margins(*tensors([0.5, -0.5, -0.5, 0.5], [8, 2, 6, 9])).tolist() == [2, 6, 2, 3]
    assert margins(*tensors([0.5, 0.0, 0.5], [8, 2, 6])).tolist() == [math.inf] * 3
    assert margins(*tensors([0.5, -0.5], [NAN, 2]))[0].isnan()


def test_soft_gate() -> None:
    group = tensors([0.5, -0.5, -0.5, 0.5], [8, 2, 6, 9])
    assert soft_gate(*group, 3.0, 2.0).tolist() == pytest.approx([0.119203, 0.997527, 0.119203, 0.5], abs=1e-6)
    assert soft_gate(*tensors([0.5, -0.5, 0.0], [NAN, 2, 1]), 3.0, 2.0).tolist() == [1, 1, 1]


def test_a_steep_soft_gate_is_the_mask() -> None:
    group = tensors(SEVEN, [8, 6, 9, 4.5, 2, 4, 1])
    steep = soft_gate(*group, 2.9, 200.0)
    assert steep.tolist() == pytest.approx(margin_mask(*group, 2.9).tolist(), abs=1e-6)


def test_pairwise_weights() -> None:
    weight = pairwise_weight(*tensors(SEVEN, SEVEN_SCORES), 3.0)
    assert weight.tolist() == pytest.approx([1, 0.5, 1, 2 / 3, 1, 2 / 3, 1])


def test_pairwise_weights_where_scores_or_a_side_are_missing() -> None:
    assert pairwise_weight(*tensors([0.5, 0.5, -0.5, -0.5], [9, NAN, 8, 2]), 3.0).tolist() == [0.5, 1, 0, 1]
    assert pairwise_weight(*tensors([0.5, 0.5, 0.0], [9, 2, 5]), 3.0).tolist() == [1, 1, 1]


@given(group_rows, st.sampled_from([0.0, 1.0, 3.0]))
def test_a_row_that_the_mask_keeps_has_all_its_pairs(rows: list[tuple[float, int]], delta: float) -> None:
    group = tensors([a for a, _ in rows], [float(s) for _, s in rows])
    kept, share = margin_mask(*group, delta), pairwise_weight(*group, delta)
    assert torch.equal(kept == 1, share == 1)


def test_distance_mask() -> None:
    advantage = torch.tensor([0.5, 0.5, -0.5, -0.5, 0.0], dtype=torch.float64)
    distance = torch.tensor([0.3, 0.2, 0.9, 0.0, 0.0], dtype=torch.float64)
    assert distance_mask(advantage, distance, 0.3).tolist() == [1, 0, 1, 0, 1]
    assert distance_mask(advantage, torch.full_like(distance, math.inf), 1.0).tolist() == [1] * 5


def test_drop_unscored() -> None:
    advantage, score, _ = tensors([0.5, -0.5, 0.0], [NAN, 3, NAN])
    assert drop_unscored(advantage, score).tolist() == [0, 1, 1]


def test_two_sided_drops_a_group_that_lost_a_side() -> None:
    advantage = torch.tensor([-0.125] * 7 + [0.875], dtype=torch.float64)
    group = torch.zeros(8, dtype=torch.int64)
    weight = torch.tensor([0, 1, 1, 1, 1, 1, 1, 0], dtype=torch.float64)
    assert two_sided(weight, advantage, group).tolist() == [0] * 8
    whole = torch.tensor([0, 1, 1, 1, 1, 1, 1, 1], dtype=torch.float64)
    assert torch.equal(two_sided(whole, advantage, group), whole)
    other = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    assert two_sided(weight, advantage, other).tolist() == [0, 1, 1, 1, 0, 0, 0, 0]


def test_recentred_takes_the_baseline_over_what_is_left() -> None:
    advantage = torch.tensor([0.5] * 3 + [-0.5] * 4 + [0.5], dtype=torch.float64)
    weight = torch.tensor([1, 0, 1, 0, 1, 0, 1, 1], dtype=torch.float64)
    result = recentred(advantage, weight, torch.zeros(8, dtype=torch.int64))
    assert result.tolist() == pytest.approx([0.4, 0, 0.4, 0, -0.6, 0, -0.6, 0.4])
    one_sided = recentred(advantage, (advantage > 0).double(), torch.zeros(8, dtype=torch.int64))
    assert one_sided.tolist() == [0] * 8


@given(group_rows.map(lambda rows: rows[:8]), st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=8, max_size=8))
def test_recentred_advantages_add_up_to_nothing(rows: list[tuple[float, int]], weights: list[float]) -> None:
    advantage, _, group = tensors([a for a, _ in rows], [float(s) for _, s in rows])
    weight = torch.tensor(weights[: len(rows)], dtype=torch.float64)
    assert float((weight * recentred(advantage, weight, group)).sum()) == pytest.approx(0, abs=1e-12)
