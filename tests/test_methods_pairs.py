"""Methods that compare whole responses: their numbers on the common fixture, and what they reduce to as gradients."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines import group_robust
from dagrpo.algorithm import Recipe, Rows, Term, UpdateContext
from tests.method_rows import NAN, make_rows, recipe, recipe_loss, run_slots
from tests.test_methods_identities import BUDGET as MODEL_BUDGET
from tests.test_methods_identities import CORRECT, POLICY_ROWS, Case, case, on_policy
from tests.test_methods_identities import LENGTHS as MODEL_LENGTHS
from tests.test_methods_identities import assert_same as same

__all__ = ["case", "on_policy"]

BUDGET = 5
OLD = [[-0.5, -0.2, -1.0], [-0.3, -0.7], [-1.2, -0.1, -0.6, -0.3], [-0.4, -0.4, -0.4]]
NEW = [[-0.4, -0.2, -0.8], [-0.5, -0.4], [-1.0, -0.1, -0.9, -0.3], [-0.4, -0.3, -0.5]]
RIGHT = [1, 0, 0, 1]
LENGTHS = [len(tokens) for tokens in OLD]


def approx(value: float | list[float]) -> Any:
    return pytest.approx(value, abs=6e-7)


def columns(values: list[list[float]]) -> list[Tensor]:
    return [torch.tensor(tokens, dtype=torch.float64) for tokens in values]


def loss(
    recipe: Recipe,
    rows: Rows | None = None,
    take: tuple[int, ...] = (0, 1, 2, 3),
    new: list[Tensor] | None = None,
) -> Tensor:
    """The loss on the fixture's responses ``take``; the reference model is 0.05 below the sampler at each token."""
    rows = make_rows([RIGHT[i] for i in take], length=[LENGTHS[i] for i in take]) if rows is None else rows
    now, old = columns(NEW) if new is None else new, columns(OLD)
    return recipe_loss(
        recipe, rows, BUDGET, lambda i: now[take[i]], lambda i: old[take[i]], lambda i: old[take[i]] - 0.05
    )


def slopes(recipe: Recipe, values: list[list[float]] = OLD, **given: Any) -> list[Tensor]:
    """d loss / d log-probability of each token of the four responses; on-policy where nothing is said."""
    new = [column.requires_grad_() for column in columns(values)]
    value = loss(recipe, new=new, **given)
    return list(torch.autograd.grad(value, new, allow_unused=True, materialize_grads=True))


def assert_same(left: list[Tensor], right: list[Tensor]) -> None:
    assert any((slope != 0).any() for slope in right)
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_disco() -> None:
    assert loss(recipe("disco", hard_negatives=False)).item() == approx(-0.079167)
    assert loss(recipe("disco")).item() == approx(-0.078971)
    assert loss(recipe("disco", score="ratio")).item() == approx(-0.017574)


def test_disco_divides_by_all_questions() -> None:
    rows = make_rows([1, 0, 0, 1, 1, 1], length=[*LENGTHS, 3, 2], group=[0, 0, 0, 0, 1, 1])
    assert loss(recipe("disco"), rows, (0, 1, 2, 3, 0, 1)).item() == approx(-0.078971 / 2)


def test_disco_is_held_back_once_it_has_gone_too_far() -> None:
    """0.0005 nats a token from the sampler, which is 0.0004 more than is free."""
    nearby = [[value - 0.0005 for value in tokens] for tokens in OLD]
    free, held = recipe("disco", beta=0.0), recipe("disco")
    assert loss(held, new=columns(nearby)).item() - loss(free, new=columns(nearby)).item() == approx(0.0002)
    difference = [one - other for one, other in zip(slopes(held, nearby), slopes(free, nearby), strict=True)]
    assert torch.cat(difference).tolist() == approx([-0.4 / 12] * 12)


def test_rebel() -> None:
    assert loss(recipe("rebel"), take=(0, 1)).item() == approx(0.64)
    assert loss(recipe("rebel", eta=0.1), take=(0, 1)).item() == approx(0.01)
    assert recipe("rebel").epochs == 4


