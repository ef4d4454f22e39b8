"""Methods that join demonstrations, drafts, token weights or a curriculum to reinforcement: their vectors, and what
they coincide with, as gradients of a small model."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from baselines import igrpo, srpo
from dagrpo.algorithm import GradedGroup, GroupPass, Recipe, Term, UpdateContext, find_method
from dagrpo.errors import UserError
from dagrpo.objectives.rewards import partial_credit
from dagrpo.objectives.schedules import rise_and_fall
from dagrpo.objectives.token_losses import undecided_likelihood
from dagrpo.records import Group, Problem, Rollout, Verdict
from tests.method_rows import make_rows, recipe, recipe_loss, run_slots, select
from tests.test_methods_identities import (
    ANCHOR_ROWS,
    BUDGET,
    LENGTHS,
    POLICY_ROWS,
    PROMPT,
    Case,
    assert_differ,
    assert_same,
    case,
)
from tests.test_methods_vectors import BUDGET as VECTOR_BUDGET
from tests.test_methods_vectors import DEMONSTRATION, NEW, OLD, RIGHT, approx, loss

__all__ = ["case"]  # the fixture


def term(of: Recipe, number: int) -> Recipe:
    """The recipe with one of its terms alone."""
    return replace(of, objective=of.objective[number : number + 1])


def fixture_loss(of: Recipe, entropy: list[float]) -> float:
    """The loss on the four rollouts and the demonstration, whose tokens were drawn with these mean entropies."""
    table = [torch.tensor(row, dtype=torch.float64) for row in [*NEW, DEMONSTRATION]]
    old = [torch.tensor(row, dtype=torch.float64) for row in [*OLD, [0.0] * 3]]
    rows = make_rows(
        [*RIGHT, 1], anchor=[False] * 4 + [True], length=[len(row) for row in table], entropy=[*entropy, float("nan")]
    )
    return recipe_loss(of, rows, VECTOR_BUDGET, table.__getitem__, old.__getitem__).item()


def test_relift() -> None:
    assert loss(recipe("relift")) == approx(-0.005144)
    interleave = recipe("relift").interleave
    assert interleave is not None and interleave.size == 16
    solved = [3, 0, 8, 0, 1]
    rows = make_rows([i < count for count in solved for i in range(8)], group=[g for g in range(5) for _ in range(8)])
    assert set(rows.group[interleave.queue(rows)].tolist()) == {1, 3}


def test_relift_imitates_with_a_bonus_for_entropy() -> None:
    interleave = recipe("relift", entropy=0.01).interleave
    assert interleave is not None
    assert fixture_loss(interleave.recipe, [0.5] * 4) == approx(0.666667)  # the entropies of that pass are zeros
    _, bonus = interleave.recipe.objective
    assert isinstance(bonus, Term) and bonus.needs_entropy and bonus.coefficient == 0.01


def test_relift_reinforces_as_dr_grpo_without_clip(case: Case) -> None:
    assert_same(case.gradient(recipe("relift"), POLICY_ROWS), case.gradient(recipe("dr_grpo", clip=None), POLICY_ROWS))


def test_srft() -> None:
    srft = recipe("srft")
    parts = [fixture_loss(term(srft, number), [0.5] * 4) for number in range(4)]
    assert parts[0] == approx(0.202177)
    assert parts[0] / 0.666667 == approx(0.303265)
    assert parts[2] / 0.433333 == approx(0.164872)
    assert parts[3] == approx(-0.533333)
    assert parts[2] + parts[3] == approx(-0.461889)
    # R = 1, -1, -1, 1, 1: the demonstration's advantage is 0.8 / sqrt(1.2)
    assert parts[1] == approx(-0.8 / 1.2**0.5 * torch.tensor(DEMONSTRATION).exp().mean().item())
    assert fixture_loss(srft, [0.5] * 4) == approx(sum(parts))


def test_the_entropy_of_srft_is_that_of_the_tokens_drawn() -> None:
    """Rows of 3, 2, 4 and 3 tokens: 0.5 is their mean, not the mean of the rows."""
    srft = recipe("srft")
    assert fixture_loss(term(srft, 0), [0.0, 0.0, 1.5, 0.0]) == approx(0.202177)
    nothing_drawn = make_rows([1], anchor=[True], length=[3])
    demonstration = torch.tensor(DEMONSTRATION, dtype=torch.float64)
    value = recipe_loss(srft, nothing_drawn, VECTOR_BUDGET, lambda _: demonstration, lambda _: demonstration)
    assert value.item() == approx(0.5 * 0.666667)


def test_srft_without_entropies_is_refused() -> None:
    with pytest.raises(UserError, match=r"objective\[0\].coefficient.*engine.kind: torch"):
        fixture_loss(term(recipe("srft"), 0), [0.5, float("nan"), 0.5, 0.5])


def test_chord() -> None:
    demonstration = torch.tensor(DEMONSTRATION, dtype=torch.float64, requires_grad=True)
    losses = undecided_likelihood(demonstration)
    (slope,) = torch.autograd.grad(losses.sum(), demonstration)
    assert (-slope).tolist() == approx([0.249988, 0.148411, 0.222068])
    assert losses.mean().item() == approx(0.14965)
    assert loss(recipe("chord"), demonstration=True) == approx(0.006834)


def test_chord_shifts_from_imitation_to_reinforcement() -> None:
    values = [rise_and_fall(step, 10, 20, 0.9, 0.05) for step in (0, 5, 10, 20, 30)]
    assert values == approx([0, 0.45, 0.9, 0.475, 0.05])
    scheduled = recipe("chord", peak=0.9, valley=0.05, warmup=0.25, decay=0.5)
    rows = make_rows([1])
    for objective, shares in zip(
        scheduled.objective, ([1, 0.55, 0.1, 0.525, 0.95], [0, 0.45, 0.9, 0.475, 0.05]), strict=True
    ):
        assert isinstance(objective, Term) and callable(objective.coefficient)
        found = [float(objective.coefficient(UpdateContext(rows, step, 40))) for step in (0, 5, 10, 20, 30)]
        assert found == approx([float(share) for share in shares])


def test_chord_without_imitation_is_grpo_over_tokens(case: Case) -> None:
    assert_same(case.gradient(recipe("chord", peak=0, valley=0)), case.gradient(over_tokens("grpo"), POLICY_ROWS))


def test_chord_of_imitation_alone_is_the_likelihood_of_undecided_tokens(case: Case) -> None:
    found = case.gradient(recipe("chord", peak=1, valley=1))
    logps = torch.cat([case.logp()[row, : LENGTHS[row]] for row in ANCHOR_ROWS])
    chance = logps.detach().exp()
    assert_same(found, case.slope(-(chance * (1 - chance) * logps).mean()))
    assert_differ(found, case.gradient(recipe("sft"), ANCHOR_ROWS))


def over_tokens(name: str, **options: Any) -> Recipe:
    """The recipe with the mean over tokens in the place of its own."""
    of = recipe(name, **options)
    return replace(
        of, objective=tuple(replace(one, aggregate="token") for one in of.objective if isinstance(one, Term))
    )


def weighted_gradient(case: Case, of: Recipe) -> Tensor:
    """The gradient on the policy's rows, each token weighted by what the recipe makes of a pass over its group."""
    weights: dict[int, Tensor] = {}
    for group in (0, 1):
        members = [row for row in POLICY_ROWS if int(case.rows.group[row]) == group]
        with torch.no_grad():
            out = case.model(case.tokens[members], output_hidden_states=True)
        places = [(i, t) for i, row in enumerate(members) for t in range(LENGTHS[row])]
        row, position = (torch.tensor(column) for column in zip(*places, strict=True))
        seen = GroupPass(
            rows=select(case.rows, torch.tensor(members)),
            row=row,
            position=position,
            token=case.tokens[members][row, PROMPT + position],
            logps=out.logits[row, PROMPT - 1 + position].log_softmax(-1),
            hidden=out.hidden_states[-1][row, PROMPT - 1 + position],
        )
        (function,) = of.token_weight
        parts = function(seen).split([LENGTHS[i] for i in members])
        weights |= dict(zip(members, parts, strict=True))
    logp, old = case.logp(), case.old
    return case.slope(
        recipe_loss(
            of,
            select(case.rows, torch.tensor(POLICY_ROWS)),
            BUDGET,
            lambda i: logp[POLICY_ROWS[i], : LENGTHS[POLICY_ROWS[i]]],
            lambda i: old[POLICY_ROWS[i], : LENGTHS[POLICY_ROWS[i]]],
            token_weight=lambda i: weights[POLICY_ROWS[i]],
        )
    )


