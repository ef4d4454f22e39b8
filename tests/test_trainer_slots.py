"""The slots as the trainer runs them: what is drawn, dropped, remembered and put aside, and what a mistake is told."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dagrpo.algorithm import (
    Algorithm,
    Curriculum,
    Filter,
    GradedGroup,
    GroupPass,
    Interleave,
    Method,
    NoOptions,
    Phase,
    Recipe,
    Rows,
    Sampler,
    SampleRequest,
    Sequences,
    SequenceTerm,
    Term,
    Tokens,
    likelihood,
    policy_gradient,
    registry,
)
from dagrpo.errors import UserError
from dagrpo.objectives.groups import group_max, group_min
from dagrpo.problems.store import read_problems
from dagrpo.records import Problem
from dagrpo.trainer.job import train
from tests.method_rows import make_rows, recipe_loss
from tests.miniature import spec

PLAIN = Recipe(objective=(policy_gradient(rows="policy"),))


def mixed(rows: Rows) -> Tensor:
    return group_max(rows.reward, rows.group) > group_min(rows.reward, rows.group)


@pytest.fixture
def run(made: tuple[Path, Path], tmp_path: Path) -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Train with a recipe under a name of its own; gives the metrics of each step."""
    runs = iter(range(100))

    def trained(*phases: Recipe | Phase, **changes: Any) -> list[dict[str, Any]]:
        recipes = tuple(one if isinstance(one, Phase) else Phase(one) for one in phases)
        registry.method("of_this_test")(lambda options: Algorithm("of this test", recipes))
        out = tmp_path / str(next(runs))
        train(spec("of_this_test", **changes), 0, *made, out / "out", out / "state")
        return [json.loads(line) for line in (out / "out" / "metrics.jsonl").read_text().splitlines()]

    yield trained
    registry._METHODS.pop("of_this_test", None)


def test_groups_without_spread_are_replaced_and_the_rest_dropped(run: Callable[..., list[dict[str, Any]]]) -> None:
    plain = run(PLAIN, steps=4)
    dropped = run(replace(PLAIN, filter=Filter(mixed)), steps=4)
    refilled = run(replace(PLAIN, filter=Filter(mixed, share=1.0, rounds=8)), steps=4)
    kept = run(replace(PLAIN, filter=Filter(mixed, share=1.0, rounds=8, drop=False)), steps=4)
    assert any(row["mixed_groups"] < 1 for row in plain), "nothing to filter"
    for row, bare in zip(dropped[:1], plain, strict=False):
        assert row["samples"] == bare["samples"]
        assert row["filter/groups"] == round(4 * bare["mixed_groups"])
    assert all(row["mixed_groups"] == 1 for row in dropped)
    assert all(row["filter/groups"] == 4 for row in refilled)
    assert sum(row["samples"] for row in refilled) > sum(row["samples"] for row in plain)
    assert all(
        row["samples"] == 16 + 4 * 4 * (row["filter/rounds"] - 1) or row["filter/rounds"] > 1 for row in refilled
    )
    assert all(row["filter/groups"] == 4 for row in kept)


def test_a_step_may_lose_every_group(run: Callable[..., list[dict[str, Any]]]) -> None:
    never = Filter(lambda rows: torch.zeros_like(rows.anchor))
    rows = run(replace(PLAIN, filter=never), steps=2, updates=2)
    assert [(row["filter/groups"], row["trained_tokens"], row["optimiser_steps"]) for row in rows] == [(0, 0, 0)] * 2