def test_rebel_on_policy_is_the_policy_gradient_of_advantages() -> None:
    """-2 η / pairs Σ_{i<j} (R_i - R_j)(∇_i - ∇_j) = -2 η G / pairs Σ_i A_i ∇_i: Dr. GRPO without clip, scaled."""
    plain = slopes(recipe("dr_grpo", clip=None))
    scale = 2 * 4 / 6 * (4 * BUDGET)
    assert_same(slopes(recipe("rebel")), [scale * slope for slope in plain])


def test_online_dpo() -> None:
    assert loss(recipe("online_dpo"), take=(0, 1)).item() == approx(0.680725)


def test_online_dpo_averages_the_pairs_of_a_group_and_then_the_groups() -> None:
    single = [loss(recipe("online_dpo"), take=pair).item() for pair in ((0, 1), (0, 2), (3, 1), (3, 2))]
    assert loss(recipe("online_dpo")).item() == approx(sum(single) / 4)
    rows = make_rows([1, 0, 0, 1, 1, 0, 1], group=[0] * 4 + [1] * 2 + [2], length=[*LENGTHS, 3, 2, 3])
    both = loss(recipe("online_dpo"), rows, (0, 1, 2, 3, 0, 1, 0)).item()
    assert both == approx((sum(single) / 4 + single[0]) / 2)


def test_rwr() -> None:
    """Weights [1.462117, 0.537883, 0.537883, 1.462117] on the likelihood of twelve tokens."""
    weight = torch.tensor([1.462117, 0.537883, 0.537883, 1.462117], dtype=torch.float64)
    for slope, expected in zip(slopes(recipe("rwr")), weight, strict=True):
        assert slope.tolist() == approx([-expected.item() / 12] * len(slope))


def test_rwr_at_a_high_temperature_imitates_all_alike() -> None:
    flat = slopes(recipe("rwr", beta=1e9))
    assert torch.cat(flat).tolist() == approx([-1 / 12] * 12)


def test_best_of_n_imitates_the_first_of_equals() -> None:
    found = slopes(recipe("best_of_n"))
    assert found[0].tolist() == approx([-1 / 3] * 3)
    assert not torch.cat(found[1:]).any()


def test_best_of_n_leaves_hopeless_groups_out() -> None:
    assert loss(recipe("best_of_n"), make_rows([0] * 4, length=LENGTHS)).item() == 0


def kinds(domain: list[int]) -> Rows:
    """Three groups of a right and a wrong response, of these kinds."""
    return make_rows([1, 0] * 3, group=[0, 0, 1, 1, 2, 2], length=[3, 2, 3, 4, 3, 2], domain=domain)


PAIRS = (0, 1, 0, 2, 3, 1)


def test_group_robust_without_a_step_size_is_the_uniform_average_of_the_kinds() -> None:
    single = [loss(recipe("online_dpo"), take=PAIRS[i : i + 2]).item() for i in (0, 2, 4)]
    rows = kinds([0, 0, 1, 1, 0, 0])
    expected = ((single[0] + single[2]) / 2 + single[1]) / 2
    assert loss(recipe("group_robust", eta=0.0), rows, PAIRS).item() == approx(expected)
    alone = slopes(recipe("group_robust", eta=0.0), rows=kinds([0, 0, 1, 1, 2, 2]), take=PAIRS)
    assert_same(alone, slopes(recipe("online_dpo"), rows=kinds([0] * 6), take=PAIRS))


def test_group_robust_ipo_reads_the_mean_over_tokens() -> None:
    margin = (0.3 + 0.15) / 3 - (0.1 + 0.1) / 2
    assert loss(recipe("group_robust", loss="ipo"), take=(0, 1)).item() == approx((margin - 50) ** 2)


