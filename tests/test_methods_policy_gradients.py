"""The critic-free policy gradients: numbers computed by hand or with numpy, and what they coincide with, as gradients
of a small model."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dagrpo.algorithm import Recipe, Rows, Term, UpdateContext, correctness, weighted_likelihood
from dagrpo.objectives.advantages import decoupled_advantage, group_advantage
from dagrpo.objectives.groups import group_sum
from dagrpo.objectives.rewards import (
    difficulty_weight,
    domain_weight,
    likelihood_rank,
    overlong_penalty,
    weighted_sum,
)
from dagrpo.objectives.token_losses import capped_weight, sequence_log_ratio
from dagrpo.trainer.credit import group_any
from dagrpo.trainer.loss import clipped_tokens, plan
from tests.method_rows import NAN, make_rows, recipe, recipe_loss, run_slots, select
from tests.test_methods_identities import POLICY_ROWS, Case, assert_differ, assert_same, case, on_policy, padded
from tests.test_methods_vectors import BUDGET, NEW, OLD, RIGHT, approx, loss

__all__ = ["case", "on_policy"]  # the fixtures

LENGTHS = [len(tokens) for tokens in NEW]


def column(values: Sequence[float], grad: bool = False) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=grad)


def slopes(of: Recipe) -> list[list[float]]:
    """d loss / d logp of each token of the fixture's four rollouts."""
    new = [column(tokens, grad=True) for tokens in NEW]
    old = [column(tokens) for tokens in OLD]
    value = recipe_loss(of, make_rows(RIGHT, length=LENGTHS), BUDGET, new.__getitem__, old.__getitem__)
    return [slope.tolist() for slope in torch.autograd.grad(value, new)]


def kept_groups(of: Recipe, rows: Rows) -> list[bool]:
    """The groups that the recipe's filter calls valid."""
    assert of.filter is not None
    return group_any(of.filter.valid(replace(rows, reward=of.reward(rows))), rows.group).tolist()


VERDICTS = make_rows([1, 1, 0, 0, 1, 0], group=[0, 0, 1, 1, 2, 2], length=[2] * 6)


def test_dapo() -> None:
    assert loss(recipe("dapo")) == approx(-0.010579)
    assert loss(recipe("dapo", clip_low=0.1, clip_high=0.1)) != approx(-0.010579)


def test_dapo_punishes_length_in_the_last_part_of_the_budget() -> None:
    length, budget = torch.tensor([5, 6, 8, 10, 12]), torch.full((5,), 10)
    assert overlong_penalty(length, budget, 0.4).tolist() == approx([0, 0, -0.5, -1, -1])
    assert overlong_penalty(length, budget, 0.0).tolist() == [0] * 5
    rows = make_rows([1, 1, 0, 0, 1], length=length.tolist(), budget=[10] * 5)
    assert run_slots(recipe("dapo", buffer=0.4), rows).reward.tolist() == approx([1, 1, -1.5, -2, 0])
    assert run_slots(recipe("dapo", buffer=0.0), rows).reward.tolist() == [1, 1, -1, -1, 1]


def test_dapo_fills_the_step_with_mixed_groups() -> None:
    rule = recipe("dapo").filter
    assert rule is not None and (rule.drop, rule.share, rule.rounds) == (True, 1.0, 10)
    long = replace(VERDICTS, length=torch.tensor([1, 6, 1, 6, 1, 1]))  # punished differently, and right or wrong alike
    assert kept_groups(recipe("dapo"), long) == [False, False, True]


def test_gspo() -> None:
    row = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3])
    new, old = column([value for row in NEW for value in row]), column([value for row in OLD for value in row])
    ratio = sequence_log_ratio(new, old, row).exp()
    assert ratio[[0, 3, 5, 9]].tolist() == approx([1.105171, 1.051271, 0.97531, 1])
    assert all((ratio[row == i] == ratio[row == i][0]).all() for i in range(4))
    assert loss(recipe("gspo")) == approx(0.010949)


def test_gspo_counts_the_tokens_of_clipped_answers() -> None:
    """Row 0 is to rise and has risen, row 2 is to fall and has fallen: 3 and 4 of the 12 tokens."""
    held, total = _clipped(recipe("gspo"))
    assert (held, total) == (3 + 4, 12)


