"""Numbers computed by hand or with numpy, reached through the registered methods and the trainer's loss."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from baselines import grpo, luffy, rl_with_sft_loss, sft
from dagrpo import method
from dagrpo.algorithm import Recipe, Rows, find_method
from dagrpo.objectives.token_losses import shaped
from tests.method_rows import NAN, make_rows, recipe, recipe_loss, run_slots

BUDGET = 5
OLD = [[-0.5, -0.2, -1.0], [-0.3, -0.7], [-1.2, -0.1, -0.6, -0.3], [-0.4, -0.4, -0.4]]
NEW = [[-0.4, -0.2, -0.8], [-0.5, -0.4], [-1.0, -0.1, -0.9, -0.3], [-0.4, -0.3, -0.5]]
DEMONSTRATION = [-0.7, -0.2, -1.1]
RIGHT = [1, 0, 0, 1]


def loss(recipe: Recipe, demonstration: bool = False, score: list[float] | None = None) -> float:
    """The loss on the fixture of four rollouts, with the demonstration as a fifth row where asked."""
    new, old, correct = list(NEW), list(OLD), list(RIGHT)
    if demonstration:
        new, old, correct = [*new, DEMONSTRATION], [*old, [NAN] * 3], [*correct, 1]
    rows = make_rows(
        correct, anchor=[False] * 4 + [True] * demonstration, score=score, length=[len(tokens) for tokens in new]
    )
    table = [torch.tensor(tokens, dtype=torch.float64) for tokens in new]
    old_table = [torch.tensor(tokens, dtype=torch.float64) for tokens in old]
    return recipe_loss(
        recipe, rows, BUDGET, table.__getitem__, old_table.__getitem__, lambda row: old_table[row] - 0.05
    ).item()


def approx(value: float | list[float]) -> Any:
    return pytest.approx(value, abs=6e-7)


def test_grpo() -> None:
    assert loss(recipe("grpo")) == approx(-0.003337)
    assert loss(recipe("grpo", kl=0.04)) == approx(-0.002662)


def test_grpo_divergence_alone() -> None:
    with_penalty = recipe("grpo", kl=1.0)
    assert loss(replace(with_penalty, objective=with_penalty.objective[1:])) == approx(0.016891)


def test_dr_grpo() -> None:
    assert loss(recipe("dr_grpo")) == approx(-0.003130)
    assert loss(recipe("dr_grpo", clip=None)) == approx(-0.005144)


def test_sft() -> None:
    demonstration = torch.tensor(DEMONSTRATION, dtype=torch.float64)
    rows = make_rows([1], anchor=[True], length=[3])
    value = recipe_loss(recipe("sft"), rows, BUDGET, lambda _: demonstration, lambda _: demonstration)
    assert value.item() == approx(0.666667)


@pytest.mark.parametrize("micro_batches", [[[0, 1]], [[0], [1]], [[1], [0]]])
def test_sft_is_a_mean_over_all_tokens_of_the_step(micro_batches: list[list[int]]) -> None:
    table = [torch.tensor([-1.0, -2.0], dtype=torch.float64), torch.tensor([-0.5], dtype=torch.float64)]
    rows = make_rows([1, 1], anchor=[True, True], group=[0, 1], length=[2, 1])
    value = sum(
        recipe_loss(recipe("sft"), rows, BUDGET, table.__getitem__, table.__getitem__, members=part).item()
        for part in micro_batches
    )
    assert value == approx(1.166667)
    assert value != pytest.approx(1.0, abs=0.1)


def test_rl_with_sft_loss() -> None:
    assert loss(recipe("rl_with_sft_loss"), demonstration=True) == approx(0.661522)
    assert loss(recipe("rl_with_sft_loss", coefficient=0.5), demonstration=True) == approx(0.328189)


def test_sft_then_rl_is_composed_of_its_two_phases() -> None:
    assert [phase.kind for phase in find_method("sft_then_rl").algorithm({}, "options").phases] == ["sft", "rl"]
    assert loss(recipe("sft_then_rl", phase=0), demonstration=True) == approx(0.666667)
    assert loss(recipe("sft_then_rl", phase=1)) == approx(-0.003130)
    assert loss(recipe("sft_then_rl", phase=1, rl="grpo")) == approx(-0.003337)


def test_luffy() -> None:
    rows = run_slots(recipe("luffy"), make_rows([*RIGHT, 1], anchor=[False] * 4 + [True]))
    assert rows.advantage.tolist() == approx([0.4, -0.6, -0.6, 0.4, 0.4])
    logp = torch.tensor(DEMONSTRATION, dtype=torch.float64, requires_grad=True)
    shape = -shaped(logp, torch.ones_like(logp), 0.1)
    assert shape.tolist() == approx([0.832379, 0.891154, 0.768984])
    assert torch.autograd.grad(shape.sum(), logp)[0].tolist() == approx([0.139524, 0.096998, 0.177647])
    assert loss(recipe("luffy"), demonstration=True) == approx(0.005874)


def test_dagrpo() -> None:
    rows = run_slots(recipe("dagrpo", anchors="none"), make_rows(RIGHT, score=[8, 2, 6, 9]))
    assert rows.weight.tolist() == [0, 1, 0, 1]
    assert loss(recipe("dagrpo", anchors="none"), score=[8, 2, 6, 9]) == approx(-0.021035)
    assert loss(recipe("dagrpo", anchors="none", delta=float("-inf")), score=[8, 2, 6, 9]) == approx(-0.005144)
    assert loss(recipe("dagrpo", delta=float("-inf")), demonstration=True) == approx(0.005874)


def test_dagrpo_with_deviation_and_clip_is_configurable() -> None:
    rows = run_slots(recipe("dagrpo", anchors="none", scale="std1"), make_rows(RIGHT, score=[8, 2, 6, 9]))
    assert rows.advantage.tolist() == approx([0.866024, -0.866024, -0.866024, 0.866024])
    assert loss(recipe("dagrpo", anchors="none", delta=float("-inf"), clip=0.2)) == approx(-0.003130)


# Groups of the margin mask at delta = 3; the last row of a group is the anchor where ``anchor`` says so.
CASES: dict[str, dict[str, Any]] = {
    "A mixed, with anchor": {
        "correct": [1, 1, 1, 0, 0, 0, 0, 1],
        "score": [8, 6, 9, 5, 2, 4, 1, 10],
        "anchor": True,
        "advantage": [0.5] * 3 + [-0.5] * 4 + [0.5],
        "weight": [1, 0, 1, 0, 1, 0, 1, 1],
        "drift": 0.5,
    },
    "A' the same without anchor": {
        "correct": [1, 1, 1, 0, 0, 0, 0],
        "score": [8, 6, 9, 5, 2, 4, 1],
        "anchor": False,
        "advantage": [4 / 7] * 3 + [-3 / 7] * 4,
        "weight": [1, 0, 1, 0, 1, 0, 1],
        "drift": 0.285714,
    },
    "B all wrong, with anchor": {
        "correct": [0] * 7 + [1],
        "score": [4, 3, 5, 2, 1, 3, 4, 10],
        "anchor": True,
        "advantage": [-0.125] * 7 + [0.875],
        "weight": [1] * 8,
        "drift": 0,
    },
    "C all correct, with anchor": {
        "correct": [1] * 8,
        "score": [NAN] * 8,
        "anchor": True,
        "advantage": [0] * 8,
        "weight": [1] * 8,
        "drift": 0,
    },
    "D anchor rejected by the verifier, kept": {
        "correct": [1, 0, 0, 0, 0, 0, 0, 0],
        "score": [7, 2, 3, 1, 4, 2, 2, 3],
        "anchor": True,
        "advantage": [0.875] + [-0.125] * 7,
        "weight": [1] * 8,
        "drift": 0,
    },
    "E two rows, masked": {
        "correct": [1, 0],
        "score": [6, 5],
        "anchor": False,
        "advantage": [0.5, -0.5],
        "weight": [0, 0],
        "drift": 0,
    },
    "E' two rows, kept": {
        "correct": [1, 0],
        "score": [9, 4],
        "anchor": False,
        "advantage": [0.5, -0.5],
        "weight": [1, 1],
        "drift": 0,
    },
    "F tie at the margin": {
        "correct": [1, 1, 0, 0],
        "score": [7, 9, 4, 6],
        "anchor": False,
        "advantage": [0.5, 0.5, -0.5, -0.5],
        "weight": [0, 1, 1, 0],
        "drift": 0,
    },
    "G anchor too close": {
        "correct": [0] * 7 + [1],
        "score": [6, 3, 5, 2, 1, 3, 4, 8],
        "anchor": True,
        "advantage": [-0.125] * 7 + [0.875],
        "weight": [0, 1, 1, 1, 1, 1, 1, 0],
        "drift": -0.75,
    },
}


@pytest.mark.parametrize("name", CASES)
def test_margin_mask_through_the_slots(name: str) -> None:
    case = CASES[name]
    count = len(case["correct"])
    options = {"drop_rejected_anchor": False} if case["anchor"] else {"anchors": "none"}
    given = make_rows(case["correct"], score=case["score"], anchor=[False] * (count - 1) + [case["anchor"]])
    rows = run_slots(recipe("dagrpo", **options), given)
    assert rows.advantage.tolist() == approx(case["advantage"])
    assert rows.weight.tolist() == case["weight"]
    assert (rows.weight * rows.advantage).sum().item() == approx(case["drift"])


def test_all_cases_in_one_step_are_the_same_as_apart() -> None:
    """Groups do not see each other, and a masked row still counts in the denominator."""
    names = list(CASES)
    groups = [number for number, name in enumerate(names) for _ in CASES[name]["correct"]]
    rows = run_slots(
        recipe("dagrpo"),
        make_rows(
            [value for name in names for value in CASES[name]["correct"]],
            score=[value for name in names for value in CASES[name]["score"]],
            group=groups,
        ),
    )
    assert rows.weight.tolist() == [value for name in names for value in CASES[name]["weight"]]
    assert rows.advantage.tolist() == approx([value for name in names for value in CASES[name]["advantage"]])


def test_masked_group_gives_no_loss_but_keeps_its_place_in_the_denominator() -> None:
    table = [torch.full((2,), -1.0, dtype=torch.float64) for _ in range(4)]

    def value(rows: Rows) -> float:
        return recipe_loss(
            recipe("dagrpo", anchors="none"), rows, BUDGET, lambda row: table[row] + 0.1 * row, table.__getitem__
        ).item()

    kept = make_rows([1, 0], score=[9, 4], length=[2, 2])
    both = make_rows([1, 0, 1, 0], score=[9, 4, 6, 5], group=[0, 0, 1, 1], length=[2] * 4)
    assert value(make_rows([1, 0], score=[6, 5], length=[2, 2])) == 0
    assert value(both) == pytest.approx(value(kept) / 2, rel=1e-12)


GROUP_A: dict[str, Any] = {
    "correct": [1, 1, 1, 0, 0, 0, 0, 1],
    "score": [8, 6, 9, 5, 2, 4, 1, 10],
    "anchor": [False] * 7 + [True],
}
GROUP_G: dict[str, Any] = {"correct": [0] * 7 + [1], "score": [6, 3, 5, 2, 1, 3, 4, 8], "anchor": [False] * 7 + [True]}
DELTA_SWEEP: dict[float, list[int]] = {
    -1.0: [1, 1, 1, 1, 1, 1, 1, 1],
    0.0: [1, 1, 1, 1, 1, 1, 1, 1],
    1.0: [1, 1, 1, 1, 1, 1, 1, 1],
    2.0: [1, 0, 1, 0, 1, 1, 1, 1],
    3.0: [1, 0, 1, 0, 1, 0, 1, 1],
    4.0: [0, 0, 1, 0, 1, 0, 1, 1],
    5.0: [0, 0, 0, 0, 0, 0, 1, 1],
}


@pytest.mark.parametrize("delta", DELTA_SWEEP)
def test_dagrpo_over_margins(delta: float) -> None:
    assert run_slots(recipe("dagrpo", delta=delta), make_rows(**GROUP_A)).weight.tolist() == DELTA_SWEEP[delta]


def test_a_margin_of_zero_still_masks_a_wrong_order() -> None:
    rows = make_rows([1, 1, 0, 0], score=[4, 9, 5, 2])
    assert run_slots(recipe("dagrpo", delta=0.0), rows).weight.tolist() == [0, 1, 0, 1]


def test_dagrpo_two_sided() -> None:
    assert run_slots(recipe("dagrpo", two_sided=True), make_rows(**GROUP_G)).weight.tolist() == [0] * 8
    whole = run_slots(recipe("dagrpo", two_sided=True), make_rows(**GROUP_A)).weight
    assert whole.tolist() == DELTA_SWEEP[3.0]


def test_dagrpo_recentred() -> None:
    rows = run_slots(recipe("dagrpo", recentred=True), make_rows(**GROUP_A))
    assert rows.advantage.tolist() == approx([0.4, 0, 0.4, 0, -0.6, 0, -0.6, 0.4])
    assert float((rows.weight * rows.advantage).sum()) == approx(0)
    assert run_slots(recipe("dagrpo", recentred=True), make_rows(**GROUP_G)).advantage.tolist() == [0] * 8


def test_dagrpo_soft_gate() -> None:
    rows = run_slots(recipe("dagrpo", anchors="none", gate="soft"), make_rows(RIGHT, score=[8, 2, 6, 9]))
    assert rows.weight.tolist() == approx([0.119203, 0.997527, 0.119203, 0.5])


def test_dagrpo_pairwise_gate() -> None:
    rows = make_rows(GROUP_A["correct"][:7], score=GROUP_A["score"][:7])
    weight = run_slots(recipe("dagrpo", anchors="none", gate="pairwise"), rows).weight
    assert weight.tolist() == approx([1, 0.5, 1, 2 / 3, 1, 2 / 3, 1])


def test_dagrpo_distance_gate_asks_for_no_score() -> None:
    gate = recipe("dagrpo", anchors="none", gate="distance")
    rows = run_slots(gate, make_rows(RIGHT, score=[8, 2, 6, 9], distance=[0.29, 0.3, 0.9, 0.0]))
    assert rows.weight.tolist() == [0, 1, 1, 0]
    assert rows.score.isnan().all()


def test_dagrpo_truncated_rows_push_nothing_where_asked() -> None:
    rows = make_rows(RIGHT, score=[9, 2, 2, 9], truncated=[False, True, False, False])
    assert run_slots(recipe("dagrpo", anchors="none"), rows).advantage.tolist() == [0.5, -0.5, -0.5, 0.5]
    zeroed = run_slots(recipe("dagrpo", anchors="none", zero_truncated_advantage=True), rows)
    assert zeroed.advantage.tolist() == [0.5, 0, -0.5, 0.5]


def test_dagrpo_missing_scores() -> None:
    rows = make_rows(RIGHT, score=[NAN, 2, 2, 9])
    assert run_slots(recipe("dagrpo", anchors="none"), rows).weight.tolist() == [1, 1, 1, 1]
    assert run_slots(recipe("dagrpo", anchors="none", on_missing_score="drop"), rows).weight.tolist() == [0, 1, 1, 1]


def anchor_slope(surrogate: str, author: float) -> list[float]:
    """d loss / d logp of an anchor's three tokens, whose author gave each the log-probability ``author``."""
    rows = make_rows([0, 1], score=[1, 10], anchor=[False, True], length=[3, 3])
    new = torch.tensor(DEMONSTRATION, dtype=torch.float64, requires_grad=True)
    policy = torch.zeros(3, dtype=torch.float64)
    value = recipe_loss(
        recipe("dagrpo", anchor_surrogate=surrogate),
        rows,
        BUDGET,
        lambda row: new if row else policy,
        lambda row: torch.full((3,), author, dtype=torch.float64) if row else policy,
    )
    return torch.autograd.grad(value, new)[0].tolist()


