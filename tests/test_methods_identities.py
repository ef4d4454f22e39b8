"""Methods that must coincide, compared as gradients of a small decoder rather than as losses."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from dagrpo.algorithm import Recipe, Rows, Term, Tokens
from tests.method_rows import LogpOfRow, make_rows, recipe, recipe_loss, run_slots, select

MINUS_INFINITY = float("-inf")
BUDGET = 8
PROMPT = 3
LENGTHS = [3, 8, 1, 5, 4, 2, 6, 7]
GROUPS = [0, 0, 0, 0, 1, 1, 1, 1]
ANCHORS = [False, False, False, True, False, False, False, True]
CORRECT = [1, 0, 0, 1, 1, 0, 1, 1]
SCORES = [6.0, 5.0, 2.0, 10.0, 9.0, 4.0, 3.0, 8.0]
ALL_ROWS = list(range(len(LENGTHS)))
POLICY_ROWS = [i for i in ALL_ROWS if not ANCHORS[i]]
ANCHOR_ROWS = [i for i in ALL_ROWS if ANCHORS[i]]


def tiny_model(seed: int) -> Qwen2ForCausalLM:
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=23,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=32,
        initializer_range=0.4,
        tie_word_embeddings=True,
    )
    return Qwen2ForCausalLM(config).double().eval()


@dataclass(frozen=True)
class Case:
    """A policy, the log-probabilities that its rows were sampled with, and the rows."""

    model: Qwen2ForCausalLM
    tokens: Tensor
    old: Tensor
    reference: Tensor
    rows: Rows

    def logp(self, model: Qwen2ForCausalLM | None = None) -> Tensor:
        """Log-probabilities of all positions after the prompt, (N, T); padding included."""
        logits = (model or self.model)(self.tokens).logits[:, PROMPT - 1 : -1]
        return logits.log_softmax(-1).gather(-1, self.tokens[:, PROMPT:, None]).squeeze(-1)

    def gradient(
        self,
        recipe: Recipe,
        keep: Sequence[int] = ALL_ROWS,
        rows: Rows | None = None,
        members: Sequence[int] | None = None,
    ) -> Tensor:
        """The gradient of the recipe's loss on the rows ``keep``, or of the part that a micro-batch of them carries."""
        rows = select(self.rows if rows is None else rows, torch.tensor(keep))

        def column(table: Tensor) -> LogpOfRow:
            return lambda row: table[keep[row], : LENGTHS[keep[row]]]

        columns = column(self.logp()), column(self.old), column(self.reference)
        return self.slope(recipe_loss(recipe, rows, BUDGET, *columns, members))

    def slope(self, loss: Tensor) -> Tensor:
        """The gradient of a loss in all parameters, as one vector."""
        parameters = list(self.model.parameters())
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        return torch.cat([gradient.flatten() for gradient in gradients])


