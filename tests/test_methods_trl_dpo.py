"""Losses of pairs against those of TRL 1.16.0 (``DPOTrainer``), on random log-probabilities."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from dagrpo.algorithm import Recipe
from dagrpo.objectives.sequence_losses import dpo, ipo
from tests.method_rows import make_rows, recipe, recipe_loss

VERSION = "1.16.0"
trl = pytest.importorskip("trl", reason="TRL is not installed: pip install -e '.[bench]'")
if trl.__version__ != VERSION:
    pytest.skip(
        f"the losses are compared with those of TRL {VERSION}, found {trl.__version__}", allow_module_level=True
    )

BETA, PAIRS, LONGEST = 0.3, 5, 7
LENGTHS = torch.tensor([3, 7, 1, 5, 2, 6, 2, 7, 4, 1])  # five responses that are preferred, then five that are not
MASK = torch.arange(LONGEST) < LENGTHS[:, None]


def draw() -> tuple[Tensor, Tensor]:
    """Log-probabilities under the policy and the reference model, each (2 pairs, longest)."""
    numbers = torch.rand((2, 2 * PAIRS, LONGEST), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    policy, reference = -3 * numbers * MASK
    return policy.requires_grad_(), reference


def theirs(policy: Tensor, reference: Tensor, kind: str, smoothing: float = 0.0) -> Tensor:
    """TRL's own loss over all pairs, from a model that answers with these log-probabilities."""
    nothing = torch.zeros_like(policy)
    outputs = SimpleNamespace(log_probs=policy, entropy=nothing, mean_logits=nothing, is_top1=nothing.bool())
    trainer: Any = object.__new__(trl.DPOTrainer)
    vars(trainer).update(
        model=SimpleNamespace(training=False),
        accelerator=SimpleNamespace(device=policy.device, gather=lambda x: x, gather_for_metrics=lambda x: x),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[kind],
        loss_weights=[1.0],
        beta=BETA,
        label_smoothing=smoothing,
        use_weighting=False,
        _metrics={"eval": {name: [] for name in METRICS}},
        _total_train_tokens=0,
        _tp_size=1,
    )
    before = torch.zeros((2 * PAIRS, 1), dtype=torch.long)  # one token of prompt
    chosen, rejected = reference.sum(1).chunk(2)
    inputs = {
        "input_ids": torch.cat([before, MASK.long()], 1),
        "attention_mask": torch.cat([before + 1, MASK.long()], 1),
        "completion_mask": torch.cat([before, MASK.long()], 1),
        "ref_chosen_logps": chosen,
        "ref_rejected_logps": rejected,
    }
    loss: Tensor = trainer._compute_loss(lambda **_: outputs, inputs, return_outputs=False)
    return loss


METRICS = (
    *("entropy", "num_tokens", "logits/chosen", "logits/rejected", "mean_token_accuracy", "rewards/chosen"),
    *("rewards/rejected", "rewards/accuracies", "rewards/margins", "logps/chosen", "logps/rejected"),
)


def ours(recipe: Recipe, policy: Tensor, reference: Tensor) -> Tensor:
    """The loss of a method on the same responses, each pair a group of its own."""
    rows = make_rows([1] * PAIRS + [0] * PAIRS, group=[*range(PAIRS), *range(PAIRS)], length=LENGTHS.tolist())

    def column(table: Tensor) -> Any:
        return lambda row: table[row, : LENGTHS[row]]

    return recipe_loss(recipe, rows, LONGEST, column(policy), column(policy.detach()), column(reference))


def assert_same(left: Tensor, right: Tensor, policy: Tensor) -> None:
    torch.testing.assert_close(left, right, rtol=1e-12, atol=0)
    slopes = [torch.autograd.grad(loss, policy, retain_graph=True)[0] * MASK for loss in (left, right)]
    assert slopes[1].norm() > 1e-3
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-10, atol=1e-14)


def swapped(table: Tensor) -> Tensor:
    return torch.cat(table.chunk(2)[::-1])


def margin(policy: Tensor, reference: Tensor) -> Tensor:
    chosen, rejected = (policy - reference).sum(1).chunk(2)
    return chosen - rejected


def test_dpo_is_that_of_trl() -> None:
    policy, reference = draw()
    assert_same(ours(recipe("online_dpo", beta=BETA), policy, reference), theirs(policy, reference, "sigmoid"), policy)
    given = margin(policy, reference)
    assert_same(dpo(given, BETA).mean(), theirs(policy, reference, "sigmoid"), policy)


def test_ipo_is_that_of_trl() -> None:
    policy, reference = draw()
    robust = recipe("group_robust", loss="ipo", beta=BETA, eta=0.0)
    assert_same(ours(robust, policy, reference), theirs(policy, reference, "ipo"), policy)
    chosen, rejected = ((policy - reference).sum(1) / LENGTHS).chunk(2)
    assert_same(ipo(chosen - rejected, BETA).mean(), theirs(policy, reference, "ipo"), policy)


@pytest.mark.parametrize("epsilon", [0.1, 0.4])
def test_conservative_dpo_mixes_the_loss_of_trl_with_that_of_swapped_labels(epsilon: float) -> None:
    """TRL has no conservative loss of its own; its "robust" one is the same two terms with another sign and scale."""
    policy, reference = draw()
    conservative = ours(recipe("online_dpo", beta=BETA, epsilon=epsilon), policy, reference)
    plain = theirs(policy, reference, "sigmoid")
    flipped = theirs(swapped(policy), swapped(reference), "sigmoid")
    assert_same(conservative, (1 - epsilon) * plain + epsilon * flipped, policy)
    robust = theirs(policy, reference, "robust", smoothing=epsilon)
    assert_same(2 * (1 - epsilon) * plain - (1 - 2 * epsilon) * robust, conservative, policy)
