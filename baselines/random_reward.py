"""The control is GRPO rewarded by a coin instead of the verifier: what it gains, no reward has taught.

Papers: Spurious Rewards, arXiv 2506.10947, where random rewards lift Qwen2.5-Math by 21 points on MATH-500;
arXiv 2507.10532 finds no such gain on problems that no pre-training can have held.

    R_i = 1 with probability p, else 0, independent of the answer; the rest is GRPO

Defaults: p = 0.5 (the paper's), GRPO's own for the rest. The coin is keyed by the row, so a resumed run tosses the
same one.
"""

from dataclasses import replace

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from baselines import grpo
from dagrpo.algorithm import Algorithm, Phase, RewardFn, Rows, method
from dagrpo.config import Strict
from dagrpo.seeds import uniforms


class Options(Strict):
    """Parameters of the control."""

    probability: float = Field(0.5, gt=0, lt=1, description="Share of rows that are rewarded.")


@method("random_reward", Options)
def random_reward(options: Options) -> Algorithm:
    recipe = replace(grpo.recipe(grpo.Options()), reward=_coin(options.probability))
    return Algorithm("GRPO, random rewards", (Phase(recipe),))


def _coin(probability: float) -> RewardFn:
    def reward(rows: Rows) -> Tensor:
        draws = uniforms(rows.key.cpu().numpy().view(np.uint64), position=0)
        return torch.from_numpy(draws < probability).to(rows.reward)

    return reward