def test_group_robust_remembers_the_weights_of_kinds() -> None:
    memory: dict[str, Any] = {}
    losses = torch.tensor([0.9, 0.3, 0.6], dtype=torch.float64, requires_grad=True)
    value = group_robust.robust(losses, [0, 3, 5], 0.01, memory)
    assert value.item() == approx(0.6006)
    assert torch.autograd.grad(value, losses)[0].tolist() == approx([0.334334, 0.332334, 0.333332])
    assert json.loads(json.dumps(memory)) == memory
    kept = dict(memory["group_weights"])
    assert list(kept) == ["0", "3", "5"]
    assert [weight / 3 for weight in kept.values()] == approx([0.334334, 0.332334, 0.333332])
    group_robust.robust(losses[:2], [5, 7], 1.0, memory)
    after = memory["group_weights"]
    assert (after["0"], after["3"]) == (kept["0"], kept["3"])
    assert after["5"] + after["7"] == approx(kept["5"] + 1)
    assert after["5"] / after["7"] == approx(kept["5"] * math.exp(0.6))


def past(accuracy: list[float]) -> Rows:
    """Two groups of three, with what their problems gave when they were met last."""
    return make_rows(
        [1, 1, 0, 0, 1, 0], group=[0] * 3 + [1] * 3, length=[3, 2, 4, 3, 2, 4], past_accuracy=accuracy, budget=[5] * 6
    )


SIX = (0, 1, 2, 3, 1, 2)


def test_group_invariant_without_its_two_parts_is_grpo() -> None:
    given = {"rows": past([1.0] * 3 + [0.0] * 3), "take": SIX}
    assert_same(slopes(recipe("group_invariant", beta=0.0, kl=0.0), NEW, **given), slopes(recipe("grpo"), NEW, **given))
    assert not recipe("group_invariant", kl=0.0).needs_reference
    same = {"rows": past([0.5] * 6), "take": SIX}
    assert_same(slopes(recipe("group_invariant", kl=0.08), NEW, **same), slopes(recipe("grpo", kl=0.04), NEW, **same))


@pytest.mark.parametrize("accuracy", [[0.2] * 3 + [0.1] * 3, [0.1] * 3 + [0.2] * 3, [NAN] * 6, [0.5] * 3 + [NAN] * 3])
def test_group_invariant_favours_the_group_of_lower_return(accuracy: list[float]) -> None:
    """Returns of 2/3 and 1/3 vary by 1/36 whichever side the threshold calls high."""
    chosen = recipe("group_invariant")
    rows = run_slots(chosen, past(accuracy))
    plain = run_slots(recipe("grpo"), rows).advantage
    assert (rows.advantage / plain).tolist() == approx([1 - 0.1 / 3] * 3 + [1 + 0.1 / 3] * 3)
    term = chosen.objective[1]
    assert isinstance(term, Term) and callable(term.coefficient)
    coefficient = term.coefficient(UpdateContext(rows))
    assert isinstance(coefficient, Tensor) and coefficient.tolist() == approx([0.04] * 3 + [0.0] * 3)
    assert chosen.history


def test_mcts_dpo_prefers_the_best_step_to_the_worst() -> None:
    """Rows 0 and 2 are the best and the worst by value, whatever their verdicts; N- = 2 of N+ = 6 is a noise of 1/4."""
    chosen = recipe("mcts_dpo")
    rows = make_rows([0, 1, 0, 1], length=LENGTHS, value=[0.8, 0.5, 0.2, 0.8], visits=[6, 9, 2, 1])
    margin = 0.1 * ((0.3 + 0.15) - (-0.1 + 0.2))
    expected = math.log1p(math.exp(-margin)) + 0.25 * margin
    assert loss(chosen, rows).item() == approx(expected)
    (term,) = chosen.objective
    assert callable(term.rows) and term.rows(rows).tolist() == [True, False, True, False]
    assert not term.rows(replace(rows, value=torch.full_like(rows.value, 0.5))).any()


