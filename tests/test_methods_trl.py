"""Our objectives against those of TRL 1.16.0: the same loss and the same gradient on random off-policy tokens.

What runs is TRL's own ``GRPOTrainer._compute_loss``, on a stand-in for the trainer that holds the settings it reads and
hands it our log-probabilities in the place of a model's. Advantages are ours on both sides, for TRL's are computed
within its sampling.
"""

from collections import defaultdict
from importlib import metadata
from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.method_rows import make_rows, recipe, recipe_loss, run_slots

VERSION = "1.16.0"
ROWS, GROUP, BUDGET = 12, 4, 9


@pytest.fixture(scope="module")
def trainer() -> Any:
    """TRL's trainer class."""
    if find_spec("trl") is None:
        pytest.skip("TRL is not installed: pip install -e '.[dev]'")
    if metadata.version("trl") != VERSION:
        pytest.skip(f"TRL is {metadata.version('trl')}, and its loss is compared as of {VERSION}")
    from trl.trainer.grpo_trainer import GRPOTrainer

    return GRPOTrainer


def stand_in(logps: Tensor, settings: dict[str, Any]) -> SimpleNamespace:
    """What ``_compute_loss`` reads of a trainer: one process, one micro-batch an update, nothing optional."""
    accelerator = SimpleNamespace(
        num_processes=1, gather=lambda values: values, reduce=lambda values, reduction: values
    )
    return SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (logps, torch.zeros_like(logps), None),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        model=SimpleNamespace(training=True),
        accelerator=accelerator,
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=BUDGET,
        _entropy_bonus_enabled=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        **{"importance_sampling_level": "token", "beta": 0.0, "epsilon_low": 0.2, "epsilon_high": 0.2} | settings,
    )


WIDE = {"clip_low": 0.05, "clip_high": 0.1}
CASES = [
    pytest.param("grpo", {}, {"loss_type": "grpo"}, id="grpo"),
    pytest.param("grpo", {"kl": 0.04}, {"loss_type": "grpo", "beta": 0.04}, id="grpo with KL"),
    pytest.param("grpo", {"clip": 0.05}, {"loss_type": "grpo", "epsilon_low": 0.05, "epsilon_high": 0.05}, id="clip"),
    pytest.param("dr_grpo", {}, {"loss_type": "dr_grpo"}, id="dr_grpo"),
    pytest.param("disco_domain", {"kl": 0.3}, {"loss_type": "dr_grpo", "beta": 0.3}, id="dr_grpo with KL"),
    pytest.param("dapo", {}, {"loss_type": "dapo", "epsilon_high": 0.28}, id="dapo"),
    pytest.param("dapo", {}, {"loss_type": "bnpo", "epsilon_high": 0.28}, id="bnpo"),
    pytest.param("raft_plus_plus", {"kl": 0.3}, {"loss_type": "bnpo", "beta": 0.3}, id="bnpo with KL, raft++"),
    pytest.param("reinforce_rej", {"kl": 0.3}, {"loss_type": "dapo", "beta": 0.3}, id="dapo with KL, reinforce-rej"),
    pytest.param("cispo", {}, {"loss_type": "cispo", "epsilon_high": 1.2}, id="cispo"),  # TRL's bound is the cap itself
    pytest.param(
        "gspo",
        {},
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 3e-4, "epsilon_high": 4e-4},
        id="gspo",
    ),
    pytest.param(
        "gspo",
        WIDE,
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon_low": 0.05, "epsilon_high": 0.1},
        id="gspo with wide bounds",
    ),
]


@pytest.mark.parametrize(("name", "options", "settings"), CASES)
@pytest.mark.parametrize("seed", range(3))
def test_loss_and_gradient_are_those_of_trl(
    trainer: Any, name: str, options: dict[str, Any], settings: dict[str, Any], seed: int
) -> None:
    draws = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, BUDGET + 1, (ROWS,), generator=draws)
    correct = (torch.arange(ROWS) % GROUP == 0) | (torch.rand(ROWS, generator=draws) < 0.4)
    old = -2 * torch.rand(ROWS, BUDGET, generator=draws, dtype=torch.float64)
    new = (old + 0.3 * torch.randn(ROWS, BUDGET, generator=draws, dtype=torch.float64)).requires_grad_()
    reference = old + 0.3 * torch.randn(ROWS, BUDGET, generator=draws, dtype=torch.float64)
    groups = (torch.arange(ROWS) // GROUP).tolist()
    rows = make_rows(
        correct.tolist(), group=groups, length=lengths.tolist(), budget=[BUDGET] * ROWS, domain_share=[0.25] * ROWS
    )
    ours_of = recipe(name, **options)

    def column(table: Tensor) -> Any:
        return lambda row: table[row, : lengths[row]]

    ours = recipe_loss(ours_of, rows, BUDGET, column(new), column(old), column(reference))
    mask = (torch.arange(BUDGET) < lengths[:, None]).long()
    inputs = {
        "prompt_ids": torch.zeros(ROWS, 1, dtype=torch.int64),
        "prompt_mask": torch.ones(ROWS, 1, dtype=torch.int64),
        "completion_ids": torch.zeros(ROWS, BUDGET, dtype=torch.int64),
        "completion_mask": mask,
        "advantages": run_slots(ours_of, rows).advantage,
        "old_per_token_logps": old,
        "ref_per_token_logps": reference,
        "num_items_in_batch": mask.sum(),
    }
    theirs = trainer._compute_loss(stand_in(new, settings), None, inputs)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    (our_slope,), (their_slope,) = (torch.autograd.grad(loss, new, retain_graph=True) for loss in (ours, theirs))
    assert (their_slope != 0).any()
    torch.testing.assert_close(our_slope, their_slope, rtol=1e-10, atol=1e-14)
