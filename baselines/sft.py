"""SFT imitates the demonstrations, token by token; nothing is sampled.

    loss = -Σ_i Σ_t log π(o_it) / Σ_i |o_i|             over the demonstrations of the optimiser step

The mean is over all tokens of the step. A mean of the means of its micro-batches weighs tokens by the company that
they happen to have; according to an audit (arXiv 2604.23747) that error is behind the low SFT rows of several papers.
No parameters: the optimiser, its schedule and the length of the phase are training settings (`train.sft`).
"""

from dagrpo.algorithm import Algorithm, NoOptions, Phase, Recipe, likelihood, method


def phase() -> Phase:
    """A phase that reads demonstrations only."""
    return Phase(Recipe(objective=(likelihood(rows="anchor"),), data="demonstrations"), kind="sft")


@method("sft")
def sft(options: NoOptions) -> Algorithm:
    return Algorithm("SFT", (phase(),))
