"""Token weights on small tensors: vectors computed elsewhere, and what must hold of any group."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dagrpo.objectives.token_weights import divergence_weights, influence, spare_helpful_tokens


def approx(value: list[float]) -> Any:
    return pytest.approx(value, abs=6e-7)


def distributions(*rows: list[float]) -> tuple[Tensor, Tensor]:
    """Log-probabilities over a vocabulary of two, given the first's probability, and positions; row after row."""
    first = torch.tensor([value for row in rows for value in row], dtype=torch.float64)
    position = torch.cat([torch.arange(len(row)) for row in rows])
    return torch.stack([first, 1 - first], 1).log(), position


def test_divergence_weights() -> None:
    logps, position = distributions([0.9, 0.5, 0.8], [0.9, 0.9, 0.6])
    weights = divergence_weights(logps, position, 2, 1.7)
    assert weights.tolist() == approx([1, 1.7, 1.129086] * 2)
    excess = [(weights[i] - 1) / 0.7 * 0.385139 for i in range(3)]  # the least divergence is 0 here
    assert [float(value) for value in excess] == approx([0, 0.385139, 0.071023])


def test_a_row_that_has_ended_counts_as_uniform() -> None:
    padded = distributions([0.9, 0.7, 0.2], [0.6, 0.5, 0.5], [0.5, 0.5, 0.5])
    expected = divergence_weights(*padded, 3, 2.0)
    found = divergence_weights(*distributions([0.9, 0.7, 0.2], [0.6]), 3, 2.0)  # and the third has no token at all
    torch.testing.assert_close(found, expected[torch.tensor([0, 1, 2, 3])])


def test_divergence_weights_written_out() -> None:
    generator = torch.Generator().manual_seed(0)
    logps = (3 * torch.randn(4, 6, 5, generator=generator, dtype=torch.float64)).log_softmax(-1)
    gap = np.clip(logps.mean(0, keepdim=True).numpy() - logps.numpy(), -11, 11)
    divergence = (np.exp(gap) - gap - 1).sum(-1).mean(0)
    expected = 1 + 0.5 * (divergence - divergence.min()) / (divergence.max() - divergence.min())
    found = divergence_weights(logps.flatten(0, 1), torch.arange(6).repeat(4), 4, 1.5)
    assert found.reshape(4, 6).tolist() == [pytest.approx(expected.tolist(), rel=1e-12)] * 4


def test_divergence_weights_are_one_where_there_is_nothing_to_tell_apart() -> None:
    logps, position = distributions([0.9, 0.5], [0.9, 0.5])
    assert divergence_weights(logps, position, 2, 1.7).tolist() == [1] * 4
    logps, position = distributions([0.9], [0.3])
    assert divergence_weights(logps, position, 2, 1.7).tolist() == [1] * 2
    logps, position = distributions([0.9, 0.5, 0.8], [0.9, 0.9, 0.6])
    assert divergence_weights(logps, position, 2, 1.0).tolist() == [1] * 6


def test_impossible_tokens_give_finite_weights() -> None:
    logps = torch.tensor([[0.0, -1e4], [-1e4, 0.0], [-0.7, -0.7], [-0.7, -0.7]])
    weights = divergence_weights(logps, torch.tensor([0, 0, 1, 1]), 2, 1.7)
    assert weights.tolist() == pytest.approx([1.7, 1.7, 1, 1])


TOKENS = torch.tensor([0, 1, 1, 2])  # two of a right row, two of a wrong one
PROBABILITIES = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.6, 0.2], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]], dtype=torch.float64)
HIDDEN = torch.tensor([[1, 0], [0, 1], [0, 1], [0.5, 0.5]], dtype=torch.float64)
RIGHT = torch.tensor([True, True, False, False])


def test_influence() -> None:
    slope = torch.nn.functional.one_hot(TOKENS, 3).double() - PROBABILITIES
    assert (slope[RIGHT].T @ HIDDEN[RIGHT]).flatten().tolist() == approx([0.3, -0.2, -0.2, 0.4, -0.1, -0.2])
    strength = influence(TOKENS, PROBABILITIES.log(), HIDDEN, RIGHT)
    assert strength.tolist() == approx([0.14, 0.24, 0.24, -0.135])


def test_tokens_that_resemble_right_ones_are_spared() -> None:
    strength = influence(TOKENS, PROBABILITIES.log(), HIDDEN, RIGHT)
    row = torch.tensor([0, 0, 1, 1])
    assert spare_helpful_tokens(strength, row, RIGHT, 1.0, 0.25).tolist() == [1, 1, 0.25, 1]
    assert spare_helpful_tokens(strength, row, RIGHT, 0.24 / 0.19 + 1e-6, 0.25).tolist() == [1] * 4  # τ just above
    assert spare_helpful_tokens(strength, row, RIGHT, -1.0, 0.25).tolist() == [1, 1, 0.25, 0.25]


def test_the_threshold_is_the_least_mean_of_a_right_row() -> None:
    """Of the right rows, each of one token: τ = min(0.14, 0.24), below a wrong token of 0.2."""
    strength = torch.tensor([0.14, 0.24, 0.2, 0.1])
    correct = torch.tensor([True, True, False, False])
    assert spare_helpful_tokens(strength, torch.tensor([0, 1, 2, 2]), correct, 1.0, 0.0).tolist() == [1, 1, 0, 1]
    assert spare_helpful_tokens(strength, torch.tensor([0, 0, 1, 1]), correct, 1.0, 0.0).tolist() == [1, 1, 0, 1]
    assert spare_helpful_tokens(strength, torch.tensor([0, 0, 1, 1]), correct, 1.1, 0.0).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("correct", [True, False])
def test_without_both_sides_nothing_is_spared(correct: bool) -> None:
    strength = influence(TOKENS, PROBABILITIES.log(), HIDDEN, torch.full((4,), correct))
    row = torch.tensor([0, 0, 1, 1])
    assert spare_helpful_tokens(strength, row, torch.full((4,), correct), 1.0, 0.0).tolist() == [1] * 4


def test_influence_is_the_effect_of_a_step_on_the_output_layer() -> None:
    """With the whole vocabulary drawn: the derivative of each token's log-probability along the gradient of others'."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(5, 3, generator=generator, dtype=torch.float64)
    layer = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    token = torch.tensor([3, 1, 0, 4, 2])
    pushing = torch.tensor([True, False, True, False, False])

    def drawn(weight: Tensor) -> Tensor:
        return (hidden @ weight.T).log_softmax(-1)[torch.arange(5), token]

    (push,) = torch.autograd.grad(drawn(layer)[pushing].sum(), layer)
    slopes = torch.stack([torch.autograd.grad(one, layer, retain_graph=True)[0] for one in drawn(layer)])
    found = influence(token, (hidden @ layer.T).log_softmax(-1), hidden, pushing)
    torch.testing.assert_close(found, (slopes * push).sum((1, 2)))
