from collections.abc import Sequence
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dagrpo.objectives.advantages import Scale, group_advantage
from dagrpo.objectives.groups import group_max, group_min, group_sum

SCALES: list[Scale] = ["none", "std0", "std1"]


def advantage(
    reward: Sequence[float],
    group: Sequence[int] | None = None,
    include: Sequence[bool] | None = None,
    scale: Scale = "none",
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    return group_advantage(
        torch.tensor(reward, dtype=dtype),
        torch.tensor([0] * len(reward) if group is None else group),
        torch.tensor([True] * len(reward) if include is None else include),
        scale,
    )


@pytest.mark.parametrize(
    ("scale", "size", "tolerance"), [("none", 0.5, 0), ("std1", 0.866024, 5e-7), ("std0", 0.999998, 5e-7)]
)
def test_half_right_group(scale: Scale, size: float, tolerance: float) -> None:
    expected = torch.tensor([size, -size, -size, size], dtype=torch.float64)
    torch.testing.assert_close(advantage([1, 0, 0, 1], scale=scale), expected, rtol=0, atol=tolerance)


def test_agrees_with_torch_std() -> None:
    reward = torch.tensor([0.3, 1.0, 0.0, 0.25, 0.9], dtype=torch.float64)
    cases: list[tuple[Scale, int]] = [("std1", 1), ("std0", 0)]
    for scale, correction in cases:
        expected = (reward - reward.mean()) / (reward.std(correction=correction) + 1e-6)
        torch.testing.assert_close(advantage(reward.tolist(), scale=scale), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", SCALES)
def test_groups_do_not_mix_and_need_not_be_adjacent(scale: Scale) -> None:
    whole = advantage([1, 0, 0, 5, 1, 5, 2], group=[4, 1, 4, 1, 4, 1, 4], scale=scale)
    torch.testing.assert_close(whole[[0, 2, 4, 6]], advantage([1, 0, 1, 2], scale=scale))
    torch.testing.assert_close(whole[[1, 3, 5]], advantage([0, 5, 5], scale=scale))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reward", [[0.1] * 3, [1.0] * 8, [0.0] * 5, [0.7], [1 / 3] * 7])
def test_equal_rewards_give_exactly_zero(reward: list[float], dtype: torch.dtype, scale: Scale) -> None:
    assert advantage(reward, scale=scale, dtype=dtype).tolist() == [0.0] * len(reward)


@pytest.mark.parametrize("scale", SCALES)
def test_rows_outside_the_baseline_get_zero_and_change_nothing(scale: Scale) -> None:
    kept = advantage([1, 0, 0, 1], scale=scale)
    for outsider in (1.0, -50.0, float("nan")):
        result = advantage([1, 0, outsider, 0, 1], include=[True, True, False, True, True], scale=scale)
        assert result[2] == 0
        torch.testing.assert_close(result[[0, 1, 3, 4]], kept)


@pytest.mark.parametrize("scale", SCALES)
def test_group_without_included_rows_is_zero(scale: Scale) -> None:
    assert advantage([1, 0], include=[False, False], scale=scale).tolist() == [0, 0]


def test_no_rows() -> None:
    empty = torch.zeros(0)
    assert group_advantage(empty, torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.bool)).shape == (0,)


def test_wrong_types_are_refused() -> None:
    group, include = torch.zeros(2, dtype=torch.int64), torch.ones(2, dtype=torch.bool)
    with pytest.raises(AssertionError, match="reward"):
        group_advantage(torch.tensor([1, 0]), group, include)
    with pytest.raises(AssertionError, match="group"):
        group_advantage(torch.zeros(2), group.float(), include)
    with pytest.raises(AssertionError, match="include"):
        group_advantage(torch.zeros(2), group, torch.ones(3, dtype=torch.bool))


rewards = st.lists(st.tuples(st.integers(0, 3), st.integers(-8, 8)), min_size=1, max_size=24)


@given(rewards, st.sampled_from(SCALES), st.randoms(use_true_random=False), st.integers(-20, 20))
def test_sum_is_zero_and_order_and_shift_do_not_matter(
    pairs: list[tuple[int, int]], scale: Scale, random: Random, shift: int
) -> None:
    group, reward = [g for g, _ in pairs], [r / 4 for _, r in pairs]
    result = advantage(reward, group, scale=scale)
    sums = group_sum(result, torch.tensor(group))
    torch.testing.assert_close(sums, torch.zeros_like(sums), rtol=0, atol=1e-9)

    order = list(range(len(pairs)))
    random.shuffle(order)
    shuffled = advantage([reward[i] for i in order], [group[i] for i in order], scale=scale)
    torch.testing.assert_close(shuffled, result[order], rtol=1e-9, atol=1e-9)

    shifted = advantage([r + shift for r in reward], group, scale=scale)
    torch.testing.assert_close(shifted, result, rtol=1e-9, atol=1e-9)


@given(rewards)
def test_better_reward_means_larger_advantage(pairs: list[tuple[int, int]]) -> None:
    group, reward = [g for g, _ in pairs], [r / 4 for _, r in pairs]
    result = advantage(reward, group).tolist()
    for i in range(len(pairs)):
        for j in range(len(pairs)):
            if group[i] == group[j] and reward[i] > reward[j]:
                assert result[i] > result[j]


def test_group_reductions_by_hand() -> None:
    values, group = torch.tensor([1.0, -2.0, 5.0, 4.0]), torch.tensor([2, 0, 2, 0])
    assert group_sum(values, group).tolist() == [6, 2, 6, 2]
    assert group_max(values, group).tolist() == [5, 4, 5, 4]
    assert group_min(values, group).tolist() == [1, -2, 1, -2]
