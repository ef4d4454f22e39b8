"""Method pages: every registered method in words, from its own file, and its curves beside the reference arm's."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from pydantic import Field
from torch import Tensor

from baselines import grpo
from dagrpo.algorithm import Algorithm, Method, Phase, Recipe, Rows, find_method, likelihood, methods, policy_gradient
from dagrpo.config import Strict
from eval.methods.figure import curves_beside, smoothed
from eval.methods.functions import describe, shown
from eval.methods.head import Block, read_head
from eval.methods.page import consumed, options
from eval.methods.slots import USUAL, Stage, stages


def words(method: Method, **options: object) -> tuple[Stage, ...]:
    return stages(method.algorithm(options, "options"), method.build)


def text(stage: Stage, slot: str) -> str:
    """All that stands in a slot."""
    parts = [part for one in stage.slots if one.name == slot for part in one.parts]
    return " | ".join(f"{one.named.code} {one.named.sentence} {one.named.settings} {one.settings}" for one in parts)


def test_a_head_is_taken_apart() -> None:
    module = ModuleType("made_up")
    module.__doc__ = """The idea, which goes on
here with ``code``.

Paper: one, by :func:`a.b`.

    A = 1      if x
    B = 2

    C = `three`

Defaults: `gamma` = 0.1.
    Not a formula.
