"""What every registered method must do. A new method is enrolled by being registered."""

import importlib
import json
import re
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from dagrpo.algorithm import Algorithm, Method, Phase, Recipe, Rows, SequenceTerm, Term, find_method, methods
from dagrpo.config import TrainSpec, load
from dagrpo.errors import UserError
from dagrpo.objectives.aggregation import Aggregate
from tests.method_rows import INF, NAN, make_rows, recipe_loss, run_slots, select

BUDGET = 6
METHODS = methods()
EXPECTED = {
    "dagrpo",
    "dr_grpo",
    "grpo",
    "luffy",
    "random_reward",
    "rl_with_sft_loss",
    "sft",
    "sft_then_rl",
    "sgpo",
}

every_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)


def algorithm(method: Method, **options: Any) -> Algorithm:
    return method.algorithm(options, "options")


PHASES = [
    pytest.param(phase, id=f"{name}-{number}")
    for name, method in METHODS.items()
    for number, phase in enumerate(algorithm(method).phases)
]
every_phase = pytest.mark.parametrize("phase", PHASES)


def test_all_methods_are_registered() -> None:
    assert set(METHODS) >= EXPECTED


def test_entry_points_name_every_file_of_methods() -> None:
    entries = {entry.name: entry.value for entry in entry_points(group="dagrpo.methods")}
    if not entries:
        pytest.skip("the package is not installed, so it has no entry points")
    assert entries["core"] == "dagrpo.method"
    assert entries["baselines"] == "baselines"


def test_unknown_method_suggests_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'dr_grpo'"):
        find_method("drgrpo")


@every_method
def test_head_of_the_file_names_idea_and_paper(method: Method) -> None:
    head = importlib.import_module(method.module).__doc__
    assert head is not None
    idea = head.split("\n\n")[0]
    assert 40 <= len(idea) <= 300, "the first paragraph is the idea, in one sentence"
    assert idea.endswith(".")
    assert re.search(r"arXiv \d{4}\.\d{5}", head), "the head names the paper"
    assert re.search(r"^ {4}.*(loss|R_i) ", head, re.MULTILINE), "the head states the formula, indented"


def test_labels_differ() -> None:
    labels = [algorithm(method).label for method in METHODS.values()]
    assert all(labels) and len(set(labels)) == len(labels)


@every_method
def test_unknown_option_is_refused(method: Method) -> None:
    with pytest.raises(UserError, match="unknown key 'no_such_option'"):
        algorithm(method, no_such_option=1)


def spec_of(method: Method, options: dict[str, Any]) -> TrainSpec:
    optimizer = {"lr": 1e-3}
    sizes = {"steps": 1, "sft_steps": 1, "prompts": 1, "group_size": 2, "max_new_tokens": 4}
    return TrainSpec.model_validate(
        {
            "arm": "arm",
            "method": method.name,
            "options": options,
            "train": {**sizes, "rl": optimizer, "sft": optimizer},
            "prompt": {},
            "verifier": {},
            "scorer": {},
            "device": "cpu",
        }
    )