@pytest.fixture(scope="module")
def case() -> Case:
    """Off-policy rows: the policy has moved a little since they were sampled, so no ratio is 1."""
    model, other = tiny_model(0), tiny_model(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.03 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    tokens = torch.randint(0, 23, (len(LENGTHS), PROMPT + max(LENGTHS)), generator=generator)
    rows = make_rows(CORRECT, anchor=ANCHORS, score=SCORES, group=GROUPS, length=LENGTHS)
    empty = torch.empty(0)
    case = Case(model, tokens, empty, empty, rows)
    with torch.no_grad():
        case = replace(case, old=case.logp(other), reference=case.logp(tiny_model(2)))
    ratios = (case.logp() - case.old).exp()
    assert (ratios - 1).abs().max() > 0.2, "the case must reach the clip"
    return case


@pytest.fixture
def on_policy(case: Case) -> Case:
    return replace(case, old=case.logp().detach())


def assert_same(left: Tensor, right: Tensor) -> None:
    """Equal to 1e-6 of the norm: the parameters are float64, but Qwen2 computes its norms in float32."""
    assert right.norm() > 1e-6, "the gradient that is compared must not vanish"
    assert (left - right).norm() < 1e-6 * right.norm()


def assert_differ(left: Tensor, right: Tensor) -> None:
    assert (left - right).norm() > 1e-3 * right.norm()


def test_dagrpo_without_margin_is_luffy(case: Case) -> None:
    assert_same(case.gradient(recipe("dagrpo", delta=MINUS_INFINITY)), case.gradient(recipe("luffy")))


def test_dagrpo_with_a_margin_that_masks_nothing_is_luffy(case: Case) -> None:
    """The same through the mask itself, which reads the scores here."""
    assert_same(case.gradient(recipe("dagrpo", delta=-100.0)), case.gradient(recipe("luffy")))


def test_dagrpo_with_a_margin_is_not_luffy(case: Case) -> None:
    weight = run_slots(recipe("dagrpo"), case.rows).weight
    assert 0 < weight.sum() < len(weight)
    assert_differ(case.gradient(recipe("dagrpo")), case.gradient(recipe("luffy")))


def test_dagrpo_without_anchors_and_margin_is_dr_grpo_without_clip(case: Case) -> None:
    dagrpo = recipe("dagrpo", delta=MINUS_INFINITY, anchors="none")
    assert_same(case.gradient(dagrpo, POLICY_ROWS), case.gradient(recipe("dr_grpo", clip=None), POLICY_ROWS))


def test_luffy_without_demonstrations_is_dr_grpo_without_clip(case: Case) -> None:
    plain = case.gradient(recipe("dr_grpo", clip=None), POLICY_ROWS)
    assert_same(case.gradient(recipe("luffy"), POLICY_ROWS), plain)
    assert_same(case.gradient(recipe("dagrpo", delta=MINUS_INFINITY), POLICY_ROWS), plain)
    assert_differ(case.gradient(recipe("luffy")), plain)


def test_dagrpo_with_clip_and_without_anchors_and_margin_is_dr_grpo(case: Case) -> None:
    dagrpo = recipe("dagrpo", delta=MINUS_INFINITY, anchors="none", clip=0.2)
    assert_same(case.gradient(dagrpo, POLICY_ROWS), case.gradient(recipe("dr_grpo"), POLICY_ROWS))


def test_clip_and_ratio_coincide_on_policy(case: Case, on_policy: Case) -> None:
    clipped, free = recipe("dr_grpo"), recipe("dr_grpo", clip=None)
    assert_same(on_policy.gradient(clipped, POLICY_ROWS), on_policy.gradient(free, POLICY_ROWS))
    assert_differ(case.gradient(clipped, POLICY_ROWS), case.gradient(free, POLICY_ROWS))


def test_policy_gradient_is_that_of_the_weighted_log_likelihood_on_policy(on_policy: Case) -> None:
    free = recipe("dr_grpo", clip=None)

    def logp(tokens: Tokens) -> Tensor:
        return -tokens.coefficient * tokens.logp

    (term,) = free.objective
    assert isinstance(term, Term)
    plain = replace(free, objective=(replace(term, loss=logp),))
    assert_same(on_policy.gradient(free, POLICY_ROWS), on_policy.gradient(plain, POLICY_ROWS))


def test_rl_with_sft_loss_is_the_sum_of_its_parts(case: Case) -> None:
    policy = case.gradient(recipe("dr_grpo", clip=None), POLICY_ROWS)
    imitation = case.gradient(recipe("sft"), ANCHOR_ROWS)
    assert_same(case.gradient(recipe("rl_with_sft_loss", coefficient=0.3)), policy + 0.3 * imitation)


def test_phases_of_sft_then_rl_are_the_methods_themselves(case: Case) -> None:
    assert_same(case.gradient(recipe("sft_then_rl", 0), ANCHOR_ROWS), case.gradient(recipe("sft"), ANCHOR_ROWS))
    for name in ("dr_grpo", "grpo"):
        second = recipe("sft_then_rl", 1, rl=name)
        assert_same(case.gradient(second, POLICY_ROWS), case.gradient(recipe(name), POLICY_ROWS))


def test_random_rewards_that_agree_with_the_verifier_are_grpo(case: Case) -> None:
    coin = recipe("random_reward").reward(case.rows).bool()
    rows = replace(case.rows, correct=coin)
    result = case.gradient(recipe("random_reward"), POLICY_ROWS)
    assert_same(result, case.gradient(recipe("grpo"), POLICY_ROWS, rows))


def test_divergence_penalty_vanishes_at_the_reference(case: Case) -> None:
    at_reference = replace(case, reference=case.logp().detach())
    penalised, plain = recipe("grpo", kl=0.5), recipe("grpo")
    assert_same(at_reference.gradient(penalised, POLICY_ROWS), at_reference.gradient(plain, POLICY_ROWS))
    assert_differ(case.gradient(penalised, POLICY_ROWS), case.gradient(plain, POLICY_ROWS))


def padded(case: Case, rows: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """New and old log-probabilities and the mask of response tokens, each (rows, T): losses without any packing."""
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[rows, None]
    return case.logp()[rows], case.old[rows], mask


def test_luffy_and_dagrpo_written_out(case: Case) -> None:
    reward = case.rows.correct.double().reshape(2, 4)
    advantage = (reward - reward.mean(1, keepdim=True)).reshape(8, 1)
    anchor = case.rows.anchor[:, None]
    # Group 0: positives 6, 10 against negatives 5, 2. Group 1: positives 9, 3, 8 against the negative 4.
    kept = torch.tensor([[0], [0], [1], [1], [1], [0], [0], [1]])

    def written(weight: Tensor) -> Tensor:
        new, old, mask = padded(case, ALL_ROWS)
        probability = new.exp()
        ratio = (new - torch.where(anchor, new, old)).exp()
        losses = -weight * advantage * torch.where(anchor, probability / (probability + 0.1), ratio)
        return case.slope((losses * mask).sum() / (8 * BUDGET))

    assert_same(case.gradient(recipe("luffy")), written(torch.ones(8, 1)))
    assert run_slots(recipe("dagrpo"), case.rows).weight.tolist() == kept.flatten().tolist()
    assert_same(case.gradient(recipe("dagrpo")), written(kept))


def test_grpo_written_out(case: Case) -> None:
    reward = torch.tensor(CORRECT, dtype=torch.float64)[POLICY_ROWS].reshape(2, 3)
    advantage = ((reward - reward.mean(1, keepdim=True)) / (reward.std(1, keepdim=True) + 1e-6)).reshape(6, 1)

    new, old, mask = padded(case, POLICY_ROWS)
    ratio = (new - old).exp()
    losses = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage) * mask
    written = case.slope((losses.sum(1) / mask.sum(1)).mean())
    assert_same(case.gradient(recipe("grpo"), POLICY_ROWS), written)


EVERY_AGGREGATE = pytest.mark.parametrize(
    ("name", "options", "keep"),
    [
        ("grpo", {"kl": 0.1}, POLICY_ROWS),
        ("dr_grpo", {}, POLICY_ROWS),
        ("sft", {}, ANCHOR_ROWS),
        ("rl_with_sft_loss", {}, ALL_ROWS),
        ("luffy", {}, ALL_ROWS),
        ("dagrpo", {}, ALL_ROWS),
    ],
)


@EVERY_AGGREGATE
def test_accumulated_micro_batches_are_one_batch(
    case: Case, name: str, options: dict[str, Any], keep: list[int]
) -> None:
    chosen = recipe(name, **options)
    whole = case.gradient(chosen, keep)
    for size in range(1, len(keep)):
        parts = [range(start, min(start + size, len(keep))) for start in range(0, len(keep), size)]
        accumulated = torch.stack([case.gradient(chosen, keep, members=part) for part in parts]).sum(0)
        assert_same(accumulated, whole)


@EVERY_AGGREGATE
def test_row_order_makes_no_difference(case: Case, name: str, options: dict[str, Any], keep: list[int]) -> None:
    order = torch.randperm(len(keep), generator=torch.Generator().manual_seed(3)).tolist()
    chosen = recipe(name, **options)
    assert_same(case.gradient(chosen, [keep[i] for i in order]), case.gradient(chosen, keep))