def test_token_clip_counts_as_the_paper_has_it() -> None:
    """Ratio 1.221 of row 0 is too high; of row 2, which is to fall, 0.741 is too low; row 1 has risen and may fall."""
    assert _clipped(recipe("grpo")) == (2, 12)
    assert _clipped(recipe("dapo")) == (1, 12)  # 1.28 holds nothing back
    assert _clipped(recipe("dr_grpo", clip=None)) == (0, 0)


def _clipped(of: Recipe) -> tuple[int, int]:
    rows = run_slots(of, make_rows(RIGHT, length=LENGTHS))
    row = torch.repeat_interleave(torch.arange(4), torch.tensor(LENGTHS))
    new, old = (column([value for row in table for value in row]) for table in (NEW, OLD))
    return clipped_tokens(plan(of.objective, UpdateContext(rows), BUDGET), row, new, old)


def test_cispo() -> None:
    assert loss(recipe("cispo")) == approx(-0.026707)
    found = slopes(recipe("cispo"))
    assert found[0] == approx([-0.079759, -0.072169, -0.086602])
    assert found[1] == approx([0.059087, 0.086602])
    assert _clipped(recipe("cispo")) == (3, 12)  # 1.221, 1.350, 1.221


def test_capped_weight_by_hand() -> None:
    logp = column([-1.0, -1.0, -1.0, -math.inf], grad=True)
    old = column([-1.0 - math.log(1.1), -1.0 - math.log(3), -1.0 + math.log(2), -1.0])
    value = capped_weight(logp, old, column([1, -1, 2, 0]), 0.2)
    assert value.tolist() == approx([1.1, -1.2, 1.0, 0])
    assert torch.autograd.grad(value.sum(), logp)[0].tolist() == approx([-1.1, 1.2, -1.0, 0])
    with pytest.raises(AssertionError, match="cap"):
        capped_weight(logp, old, old, -0.1)


def test_raft() -> None:
    assert run_slots(recipe("raft"), make_rows(RIGHT)).advantage.tolist() == RIGHT
    assert loss(recipe("raft", kl=0)) == approx(0.216667)
    assert loss(recipe("raft", kl=0)) * 12 / 6 == approx(0.433333)  # were it over the tokens of right answers alone
    assert loss(recipe("raft_plus_plus", kl=0)) == approx(-0.526265)


@pytest.mark.parametrize("name", ["raft", "raft_plus_plus", "reinforce_rej"])
def test_penalty_is_a_mean_over_all_tokens(name: str) -> None:
    gap = column([value for row in OLD for value in row]) - 0.05 - column([value for row in NEW for value in row])
    divergence = (gap.exp() - gap - 1).mean().item()
    assert loss(recipe(name, kl=0.5)) - loss(recipe(name, kl=0)) == approx(0.5 * divergence)


def test_reinforce_rej() -> None:
    rows = run_slots(recipe("reinforce_rej"), make_rows(RIGHT))
    assert rows.reward.tolist() == rows.advantage.tolist() == [1, -1, -1, 1]
    assert loss(recipe("reinforce_rej", kl=0)) == approx(-0.010432)
    assert kept_groups(recipe("reinforce_rej"), VERDICTS) == [False, False, True]
    rule = recipe("reinforce_rej").filter
    assert rule is not None and rule.drop and rule.rounds == 1


def test_gpg() -> None:
    """One of four groups has equal rewards; the three that are beside the fixture have no tokens."""
    assert loss(recipe("gpg")) == approx(-0.025)
    new, old = [column(row) for row in NEW], [column(row) for row in OLD]
    empty = column([])
    groups = [0] * 4 + [1, 1, 2, 2, 3, 3]
    rows = make_rows([*RIGHT, 1, 0, 0, 1, 1, 1], group=groups, length=[*LENGTHS, 0, 0, 0, 0, 0, 0])
    value = recipe_loss(
        recipe("gpg"), rows, BUDGET, lambda i: new[i] if i < 4 else empty, lambda i: old[i] if i < 4 else empty
    )
    assert value.item() == approx(-0.033333)
    (term,) = recipe("gpg").objective
    assert isinstance(term, Term) and callable(term.coefficient)
    assert term.coefficient(UpdateContext(run_slots(recipe("gpg"), rows))) == approx(1.333333)
    assert term.coefficient(UpdateContext(run_slots(recipe("gpg"), make_rows([1, 1])))) == 1.0


