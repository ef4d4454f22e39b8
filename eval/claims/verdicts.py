"""From claims and evidence to verdicts.

A claim has an effect, counted as positive where it goes the claimed way, and a smallest effect that matters.

reproduced
    The corrected interval lies wholly above zero, and the estimate is at least the smallest effect that matters.
no difference that matters
    The corrected interval lies wholly within the smallest effect that matters, on both sides: each way, an effect of
    that size is excluded (two one-sided tests, Schuirmann 1987, each at half the level of the interval). In simulation
    (4000 experiments a setting, eight seeds, intervals of 95 %) a difference exactly as large as matters was called
    none in 2.4 and 2.6 % on the two sides, the weakest of three such in 1.0 and 2.6 %.
contradicted
    The corrected interval lies wholly below the smallest effect that matters: whatever the truth, it is not what was
    claimed, and the opposite may be so. Where the interval lies wholly below zero too, the opposite was found.
undecided
    Neither. The verdict names the seeds that would settle it with 80 % power, were the truth what is estimated now.
not applicable
    The experiment lacks an arm, a kind of problem, a metric or a second seed.

*Correction.* Of m claims that apply, each interval is made at 1 - 0.05 / m (Bonferroni), so all of them hold together
in at least 95 of 100 experiments, whatever the dependence between claims that share arms. Holm's procedure rejects a
little more, but its verdicts cannot be read off an interval, and it has none for "smaller than what matters"; here one
interval carries both verdicts and a reader can check them by eye. Claims that repeat a comparison count each time.

*Several parts.* An order of arms, or a lead over all rivals, is the smallest of K differences. It exceeds zero if all
of them do, so its lower end is the smallest lower end, without further correction (Berger, 1982); it is small if any of
them is, so its upper end is the smallest upper end at 1 - 0.05 / (m K). No difference that matters is then said of the
weakest of them.

*Several base corpora.* A verdict for each, with the correction counted within a corpus, and one for all: reproduced,
contradicted, or no difference that matters only if it is so in every corpus; contradicted also where each corpus says
one of the last two, since both exclude what was claimed; "depends on the base" if it is reproduced on some and excluded
on others, else undecided. Asking for agreement can only make false verdicts rarer, so it needs no correction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np

from eval.claims.effects import more_problems_needed, seeds_to_decide
from eval.claims.evidence import Evidence, NotApplicable, Part, measure, taken
from eval.claims.schema import Claim

ERROR = 0.05
EQUAL = 0.10


class Verdict(StrEnum):
    REPRODUCED = "reproduced"
    CONTRADICTED = "contradicted"
    NO_DIFFERENCE = "no difference that matters"
    UNDECIDED = "undecided"
    DEPENDS = "depends on the base"
    NOT_APPLICABLE = "not applicable"


_EXCLUDED = {Verdict.CONTRADICTED, Verdict.NO_DIFFERENCE}
"""Verdicts by which an effect of the size that matters is excluded."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one base corpus says of a claim.

    ``estimate``, ``low``, ``high`` are arm minus rival (a logarithm where the unit is a factor), NaN where the claim
    does not apply; ``seeds_needed`` is None unless seeds would settle it. ``taken`` holds ratios of what was consumed,
    arm over rival, where the claim asks for equal terms.
    """

    verdict: Verdict
    reason: str
    estimate: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    seeds: int = 0
    seeds_needed: int | None = None
    parts: tuple[Part, ...] = ()
    of_bases: Mapping[int, float] = field(default_factory=dict)
    taken: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Judged:
    """A claim, the verdict over all base corpora, and what each of them says."""

    claim: Claim
    verdict: Verdict
    corpora: Mapping[str, Finding]


def judge(claims: Sequence[Claim], corpora: Mapping[str, Evidence]) -> list[Judged]:
    """Judge each claim on each base corpus, and over all of them; in the order of the claims."""
    findings = {base: judge_corpus(claims, evidence) for base, evidence in corpora.items()}
    judged = []
    for claim in claims:
        by_base = {base: of_base[claim.id] for base, of_base in findings.items()}
        judged.append(Judged(claim, overall([finding.verdict for finding in by_base.values()]), by_base))
    return judged


def judge_corpus(claims: Sequence[Claim], evidence: Evidence) -> dict[str, Finding]:
    """Judge all claims on one base corpus, corrected for the number of those that apply."""
    measured: dict[str, tuple[Part, ...]] = {}
    ratios: dict[str, dict[str, float]] = {}
    found: dict[str, Finding] = {}
    for claim in claims:
        try:
            if claim.equal:
                ratios[claim.id] = taken(evidence, *claim.arms)
            measured[claim.id] = measure(claim, evidence)
        except NotApplicable as error:
            found[claim.id] = Finding(Verdict.NOT_APPLICABLE, str(error))
    level = ERROR / max(1, len(measured))
    for claim in claims:
        if claim.id in measured:
            finding = decide(claim, measured[claim.id], level)
            found[claim.id] = _on_equal_terms(finding, ratios[claim.id], claim.equal) if claim.equal else finding
    return found


def decide(claim: Claim, parts: Sequence[Part], level: float) -> Finding:
    """Reach the verdict of one claim from its parts, with an interval that misses with probability ``level``."""
    # On the scale on which the claimed direction is up; an order has no part of the direction "lower".
    estimates = np.array([claim.sign * part.effect.estimate for part in parts])
    low = float(min(e - part.effect.half_width(level) for e, part in zip(estimates, parts, strict=True)))
    share = level / len(parts)
    high = float(min(e + part.effect.half_width(share) for e, part in zip(estimates, parts, strict=True)))
    estimate, smallest = float(estimates.min()), claim.threshold
    needed = None
    if low > 0 and estimate >= smallest:
        verdict, reason = Verdict.REPRODUCED, ""
    elif -smallest < low and high < smallest:
        verdict = Verdict.NO_DIFFERENCE
        reason = "" if len(parts) == 1 else "of the weakest of its comparisons"
    elif high < smallest:
        verdict = Verdict.CONTRADICTED
        opposite = "the opposite was found" if len(parts) == 1 else "at least one of its comparisons goes the other way"
        reason = opposite if high < 0 else "an effect of the size that matters is excluded"
    else:
        verdict = Verdict.UNDECIDED
        needed, reason = _what_would_settle(claim, parts, level)
    first, last = sorted((claim.sign * low, claim.sign * high))
    weakest = parts[int(estimates.argmin())].effect
    return Finding(
        verdict,
        reason,
        claim.sign * estimate,
        first,
        last,
        seeds=min(part.effect.seeds for part in parts),
        seeds_needed=needed,
        parts=tuple(parts),
        of_bases=weakest.of_bases,
    )


def overall(verdicts: Sequence[Verdict]) -> Verdict:
    """Join the verdicts of the base corpora: they must agree, or the claim depends on the base, or is undecided."""
    kinds = set(verdicts)
    if len(kinds) == 1:
        return kinds.pop()
    if kinds == _EXCLUDED:
        return Verdict.CONTRADICTED
    return Verdict.DEPENDS if Verdict.REPRODUCED in kinds and kinds & _EXCLUDED else Verdict.UNDECIDED


def _what_would_settle(claim: Claim, parts: Sequence[Part], level: float) -> tuple[int | None, str]:
    """Seeds that would settle an undecided claim, and words for where none would.

    Of several parts: all must be large for "reproduced", each with a share of the missing power; where one is too
    small, that one must be seen to be.
    """
    smallest = claim.threshold
    effects = [replace(part.effect, estimate=claim.sign * part.effect.estimate) for part in parts]
    small = [effect for effect in effects if effect.estimate < smallest]
    count = len(effects)
    if small:
        chosen, at, power, pick = small, level / count, 0.8, min
    else:
        chosen, at, power, pick = effects, level, 1 - 0.2 / count, max
    needs = [seeds_to_decide(effect, smallest, at, power) for effect in chosen]
    known = [need for need in needs if need is not None]
    if known and (small or len(known) == count):
        need = max(pick(known), min(effect.seeds for effect in effects) + 1)
        return need, f"about {need} seeds would settle it"
    if any(more_problems_needed(effect, smallest, at) for effect in chosen):
        return None, "more problems would settle it, not more seeds"
    return None, "the effect lies so near the smallest that matters that even a thousand seeds would not settle it"


def _on_equal_terms(finding: Finding, ratios: Mapping[str, float], equal: str) -> Finding:
    """Take a verdict back that unequal means explain: a win with more of them, or a loss with less."""
    explained = (finding.verdict is Verdict.REPRODUCED and ratios[equal] > 1 + EQUAL) or (
        finding.verdict in _EXCLUDED and ratios[equal] < 1 - EQUAL
    )
    if explained:
        reason = f"{ratios[equal]:.2f} times the {equal.replace('_', ' ')} of its rival may explain it"
        return replace(finding, verdict=Verdict.NOT_APPLICABLE, reason=reason, taken=ratios)
    return replace(finding, taken=ratios)