"""
    head = read_head(module)
    assert head.idea == "The idea, which goes on here with code."
    assert head.blocks == (
        Block("text", "Paper: one, by a.b."),
        Block("formula", "A = 1      if x\nB = 2\n\nC = three"),
        Block("text", "Defaults: gamma = 0.1. Not a formula."),
    )
    assert read_head(ModuleType("without")).idea == ""


@pytest.mark.parametrize("name", list(methods()))
def test_every_method_can_be_put_into_words(name: str) -> None:
    method = find_method(name)
    head = read_head(sys.modules[method.module])
    assert head.idea.endswith(".")
    found = words(method)
    assert len(found) == len(method.algorithm({}, "").phases)
    for stage in found:
        names = [slot.name for slot in stage.slots]
        assert names[0] == "data"
        assert "objective" in names
        assert len(set(names)) == len(names)
        assert not {name.replace(" ", "_") for name in names} & {one.split(" (")[0] for one in stage.usual}
        assert all(text(stage, slot).replace("|", "").strip() for slot in names)
        assert "<lambda>" not in "".join(text(stage, slot) for slot in names)
        assert "<function" not in "".join(text(stage, slot) for slot in names)
    if name != "sft":
        assert any("data" in slot.name for stage in found for slot in stage.slots)


def test_the_slots_of_dagrpo() -> None:
    (stage,) = words(find_method("dagrpo"), delta=2.0)
    assert text(stage, "anchors").strip() == (
        "a demonstration in every group, in the place of a sample; rejected ones are left out"
    )
    assert "λ of each row" in text(stage, "weight")
    assert "delta = 2" in text(stage, "weight")
    assert "shaped" in text(stage, "objective")
    assert "gamma = 0.1" in text(stage, "objective")
    assert "rows of groups with advantages of both signs" in text(stage, "scores")
    assert not any(one.startswith("anchors") for one in stage.usual)
    (bare,) = words(find_method("dagrpo"), anchors="none", delta=float("-inf"))
    assert {"anchors (none)", "weight (1 for every row)", "scores (none)"} <= set(bare.usual)


def test_settings_are_read_from_the_terms() -> None:
    (stage,) = words(find_method("dapo"))
    assert "clip = [0.2, 0.28]" in text(stage, "objective")
    assert "level" not in text(stage, "objective"), "what a primitive has by default is left out"
    assert "mean over tokens" in text(stage, "objective")
    assert "until 100 % of the groups pass, in at most 10 rounds" in text(stage, "filter")
    first, second = words(find_method("sft_then_rl"))
    assert first.title == "Phase 1: train.sft_steps steps with the optimiser train.sft"
    assert "nothing is sampled" in text(first, "data")
    assert "reward" not in [slot.name for slot in first.slots]
    assert "correctness" in text(second, "reward")
    (relift,) = words(find_method("relift"))
    assert "until there are 16" in text(relift, "interleave")
    assert "coefficient 0.001" in text(relift, "interleave")
    (srft,) = words(find_method("srft"))
    assert "rows: rows.correct & ~rows.anchor" in text(srft, "objective")
    assert "coefficient −1" in text(srft, "objective")


def test_every_usual_slot_exists() -> None:
    assert set(USUAL) <= set(Recipe.__dataclass_fields__)
    (stage,) = stages(Algorithm("X", (Phase(Recipe(objective=(likelihood(),))),)), test_every_usual_slot_exists)
    assert len(stage.usual) == len(USUAL)


def documented(rows: Rows) -> Tensor:
    """Reward brevity: shape (N,). And more."""
    return -rows.length


def made(factor: float) -> Callable[[Rows], Tensor]:
    """Reward length."""

    def reward(rows: Rows) -> Tensor:
        length = rows.length
        return factor * length

    return reward


def builder() -> list[Callable[[Rows], Tensor]]:
    def one_line(rows: Rows) -> Tensor:
        return rows.reward * 2

    def longer(rows: Rows) -> Tensor:
        assert rows.reward.ndim == 1
        return rows.reward * 2

    return [one_line, longer, lambda rows: rows.reward + 1, lambda rows: rows.reward]


def test_functions_are_named_by_what_they_have() -> None:
    one_line, longer, added, same = (describe(one, builder) for one in builder())
    assert (one_line.code, longer.code, added.code, same.code) == (
        "rows.reward * 2",
        "longer",
        "rows.reward + 1",
        "rows.reward",
    )
    assert longer.sentence == "see the formula"
    assert describe(documented, builder).sentence == "Reward brevity"
    assert (describe(made(0.5), builder).code, describe(made(0.5), builder).settings) == ("made", "factor = 0.5")
    term = policy_gradient((0.2, 0.2))
    assert describe(term.loss, builder).code == "policy_gradient"
    assert [shown(value) for value in (None, True, 1e-4, "\n;", "x", (1, 2))] == (
        ["null", "true", "0.0001", r"'\n;'", "x", "[1, 2]"]
    )


class Required(Strict):
    """Options, one of which has no default."""

    width: int = Field(description="How wide.")
    depth: int = Field(2, description="How deep.")


def test_options_say_what_was_set_otherwise() -> None:
    found = options(grpo.Options, grpo.Options(kl=0.04))
    assert [(one.name, one.default, one.set_to) for one in found] == [("clip", "0.2", ""), ("kl", "0", "0.04")]
    assert found[1].description == "Weight of the divergence from the initial policy."
    by_name = {one.name: one for one in options(Required, Required(width=3))}
    assert (by_name["width"].default, by_name["width"].set_to, by_name["depth"].set_to) == ("none", "3", "")
    kind = find_method("dagrpo").options
    assert {one.name: one.default for one in options(kind, kind())}["delta"] == "3", "as it is filled in"


def test_consumption_stands_beside_the_reference() -> None:
    frame = pd.DataFrame(
        {"arm": ["a", "b"], "label": ["A", "B"], "seeds": [2, 2], "samples": [10.0, 5.0], "anchors": [1.0, np.nan]}
    )
    shown = consumed(frame, "a", "b")
    assert shown.header == ("of one run", "A", "B", "share")
    assert [[cell.text for cell in row] for row in shown.rows] == [
        ["samples", "10", "5", "2.00"],
        ["anchors", "1", "0", ""],
    ]
    assert consumed(frame, "b", "b").header == ("of one run", "B")


def metrics() -> pd.DataFrame:
    """Two arms and two seeds; one arm has no rewards."""
    rows = [
        {
            "arm": arm,
            "seed": seed,
            "step": step,
            "grad_norm": 1.0 + step,
            "reward": step + seed if arm == "a" else np.nan,
        }
        for arm in ("a", "b")
        for seed in (0, 1)
        for step in range(400)
    ]
    return pd.DataFrame(rows)


def test_curves_are_thinned_and_a_quantity_that_is_not_there_is_left_out() -> None:
    frame = metrics()
    mean, low, high = smoothed(frame[frame["arm"] == "a"], "reward")
    assert len(mean) == 50
    assert (mean.index[0], mean.index[-1]) == (0, 399)
    assert np.allclose(high - low, 1)
    figure = curves_beside(frame, ("a", "A", "red"), ("b", "B", "blue"), 7.0)
    titles = [axis.get_title() for axis in figure.axes if axis.axison]
    assert titles == ["reward", "gradient norm"]
    other = curves_beside(frame, ("b", "B", "blue"), ("b", "B", "blue"), 7.0)
    assert [len(axis.lines) for axis in other.axes if axis.axison] == [1]


def test_a_run_without_any_gradient_can_be_drawn() -> None:
    frame = metrics().assign(grad_norm=0.0)
    figure = curves_beside(frame, ("a", "A", "red"), ("b", "B", "blue"), 7.0)
    figure.draw_without_rendering()
    assert {axis.get_yscale() for axis in figure.axes} == {"linear"}


def test_words_and_pictures_do_not_import_torch() -> None:
    modules = "eval.methods.slots, eval.methods.figure, eval.ranking.table, eval.ranking.figure"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent, timeout=240)
