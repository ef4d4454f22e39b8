"""Best-of-n imitates one right answer of each group and leaves the others alone.

Paper: arXiv 2404.14367, where best-of-n stands for on-policy imitation without a push against wrong answers.

    loss = -Σ_g Σ_t log π(o_gt) / Σ_g |o_g|             o_g: the answer of group g with the highest reward

Defaults: none. Among right answers the one of the lowest key is taken, a draw by lot; a group without a right answer is
left out, which is our choice, since a verifier leaves nothing to choose there.
"""

from torch import Tensor

from dagrpo.algorithm import Algorithm, NoOptions, Phase, Recipe, Rows, likelihood, method
from dagrpo.objectives.pairs import best_of_group


def best(rows: Rows) -> Tensor:
    """The row that each group imitates: bool, (N,)."""
    return best_of_group(rows.reward, rows.group, rows.key, ~rows.anchor & rows.correct)


@method("best_of_n")
def best_of_n(options: NoOptions) -> Algorithm:
    return Algorithm("Best-of-n", (Phase(Recipe(objective=(likelihood(rows=best),))),))