def test_nthr_that_leaves_the_whole_penalty_is_grpo(case: Case) -> None:
    grpo = case.gradient(recipe("grpo"), POLICY_ROWS)
    assert_same(weighted_gradient(case, recipe("nthr", eta=1)), grpo)
    assert_differ(weighted_gradient(case, recipe("nthr", eta=0, beta=-100)), grpo)  # spares every wrong token


def test_tw_grpo_of_equal_weights_is_grpo_over_tokens(case: Case) -> None:
    grpo = case.gradient(over_tokens("grpo"), POLICY_ROWS)
    assert_same(weighted_gradient(case, recipe("tw_grpo", alpha=1)), grpo)
    assert_same(weighted_gradient(case, over_tokens("nthr", eta=1)), grpo)
    assert_differ(weighted_gradient(case, recipe("tw_grpo")), grpo)


@pytest.mark.parametrize(
    ("found", "credit"), [("AC", 1), ("A", 0.5), ("C", 0.5), ("AB", 0), ("ABC", 0), ("B", 0), ("", 0)]
)
def test_partial_credit_of_tw_grpo(found: str, credit: float) -> None:
    assert partial_credit(set(found), {"A", "C"}) == credit


@pytest.mark.parametrize(("right", "rest"), [(4, 0.0), (2, 0.5), (1, 0.75)])
def test_nthr_leaves_less_of_the_penalty_the_more_undecided_the_group_is(right: int, rest: float) -> None:
    """Eight rows of one token each, all from the same state: every token supports itself."""
    correct = [i < right for i in range(8)]
    logps = torch.full((8, 2), 0.5, dtype=torch.float64).log()
    number = torch.arange(8)
    seen = GroupPass(
        rows=make_rows(correct),
        row=number,
        position=torch.zeros_like(number),
        token=torch.zeros_like(number),
        logps=logps,
        hidden=torch.ones(8, 3, dtype=torch.float64),
    )
    (function,) = recipe("nthr", beta=0.5).token_weight
    assert function(seen).tolist() == approx([1.0] * right + [rest] * (8 - right))


