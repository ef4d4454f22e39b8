"""Every registered method trains on the miniature, whatever the micro-batches, and says what it did."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dagrpo.algorithm import methods
from dagrpo.config import Optimizer
from dagrpo.errors import UserError
from dagrpo.problems.store import read_problems, write_problems
from dagrpo.trainer.curriculum import problems_of_step
from dagrpo.trainer.job import train
from dagrpo.trainer.optimizer import learning_rate
from dagrpo.trainer.schedule import schedule
from tests.miniature import spec, tiny_base

OF_EVERY_STEP = {"step", "phase", "loss", "grad_norm", "lr", "trained_tokens", "optimiser_steps"}
OF_RL_STEPS = {
    "reward", "accuracy", "response_tokens", "truncated_share", "mixed_groups", "samples", "prompt_tokens",
    "response_tokens_total", "entropy",
}  # fmt: skip
OF_GATED_STEPS = {
    "masked_share",
    "sum_lambda_A",
    "mask/keep_pos",
    "mask/keep_neg",
    "mask/empty_groups",
    "mask/one_sided_groups",
}


@pytest.fixture(scope="module")
def base(made: tuple[Path, Path]) -> Path:
    return made[0]


@pytest.fixture(scope="module")
def problems(made: tuple[Path, Path]) -> Path:
    return made[1]


def _metrics(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", methods())
def test_every_method_trains_and_reports(base: Path, problems: Path, tmp_path: Path, name: str) -> None:
    job = spec(name, steps=2, sft_steps=2)
    train(job, 0, base, problems, tmp_path / "out", tmp_path / "state")
    rows = _metrics(tmp_path / "out")
    places = list(schedule(methods()[name].algorithm({}, "options"), job.train))
    assert [row["phase"] for row in rows] == [place.phase.kind for place in places]
    assert [row["step"] for row in rows] == list(range(len(rows)))
    for place, row in zip(places, rows, strict=True):
        recipe = place.phase.recipe
        assert row.keys() >= OF_EVERY_STEP
        assert not recipe.samples or row.keys() >= OF_RL_STEPS
        assert recipe.scores != "mixed" or row.keys() >= OF_GATED_STEPS | {"score/missing"}
        assert not recipe.anchors or row.keys() >= {"anchors", "anchor/kept", "anchor/rejected"}
        assert recipe.data == "rollouts" or row.keys() >= {"demonstrations", "demonstration_tokens"}
        assert not recipe.filter or row.keys() >= {"filter/groups", "filter/rounds"}
        assert not recipe.interleave or "interleave/queue" in row
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
    card = json.loads((tmp_path / "out" / "run.json").read_text())
    assert card["consumed"]["samples"] == sum(row.get("samples", 0) for row in rows)
    assert card["model_fingerprint"] != card["base_fingerprint"]
    timings = [json.loads(line) for line in (tmp_path / "out" / "timings.jsonl").read_text().splitlines()]
    assert [row.keys() >= {"step", "rollout", "score", "update"} for row in timings] == [True] * len(rows)


@pytest.mark.parametrize("name", methods())
def test_micro_batches_and_decoding_batches_do_not_change_the_step(
    base: Path, problems: Path, tmp_path: Path, name: str
) -> None:
    """Plain SGD would show it at 1e-6; after Adam's division the first step turns rounding into steps of up to lr
    for weights without a real gradient, so the loss and the gradient norm of the first step are compared."""

    def first(folder: str, **sizes: Any) -> dict[str, Any]:
        train(spec(name, steps=1, sft_steps=1, **sizes), 0, base, problems, tmp_path / folder, tmp_path / "state")
        return _metrics(tmp_path / folder)[0]

    one = first("a")
    assert one["trained_tokens"] > 0
    for micro_tokens, rollout_rows in ((64, 16), (512, 5), (100_000, 1000)):
        other = first("b", micro_tokens=micro_tokens, rollout_rows=rollout_rows)
        assert one["trained_tokens"] == other["trained_tokens"]
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-4)
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4, abs=1e-7)


def test_the_schooled_base_guesses(base: Path, problems: Path, tmp_path: Path) -> None:
    """The fixture is what the other tests take it for: it has learned to answer, and is right about half the time."""
    train(spec("grpo", steps=4, rl={"lr": 1e-9}), 0, base, problems, tmp_path / "out", tmp_path / "state")
    rows = _metrics(tmp_path / "out")
    assert 0.2 < sum(row["accuracy"] for row in rows) / len(rows) < 0.8
    assert all(row["mixed_groups"] > 0 for row in rows)


def test_reinforcement_raises_the_reward(base: Path, problems: Path, tmp_path: Path) -> None:
    """Only "A1" is right for the problems that are kept, and the policy finds out."""
    easy = [problem for problem in read_problems(problems) if problem.answer == "1"]
    write_problems(tmp_path / "easy.jsonl", easy)
    train(
        spec("grpo", steps=30, prompts=8, rl={"lr": 5e-3}),
        0,
        base,
        tmp_path / "easy.jsonl",
        tmp_path / "out",
        tmp_path / "state",
    )
    rewards = [row["reward"] for row in _metrics(tmp_path / "out")]
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.2


def test_several_updates_share_the_prompts_of_a_step(base: Path, problems: Path, tmp_path: Path) -> None:
    train(spec("random_reward", steps=2, updates=2), 0, base, problems, tmp_path / "out", tmp_path / "state")
    rows = _metrics(tmp_path / "out")
    assert [row["optimiser_steps"] for row in rows] == [2, 2]
    # the second update is off-policy by one step, so its ratio is not one and the loss not that of a baseline
    assert rows[0]["loss"] != pytest.approx(0.0, abs=1e-9)


def test_masked_rows_cost_nothing(base: Path, problems: Path, tmp_path: Path) -> None:
    tokens = {}
    for delta in (-math.inf, 9.5):
        train(spec("dagrpo", {"delta": delta}, steps=1), 0, base, problems, tmp_path / str(delta), tmp_path / "state")
        tokens[delta] = _metrics(tmp_path / str(delta))[0]["trained_tokens"]
    assert tokens[-math.inf] > 0
    assert tokens[9.5] == 0


def test_a_step_without_any_gradient_leaves_the_weights(base: Path, problems: Path, tmp_path: Path) -> None:
    random_base = tiny_base(tmp_path / "base")
    train(spec("grpo", steps=1), 0, random_base, problems, tmp_path / "out", tmp_path / "state")
    assert _metrics(tmp_path / "out")[0]["mixed_groups"] == 0  # a random base solves nothing
    before, after = (
        load_file(random_base / "model.safetensors"),
        load_file(tmp_path / "out" / "model" / "model.safetensors"),
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_anchor_longer_than_the_budget_is_named(base: Path, problems: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"anchor of problem .* has \d+ tokens.*max_new_tokens is 2"):
        train(spec("luffy", max_new_tokens=2), 0, base, problems, tmp_path / "out", tmp_path / "state")


def test_demonstrations_are_needed_by_methods_that_read_them(base: Path, problems: Path, tmp_path: Path) -> None:
    write_problems(tmp_path / "bare.jsonl", [replace(problem, solution=None) for problem in read_problems(problems)])
    with pytest.raises(UserError, match="needs demonstrations"):
        train(spec("sft"), 0, base, tmp_path / "bare.jsonl", tmp_path / "out", tmp_path / "state")


def test_a_rejected_demonstration_is_replaced_by_a_rollout(base: Path, problems: Path, tmp_path: Path) -> None:
    rows = read_problems(problems)
    wrong = [replace(problem, solution="A7") if i < len(rows) // 2 else problem for i, problem in enumerate(rows)]
    write_problems(tmp_path / "half.jsonl", wrong)
    train(spec("luffy", steps=10), 0, base, tmp_path / "half.jsonl", tmp_path / "out", tmp_path / "state")
    metrics = _metrics(tmp_path / "out")
    assert all(row["anchors"] + row["anchor/rejected"] == 4 for row in metrics)
    assert sum(row["anchor/rejected"] for row in metrics) == len(rows) // 2  # ten steps of four are one epoch
    assert all(row["samples"] + row["anchors"] == 16 for row in metrics)


def test_too_few_problems_are_refused(base: Path, problems: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="40 training problems are fewer than the 41"):
        train(spec("grpo", prompts=41), 0, base, problems, tmp_path / "out", tmp_path / "state")


def test_an_epoch_visits_each_problem_once(problems: Path) -> None:
    rows = read_problems(problems)
    first = [problem.id for step in range(10) for problem in problems_of_step(rows, 4, step, seed=0)]
    second = [problem.id for step in range(10, 20) for problem in problems_of_step(rows, 4, step, seed=0)]
    assert sorted(first) == sorted(second) == sorted(problem.id for problem in rows)
    assert first != second


def test_learning_rate_schedule() -> None:
    cosine = Optimizer(lr=1.0, warmup=0.2, schedule="cosine")
    assert [learning_rate(cosine, step, 10) for step in (0, 1, 2, 6)] == pytest.approx([0.5, 1.0, 1.0, 0.5])
    assert learning_rate(Optimizer(lr=0.3), 7, 10) == 0.3


def test_the_conflict_probe_is_a_metric_of_every_so_many_steps(base: Path, problems: Path, tmp_path: Path) -> None:
    job = spec("dagrpo", {"anchors": "none"}, steps=4, conflict_every=2)
    train(job, 0, base, problems, tmp_path / "out", tmp_path / "state")
    rows = _metrics(tmp_path / "out")
    assert ["conflict/before" in row for row in rows] == [True, False, True, False]
    assert all(0 <= row["conflict/before"] <= 1 for row in rows[::2])
    train(spec("dagrpo", {"anchors": "none"}, steps=4), 0, base, problems, tmp_path / "none", tmp_path / "state")
    without = [{key: row[key] for key in ("loss", "grad_norm", "accuracy")} for row in _metrics(tmp_path / "none")]
    assert without == [{key: row[key] for key in ("loss", "grad_norm", "accuracy")} for row in rows]


def test_anchors_give_every_hard_prompt_a_signal(base: Path, problems: Path, tmp_path: Path) -> None:
    for arm, options in (("with", {"delta": -math.inf}), ("without", {"delta": -math.inf, "anchors": "none"})):
        train(spec("dagrpo", options, steps=3), 0, base, problems, tmp_path / arm, tmp_path / "state")
    shares = {
        arm: [value for row in _metrics(tmp_path / arm) for key, value in row.items() if "signal_groups" in key]
        for arm in ("with", "without")
    }
    assert 0 < sum(shares["without"]) / len(shares["without"]) < 1
    assert sum(shares["with"]) / len(shares["with"]) > sum(shares["without"]) / len(shares["without"])


def test_an_anchor_is_worth_what_its_author_gave_it(base: Path, problems: Path, tmp_path: Path) -> None:
    """With the ratio surrogate a less likely demonstration pushes more, and a wrong number of figures is refused."""
    made = read_problems(problems)
    norms = []
    for logp in (0.0, -0.7):
        write_problems(tmp_path / "p.jsonl", [replace(problem, solution_logps=(logp,) * 3) for problem in made])
        job = spec("dagrpo", {"delta": -math.inf, "anchor_surrogate": "ratio"}, steps=1)
        train(job, 0, base, tmp_path / "p.jsonl", tmp_path / str(logp), tmp_path / "state")
        norms.append(_metrics(tmp_path / str(logp))[0]["grad_norm"])
    assert norms[1] > norms[0]
    write_problems(tmp_path / "p.jsonl", [replace(problem, solution_logps=(0.0,)) for problem in made])
    with pytest.raises(UserError, match="1 solution_logps for a demonstration of 3 tokens"):
        train(job, 0, base, tmp_path / "p.jsonl", tmp_path / "out", tmp_path / "state")
