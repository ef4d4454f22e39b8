"""``dagrpo power`` in words: what varies in a study, and the cheapest designs that would show a difference."""

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dagrpo.errors import UserError
from eval.claims.effects import POWER
from eval.claims.power import Cost, Design, Foreseen, designs, foresee, variances
from eval.claims.read import evidence_of
from eval.claims.schema import Claim, Difference, load_claims
from eval.claims.verdicts import ERROR, Verdict, judge_corpus
from eval.display import IN_DISTRIBUTION
from eval.records import BASE, Runs, load_evaluation

_MOST = 8
_HEADER = ("bases", "seeds a base", "problems", "samples", "detectable", "power", "none", "runs", "core hours")


def show_power(corpora: Mapping[str, Runs], difference: float | None, claims: Sequence[Claim] | None = None) -> str:
    """Say for each base corpus what varies, and which designs show a difference of averages in distribution.

    Args:
        difference: the true one, in shares; that of the paper's main claim if left out.

    Raises:
        UserError: a corpus has fewer than two main arms, or no two runs of them.
    """
    asked = claims or load_claims()
    main = next(claim for claim in asked if isinstance(claim.statistic, Difference))
    wanted = difference if difference is not None else main.paper or main.smallest
    blocks = [_corpus(runs, wanted, main.smallest, asked) for runs in corpora.values()]
    points, margin = 100 * wanted, 100 * main.smallest
    words = (
        "detectable: the smallest true difference, in points, that is called reproduced in four cases of five; power: "
        f"the chance that one of {points:.1f} points is; none: the chance that, without any difference, one of "
        f"{margin:.1f} points is excluded on both sides. Problems and samples are those of each family and of each "
        "problem. Hours are of one core and of this corpus, all main arms together."
    )
    return "\n\n".join([*blocks, words])


def _corpus(runs: Runs, wanted: float, smallest: float, claims: Sequence[Claim]) -> str:
    evidence = evidence_of(runs)
    arms = [arm for arm in runs.seeds if arm not in (BASE, *runs.sweeps)]
    reference = runs.experiment.evaluation.reference
    if len(arms) < 2 or len(runs.experiment.seeds) < 2:
        raise UserError(f"{runs.base}: variances need two arms with two seeds each; train more runs first")
    frame = load_evaluation(runs).frame.drop_duplicates("problem").sort_values("problem")
    found = variances(evidence, arms, reference, IN_DISTRIBUTION, frame["samples"].to_numpy())
    applying = sum(one.verdict is not Verdict.NOT_APPLICABLE for one in judge_corpus(claims, evidence).values())
    cost = _cost(runs)
    per_base = max(1, len(runs.experiment.seeds) // len(runs.experiment.base_seeds))
    today = Design(len(runs.experiment.base_seeds), per_base)

    def look(design: Design) -> Foreseen:
        return foresee(found, design, len(arms), ERROR / max(1, applying), wanted, smallest, cost)

    enough = [one for one in map(look, designs()) if one.power >= POWER]
    chosen = sorted(enough, key=lambda one: (one.hours, _runs(one), one.detectable))
    inside = frame[~frame["family"].isin(runs.experiment.evaluation.out_of_distribution)]
    asked = int(inside["family"].value_counts().max()), int(inside["samples"].max())
    parts = [
        ("between bases", found.bases),
        ("between run seeds from one base", found.seeds),
        ("from the problems", found.problems),
        ("from problems and seeds together", found.interplay),
        ("from the samples", found.samples),
    ]
    spreads = "; ".join(
        f"{name} {'unknown, since there is one base' if math.isnan(value) else f'{100 * math.sqrt(value):.2f}'}"
        for name, value in parts
    )
    lines = [
        f"{runs.base}: {len(arms)} main arms, {today.bases} bases with {per_base} run seeds each, "
        f"{applying} claims that apply.",
        f"Standard deviations of a difference to {reference}, in points: {spreads}.",
        *_table([look(today), *chosen[:_MOST]], asked, len(arms)),
    ]
    if not chosen:
        lines.append(f"No design that was looked at shows {100 * wanted:.1f} points in four cases of five.")
    if math.isnan(found.bases):
        lines.append("Bases count for nothing here, since they were not measured; others need more than this says.")
    parts_of = {"a base": cost.base, "an evaluation": cost.evaluate}
    if unknown := [name for name, seconds in parts_of.items() if not seconds]:
        lines.append(f"No log tells what {' and '.join(unknown)} took, so the hours leave that out.")
    return "\n".join(lines)


def _table(rows: Sequence[Foreseen], asked: tuple[int, int], arms: int) -> Iterator[str]:
    """Aligned lines, the study's own design first."""
    cells = [
        (
            str(one.design.bases),
            str(one.design.seeds),
            f"{asked[0] * one.design.problems:.0f}",
            f"{asked[1] * one.design.samples:.0f}",
            f"{100 * one.detectable:.2f}" if one.detectable < 1 else "over 100",
            f"{100 * one.power:.0f} %",
            f"{100 * one.none:.0f} %",
            str(_runs(one) * arms),
            f"{one.hours:.1f}",
        )
        for one in rows
    ]
    widths = [max(len(row[i]) for row in (_HEADER, *cells)) for i in range(len(_HEADER))]
    for number, row in enumerate((_HEADER, *cells)):
        note = "  as it is" if number == 1 else ""
        yield "  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) + note


def _cost(runs: Runs) -> Cost:
    """What jobs of this study took, on average; training from its timings where no log tells."""

    def mean(rule: str, chosen: Sequence[tuple[str, int]]) -> float:
        told = [seconds[rule] for run in chosen if rule in (seconds := runs.source.seconds(*run))]
        return float(np.mean(told)) if told else 0.0

    bases = [(BASE, seed) for seed in runs.experiment.base_seeds]
    train = mean("train", runs.trained)
    if not train:
        steps = [runs.source.lines("timings", *run) for run in runs.trained]
        train = float(np.mean([sum(_work(line) for line in lines) for lines in steps]))
    return Cost(mean("bases", bases), train, mean("evaluate", [*bases, *runs.trained]))


def _work(line: Mapping[str, float]) -> float:
    return sum(line.get(key, 0.0) for key in ("rollout", "score", "update"))


def _runs(one: Foreseen) -> int:
    return one.design.bases * one.design.seeds