def drafts(*right: int) -> GradedGroup:
    rollouts = tuple(Rollout(i, (i,), f"draft {i}", "stop") for i in range(len(right)))
    verdicts = tuple(Verdict.CORRECT if flag else Verdict.WRONG for flag in right)
    return GradedGroup(Group(PROBLEM, (), rollouts), verdicts)


PROBLEM = Problem("one", "sums", "1+1 {draft}", "2")


def chosen(*right: int) -> int:
    return int(igrpo.refining("{draft}", PROBLEM, drafts(*right)).removeprefix("draft "))


def test_igrpo_shows_the_first_of_the_best_drafts() -> None:
    assert chosen(0, 1, 1, 0) == 1
    assert chosen(0, 0, 0) == 0
    assert igrpo.refining("{draft}: {question}?", PROBLEM, drafts(0, 1)) == "draft 1: 1+1 {draft}?"
    outcomes = list(product((0, 1), repeat=4))
    best = sum(0.25 ** sum(right) * 0.75 ** (4 - sum(right)) * right[chosen(*right)] for right in outcomes)
    assert best == approx(0.683594)


def test_igrpo_compares_the_answers_to_the_second_question() -> None:
    rows = run_slots(recipe("igrpo"), make_rows([1, 1, 0, 1]))
    assert rows.advantage.tolist() == pytest.approx([0.5, 0.5, -1.5, 0.5], abs=4e-6)  # the vector is without 1e-6
    assert loss(recipe("igrpo")) == approx(-0.003337)


