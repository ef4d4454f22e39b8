"""SFT→RL imitates demonstrations first, and then reinforces its own answers.

Papers: the baseline "SFT+RL" of LUFFY, arXiv 2504.14945; measured again with a correct SFT loss, and above the
mixed-policy methods, by arXiv 2604.23747.

    phase 1   the loss of ``sft``       `train.sft_steps` steps with the optimiser `train.sft`
    phase 2   the loss of ``dr_grpo``   `train.steps` steps with the optimiser `train.rl`

Both papers reinforce without the standard deviation and without division by length, so the default is Dr. GRPO with
its clip; ``rl: grpo`` gives the SFT→GRPO that the DaGRPO paper names. Both phases draw from the same prompts, as in
arXiv 2604.23747; LUFFY keeps them apart.
"""

from typing import Literal

from pydantic import Field

from baselines import dr_grpo, grpo, sft
from dagrpo.algorithm import Algorithm, Phase, method
from dagrpo.config import Strict


class Options(Strict):
    """Parameters of SFT→RL."""

    rl: Literal["dr_grpo", "grpo"] = Field("dr_grpo", description="Method of the second phase, at its defaults.")


@method("sft_then_rl", Options)
def sft_then_rl(options: Options) -> Algorithm:
    recipe = grpo.recipe(grpo.Options()) if options.rl == "grpo" else dr_grpo.recipe(dr_grpo.Options())
    return Algorithm("SFT→RL", (sft.phase(), Phase(recipe)))
