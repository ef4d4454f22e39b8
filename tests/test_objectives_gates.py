import math
from collections.abc import Sequence
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dagrpo.objectives.gates import margin_mask

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