def test_an_epoch_leaves_out_what_the_curriculum_does_not_keep(
    run: Callable[..., list[dict[str, Any]]], made: tuple[Path, Path]
) -> None:
    problems = {problem.id: problem for problem in read_problems(made[1])}
    drawn: list[list[str]] = []

    def plan(sampler: Sampler, chosen: Sequence[Problem]) -> list[GradedGroup]:
        drawn.append([problem.id for problem in chosen])
        return sampler.draw([SampleRequest(problem, sampler.prompt(problem), 2) for problem in chosen])

    def keep(problems: Sequence[Problem], accuracy: Mapping[str, float]) -> list[bool]:
        return [problem.id not in accuracy or problem.answer == "1" for problem in problems]

    run(replace(PLAIN, plan=plan, curriculum=Curriculum(keep)), steps=12, prompts=10)
    first, second = drawn[:4], drawn[4:6]
    assert sorted(chain(*first)) == sorted(problems)
    assert sorted(chain(*second)) == sorted(name for name, problem in problems.items() if problem.answer == "1")
    assert sorted(chain(*drawn[6:8])) == sorted(chain(*second))
    unmet = Curriculum(lambda problems, accuracy: [problem.id not in accuracy for problem in problems])
    run(replace(PLAIN, plan=plan, curriculum=unmet), steps=8, prompts=10)
    assert sorted(chain(*drawn[-4:])) == sorted(problems), "none is kept, so all are taken"


def test_what_a_plan_draws_is_counted_and_what_it_returns_is_trained_on(
    run: Callable[..., list[dict[str, Any]]],
) -> None:
    def twice(sampler: Sampler, chosen: Sequence[Problem]) -> list[GradedGroup]:
        drafts = sampler.draw(
            [SampleRequest(problem, sampler.prompt(problem), 2) for problem in chosen], stage="drafts"
        )
        assert all(len(one.verdicts) == 2 for one in drafts)
        question = [sampler.prompt(problem, problem.prompt) for problem in chosen]
        assert question == [sampler.prompt(problem) for problem in chosen]
        return sampler.draw([SampleRequest(one.group.problem, one.group.prompt_tokens, 2) for one in drafts])

    (row,) = run(replace(PLAIN, plan=twice), steps=1)
    (plain,) = run(PLAIN, steps=1, group_size=2)
    assert row["samples"] == 2 * plain["samples"]
    assert row["loss"] == plain["loss"], "the first two samples of a prompt are the same, whatever else was drawn"


def test_the_past_accuracy_of_a_problem_is_that_of_its_last_visit(run: Callable[..., list[dict[str, Any]]]) -> None:
    seen: list[Tensor] = []

    def look(rows: Rows) -> Tensor:
        seen.append(rows.past_accuracy)
        return rows.correct.to(rows.reward)

    run(replace(PLAIN, reward=look, history=True), steps=3, prompts=20)
    assert seen[0].isnan().all() and seen[1].isnan().all()
    assert not seen[2].isnan().any() and 0 < float(seen[2].mean()) < 1
    seen.clear()
    run(replace(PLAIN, reward=look), steps=3, prompts=20)
    assert all(column.isnan().all() for column in seen)


def test_demonstrations_of_failed_prompts_are_learned_from_once_enough_wait(
    run: Callable[..., list[dict[str, Any]]],
) -> None:
    inner = Recipe(objective=(likelihood(rows="anchor"),), data="demonstrations")
    every = Interleave(lambda rows: torch.ones_like(rows.anchor), size=6, recipe=inner)
    rows = run(replace(PLAIN, interleave=every), steps=4)
    assert [row["interleave/queue"] for row in rows] == [4, 8, 6, 4]
    assert [row.get("demonstrations", 0) for row in rows] == [0, 6, 6, 0]
    assert ["interleave/loss" in row for row in rows] == [False, True, True, False]


def test_demonstrations_may_stream_beside_the_rollouts(run: Callable[..., list[dict[str, Any]]]) -> None:
    both = replace(PLAIN, objective=(*PLAIN.objective, likelihood(rows="anchor")), data="both")
    (row,) = run(both, steps=1, updates=2)
    (plain,) = run(PLAIN, steps=1, updates=2)
    assert row["demonstrations"] == 4 and row["optimiser_steps"] == 2
    assert row["mixed_groups"] == plain["mixed_groups"]
    assert row["trained_tokens"] == plain["trained_tokens"] + row["demonstration_tokens"]


