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


def out_of_bounds(logp: Tensor, old_logp: Tensor, coefficient: Tensor, low: float, high: float) -> Tensor:
    """Flag the tokens whose gradient :func:`ppo_clip` cuts: bool, (n,). Arguments as there."""
    rho = _ratio(logp, old_logp, coefficient)
    return ((coefficient > 0) & (rho > 1 + high)) | ((coefficient < 0) & (rho < 1 - low))


def capped_weight(logp: Tensor, old_logp: Tensor, coefficient: Tensor, high: float) -> Tensor:
    """Cap the importance ratio as a mere weight, so that every token keeps a gradient.

        ℓ = -c sg(min(ρ, 1 + high)) logp               sg: without gradient

    CISPO (MiniMax-M1, arXiv 2506.13585, Eq. 4 and 5), which bounds the weight from above alone. Arguments and result as
    in :func:`ratio`.
    """
    assert high >= 0, f"the cap 1 + {high} must not lie below 1"
    weight = _ratio(logp, old_logp, coefficient).detach().clamp(max=1 + high)
    return -coefficient * weight * _where_used(coefficient, logp)


def sequence_log_ratio(logp: Tensor, old_logp: Tensor, row: Tensor) -> Tensor:
    """Give each token the mean log-ratio of its row, with the gradient of its own log-probability.

        log s_t = sg(mean_t' (logp - old_logp)) + logp_t - sg(logp_t)

    The ratio of GSPO in the form that takes an advantage for each token (arXiv 2507.18071, Eq. 7 and 14); the mean of a
    row's losses has the gradient of the loss of the sequence's own ratio.

    Args:
        logp, old_logp: nats, shape (n,), of whole rows.
        row: int64, shape (n,).

    Returns:
        Nats, shape (n,).
    """
    _check(logp, old_logp)
    size = int(row.max()) + 1 if len(row) else 0
    gap = (logp - old_logp).detach()
    total = gap.new_zeros(size).index_add(0, row, gap)
    count = gap.new_zeros(size).index_add(0, row, torch.ones_like(gap))
    return (total / count.clamp(min=1))[row] + (logp - logp.detach())


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
