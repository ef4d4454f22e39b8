import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dagrpo.objectives.token_losses import k3, ppo_clip, ratio, shaped

# Log-probabilities that break a loss which masks after exp instead of before.
HOSTILE = [math.nan, math.inf, -math.inf, 1e4, -1e4]


def column(*values: float, grad: bool = False) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def gradient(loss: Tensor, logp: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(loss.sum(), logp)
    return result


def test_ratio_by_hand() -> None:
    logp, old = column(-0.4, -0.2, -0.8), column(-0.5, -0.2, -1.0)
    expected = column(-0.5 * 1.105171, 2.0, -1.221403)
    torch.testing.assert_close(ratio(logp, old, column(0.5, -2.0, 1.0)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("rho", "coefficient", "loss", "slope"),
    [
        (1.1, 1.0, -1.1, -1.1),  # inside
        (1.5, 1.0, -1.2, 0.0),  # pushed up far enough
        (0.5, 1.0, -0.5, -0.5),  # fell, and is to rise: no bound
        (0.5, -1.0, 0.8, 0.0),  # pushed down far enough
        (1.5, -1.0, 1.5, 1.5),  # rose, and is to fall: no bound
    ],
)
def test_ppo_clip_by_hand(rho: float, coefficient: float, loss: float, slope: float) -> None:
    logp = column(math.log(rho), grad=True)
    result = ppo_clip(logp, column(0.0), column(coefficient), 0.2, 0.2)
    assert result.item() == pytest.approx(loss, abs=1e-12)
    assert gradient(result, logp).item() == pytest.approx(slope, abs=1e-12)


def test_ppo_clip_bounds_may_differ() -> None:
    logp, old = column(math.log(1.25), math.log(0.75)), column(0.0, 0.0)
    assert ppo_clip(logp, old, column(1, -1), 0.2, 0.28).tolist() == pytest.approx([-1.25, 0.8])


@pytest.mark.parametrize("bounds", [(1.0, 0.2), (-0.1, 0.2), (0.2, -0.1)])
def test_ppo_clip_refuses_impossible_bounds(bounds: tuple[float, float]) -> None:
    with pytest.raises(AssertionError, match="trust region"):
        ppo_clip(column(0.0), column(0.0), column(1.0), *bounds)


def test_shaped_by_hand() -> None:
    logp = column(*[math.log(p) for p in (0.01, 0.1, 0.5, 0.99)], grad=True)
    result = shaped(logp, column(-1, -1, -1, -1), 0.1)
    assert result.tolist() == pytest.approx([0.0909, 0.5, 0.8333, 0.9083], abs=5e-5)
    assert gradient(result, logp).tolist() == pytest.approx([0.0826, 0.25, 0.1389, 0.0833], abs=5e-5)


def test_shaped_is_finite_where_the_probability_underflows() -> None:
    logp = column(-800.0, grad=True)
    result = shaped(logp, column(1.0), 0.1)
    assert result.item() == 0.0
    assert gradient(result, logp).item() == 0.0


def test_k3_by_hand() -> None:
    logp = column(-0.4, -0.5, grad=True)
    result = k3(logp, column(-0.55, -0.35))
    expected = [math.exp(-0.15) + 0.15 - 1, math.exp(0.15) - 0.15 - 1]
    assert result.tolist() == pytest.approx(expected, abs=1e-12)
    assert gradient(result, logp).tolist() == pytest.approx([1 - math.exp(-0.15), 1 - math.exp(0.15)], abs=1e-12)


def test_k3_keeps_its_digits_near_zero() -> None:
    gap = 1e-7
    assert k3(column(0.0), column(gap)).item() == pytest.approx(gap**2 / 2, rel=1e-3, abs=0)


@given(st.lists(st.tuples(st.floats(-20, 0), st.floats(-20, 0)), min_size=1, max_size=10))
def test_k3_is_not_negative_and_zero_only_at_equality(pairs: list[tuple[float, float]]) -> None:
    logp, reference = column(*[p for p, _ in pairs]), column(*[r for _, r in pairs])
    result = k3(logp, reference)
    assert (result >= 0).all()
    assert (k3(logp, logp) == 0).all()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_token_without_coefficient_has_no_loss_and_no_gradient(hostile: float) -> None:
    logp, coefficient = column(hostile, -0.5, grad=True), column(0.0, 1.0)
    old = column(-1.0, -0.5)
    for loss in (
        lambda: ratio(logp, old, coefficient),
        lambda: ppo_clip(logp, old, coefficient, 0.2, 0.2),
        lambda: shaped(logp, coefficient, 0.1),
    ):
        value = loss()
        slope = gradient(value, logp)
        assert value[0] == 0 and slope[0] == 0
        assert value[1].isfinite() and slope[1].isfinite() and slope[1] != 0


@given(st.lists(st.tuples(st.floats(-20, 0), st.floats(-3, 3)), min_size=1, max_size=10))
def test_gradients_of_ratio_clip_and_logp_coincide_on_policy(tokens: list[tuple[float, float]]) -> None:
    logp, coefficient = column(*[p for p, _ in tokens], grad=True), column(*[c for _, c in tokens])
    old = logp.detach().clone()
    expected = gradient(-coefficient * logp, logp)
    torch.testing.assert_close(gradient(ratio(logp, old, coefficient), logp), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        gradient(ppo_clip(logp, old, coefficient, 0.2, 0.2), logp), expected, rtol=1e-12, atol=1e-12
    )


def test_old_and_reference_carry_no_gradient() -> None:
    logp, other = column(-0.4, -0.9, grad=True), column(-0.5, -0.8, grad=True)
    coefficient = column(1.0, -1.0)
    for loss in (ratio(logp, other, coefficient), ppo_clip(logp, other, coefficient, 0.2, 0.2), k3(logp, other)):
        assert torch.autograd.grad(loss.sum(), other, allow_unused=True)[0] is None


def test_gradients_agree_with_finite_differences() -> None:
    logp, old, coefficient = column(-0.3, -2.0, -5.0, grad=True), column(-0.4, -1.5, -5.3), column(0.5, -1.5, 2.0)
    assert torch.autograd.gradcheck(lambda x: ratio(x, old, coefficient), logp)
    assert torch.autograd.gradcheck(lambda x: ppo_clip(x, old, coefficient, 0.2, 0.2), logp)
    assert torch.autograd.gradcheck(lambda x: shaped(x, coefficient, 0.1), logp)
    assert torch.autograd.gradcheck(lambda x: k3(x, old), logp)


def test_shapes_are_checked() -> None:
    with pytest.raises(AssertionError):
        ratio(column(1.0, 2.0), column(1.0), column(1.0))
    with pytest.raises(AssertionError):
        shaped(torch.zeros(2, 2), torch.zeros(2, 2), 0.1)
    with pytest.raises(AssertionError):
        k3(column(1.0), torch.zeros(1, dtype=torch.int64))