def test_gpg_keeps_what_it_cannot_replace() -> None:
    rule = recipe("gpg").filter
    assert rule is not None and (rule.drop, rule.share, rule.rounds) == (False, 0.6, 20)
    assert kept_groups(recipe("gpg"), VERDICTS) == [False, False, True]


FIRST, SECOND, TWO_GROUPS = [1, 0, 0, 1, 0, 0, 1, 0], [1, 1, 0, 0, 1, 1, 1, 0], [0] * 4 + [1] * 4
ALL_EIGHT = torch.ones(8, dtype=torch.bool)


def test_gdpo() -> None:
    rewards, group = torch.stack([column(FIRST), column(SECOND)], 1), torch.tensor(TWO_GROUPS)
    apart = decoupled_advantage(rewards, group, ALL_EIGHT, (1.0, 1.0), whiten=False)
    assert apart.tolist() == approx([1.731751, 0, -1.731751, 0, 0, 0, 1.9996, -1.9996])
    rows = make_rows(FIRST, answered=SECOND, group=TWO_GROUPS, length=[3] * 8)
    expected = [1.224677, 0, -1.224677, 0, 0, 0, 1.414097, -1.414097]
    assert run_slots(recipe("gdpo"), rows).advantage.tolist() == approx(expected)
    plain = group_advantage(rewards.sum(1), group, ALL_EIGHT, "std1", 1e-4)
    assert plain.tolist() == approx([1.224595, 0, -1.224595, 0, 0, 0, 1.224595, -1.224595])


def test_gdpo_pushes_no_group_that_nothing_tells_apart() -> None:
    """Not even by the rounding of the step's mean."""
    generator = torch.Generator().manual_seed(0)
    rewards = torch.cat([torch.rand(7, 2, generator=generator), torch.full((3, 2), 0.1)])
    group = torch.tensor([0] * 7 + [1] * 3)
    advantage = decoupled_advantage(rewards, group, torch.ones(10) > 0, (0.7, 0.2))
    assert (advantage[:7] != 0).all() and (advantage[7:] == 0).all()
    assert (decoupled_advantage(rewards[7:], group[7:], torch.ones(3) > 0, (0.7, 0.2)) == 0).all()


def test_gdpo_reads_brevity_where_asked() -> None:
    rows = make_rows([1, 1, 1, 1], length=[1, 2, 3, 6])
    assert (run_slots(recipe("gdpo"), rows).advantage == 0).all()
    advantage = run_slots(recipe("gdpo", brevity=1.0), rows).advantage.tolist()
    assert advantage == sorted(advantage, reverse=True)


def test_mo_grpo() -> None:
    columns = torch.tensor([[1, 0.2, 0.5], [0, 0.8, 0.5], [0, 0.4, 0.1], [1, 0.6, 0.9]], dtype=torch.float64)
    reward = weighted_sum(columns, (0.6, 0.2, 0.2))
    assert reward.tolist() == approx([0.74, 0.26, 0.1, 0.9])
    grpo = replace(recipe("mo_grpo"), reward=lambda rows: reward)
    expected = [0.630124, -0.630124, -1.050207, 1.050207]
    assert run_slots(grpo, make_rows(RIGHT)).advantage.tolist() == approx(expected)


def test_mo_grpo_adds_up_being_right_answering_and_being_brief() -> None:
    rows = make_rows([1, 0, 0], answered=[True, True, False], length=[5, 1, 10], budget=[10] * 3)
    assert run_slots(recipe("mo_grpo"), rows).reward.tolist() == approx([0.9, 0.38, 0.0])


def test_unlikeliness() -> None:
    logp = [-0.1, -0.5, -1.2, -0.3]
    assert likelihood_rank(column(logp), torch.zeros(4, dtype=torch.int64)).tolist() == [3, 1, 0, 2]
    rows = run_slots(recipe("unlikeliness"), make_rows([1, 1, 1, 0], sampled_logp=logp))
    assert rows.reward.tolist() == approx([0.8125, 0.9375, 1, 0])
    assert rows.advantage.tolist() == approx([0.268866, 0.537732, 0.672165, -1.478762])
    assert recipe("unlikeliness").epochs == 2 and recipe("unlikeliness").needs_reference
    assert kept_groups(recipe("unlikeliness"), replace(VERDICTS, sampled_logp=column([-3, -1, -3, -1, -3, -1]))) == [
        False,
        False,
        True,
    ]