def test_the_weight_of_a_token_multiplies_its_push(run: Callable[..., list[dict[str, Any]]]) -> None:
    passes: list[GroupPass] = []

    def double(seen: GroupPass) -> Tensor:
        passes.append(seen)
        return torch.full_like(seen.row, 2, dtype=torch.float32)

    (plain,) = run(PLAIN, steps=1)
    (heavy,) = run(replace(PLAIN, token_weight=(double,)), steps=1)
    assert heavy["grad_norm"] == pytest.approx(2 * plain["grad_norm"], rel=1e-5)
    for seen in passes:
        drawn = seen.logps.gather(1, seen.token[:, None])[:, 0]
        mean = torch.zeros(len(seen.rows.group)).index_add(0, seen.row, drawn) / seen.rows.length
        torch.testing.assert_close(mean, seen.rows.sampled_logp, rtol=0, atol=1e-5)
        assert seen.row.tolist() == sorted(seen.row.tolist()) and seen.hidden.shape == (len(seen.row), 16)
        assert seen.position.tolist() == [t for length in seen.rows.length.tolist() for t in range(length)]


def test_a_term_over_sequences_is_differentiated_as_if_it_were_whole() -> None:
    lengths, draws = [3, 2, 4, 1], torch.Generator().manual_seed(0)
    table = [-torch.rand(length, generator=draws, dtype=torch.float64) for length in lengths]
    old = [-torch.rand(length, generator=draws, dtype=torch.float64) for length in lengths]

    def loss(seen: Sequences) -> Tensor:
        return (seen.logp[0] - seen.logp[2]).square() + seen.ratio[2].log() * seen.logp[1]

    recipe = Recipe(objective=(SequenceTerm(loss, rows=lambda rows: rows.length > 1, coefficient=0.5),))
    rows = make_rows([1, 0, 0, 1], length=lengths)
    whole = [tokens.clone().requires_grad_() for tokens in table]
    ratio = (whole[2] - old[2]).exp().mean()
    expected = 0.5 * ((whole[0].sum() - whole[2].sum()).square() + ratio.log() * whole[1].sum())
    slopes = torch.autograd.grad(expected, whole, allow_unused=True, materialize_grads=True)
    for members in ([0, 1, 2, 3], [[0, 2], [1], [3]]):
        parts = [members] if isinstance(members[0], int) else members
        leaves = [tokens.clone().requires_grad_() for tokens in table]
        pieces = [recipe_loss(recipe, rows, 6, leaves.__getitem__, old.__getitem__, members=part) for part in parts]
        torch.testing.assert_close(torch.stack(pieces).sum(), expected.detach(), rtol=1e-12, atol=0, check_dtype=False)
        given = torch.autograd.grad(torch.stack(pieces).sum(), leaves, allow_unused=True, materialize_grads=True)
        for one, other in zip(given, slopes, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)


def test_a_loss_may_remember(run: Callable[..., list[dict[str, Any]]], tmp_path: Path) -> None:
    def loss(seen: Sequences) -> Tensor:
        seen.memory["calls"] = seen.memory.get("calls", 0) + 1
        return seen.memory["calls"] * seen.logp.sum() / 1000

    rows = run(
        Recipe(objective=(SequenceTerm(loss, rows=lambda rows: ~rows.anchor),)), steps=2, updates=2, rl={"lr": 1e-9}
    )
    ratio = [row["loss"] / row["response_tokens"] for row in rows]
    assert ratio[1] / ratio[0] == pytest.approx(7 / 3, rel=0.5), "the calls 1 and 2, then 3 and 4"


def test_phases_of_a_kind_share_its_steps(run: Callable[..., list[dict[str, Any]]]) -> None:
    first, second = (
        Phase(PLAIN, share=0.5),
        Phase(replace(PLAIN, reward=lambda rows: 1 - rows.correct.float()), share=0.5),
    )
    rows = run(first, second, steps=5)
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4]
    right = [abs(row["reward"] - row["accuracy"]) < 1e-6 for row in rows]
    assert right[:2] == [True, True] and [row["reward"] for row in rows[2:]] == [
        pytest.approx(1 - row["accuracy"]) for row in rows[2:]
    ]


