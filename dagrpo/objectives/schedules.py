"""Coefficients that change as a run goes on: plain numbers in and out."""

import math


def rise_and_fall(step: float, warmup: float, decay: float, peak: float, valley: float) -> float:
    """Rise in a line from 0 to ``peak`` in ``warmup`` steps, fall along a half cosine to ``valley`` in ``decay`` steps.

        step / warmup · peak                                            while step < warmup
        valley + (peak - valley) (1 + cos(π (step - warmup) / decay)) / 2    while step < warmup + decay
        valley                                                          after that

    The weight of imitation in CHORD (arXiv 2508.11408).
    """
    assert step >= 0 and warmup >= 0 and decay >= 0, (step, warmup, decay)
    if step < warmup:
        return peak * step / warmup
    if step < warmup + decay:
        return valley + (peak - valley) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / decay))
    return valley