def test_mcts_dpo_without_doubt_is_dpo_of_the_pair() -> None:
    rows = make_rows([1, 0], length=LENGTHS[:2], value=[1.0, 0.0], visits=[60, 0])
    assert loss(recipe("mcts_dpo"), rows, take=(0, 1)).item() == approx(0.680725)


@pytest.mark.parametrize("name", ["disco", "rebel", "online_dpo", "group_robust"])
def test_groups_without_contrast_cost_nothing(name: str) -> None:
    chosen = recipe(name)
    (term,) = chosen.objective
    rows = run_slots(chosen, make_rows([1, 1, 1, 0, 0], group=[0, 0, 1, 1, 2], length=[3, 3, 3, 0, 2]))
    assert callable(term.rows) and not term.rows(rows).any()
    mixed = run_slots(chosen, replace(rows, length=torch.ones_like(rows.length)))
    assert callable(term.rows) and term.rows(mixed).tolist() == [False, False, True, True, False]


def of_kinds(case: Case, keep: list[int], domain: list[int]) -> Tensor:
    """The gradient of group robust DPO without a step size, its rows being of these kinds."""
    rows = replace(case.rows, domain=torch.tensor(domain))
    return case.gradient(recipe("group_robust", eta=0.0), keep, rows)


def test_group_robust_without_a_step_size_averages_gradients(case: Case) -> None:
    first, second = POLICY_ROWS[:3], POLICY_ROWS[3:]
    single = [case.gradient(recipe("online_dpo"), part) for part in (first, second)]
    same(of_kinds(case, POLICY_ROWS, [0] * 4 + [1] * 4), (single[0] + single[1]) / 2)
    same(of_kinds(case, POLICY_ROWS, [0] * 8), case.gradient(recipe("online_dpo"), POLICY_ROWS))


def test_group_invariant_without_its_parts_is_grpo_by_gradient(case: Case) -> None:
    plain = recipe("group_invariant", beta=0.0, kl=0.0)
    same(case.gradient(plain, POLICY_ROWS), case.gradient(recipe("grpo"), POLICY_ROWS))


def test_rebel_on_policy_is_dr_grpo_by_gradient(on_policy: Case) -> None:
    """Both groups hold three rows, so 3 pairs: -2 · 3 / 3 Σ A ∇, against -1 / (6 · budget) Σ A ∇ over two groups."""
    scale = 2 / 2 * 6 * MODEL_BUDGET
    plain = on_policy.gradient(recipe("dr_grpo", clip=None), POLICY_ROWS)
    same(on_policy.gradient(recipe("rebel"), POLICY_ROWS), scale * plain)


def test_disco_by_its_basic_form_on_likelihoods_is_a_weighted_likelihood(on_policy: Case) -> None:
    """Each side's mean of the mean log-probability of its answers, by the two questions."""
    right = torch.tensor(CORRECT)[POLICY_ROWS].bool()
    logp = on_policy.logp()[POLICY_ROWS]
    mask = torch.arange(logp.shape[1]) < torch.tensor(MODEL_LENGTHS)[POLICY_ROWS, None]
    score = (logp * mask).sum(1) / mask.sum(1)
    sides = [score[part][~right[part]].mean() - score[part][right[part]].mean() for part in (slice(3), slice(3, 6))]
    written = on_policy.slope((sides[0] + sides[1]) / 2)
    same(on_policy.gradient(recipe("disco", hard_negatives=False), POLICY_ROWS), written)


@pytest.mark.parametrize("name", ["disco", "rebel", "online_dpo", "rwr", "best_of_n", "group_robust", "mcts_dpo"])
def test_micro_batches_of_a_model_are_one_batch(case: Case, name: str) -> None:
    whole = case.gradient(recipe(name), POLICY_ROWS)
    for size in (1, 2, 4):
        parts = [range(start, min(start + size, 6)) for start in range(0, 6, size)]
        same(torch.stack([case.gradient(recipe(name), POLICY_ROWS, members=part) for part in parts]).sum(0), whole)
