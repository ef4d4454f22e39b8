"""Both sides of the speed benchmark hold a bounded number of tokens at once, and compute the same all the same."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.plain import padded_update, rows_at_once
from benchmarks.speed import _gradient, _packed_update
from dagrpo.policy.checkpoint import load_policy
from dagrpo.policy.packing import PackedGroup


@pytest.mark.parametrize(
    ("rows", "width", "tokens", "at_once"), [(64, 60, 4096, 64), (64, 250, 4096, 16), (12, 30, 200, 6), (6, 90, 64, 1)]
)
def test_rows_are_cut_into_equal_batches_within_the_bound(rows: int, width: int, tokens: int, at_once: int) -> None:
    assert rows_at_once(rows, width, tokens) == at_once


def test_the_padded_side_keeps_to_the_bound_and_to_the_gradient(base: Path) -> None:
    policy = load_policy(base, torch.device("cpu"))
    groups = [PackedGroup([3, 4, 5, 6], [[7, 8, 9], [8, 9], [9, 7, 8, 5]], range(3 * i, 3 * i + 3)) for i in range(4)]
    coefficients = torch.linspace(-1, 1, 12)
    held: list[int] = []

    def note(_: Any, __: Any, given: dict[str, Any]) -> None:
        held.append(given["input_ids"].numel())

    handle = policy.model.register_forward_pre_hook(note, with_kwargs=True)
    gradients = []
    for tokens in (4096, 32):
        policy.model.zero_grad()
        padded_update(policy, groups, coefficients, 4, tokens)
        gradients.append(_gradient(policy))
    handle.remove()
    assert held == [96, 32, 32, 32]
    policy.model.zero_grad()
    _packed_update(policy, groups, coefficients, 4, 32)
    for gradient in (gradients[1], _gradient(policy)):
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-4, atol=1e-6)
