"""Losses of single response tokens: tensors of shape (n,) in, a loss of shape (n,) out."""

import math

import torch
from torch import Tensor


def ratio(logp: Tensor, old_logp: Tensor, coefficient: Tensor) -> Tensor:
    """Weigh the coefficient by the importance ratio: ℓ = -c ρ, ρ = exp(logp - old_logp).

    The policy-gradient surrogate without a trust region (TRPO, arXiv 1502.05477, Eq. 14).

    Args:
        logp: nats, shape (n,).
        old_logp: nats, shape (n,).
        coefficient: the row's weight times advantage, shape (n,). Where it is 0, loss and gradient are 0.

    Returns:
        Shape (n,).
    """
    return -coefficient * _ratio(logp, old_logp, coefficient)


def ppo_clip(logp: Tensor, old_logp: Tensor, coefficient: Tensor, low: float, high: float) -> Tensor:
    """Stop rewarding a token once its ratio has left the trust region on the side that the coefficient pushes to.

        ℓ = -min(ρ c, clip(ρ, 1 - low, 1 + high) c)

    PPO (arXiv 1707.06347, Eq. 7), with separate bounds (DAPO, arXiv 2503.14476, Eq. 10). Arguments and result as in
    :func:`ratio`.
    """
    assert 0 <= low < 1 and high >= 0, f"the trust region [1 - {low}, 1 + {high}] must hold 1 and lie above 0"
    rho = _ratio(logp, old_logp, coefficient)
    return -torch.minimum(rho * coefficient, rho.clamp(1 - low, 1 + high) * coefficient)


def shaped(logp: Tensor, coefficient: Tensor, gamma: float) -> Tensor:
    """Shape the probability of an off-policy token, so that unlikely tokens still learn: ℓ = -c π / (π + gamma).

    LUFFY (arXiv 2504.14945, 3.3). The demonstrator's probability is taken as 1. The gradient flows through the
    shaping: d/dlogp = -c gamma π / (π + gamma)², largest in size at π = gamma.

    Args:
        logp: nats, shape (n,).
        coefficient: the row's weight times advantage, shape (n,). Where it is 0, loss and gradient are 0.
        gamma: a probability, greater than 0.

    Returns:
        Shape (n,).
    """
    assert gamma > 0, f"gamma must be greater than 0, found {gamma}"
    _check(logp, coefficient)
    # π / (π + gamma) = sigmoid(logp - log gamma): exact where π underflows.
    return -coefficient * torch.sigmoid(_where_used(coefficient, logp) - math.log(gamma))


def log_likelihood(logp: Tensor, coefficient: Tensor) -> Tensor:
    """Weigh the log-probability itself, whatever sampled the token: ℓ = -c logp.

    The off-policy gradient of DaGRPO by the letter (arXiv 2512.06337, Eq. 13): weight 1 on each token's ∇ log π.
    Arguments and result as in :func:`shaped`.
    """
    _check(logp, coefficient)
    return -coefficient * _where_used(coefficient, logp)


def undecided_likelihood(logp: Tensor) -> Tensor:
    """Weigh each token's likelihood by how undecided the policy is about it: ℓ = -φ logp, φ = π (1 - π).

    The weight carries no gradient; it is largest at π = 1/2 and vanishes for what is known or unheard of. CHORD-φ
    (arXiv 2508.11408).

    Args:
        logp: nats, shape (n,).

    Returns:
        Shape (n,).
    """
    _check(logp)
    known = logp.detach()
    return known.exp() * torch.expm1(known) * logp


def k3(logp: Tensor, reference_logp: Tensor) -> Tensor:
    """Estimate KL(policy || reference) on the policy's own samples: ℓ = exp(d) - d - 1, d = reference_logp - logp.

    Non-negative and unbiased (Schulman, "Approximating KL divergence", 2020); the penalty of GRPO (DeepSeekMath,
    arXiv 2402.03300, Eq. 4).

    Args:
        logp: nats, shape (n,).
        reference_logp: nats, shape (n,).

    Returns:
        Nats, shape (n,).
    """
    _check(logp, reference_logp)
    gap = reference_logp.detach() - logp
    return torch.expm1(gap) - gap  # exp(d) - 1 would cancel near d = 0


def _ratio(logp: Tensor, old_logp: Tensor, coefficient: Tensor) -> Tensor:
    _check(logp, old_logp, coefficient)
    return torch.exp(_where_used(coefficient, logp - old_logp.detach()))


def _where_used(coefficient: Tensor, exponent: Tensor) -> Tensor:
    """Replace the exponent by 0 where the coefficient is 0, before exp: after it, 0 times inf would be NaN."""
    return torch.where(coefficient == 0, 0, exponent)


def _check(*columns: Tensor) -> None:
    first = columns[0]
    assert first.ndim == 1 and all(column.shape == first.shape for column in columns), [c.shape for c in columns]
    assert all(column.is_floating_point() for column in columns), [c.dtype for c in columns]
