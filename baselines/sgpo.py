"""SGPO gives the rows of a prompt on which every answer is wrong graded rewards, by how far each reasons before its
first error, so that such prompts teach something too.

Paper: Stepwise Guided Policy Optimization: Coloring your Incorrect Reasoning in GRPO, arXiv 2505.11595.

    R_i  = 1 / (1 + exp(-β (s_i - γ)))                  in groups without a correct row; elsewhere 1 if correct, else 0
    A_i  = (R_i - mean(R)) / (std(R) + 1e-6)
    loss = that of GRPO

s_i, in [0, 1], is the share of the response that is right before the first wrong step: the score of the configured
scorer, `step_checker` where a program knows the steps, `equation_checker` where they are arithmetic (a wrong row gets
0.7 at most), `first_error` where a judge reads them with a reference solution. A score that is missing counts as 0.
β = 5 and γ = 0.5 are our choice, as is the form of the logistic curve; the paper's ablations of the two disagree.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from baselines import grpo
from dagrpo.algorithm import Algorithm, Phase, Rows, correctness, method
from dagrpo.config import Strict
from dagrpo.objectives.groups import group_max


class Options(Strict):
    """Parameters of SGPO."""

    beta: float = Field(5.0, gt=0, description="Steepness of the graded reward.")
    gamma: float = Field(0.5, ge=0, le=1, description="Share of right steps that is worth half a correct answer.")
    scope: Literal["all_wrong", "wrong"] = Field(
        "all_wrong", description="Grade groups without a correct row, or every wrong row."
    )
    clip: float = Field(0.2, gt=0, lt=1, description="Bound on the ratio of new to old policy.")


@method("sgpo", Options)
def sgpo(options: Options) -> Algorithm:
    def reward(rows: Rows) -> Tensor:
        """1 if correct; in the groups that are graded a logistic curve of the share of right steps."""
        right = correctness(rows)
        hopeless = group_max(right, rows.group) == 0
        graded = ~rows.correct if options.scope == "wrong" else hopeless
        share = torch.nan_to_num((rows.score - 1) / 9, nan=0.0)  # scores come on the scale 1 to 10
        return torch.where(graded, torch.sigmoid(options.beta * (share - options.gamma)), right)

    recipe = replace(grpo.recipe(grpo.Options(clip=options.clip)), reward=reward, scores=options.scope)
    return Algorithm("SGPO", (Phase(recipe),))
