"""Summaries of a training curve: pure functions of the values of one run, in the order of its steps, shape (T,)."""

import numpy as np

PARTS = 5
WINDOW = 21
SPIKE = 5.0
STEPS_NEEDED = 10


def mean(values: np.ndarray) -> float:
    """Average over the run."""
    return float(values.mean())


def late(values: np.ndarray) -> float:
    """Average over the last third of the run."""
    return float(values[-max(1, len(values) // 3) :].mean())


def ends(values: np.ndarray) -> tuple[float, float]:
    """Averages over the first and over the last fifth of the run."""
    part = max(1, len(values) // PARTS)
    return float(values[:part].mean()), float(values[-part:].mean())


def spikes(norms: np.ndarray) -> float:
    """Count, for a hundred steps, those whose norm exceeds five times the run's own median around them.

    The median is over 21 steps, ten on either side, so neither the loss's scale nor its slow drift counts as a spike.
    Steps without a gradient (norm 0) are left out.
    """
    return 100.0 * float((norms_over_median(norms) > SPIKE).mean())


def peak(norms: np.ndarray) -> float:
    """Divide the largest norm of the run by its median: free of the loss's scale."""
    pushed = norms[norms > 0]
    return float(pushed.max() / np.median(pushed))


def norms_over_median(norms: np.ndarray) -> np.ndarray:
    """Divide each positive norm by the median of the 21 around it (fewer at the ends)."""
    pushed = norms[norms > 0]
    padded = np.pad(pushed, WINDOW // 2, constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)
    return np.asarray(pushed / np.nanmedian(around, axis=1))


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Spearman's correlation; ties share their mean rank; NaN where one of the two never varies."""
    ranks = [_ranks(values) for values in (one, other)]
    if min(np.ptp(rank) for rank in ranks) == 0:
        return float("nan")
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place])
