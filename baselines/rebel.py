"""REBEL turns reinforcement into regression: the gap between the log-ratios of two answers to a prompt is fitted to the
gap between their rewards.

Paper: REBEL: Reinforcement Learning via Regressing Relative Rewards, arXiv 2404.16767, and its released code.

    Δ_i  = log π(o_i) - log π_old(o_i)                  summed over the tokens
    loss = mean over pairs of ( (Δ_i - Δ_j) - η (R_i - R_j) )²

Defaults, the paper's: η = 1, four passes over the answers of a step. Adapted: the paper draws two answers a prompt;
here every two of the group are a pair, each group counting alike. Groups of equal rewards, which ask for no change, are
left out.
"""

from pydantic import Field
from torch import Tensor

from dagrpo.algorithm import Algorithm, Phase, Recipe, Sequences, SequenceTerm, contrasted, method
from dagrpo.config import Strict
from dagrpo.objectives.pairs import balanced_mean, every_pair
from dagrpo.objectives.sequence_losses import rebel as regression


class Options(Strict):
    """Parameters of REBEL."""

    eta: float = Field(1.0, gt=0, description="Log-ratio that a unit of reward is worth (nats).")
    epochs: int = Field(4, ge=1, description="Passes over the answers of a step.")


@method("rebel", Options)
def rebel(options: Options) -> Algorithm:
    def loss(sequences: Sequences) -> Tensor:
        """The regression over every two rows of a group that has right and wrong ones."""
        rows = sequences.rows
        one, other = pairs = every_pair(rows.group, contrasted(rows))
        moved = sequences.logp - sequences.old_logp
        losses = regression(moved[one] - moved[other], rows.reward[one] - rows.reward[other], options.eta)
        return balanced_mean(losses, rows.group[pairs[0]])

    recipe = Recipe(objective=(SequenceTerm(loss, rows=contrasted),), epochs=options.epochs)
    return Algorithm("REBEL", (Phase(recipe),))