def test_epochs_learn_from_the_rows_again(run: Callable[..., list[dict[str, Any]]]) -> None:
    (row,) = run(replace(PLAIN, epochs=3), steps=1)
    (once,) = run(PLAIN, steps=1)
    assert row["optimiser_steps"] == 3 and row["trained_tokens"] == 3 * once["trained_tokens"]
    assert row["samples"] == once["samples"]


def one_nan(rows: Rows) -> Tensor:
    return rows.correct.float().index_fill(0, torch.tensor([1]), float("nan"))


def flags(rows: Rows) -> Tensor:
    return rows.correct


def short(rows: Rows) -> Tensor:
    return rows.correct.float()[1:]


def summed(tokens: Tokens) -> Tensor:
    return tokens.logp.sum()


def detached(tokens: Tokens) -> Tensor:
    return tokens.logp.detach() * tokens.coefficient


def cancelling(tokens: Tokens) -> Tensor:
    return tokens.logp * 0


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        pytest.param({"reward": short}, r"the slot `reward` must .* \(16,\); it gave shape \(15,\)", id="shape"),
        pytest.param({"reward": flags}, r"the slot `reward` must give a finite number .*; it gave bool", id="kind"),
        pytest.param({"reward": one_nan}, r"the slot `reward` .* row 1 is nan", id="NaN"),
        pytest.param({"reward": lambda rows: 1.0}, r"the slot `reward` .* it gave float", id="no tensor"),
        pytest.param({"advantage": short}, r"the slot `advantage` .* shape \(15,\)", id="advantage"),
        pytest.param({"weight": (flags, short)}, r"the slot `weight\[0\]` .* it gave bool", id="weight"),
        pytest.param({"filter": Filter(lambda rows: rows.reward)}, r"the slot `filter` must give a flag", id="filter"),
        pytest.param(
            {"objective": (Term(lambda tokens: tokens.logp.sum()),)}, r"a number for each of its \d+ tokens", id="term"
        ),
        pytest.param({"objective": (Term(detached),)}, r"`objective` gave a loss without a gradient", id="detached"),
        pytest.param({"objective": (Term(cancelling),)}, r"a gradient of exactly zero", id="zero gradient"),
        pytest.param(
            {"objective": (SequenceTerm(lambda seen: seen.logp, rows=flags),)}, "one finite number", id="sequence term"
        ),
        pytest.param({"token_weight": (lambda seen: seen.logps,)}, r"`token_weight\[0\]` must give", id="token weight"),
    ],
)
def test_a_mistake_is_told_with_the_name_of_its_slot(
    run: Callable[..., list[dict[str, Any]]], broken: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        run(replace(PLAIN, **broken), steps=4)


def test_an_unknown_slot_is_told_with_its_name() -> None:
    def build(options: NoOptions) -> Algorithm:
        return Algorithm("wrong", (Phase(Recipe(objective=PLAIN.objective, rewards=flags)),))  # type: ignore[call-arg]

    with pytest.raises(UserError, match=r"method 'wrong' \(here\): Recipe has no slot `rewards`.*'reward'"):
        Method("wrong", NoOptions, build, "here").algorithm({}, "options")


def test_another_mistake_of_a_method_keeps_its_traceback() -> None:
    def build(options: NoOptions) -> Algorithm:
        return Algorithm("wrong", (Phase(Recipe(1 + "1")),))  # type: ignore[operator, arg-type]

    with pytest.raises(TypeError, match="unsupported operand"):
        Method("wrong", NoOptions, build, "here").algorithm({}, "options")


def test_a_correction_for_the_sampler_changes_nothing_where_it_is_the_policy(
    run: Callable[..., list[dict[str, Any]]],
) -> None:
    (plain,), (corrected,) = run(PLAIN, steps=1), run(PLAIN, steps=1, sampler_correction=2.0)
    assert corrected["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-4)
    (halved,) = run(PLAIN, steps=1, sampler_correction=0.5)
    assert halved["grad_norm"] == pytest.approx(0.5 * plain["grad_norm"], rel=1e-4)