@pytest.mark.parametrize(("rows", "share", "expected"), [(8, 0.5, (4, 4)), (8, 0.1, (1, 7)), (2, 0.9, (1, 1))])
def test_igrpo_draws_drafts_and_answers_within_one_group(rows: int, share: float, expected: tuple[int, int]) -> None:
    class Sampler:
        def __init__(self) -> None:
            self.asked: list[tuple[str, str, int]] = []

        def rows(self, problem: Problem) -> int:
            return rows

        def prompt(self, problem: Problem, question: str | None = None) -> tuple[int, ...]:
            return tuple(map(ord, problem.prompt if question is None else question))

        def text(self, tokens: Sequence[int]) -> str:
            return "".join(map(chr, tokens))

        def draw(self, asked: Any, stage: str = "") -> list[GradedGroup]:
            self.asked += [(stage, "".join(map(chr, one.prompt_tokens)), one.samples) for one in asked]
            return [drafts(*[0] * (one.samples - 1), 1) for one in asked]

    sampler = Sampler()
    of = recipe("igrpo", drafts=share, template="{question}/{draft}")
    drawn = of.plan(sampler, [PROBLEM])
    first, second = expected
    assert sampler.asked == [("drafts", PROBLEM.prompt, first), ("", f"{PROBLEM.prompt}/draft {first - 1}", second)]
    assert [len(one.verdicts) for one in drawn] == [second]


def of_level(name: str, level: int | None) -> Problem:
    return Problem(name, "sums", "1+1", "2", level=level)


def test_srpo() -> None:
    problems = [of_level(name, 0) for name in "abc"]
    seen = {"a": 1.0, "b": 0.0, "c": 0.5}
    assert srpo.unmastered(problems, seen) == [False, True, True]
    assert srpo.unmastered(problems, {}) == [True] * 3


def test_the_second_stage_of_srpo_is_harder() -> None:
    first, second = find_method("srpo").algorithm({"first": 0.25}, "options").phases
    assert (first.share, second.share) == (0.25, 0.75)
    assert first.recipe.curriculum is not None and second.recipe.curriculum is not None
    problems = [of_level(name, level) for name, level in zip("abcde", (0, 1, 2, 2, None), strict=True)]
    assert first.recipe.curriculum.keep(problems, {"c": 1.0}) == [True, True, False, True, True]
    assert second.recipe.curriculum.keep(problems, {"c": 1.0}) == [False, False, False, True, True]
    assert second.recipe.curriculum.keep([of_level("a", None)], {}) == [True]


def test_srpo_is_grpo_over_tokens_but_for_rows_that_were_cut(case: Case) -> None:
    grpo = case.gradient(over_tokens("grpo"), POLICY_ROWS)
    assert_same(case.gradient(recipe("srpo"), POLICY_ROWS), grpo)
    cut = replace(case.rows, truncated=torch.tensor([False, True] * 4))
    assert_differ(case.gradient(recipe("srpo"), POLICY_ROWS, cut), grpo)
    assert run_slots(recipe("srpo"), cut).advantage[1::2].tolist() == [0] * 4


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("relift", {"size": 0}),
        ("srft", {"clip": 0}),
        ("chord", {"peak": 0.9}),
        ("chord", {"valley": 1.5}),
        ("tw_grpo", {"alpha": 0.5}),
        ("nthr", {"eta": 1.5}),
        ("igrpo", {"template": "{question}"}),
        ("igrpo", {"template": "{draft}{question}{draft}"}),
        ("igrpo", {"drafts": 1.0}),
        ("srpo", {"first": 0}),
    ],
)
def test_an_impossible_option_is_refused_by_name(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"options: (configuration: )?{next(iter(options))}\b"):
        find_method(name).algorithm(options, "options")