def test_anchor_surrogates() -> None:
    """A = 0.5 over 2 rows and a budget of 5: each token's slope is -0.05 times that of its surrogate."""
    probability = torch.tensor(DEMONSTRATION, dtype=torch.float64).exp()
    shaping = 0.1 * probability / (probability + 0.1) ** 2
    assert anchor_slope("shaped", 0.0) == approx((-0.05 * shaping).tolist())
    assert anchor_slope("unit", 0.0) == approx([-0.05] * 3)
    assert anchor_slope("ratio", 0.0) == approx((-0.05 * probability).tolist())
    assert anchor_slope("ratio", -0.5) == approx((-0.05 * probability / torch.tensor(-0.5).exp()).tolist())


def test_sgpo() -> None:
    share = torch.tensor([0, 0.25, 0.5, 0.75], dtype=torch.float64)
    rows = run_slots(recipe("sgpo"), make_rows([0] * 4, score=(1 + 9 * share).tolist()))
    assert rows.reward.tolist() == approx([0.075858, 0.2227, 0.5, 0.7773])
    assert rows.advantage.tolist() == approx([-1.025413, -0.552069, 0.341804, 1.235678])
    assert (rows.reward - rows.reward.mean()).tolist() == approx([-0.318106, -0.171264, 0.106035, 0.383335])


