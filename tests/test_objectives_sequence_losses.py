"""Losses of whole responses against numbers by hand, and their slopes."""

import numpy as np
import pytest
import torch
from torch import Tensor

from dagrpo.objectives.sequence_losses import disco, dpo, ipo, kl_constraint, rebel

SCORES = torch.tensor([-1.4 / 3, -0.45, -2.3 / 4, -0.4], dtype=torch.float64)  # mean log-probabilities
RIGHT = torch.tensor([True, False, False, True])
GROUP = torch.zeros(4, dtype=torch.long)


def tensor(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def approx(value: float | list[float]) -> object:
    return pytest.approx(value, abs=6e-7)


def test_dpo() -> None:
    assert dpo(tensor(0.25), 0.1).item() == approx(0.680725)
    assert dpo(tensor(1.2), 0.1).item() == approx(0.634946)
    assert dpo(tensor(1.2), 0.1, 0.25).item() == approx(0.664946)
    assert dpo(tensor(1.2, 1.2), 0.1, tensor(0.0, 0.25)).tolist() == approx([0.634946, 0.664946])


def test_dpo_without_confidence_holds_the_margin_at_zero() -> None:
    margin = tensor(-2.0, 0.0, 2.0).requires_grad_()
    slope = torch.autograd.grad(dpo(margin, 0.5, 0.5).sum(), margin)[0]
    assert slope.sign().tolist() == [-1, 0, 1]


def test_dpo_is_finite_far_out() -> None:
    assert dpo(tensor(-1e4, 1e4), 1.0).tolist() == [1e4, 0.0]


def test_ipo() -> None:
    assert ipo(tensor(0.45, 5.0), 0.1).tolist() == approx([4.55**2, 0.0])


def test_rebel() -> None:
    assert rebel(tensor(0.3 - 0.1), tensor(1.0), 1.0).item() == approx(0.64)
    assert rebel(tensor(0.3 - 0.1), tensor(1.0), 0.1).item() == approx(0.01)


def test_disco() -> None:
    assert disco(SCORES, RIGHT, GROUP, None).tolist() == approx([-0.079167])
    assert disco(SCORES, RIGHT, GROUP, 10.0).tolist() == approx([-0.078971])
    ratio = np.exp([[0.1, 0, 0.2, 0, 0, 0, 0.1, -0.1][i] for i in (0, 1, 2, 5, 6, 7)]).reshape(2, 3).mean(1)
    wrong = np.exp([-0.2, 0.3]).mean(), np.exp([0.2, 0, -0.3, 0]).mean()
    scores = tensor(ratio[0], *wrong, ratio[1])
    assert disco(scores, RIGHT, GROUP, 1.0).tolist() == approx([-0.017574])


def test_disco_is_of_mixed_groups_alone() -> None:
    group = torch.tensor([0, 0, 1, 2, 2])
    right = torch.tensor([True, False, True, False, False])
    score = tensor(1.0, 0.0, 9.0, 2.0, 3.0)
    assert disco(score, right, group, None).tolist() == [-1.0]
    assert disco(score, torch.zeros_like(right), group, 1.0).shape == (0,)


def test_disco_with_a_high_temperature_is_its_basic_form() -> None:
    assert disco(SCORES, RIGHT, GROUP, 1e4).item() == pytest.approx(disco(SCORES, RIGHT, GROUP, None).item(), abs=1e-6)
    hardest = disco(SCORES, RIGHT, GROUP, 1e-4).item()
    assert hardest == pytest.approx(-0.45 - (-1.4 / 3 - 0.4) / 2, abs=1e-4)


def test_kl_constraint() -> None:
    divergence = torch.tensor(0.0005, dtype=torch.float64, requires_grad=True)
    loss = kl_constraint(divergence, 1000.0, 1e-4)
    assert loss.item() == approx(0.0002)
    assert torch.autograd.grad(loss, divergence)[0].item() == approx(0.4)
    assert kl_constraint(torch.tensor(-0.025), 1000.0, 1e-4).item() == 0.0
