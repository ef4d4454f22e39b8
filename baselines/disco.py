"""DisCO trains a policy as a classifier: it raises a score of right answers above that of wrong answers to the same
prompt, and holds the policy near the one that sampled by a constraint instead of a clip.

Paper: DisCO: Reinforcing Large Reasoning Models with Discriminative Constrained Optimization, arXiv 2505.12366, and its
released code.

    s_i  = mean_t log π(o_it)                           "log_likelihood"; mean_t ρ_it for "ratio"
    loss = (1 / groups) Σ_g [ τ log mean_{wrong} exp(s / τ) - mean_{right} s ] + sg[β max(KL - δ, 0)] KL

KL = mean over tokens of log π_old - log π. Only groups with right and wrong answers take part, in KL too; all groups
are counted. Defaults, the paper's: τ = 10 for the log-likelihood and 1 for the ratio, β = 1000, δ = 0.0001; its basic
form, the mean score of wrong answers, is ``hard_negatives: false``. The constraint can act only where a step has
several updates (`train.updates`); the paper's have four.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from dagrpo.algorithm import Algorithm, Phase, Recipe, Sequences, SequenceTerm, contrasted, method
from dagrpo.config import Strict
from dagrpo.objectives.sequence_losses import disco as separation
from dagrpo.objectives.sequence_losses import kl_constraint


class Options(Strict):
    """Parameters of DisCO."""

    score: Literal["log_likelihood", "ratio"] = Field("log_likelihood", description="What is raised and lowered.")
    hard_negatives: bool = Field(True, description="Dwell on wrong answers of high score; false: their mean.")
    tau: float | None = Field(None, gt=0, description="Temperature of that; null: 10 for log_likelihood, 1 for ratio.")
    beta: float = Field(1000.0, ge=0, description="Weight of the constraint.")
    delta: float = Field(1e-4, ge=0, description="Divergence from the sampling policy that is free (nats a token).")


@method("disco", Options)
def disco(options: Options) -> Algorithm:
    tau = options.tau or {"log_likelihood": 10.0, "ratio": 1.0}[options.score]

    def loss(sequences: Sequences) -> Tensor:
        """Separation of right from wrong answers, averaged over all groups, and the constraint."""
        rows, here = sequences.rows, contrasted(sequences.rows)
        length = rows.length.clamp(min=1).to(sequences.logp)
        score = sequences.logp / length if options.score == "log_likelihood" else sequences.ratio
        given = score[here], rows.correct[here], rows.group[here], tau if options.hard_negatives else None
        divergence = (sequences.old_logp - sequences.logp)[here].sum() / length[here].sum().clamp(min=1)
        groups = max(1, len(rows.group.unique()))
        return separation(*given).sum() / groups + kl_constraint(divergence, options.beta, options.delta)

    return Algorithm("DisCO", (Phase(Recipe(objective=(SequenceTerm(loss, rows=contrasted),))),))