def round_trip(method: Method, options: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The options as a training job finds them in the spec that the workflow wrote for it."""
    path = folder / "arm.json"
    path.write_text(json.dumps(spec_of(method, options).model_dump(), default=str))
    return load(TrainSpec, path).options


@every_method
def test_options_survive_the_way_through_a_spec(method: Method, tmp_path: Path) -> None:
    defaults = method.resolved({})
    assert method.resolved(round_trip(method, defaults.model_dump(), tmp_path)) == defaults
    assert method.resolved(round_trip(method, {}, tmp_path)) == defaults


def test_an_infinite_margin_survives_the_way_through_a_spec(tmp_path: Path) -> None:
    options = round_trip(find_method("dagrpo"), {"delta": float("-inf")}, tmp_path)
    (phase,) = find_method("dagrpo").algorithm(options, "options").phases
    assert phase.recipe.scores == "never"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dagrpo", {"delta": float("nan")}),
        ("dagrpo", {"delta": float("inf")}),
        ("dagrpo", {"gamma": 0}),
        ("dagrpo", {"anchors": "sometimes"}),
        ("dagrpo", {"clip": 1.0}),
        ("dagrpo", {"scale": "std2"}),
        ("dagrpo", {"slope": 1.0}),
        ("dagrpo", {"ngram": 3}),
        ("dagrpo", {"delta": 3.0, "gate": "distance"}),
        ("dagrpo", {"gate": "soft", "delta": -INF}),
        ("dagrpo", {"two_sided": True, "delta": -INF}),
        ("dagrpo", {"two_sided": True, "gate": "soft"}),
        ("dagrpo", {"recentred": True, "delta": -INF}),
        ("dagrpo", {"on_missing_score": "drop", "gate": "distance"}),
        ("dagrpo", {"gamma": 0.1, "anchor_surrogate": "unit"}),
        ("dagrpo", {"anchor_surrogate": "unit", "anchors": "none"}),
        ("dagrpo", {"anchor_count": 2, "anchors": "none"}),
        ("sgpo", {"beta": 0}),
        ("sgpo", {"scope": "never"}),
        ("luffy", {"gamma": -0.1}),
        ("grpo", {"clip": None}),
        ("grpo", {"kl": -0.1}),
        ("dr_grpo", {"clip": 0}),
        ("rl_with_sft_loss", {"coefficient": 0}),
        ("sft_then_rl", {"rl": "luffy"}),
        ("random_reward", {"probability": 1.0}),
    ],
)
def test_an_impossible_option_is_refused_by_name(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"options: (configuration: )?{next(iter(options))}\b"):
        find_method(name).algorithm(options, "options")


@pytest.mark.parametrize(
    "options",
    [
        {"gate": "soft", "recentred": True},
        {"gate": "pairwise", "two_sided": True, "recentred": True},
        {"gate": "distance", "two_sided": True, "anchor_surrogate": "ratio"},
        {"delta": -INF, "anchors": "all_wrong", "anchor_surrogate": "unit"},
        {"anchors": "none", "on_missing_score": "drop", "zero_truncated_advantage": True, "entropy": 0.001},
    ],
)
def test_options_of_dagrpo_compose_and_survive_being_filled_in(options: dict[str, Any], tmp_path: Path) -> None:
    method = find_method("dagrpo")
    filled = method.resolved(options)
    assert method.resolved(round_trip(method, filled.model_dump(), tmp_path)) == filled
    for phase in algorithm(method, **options).phases:
        rows = step_rows(phase.recipe)
        loss, slopes = gradient(phase.recipe, rows)
        assert_finite(loss, slopes)
        assert any((slope != 0).any() for slope in slopes)


@every_phase
def test_the_record_is_sound(phase: Phase) -> None:
    recipe = phase.recipe
    assert recipe.objective
    for term in recipe.objective:
        if isinstance(term, SequenceTerm):
            assert recipe.samples
            continue
        assert callable(term.rows) or term.rows in ("policy", "anchor", "all")
        assert term.count in ("selected", "all") and term.aggregate in get_args(Aggregate)
        assert term.rows != "anchor" or recipe.needs_demonstrations, "a term reads rows that never come"
        assert recipe.samples or not term.weighted, "without rollouts there is no advantage to weigh by"
    assert recipe.scores != "mixed" or recipe.weight, "scores are asked for and nothing reads them"


def step_rows(recipe: Recipe, changes: dict[str, Any] | None = None, dtype: torch.dtype = torch.float64) -> Rows:
    """Two groups of three rollouts and an anchor, or what of them the phase reads."""
    columns: dict[str, Any] = {
        "group": [0, 0, 0, 0, 1, 1, 1, 1],
        "anchor": [False, False, False, True] * 2,
        "correct": [1, 0, 0, 1, 0, 0, 0, 1],
        "score": [9.0, 2.0, 8.0, 10.0, 1.0, 3.0, 5.0, 7.0],
        "length": [3, 6, 1, 4, 2, 6, 5, 3],
    }
    rows = make_rows(**(columns | (changes or {})), dtype=dtype)
    if not recipe.samples:
        return select(rows, rows.anchor.nonzero().flatten())
    return rows if recipe.anchors or recipe.data == "both" else select(rows, (~rows.anchor).nonzero().flatten())


def gradient(
    recipe: Recipe, rows: Rows, members: list[int] | None = None, drift: float = 0.3
) -> tuple[Tensor, list[Tensor]]:
    """The loss, and its gradient in each row's log-probabilities, which stand ``drift`` away from the sampler's."""
    table, old, reference = [], [], []
    for number in range(len(rows.group)):
        draws = torch.Generator().manual_seed(int(rows.key[number]))
        shape = (3, int(rows.length[number]))
        base, new, initial = -2 * torch.rand(shape, generator=draws, dtype=torch.float64).to(rows.reward.dtype)
        table.append((base + drift * new).requires_grad_())
        old.append(base)
        reference.append(initial)
    loss = recipe_loss(recipe, rows, BUDGET, table.__getitem__, old.__getitem__, reference.__getitem__, members=members)
    slopes = torch.autograd.grad(loss, table, allow_unused=True, materialize_grads=True)
    return loss.detach(), list(slopes)


def assert_finite(loss: Tensor, slopes: list[Tensor]) -> None:
    assert loss.isfinite()
    assert all(slope.isfinite().all() for slope in slopes)


def likelihood_terms(recipe: Recipe) -> bool:
    return any(isinstance(term, SequenceTerm) or not term.weighted for term in recipe.objective)


@every_phase
def test_an_ordinary_step_gives_a_gradient(phase: Phase) -> None:
    loss, slopes = gradient(phase.recipe, step_rows(phase.recipe))
    assert_finite(loss, slopes)
    assert any((slope != 0).any() for slope in slopes)


@every_phase
@pytest.mark.parametrize("correct", [0, 1])
def test_equal_verdicts_are_harmless(phase: Phase, correct: int) -> None:
    rows = step_rows(phase.recipe, {"correct": [correct] * 8})
    loss, slopes = gradient(phase.recipe, rows)
    assert_finite(loss, slopes)
    if (run_slots(phase.recipe, rows).advantage == 0).all() and not likelihood_terms(phase.recipe):
        assert loss == 0 and not any((slope != 0).any() for slope in slopes)


@every_phase
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"score": [5.0] * 8}, id="all scores equal"),
        pytest.param({"score": [NAN] * 8}, id="no scores"),
        pytest.param({"score": [9.0, NAN, 8.0, NAN, NAN, 3.0, 5.0, 7.0]}, id="some scores"),
        pytest.param({"length": [3, 0, 1, 4, 0, 6, 5, 3]}, id="empty responses"),
        pytest.param({"length": [0] * 8}, id="no tokens at all"),
        pytest.param({"group": [0, 1, 2, 3, 4, 5, 6, 7]}, id="groups of one"),
        pytest.param({"anchor": [True] * 8}, id="anchors alone"),
        pytest.param({"anchor": [False] * 8}, id="no anchors"),
    ],
)
def test_degenerate_steps_are_harmless(phase: Phase, changes: dict[str, list[Any]]) -> None:
    rows = step_rows(phase.recipe, changes)
    if len(rows.group) == 0:
        pytest.skip("this phase reads none of these rows")
    assert_finite(*gradient(phase.recipe, rows))


@every_phase
@pytest.mark.parametrize("survivors", [[], [0], [0, 5]], ids=["none", "one", "one of each group"])
def test_groups_of_which_a_mask_leaves_one_row_or_none(phase: Phase, survivors: list[int]) -> None:
    """Terms that weigh rows move the survivors alone; a term over tokens that weighs none is not a mask's business."""

    def mask(rows: Rows) -> Tensor:
        kept = torch.isin(rows.key, torch.tensor([row * 7919 + 1 for row in survivors]))
        return kept.to(rows.reward.dtype)

    weighted = tuple(term for term in phase.recipe.objective if isinstance(term, Term) and term.weighted)
    recipe = replace(phase.recipe, weight=(*phase.recipe.weight, mask))
    rows = step_rows(recipe)
    assert_finite(*gradient(recipe, rows))
    if weighted:
        _, slopes = gradient(replace(recipe, objective=weighted), rows)
        moved = {int(rows.key[row]) // 7919 for row, slope in enumerate(slopes) if (slope != 0).any()}
        assert moved <= set(survivors)


@every_phase
def test_order_of_rows_makes_no_difference(phase: Phase) -> None:
    rows = step_rows(phase.recipe)
    order = torch.randperm(len(rows.group), generator=torch.Generator().manual_seed(0))
    loss, slopes = gradient(phase.recipe, rows)
    shuffled_loss, shuffled = gradient(phase.recipe, select(rows, order))
    torch.testing.assert_close(shuffled_loss, loss, rtol=1e-12, atol=0)
    for place, row in enumerate(order.tolist()):
        torch.testing.assert_close(shuffled[place], slopes[row], rtol=1e-12, atol=1e-15)


@every_phase
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_micro_batches_add_up(phase: Phase, dtype: torch.dtype) -> None:
    rows = step_rows(phase.recipe, dtype=dtype)
    count = len(rows.group)
    loss, slopes = gradient(phase.recipe, rows)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    for size in range(1, count):
        parts = [list(range(start, min(start + size, count))) for start in range(0, count, size)]
        losses, gradients = zip(*(gradient(phase.recipe, rows, part) for part in parts), strict=True)
        largest = max(float(slope.abs().max()) for slope in slopes)
        torch.testing.assert_close(torch.stack(losses).sum(), loss, rtol=tolerance, atol=tolerance)
        for row in range(count):
            summed = torch.stack([part[row] for part in gradients]).sum(0)
            torch.testing.assert_close(summed, slopes[row], rtol=0, atol=tolerance * largest)


@every_phase
def test_float32_is_float64_to_its_precision(phase: Phase) -> None:
    single, slopes = gradient(phase.recipe, step_rows(phase.recipe, dtype=torch.float32))
    double, exact = gradient(phase.recipe, step_rows(phase.recipe))
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-6)
    for slope, expected in zip(slopes, exact, strict=True):
        torch.testing.assert_close(slope.double(), expected, rtol=1e-4, atol=1e-6)


@every_phase
def test_rows_without_weight_or_advantage_push_nothing(phase: Phase) -> None:
    """Where a row's weight times advantage is 0, only likelihood terms may move it."""
    recipe = replace(
        phase.recipe,
        objective=tuple(term for term in phase.recipe.objective if isinstance(term, Term) and term.weighted),
    )
    if not recipe.objective:
        pytest.skip("this phase has likelihood terms alone")
    rows = step_rows(recipe)
    filled = run_slots(recipe, rows)
    _, slopes = gradient(recipe, rows)
    for row, coefficient in enumerate((filled.weight * filled.advantage).tolist()):
        if coefficient == 0:
            assert (slopes[row] == 0).all()