def test_ranks_are_of_the_group_and_shared_by_what_is_as_likely() -> None:
    group = torch.tensor([0, 0, 0, 1, 1, 1])
    logp = column([-1, -1 + 1e-6, -2, -9, NAN, -3])  # an empty response has no mean
    assert likelihood_rank(logp, group).tolist() == [1, 1, 0, 0, 0, 1]
    order = torch.tensor([4, 1, 5, 0, 3, 2])
    assert likelihood_rank(logp[order], group[order]).tolist() == [0, 1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("kind", "advantage"),
    [
        ("log", [2.541792, *[-0.847264] * 3]),
        ("square", [2.153655, *[-0.717885] * 3]),
        ("inverse", [3.99984, *[-1.33328] * 3]),
    ],
)
def test_disco_domain(kind: str, advantage: list[float]) -> None:
    rows = make_rows([1, 0, 0, 0], domain_share=[0.75] * 4)
    assert run_slots(recipe("disco_domain", domain=kind), rows).advantage.tolist() == approx(advantage)


def test_disco_domain_weights() -> None:
    assert domain_weight(column([0.75, 1 / 12]), "log").tolist() == pytest.approx([0.8473, 2.5649], abs=5e-5)
    weight = difficulty_weight(column([1, 0, 0, 0, 1, 1]), torch.tensor([0] * 4 + [1] * 2))
    assert weight.tolist() == pytest.approx([3.9998] * 4 + [1.0] * 2, abs=5e-5)


def aggregated(of: Recipe, aggregate: Any) -> Recipe:
    """The recipe with its first term under another mean."""
    term, *others = of.objective
    assert isinstance(term, Term)
    return replace(of, objective=(replace(term, aggregate=aggregate), *others))


def gradient(case: Case, of: Recipe, rows: Rows | None = None) -> Tensor:
    return case.gradient(of, POLICY_ROWS, rows)


def test_dapo_without_its_four_changes_is_grpo(case: Case) -> None:
    bare = aggregated(recipe("dapo", clip_high=0.2, buffer=0.0, rounds=1), "sequence")
    zero_one = replace(bare, reward=correctness)
    assert_same(gradient(case, zero_one), gradient(case, recipe("grpo")))
    # rewards of ±1 have twice the deviation, so 1e-6 beside it is half as much
    grpo = gradient(case, recipe("grpo"))
    assert (gradient(case, bare) - grpo).norm() < 1e-5 * grpo.norm()
    assert_differ(gradient(case, recipe("dapo", buffer=0.0)), gradient(case, recipe("grpo")))


def test_surrogates_coincide_on_policy(on_policy: Case, case: Case) -> None:
    clipped = aggregated(recipe("grpo"), "token")
    likelihood = replace(clipped, objective=(weighted_likelihood(rows="policy", aggregate="token"),))
    for other in (recipe("cispo"), replace(recipe("dapo", buffer=0.0), reward=correctness), likelihood):
        assert_same(gradient(on_policy, other), gradient(on_policy, clipped))
    assert_differ(gradient(case, recipe("cispo")), gradient(case, clipped))
    assert_differ(gradient(case, recipe("cispo")), gradient(case, likelihood))


def test_gspo_is_grpo_on_policy(on_policy: Case, case: Case) -> None:
    assert_same(gradient(on_policy, recipe("gspo")), gradient(on_policy, recipe("grpo")))
    assert_differ(gradient(case, recipe("gspo", clip_low=0.5, clip_high=0.5)), gradient(case, recipe("grpo")))


def test_gspo_written_out(case: Case) -> None:
    """As the loss of whole sequences, whose ratio carries the gradient itself."""
    filled = run_slots(recipe("gspo"), select(case.rows, torch.tensor(POLICY_ROWS)))
    new, old, mask = padded(case, POLICY_ROWS)
    ratio = (((new - old) * mask).sum(1) / mask.sum(1)).exp()
    low, high = 0.05, 0.1
    pushed = torch.minimum(ratio * filled.advantage, ratio.clamp(1 - low, 1 + high) * filled.advantage)
    assert 0 < ((ratio < 1 - low) | (ratio > 1 + high)).sum() < len(ratio), "the case must reach the clip"
    written = case.slope(-pushed.mean())
    assert_same(gradient(case, recipe("gspo", clip_low=low, clip_high=high)), written)


