"""How much each of several groups of *problems* counts: by its loss, or by how its return stands to that of others."""

import torch
from torch import Tensor


def exponentiated(weight: Tensor, loss: Tensor, eta: float) -> Tensor:
    """Move weight towards the groups of high loss: q_g <- q_g exp(η ℓ_g) / Z, where Z keeps their total.

    The adversary of Group DRO (arXiv 1911.08731) and of Group Robust Preference Optimization (arXiv 2405.20304).

    Args:
        weight: greater than 0, shape (K,).
        loss: shape (K,).
        eta: step size, at least 0.

    Returns:
        Shape (K,).
    """
    return weight.sum() * torch.softmax(weight.log() + eta * loss, 0)


def returns_split(signal: Tensor, reward: Tensor) -> Tensor:
    """Divide rows in two by a threshold on a signal, so that the mean rewards of the two lie as far apart as they can.

    What an adversary does who may say which rows are of one group by the signal alone, and wants the variance of the
    groups' returns to be large (arXiv 2310.11971).

    Args:
        signal: floating point, shape (N,).
        reward: floating point, shape (N,).

    Returns:
        p(high), shape (N,): 1 on the side of the higher return, 0 on the other; 0.5 where there is nothing to divide.
        Of thresholds that do as well, the lowest.
    """
    assert signal.shape == reward.shape and signal.ndim == 1, f"signal: (N,), found {signal.shape} and {reward.shape}"
    order = reward.argsort(stable=True)
    order = order[signal[order].argsort(stable=True)]  # by signal, then reward: no sum depends on the order of rows
    ranked, total = signal[order], reward[order].double().cumsum(0)
    cut = (ranked[1:] > ranked[:-1]).nonzero().flatten()  # the last row below each threshold
    if not len(cut):
        return torch.full_like(reward, 0.5)
    below = total[cut] / (cut + 1)
    above = (total[-1] - total[cut]) / (len(ranked) - cut - 1)
    chosen = int((above - below).abs().argmax())
    if above[chosen] == below[chosen]:
        return torch.full_like(reward, 0.5)
    upper = signal > ranked[cut[chosen]]
    return (upper if above[chosen] > below[chosen] else ~upper).to(reward)


def returns_of(reward: Tensor, high: Tensor) -> Tensor:
    """Mean reward of the high and of the low group: (2,).

    Args:
        reward: floating point, shape (N,).
        high: p(high), in [0, 1], shape (N,).
    """
    shares = torch.stack([high, 1 - high])
    return (shares @ reward) / shares.sum(1).clamp(min=torch.finfo(reward.dtype).tiny)


def invariance_factor(reward: Tensor, high: Tensor, beta: float) -> Tensor:
    """What a row's reward is worth to the return less β times its variance over the two groups.

        J   = mean(R) - β Var_g(J_g)
        f_i = N ∂J/∂R_i = 1 - β N (J_high - J_low) / 2 (p_i / Σp - (1 - p_i) / Σ(1 - p))

    Group invariant learning (arXiv 2310.11971). A policy gradient with f_i A_i in the place of A_i ascends J.

    Args:
        reward: floating point, shape (N,).
        high: p(high), in [0, 1], shape (N,).
        beta: weight of the variance, at least 0.

    Returns:
        Shape (N,), of mean 1; all 1 where a group is empty.
    """
    shares = torch.stack([high, 1 - high])
    size = shares.sum(1)
    if not bool((size > 0).all()):
        return torch.ones_like(reward)
    upper, lower = returns_of(reward, high)
    return 1 - beta * len(reward) * (upper - lower) / 2 * (shares[0] / size[0] - shares[1] / size[1])
