"""Compare two scorers on stored groups before a run relies on one: do they rank alike, and would the mask act?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dagrpo.algorithm import Algorithm, find_method
from dagrpo.config import JudgeCheckSpec, ProbeSpec, Probing, TrainSpec, load
from dagrpo.config import Scorer as ScorerSpec
from dagrpo.errors import UserError
from dagrpo.files.checkpoints import write_atomically
from dagrpo.measurements.probe import drawn, sample_groups
from dagrpo.objectives.gates import margin_mask
from dagrpo.policy.checkpoint import Policy, load_policy
from dagrpo.policy.device import resolve_device
from dagrpo.problems.store import read_problems
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.rollout.make import make_engine
from dagrpo.scorers import ScoreRequest, Tools, essence, make_scorer, to_ten
from dagrpo.trainer.snapshots import StoredGroup, read_groups
from dagrpo.verify import make_verifier

DELTAS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
LEAST_MASKED, MOST_MASKED = 0.2, 0.8
"""Share of masked rows between which a mask can tell rows apart and still leave some to learn from."""

Column = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """The rows of mixed groups as columns (N,): scores from 1 to 10, NaN where missing."""

    advantage: Column
    group: NDArray[np.int64]
    score: Column

    def masked(self, delta: float) -> NDArray[np.bool_]:
        """Which rows a margin of ``delta`` masks: (N,)."""
        advantage, score, group = map(torch.from_numpy, (self.advantage, self.score, self.group))
        kept: NDArray[np.float64] = margin_mask(advantage, score, group, delta).numpy()
        return kept == 0

    def always_apart(self, delta: float) -> bool:
        """Whether right rows beat wrong ones by ``delta`` in every group, so that nothing is ever masked."""
        return bool(len(self.score)) and not self.masked(delta).any()


def judge_check(path: Path, scorer: str, against: str, delta: float, limit: int | None, tools: Tools) -> str:
    """Score stored mixed groups with two scorers and describe how they agree.

    Args:
        path: groups of a snapshot, one JSON object a line.
        scorer: a scorer's name, or a YAML or JSON file with the keys of ``scorer`` in an experiment.
        against: likewise.
        limit: only the first mixed groups.

    Raises:
        UserError: there is no mixed group, or a scorer cannot be had or misses too many scores.
    """
    if scorer == against:
        raise UserError(f"judge-check: {scorer} agrees with itself; name another scorer with --against")
    groups = [group for group in read_groups(path) if _is_mixed(group)][:limit]
    if not groups:
        raise UserError(f"{path}: no group has advantages of both signs, so a mask has nothing to decide; sample more")
    scored = {}
    for name in (scorer, against):
        with make_scorer(_spec(name), tools) as made:
            scored[name] = _columns(groups, made.score(_requests(groups)))
    return describe(scored, delta)


def check_base(spec: JudgeCheckSpec, model: Path, problems: Path, out: Path, should_stop: ShouldStop = never) -> None:
    """Let each judge of an experiment score groups that a base samples, and write down what the masks of its arms would
    do to them.

    Raises:
        UserError: the base cannot be used, or a judge cannot be had or misses too many scores.
        Interrupted: ``should_stop`` became true; the replies that had arrived are kept.
    """
    asking = {name: arm for name, arm in spec.arms.items() if _algorithm(arm).needs_scores}
    lines = ["no method of this experiment asks for scores"]
    if asking:
        groups, policy = _own_groups(spec, next(iter(asking.values())), model, problems, should_stop)
        lines = _judged(asking, groups, Tools(policy, should_stop))
    print("\n".join(lines), flush=True)
    write_atomically(out, "".join(line + "\n" for line in lines).encode())


def _own_groups(
    spec: JudgeCheckSpec, arm: TrainSpec, model: Path, problems: Path, should_stop: ShouldStop
) -> tuple[list[StoredGroup], Policy]:
    """Groups of some training problems, sampled from the base as the arm samples; the engine is gone afterwards."""
    train = arm.train
    torch.set_num_threads(train.threads)
    policy = load_policy(
        model, resolve_device(arm.device), torch.bfloat16 if train.precision == "bf16" else torch.float32
    )
    known = read_problems(problems)
    probing = Probing(
        problems=min(spec.problems, len(known)),
        group_size=train.group_size,
        max_new_tokens=train.max_new_tokens,
        temperature=train.temperature,
    )
    asked = ProbeSpec(probe=probing, prompt=arm.prompt, verifier=arm.verifier, device=arm.device, engine=arm.engine)
    with (
        make_verifier(arm.verifier, should_stop) as verifier,
        make_engine(arm.engine, policy, train.rollout_rows, policy.device, should_stop) as engine,
    ):
        return sample_groups(drawn(known, probing.problems), policy, engine, verifier, asked), policy


def _judged(asking: dict[str, TrainSpec], groups: Sequence[StoredGroup], tools: Tools) -> list[str]:
    mixed = [group for group in groups if _is_mixed(group)]
    lines = [f"{len(groups)} groups of the base, {len(mixed)} of them with right and wrong rows"]
    if not mixed:
        return [
            *lines,
            "warning: no group is mixed, so that a mask has nothing to decide; the problems do not suit the base",
        ]
    scored: dict[str, Scored] = {}
    for name, arm in asking.items():
        key = essence(arm.scorer).model_dump_json()
        if key not in scored:
            with make_scorer(arm.scorer, tools) as made:
                scored[key] = _columns(mixed, made.score(_requests(mixed)))
        own = scored[key]
        missing = f"{int(np.isnan(own.score).sum())} of {len(own.score)} scores missing"
        delta = getattr(find_method(arm.method).resolved(arm.options), "delta", None)
        low, high = np.nanmin(own.score), np.nanmax(own.score)
        lines.append(f"{name} ({arm.scorer.kind}): scores from {low:.1f} to {high:.1f}, {missing}")
        if delta is not None:
            shares = ", ".join(f"{own.masked(value).mean():.1%} at {value:g}" for value in sorted({*DELTAS, delta}))
            lines.append(f"{name} masks {own.masked(delta).mean():.1%} of rows at its delta {delta:g} ({shares})")
            lines += _warnings(name, own, delta)
    return lines


def _algorithm(arm: TrainSpec) -> Algorithm:
    return find_method(arm.method).algorithm(arm.options, f"arms.{arm.arm}.options")


def _requests(groups: Sequence[StoredGroup]) -> list[ScoreRequest]:
    return [
        ScoreRequest(group.problem, row.text, row.verdict, row.finish == "stop", group.prompt_tokens, row.tokens)
        for group in groups
        for row in group.rows
    ]


def _columns(groups: Sequence[StoredGroup], scores: Sequence[float]) -> Scored:
    advantage = np.array([row.advantage for group in groups for row in group.rows])
    number = np.repeat(np.arange(len(groups)), [len(group.rows) for group in groups])
    return Scored(advantage, number, np.array([to_ten(score) for score in scores]))


def describe(scored: dict[str, Scored], delta: float) -> str:
    """Put the agreement of two scorers, what each would mask, and warnings into lines of text."""
    first, second = scored.values()
    both = ~np.isnan(first.score) & ~np.isnan(second.score)
    names = " and ".join(scored)
    lines = [f"{len(np.unique(first.group))} mixed groups, {len(both)} rows, {int(both.sum())} scored by {names}"]
    for title, coefficient in (("Spearman", spearman), ("Kendall tau-b", kendall)):
        pooled = coefficient(first.score[both], second.score[both])
        inside, of = _within_groups(coefficient, first, second, both)
        lines.append(f"{title:14} {pooled:6.3f} over all rows, {inside:6.3f} within a group (mean of {of} groups)")
    same = np.mean(first.masked(delta) == second.masked(delta))
    lines += [f"same verdict of the mask at delta {delta:g}: {same:.1%} of rows", ""]
    width = max(len("masked at delta"), *map(len, scored))
    lines.append(f"{'masked at delta':{width}}" + "".join(f"{value:8g}" for value in DELTAS))
    for name, own in scored.items():
        lines.append(f"{name:{width}}" + "".join(f"{own.masked(value).mean():8.1%}" for value in DELTAS))
    lines += [warning for name, own in scored.items() for warning in _warnings(name, own, delta)]
    return "\n".join(lines)


def _warnings(name: str, scored: Scored, delta: float) -> list[str]:
    share = scored.masked(delta).mean()
    if scored.always_apart(delta):
        return [
            f"warning: with {name}, right answers always score {delta:g} or more above wrong ones, so that this rubric "
            "can never mask; grade the working apart from the final answer"
        ]
    if share < LEAST_MASKED:
        return [
            f"warning: {name} masks {share:.1%} of rows at delta {delta:g}, so that the mask hardly acts; raise delta"
        ]
    if share > MOST_MASKED:
        return [f"warning: {name} masks {share:.1%} of rows at delta {delta:g}, so that little is learned; lower delta"]
    return []


def spearman(a: Column, b: Column) -> float:
    """Correlate ranks, ties sharing their mean rank; NaN where one side is constant. Shapes (n,)."""
    return _pearson(_ranks(a), _ranks(b))


def kendall(a: Column, b: Column) -> float:
    """Kendall's tau-b (Biometrika 33, 1945): concordant less discordant pairs, over the geometric mean of the pairs
    that are not tied in ``a`` and in ``b``; NaN where one side is constant. Shapes (n,); time grows with n squared."""
    agreed = untied_a = untied_b = 0.0
    for i in range(1, len(a)):
        sign_a, sign_b = np.sign(a[i] - a[:i]), np.sign(b[i] - b[:i])
        agreed += float(sign_a @ sign_b)
        untied_a += float(np.abs(sign_a).sum())
        untied_b += float(np.abs(sign_b).sum())
    return agreed / (untied_a * untied_b) ** 0.5 if untied_a and untied_b else float("nan")


def _ranks(values: Column) -> Column:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    mean_rank: Column = np.cumsum(count) - (count - 1) / 2
    return mean_rank[place]


def _pearson(a: Column, b: Column) -> float:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else float("nan")


def _within_groups(
    coefficient: Callable[[Column, Column], float], first: Scored, second: Scored, both: NDArray[np.bool_]
) -> tuple[float, int]:
    """Mean over the groups in which neither scorer is constant, and their number."""
    found = []
    for number in np.unique(first.group):
        mine = both & (first.group == number)
        if mine.sum() > 1 and (value := coefficient(first.score[mine], second.score[mine])) == value:
            found.append(value)
    return (float(np.mean(found)) if found else float("nan")), len(found)


def _is_mixed(group: StoredGroup) -> bool:
    advantages: Sequence[float] = [row.advantage for row in group.rows]
    return min(advantages, default=0.0) < 0 < max(advantages, default=0.0)


def _spec(name: str) -> ScorerSpec:
    return load(ScorerSpec, Path(name)) if name.endswith((".yaml", ".yml", ".json")) else ScorerSpec(kind=name)
