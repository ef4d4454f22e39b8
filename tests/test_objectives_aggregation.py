from collections.abc import Sequence
from random import Random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dagrpo.objectives.aggregation import Aggregate, row_scale

AGGREGATES: list[Aggregate] = ["token", "sequence", "constant"]


def scale(
    aggregate: Aggregate,
    length: Sequence[int],
    counted: Sequence[bool] | None = None,
    selected: Sequence[bool] | None = None,
    budget: int = 5,
) -> list[float]:
    yes = [True] * len(length)
    return row_scale(
        aggregate,
        torch.tensor(length, dtype=torch.int64),
        torch.tensor(yes if counted is None else counted, dtype=torch.bool),
        torch.tensor(yes if selected is None else selected, dtype=torch.bool),
        budget,
    ).tolist()


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [("token", [1 / 9] * 3), ("sequence", [1 / 9, 1 / 6, 1 / 12]), ("constant", [1 / 15] * 3)],
)
def test_factors_by_hand(aggregate: Aggregate, expected: list[float]) -> None:
    assert scale(aggregate, [3, 2, 4]) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize(
    ("aggregate", "expected"), [("token", [0, 1 / 5, 0]), ("sequence", [0, 1 / 4, 0]), ("constant", [0, 1 / 10, 0])]
)
def test_counted_rows_make_the_denominator_and_selected_rows_the_sum(
    aggregate: Aggregate, expected: list[float]
) -> None:
    factors = scale(aggregate, [3, 2, 4], counted=[True, True, False], selected=[False, True, False])
    assert factors == pytest.approx(expected, abs=1e-15)


def test_mean_over_tokens_is_not_the_mean_of_row_means() -> None:
    """Rows with log-probabilities (-1, -2) and (-0.5): the global token mean is 3.5 / 3."""
    nll = torch.tensor([3.0, 0.5], dtype=torch.float64)
    assert (nll * torch.tensor(scale("token", [2, 1]))).sum().item() == pytest.approx(1.166667, abs=5e-7)
    assert (nll * torch.tensor(scale("sequence", [2, 1]))).sum().item() == pytest.approx(1.0)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_nothing_divides_by_zero(aggregate: Aggregate) -> None:
    assert scale(aggregate, []) == []
    assert scale(aggregate, [0, 0]) == [0, 0]
    assert scale(aggregate, [3, 2], counted=[False, False]) == [0, 0]
    assert scale(aggregate, [3, 2], selected=[False, False]) == [0, 0]


@pytest.mark.parametrize(("aggregate", "expected"), [("token", 1 / 2), ("sequence", 1 / 4), ("constant", 1 / 10)])
def test_a_row_without_tokens_counts_as_a_row(aggregate: Aggregate, expected: float) -> None:
    assert scale(aggregate, [0, 2]) == pytest.approx([0, expected])


def test_wrong_types_are_refused() -> None:
    yes = torch.ones(2, dtype=torch.bool)
    with pytest.raises(AssertionError, match="length"):
        row_scale("token", torch.ones(2), yes, yes, 5)
    with pytest.raises(AssertionError, match="counted"):
        row_scale("token", torch.ones(2, dtype=torch.int64), yes.float(), yes, 5)
    with pytest.raises(AssertionError, match="selected"):
        row_scale("token", torch.ones(2, dtype=torch.int64), yes, yes[:1], 5)
    with pytest.raises(AssertionError, match="budget"):
        row_scale("constant", torch.ones(2, dtype=torch.int64), yes, yes, 0)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.sampled_from(AGGREGATES))
def test_a_loss_of_one_on_each_token(lengths: list[int], aggregate: Aggregate) -> None:
    """Token and sequence means of a constant are that constant; the constant divisor gives the used share."""
    total = sum(s * n for s, n in zip(scale(aggregate, lengths, budget=50), lengths, strict=True))
    assert total == pytest.approx(sum(lengths) / (50 * len(lengths)) if aggregate == "constant" else 1.0)


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=12),
    st.sampled_from(AGGREGATES),
    st.randoms(use_true_random=False),
)
def test_order_does_not_matter(lengths: list[int], aggregate: Aggregate, random: Random) -> None:
    order = list(range(len(lengths)))
    random.shuffle(order)
    factors = scale(aggregate, lengths)
    assert scale(aggregate, [lengths[i] for i in order]) == [factors[i] for i in order]
