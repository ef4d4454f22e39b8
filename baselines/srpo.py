"""SRPO drops the questions whose answers were all right from the next epoch, and goes over to harder ones half-way.

Paper: SRPO, A Cross-Domain Implementation of Large-Scale Reinforcement Learning on LLM, arXiv 2504.14286.

    next epoch  the prompts whose last answers were not all right
    A_i         of GRPO; 0 for a row that the budget cut
    loss        = mean_t [ -min(ρ A_i, clip(ρ, 1 - ε, 1 + ε) A_i) ]                  over all tokens

Defaults, the paper's: two stages, no KL; ε = 0.2. Adapted: its second stage adds programming to mathematics; ours has
the problems of at least median level, where levels are known. Each stage has half of the steps (our choice).
"""

from collections.abc import Mapping, Sequence
from statistics import median

from pydantic import Field

from dagrpo.algorithm import Advantage, Algorithm, Curriculum, Phase, Recipe, method, policy_gradient
from dagrpo.config import Strict
from dagrpo.records import Problem


class Options(Strict):
    """Parameters of SRPO."""

    first: float = Field(0.5, gt=0, lt=1, description="Share of the steps that the first stage has.")
    clip: float = Field(0.2, gt=0, lt=1, description="Bound on the ratio of new to old policy.")


@method("srpo", Options)
def srpo(options: Options) -> Algorithm:
    def stage(curriculum: Curriculum, share: float) -> Phase:
        recipe = Recipe(
            objective=(policy_gradient((options.clip, options.clip), rows="policy", aggregate="token"),),
            curriculum=curriculum,
            advantage=Advantage(scale="std1", zero_truncated=True),
        )
        return Phase(recipe, share=share)

    stages = stage(Curriculum(unmastered), options.first), stage(Curriculum(_hard), 1 - options.first)
    return Algorithm("SRPO", stages)


def unmastered(problems: Sequence[Problem], accuracy: Mapping[str, float]) -> list[bool]:
    """Keep what was never met, or not answered right by all rows."""
    return [accuracy.get(problem.id, 0.0) < 1 for problem in problems]


def _hard(problems: Sequence[Problem], accuracy: Mapping[str, float]) -> list[bool]:
    levels = [problem.level for problem in problems if problem.level is not None]
    least = median(levels) if levels else 0
    hard = [problem.level is None or problem.level >= least for problem in problems]
    return [one and other for one, other in zip(hard, unmastered(problems, accuracy), strict=True)]