def test_sgpo_grades_hopeless_groups_alone() -> None:
    rows = make_rows([1, 0, 0, 0], score=[10, 5.5, 3.25, NAN], group=[0, 0, 1, 1])
    found = run_slots(recipe("sgpo"), rows)
    assert found.reward.tolist() == approx([1, 0, 0.2227, 0.075858])
    assert found.score[:2].isnan().all()
    assert run_slots(recipe("sgpo", scope="wrong"), rows).reward.tolist() == approx([1, 0.5, 0.2227, 0.075858])


def test_random_reward_is_a_coin_of_the_row() -> None:
    rows = make_rows([0] * 2000)
    reward = recipe("random_reward").reward(rows)
    assert reward.dtype == rows.reward.dtype
    assert set(reward.tolist()) == {0.0, 1.0}
    assert reward.mean().item() == pytest.approx(0.5, abs=0.05)
    assert recipe("random_reward", probability=0.1).reward(rows).mean().item() == pytest.approx(0.1, abs=0.03)
    flipped = replace(rows, correct=~rows.correct, key=rows.key.flip(0))
    assert torch.equal(recipe("random_reward").reward(flipped), reward.flip(0))


def test_defaults_that_the_papers_state() -> None:
    assert grpo.Options().model_dump() == {"clip": 0.2, "kl": 0.0}
    assert luffy.Options().gamma == 0.1
    assert rl_with_sft_loss.Options().coefficient == 1.0
    assert not sft.phase().recipe.samples
    options = method.Options()
    assert (options.delta, options.gamma, options.clip, options.scale) == (3.0, 0.1, None, "none")