def test_raft_imitates_right_answers(case: Case) -> None:
    right = [i for i in POLICY_ROWS if case.rows.correct[i]]
    new, _, mask = padded(case, right)
    tokens = padded(case, POLICY_ROWS)[2].sum()
    assert_same(gradient(case, recipe("raft", kl=0)), case.slope(-(new * mask).sum() / tokens))


def test_raft_plus_plus_is_raft_on_policy(on_policy: Case, case: Case) -> None:
    assert_same(gradient(on_policy, recipe("raft_plus_plus", kl=0)), gradient(on_policy, recipe("raft", kl=0)))
    assert_differ(gradient(case, recipe("raft_plus_plus", kl=0)), gradient(case, recipe("raft", kl=0)))


def test_reinforce_rej_is_raft_plus_plus_that_pushes_wrong_answers_down(case: Case) -> None:
    """Their difference is the clipped loss of the wrong rows, worth -1 each."""
    both, right = (recipe(name, kl=0) for name in ("reinforce_rej", "raft_plus_plus"))
    wrong = replace(both, advantage=lambda rows: rows.reward.clamp(max=0))
    assert_same(gradient(case, both), gradient(case, right) + gradient(case, wrong))


def test_gpg_without_invalid_groups_is_dr_grpo_in_the_likelihood(case: Case) -> None:
    term = weighted_likelihood(rows="policy", aggregate="token")
    assert_same(gradient(case, recipe("gpg")), gradient(case, replace(recipe("dr_grpo"), objective=(term,))))


def test_gdpo_with_one_reward_and_without_the_steps_deviation_is_grpo(case: Case) -> None:
    def advantage(rows: Rows) -> Tensor:
        right = correctness(rows)[:, None]
        return decoupled_advantage(right, rows.group, ~rows.anchor, (1.0,), whiten=False, eps=1e-6)

    assert_same(gradient(case, replace(recipe("gdpo"), advantage=advantage)), gradient(case, recipe("grpo")))
    assert_differ(gradient(case, recipe("gdpo", brevity=1.0)), gradient(case, recipe("gdpo")))


def test_mo_grpo_with_one_reward_is_grpo(case: Case) -> None:
    alone = recipe("mo_grpo", correct=1.0, answered=0.0, brevity=0.0)
    assert_same(gradient(case, alone), gradient(case, recipe("grpo")))
    assert_differ(gradient(case, recipe("mo_grpo")), gradient(case, recipe("grpo")))


def test_unlikeliness_without_a_bonus_is_grpo(case: Case) -> None:
    likely = replace(case.rows, sampled_logp=case.old.mean(1))
    without = gradient(case, recipe("unlikeliness", beta=0.0), likely)
    assert_same(without, gradient(case, recipe("grpo", kl=0.1)))
    assert_differ(gradient(case, recipe("unlikeliness"), likely), without)


def test_disco_domain_where_its_weights_cancel_is_dr_grpo(case: Case) -> None:
    """A "share" of 1 / (c + 1e-5), which no domain has, makes the product of the two weights 1."""
    policy = (~case.rows.anchor).double()
    right = case.rows.correct.double() * policy
    accuracy = group_sum(right, case.rows.group) / group_sum(policy, case.rows.group)
    rows = replace(case.rows, domain_share=1 / (accuracy + 1e-5))
    disco = recipe("disco_domain", domain="inverse", kl=0)
    assert_same(gradient(case, disco, rows), gradient(case, recipe("dr_grpo")))
    assert_differ(gradient(case, disco), gradient(case, recipe("dr_grpo")))


def test_impossible_weights_are_refused() -> None:
    with pytest.raises(AssertionError, match="rewards"):
        weighted_sum(torch.ones(3, 2), (1.0,))
    with pytest.raises(AssertionError, match="share"):
        overlong_penalty(torch.tensor([1]), torch.tensor([2]), 1.5)
