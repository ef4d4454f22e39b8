"""What an experiment asks of its judges: calls, tokens, money."""

from dataclasses import dataclass, replace
from typing import Any

from tabulate import tabulate

from dagrpo.algorithm import find_method
from dagrpo.config import Experiment
from dagrpo.errors import UserError
from dagrpo.plan.devices import Device
from dagrpo.plan.hours import rows_of
from dagrpo.scorers.judge import JudgeOptions
from dagrpo.scorers.judge.prompt import load_rubric
from dagrpo.scorers.registry import find_kind

CHARACTERS = 3.5
"""Of a token of mathematics in English; a guess."""
REPLY_TOKENS = 30
"""A JSON object with three grades."""
RUBRIC = "holistic.v1"


@dataclass(frozen=True, slots=True)
class Asking:
    """What one run asks at the most, as if every group held right and wrong rows: requests, and tokens that they send,
    that of those repeat the prefix of another candidate of the problem, and that come back."""

    calls: float
    sent: float
    repeated: float
    returned: float

    def cost(self, judge: JudgeOptions) -> float | None:
        """In the currency of the prices; ``None`` where there are none, or the judge is served."""
        price = judge.price
        if price is None:
            return None
        cached = price.input if price.cached is None else price.cached
        new = self.sent - self.repeated
        return (new * price.input + self.repeated * cached + self.returned * price.output) / 1e6


def judges(experiment: Experiment) -> dict[str, JudgeOptions]:
    """The judge of each arm whose method asks for scores, where its scorer is one. Raises :class:`UserError`."""
    found = {}
    for name, arm in experiment.arms.items():
        spec = arm.scorer or experiment.scorer
        options = find_kind(spec.kind, "scorer").parse(spec.options, "scorer.options")
        algorithm = find_method(arm.method).algorithm(arm.options, f"arms.{name}.options")
        if algorithm.needs_scores and isinstance(options, JudgeOptions):
            found[name] = options
    return found


def beside(experiment: Experiment) -> int:
    """GPUs that judges want beside those of a run: the most that any of them does."""
    return max((judge.serve.gpus for judge in judges(experiment).values() if judge.serve), default=0)


def beside_the_judge(experiment: Experiment, device: Device) -> Device:
    """A GPU of which a judge that shares it has taken its part."""
    served = [judge.serve for judge in judges(experiment).values() if judge.serve]
    shared = max((serve.memory for serve in served if not serve.gpus), default=0.0)
    return replace(device, usable=device.usable - shared)


def asking(
    experiment: Experiment, arm: str, judge: JudgeOptions, prompt: int, response: int, demonstration: int
) -> Asking:
    """Count what a run of an arm asks.

    Args:
        prompt, response, demonstration: their mean lengths (tokens).
    """
    train = experiment.train_of(arm)
    algorithm = find_method(experiment.arms[arm].method).algorithm(experiment.arms[arm].options, f"arms.{arm}.options")
    rows = 0.0
    groups = 0.0
    for phase in algorithm.phases:
        if phase.recipe.needs_scores:
            steps = phase.share * (train.steps if phase.kind == "rl" else train.sft_steps)
            of_a_step = rows_of(phase.recipe, train)
            rows += steps * (of_a_step.sampled + of_a_step.anchors)
            groups += steps * train.prompts
    rubric = load_rubric(RUBRIC)
    fixed = (len(rubric.system.template) + len(rubric.question.template)) / CHARACTERS
    prefix = fixed + prompt + min(demonstration, judge.reference_chars / CHARACTERS)
    candidate = min(response, judge.candidate_chars / CHARACTERS)
    return Asking(rows, rows * (prefix + candidate), max(0.0, rows - groups) * prefix, rows * REPLY_TOKENS)


def judge_table(experiment: Experiment, prompt: int, response: int, demonstration: int) -> str | None:
    """What each arm asks of its judge, all seeds together; ``None`` where none does. Lengths as in :func:`asking`."""
    rows: list[list[Any]] = []
    for arm, judge in judges(experiment).items():
        of_a_run = asking(experiment, arm, judge, prompt, response, demonstration)
        seeds = len(experiment.seeds_of(arm))
        cost = of_a_run.cost(judge)
        tokens = (seeds * count / 1e6 for count in (of_a_run.sent, of_a_run.repeated, of_a_run.returned))
        where = f"served on {judge.serve.gpus} GPUs" if judge.serve else judge.host
        rows.append(
            [arm, f"{judge.model} ({where})", seeds * of_a_run.calls, *tokens, None if cost is None else seeds * cost]
        )
    if not rows:
        return None
    head = ["judge, at most", "model", "calls", "million tokens", "of them repeated", "returned", "cost"]
    return tabulate(rows, head, floatfmt=("", "", ",.0f", ",.0f", ",.0f", ",.1f", ",.0f"), missingval="-")


def refuse_small_budgets(experiment: Experiment) -> None:
    """Raise :class:`UserError` for the first arm whose run may ask more than ``max_calls`` allows."""
    for arm, judge in judges(experiment).items():
        calls = asking(experiment, arm, judge, 0, 0, 0).calls
        if calls > judge.max_calls:
            raise UserError(
                f"arms.{arm}: a run asks its judge up to {calls:,.0f} times; raise scorer.options.max_calls "
                f"({judge.max_calls:,}) to as many"
            )
