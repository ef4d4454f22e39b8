"""Verdicts on experiments whose truth is known, and every rule by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dagrpo.errors import UserError
from dagrpo.seeds import generator
from eval.claims import curves
from eval.claims.effects import Effect, half_width, more_problems_needed, power_at, seeds_to_decide
from eval.claims.evidence import Evidence, NotApplicable, Part, measure, taken
from eval.claims.schema import Claim, load_claims
from eval.claims.verdicts import Verdict, decide, judge, judge_corpus, overall
from eval.statistics import Scores, estimate
from tests.claims_world import COLUMNS, FAMILY, with_curves, world

REPRODUCED, CONTRADICTED, UNDECIDED = Verdict.REPRODUCED, Verdict.CONTRADICTED, Verdict.UNDECIDED
NO_DIFFERENCE = Verdict.NO_DIFFERENCE


def claim(statistic: dict[str, Any] | None = None, **settings: Any) -> Claim:
    about = {"id": "one", "label": "one", "sentence": "One.", "where": "here", "smallest": 0.01}
    of = statistic or {"kind": "difference", "arm": "dagrpo", "rival": "grpo"}
    return Claim.model_validate({**about, "statistic": of, **settings})


def part(estimate: float, error: float, freedom: float = 50, seeds: int = 8) -> Part:
    return Part("x over y", Effect(estimate, error**2, freedom, seeds))


# The file of claims


def test_the_papers_claims_open_with_the_average_over_grpo() -> None:
    claims = load_claims()
    assert claims[0].id == "average_over_grpo"
    assert claims[0].paper == 0.047
    assert {one.source for one in claims} == {"paper", "ours"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("smalest: 0.02", "unknown key 'claims.one.smalest'; did you mean 'smallest'"),
        ("direction: upwards", "claims.one.direction"),
        ("smallest: -1", "claims.one.smallest"),
        ("smallest: 0.5\n    statistic: {kind: apart, arm: a, rival: b, metric: m}", "at least 1"),
        ("direction: lower\n    statistic: {kind: order, arms: [a, b]}", "has the direction 'higher'"),
        ("statistic: {kind: difference, arm: a, rival: b, minus_levels: [1]}", "minus_levels needs levels"),
        ("statistic: {kind: guess, arm: a}", "guess"),
        ("equal: compute\n    statistic: {kind: order, arms: [a, b]}", "equal is for"),
    ],
)
def test_a_broken_claim_is_refused_in_a_sentence(tmp_path: Path, line: str, message: str) -> None:
    whole = {
        "label": "x",
        "sentence": "x",
        "where": "x",
        "smallest": "0.01",
        "statistic": "{kind: difference, arm: a, rival: b}",
    }
    kept = {key: value for key, value in whole.items() if f"{key}:" not in line.replace("{kind", "")}
    text = "\n    ".join([*(f"{key}: {value}" for key, value in kept.items()), line])
    path = tmp_path / "claims.yaml"
    path.write_text(f"claims:\n  one:\n    {text}\n")
    with pytest.raises(UserError, match=message):
        load_claims(path)


# Intervals


def test_half_widths_are_those_of_the_normal_and_of_students_t() -> None:
    assert half_width(1, 0, 5, 0.05) == pytest.approx(1.959964, rel=1e-4)
    assert half_width(0, 1, 1, 0.05) == pytest.approx(12.7062, rel=1e-4)
    assert half_width(0, 4, 7, 0.001) == pytest.approx(2 * 5.40788, rel=1e-4)
    assert half_width(0, 1, 200, 0.01) == pytest.approx(2.60063, rel=1e-4)
    assert half_width(0, 0, 3, 0.05) == 0


def test_half_width_of_a_sum_is_that_of_its_draws() -> None:
    draws = generator("sum")
    error = np.abs(draws.standard_normal(400_000) + 0.7 * draws.standard_t(3, 400_000))
    assert (error > half_width(1, 0.49, 3, 0.02)).mean() == pytest.approx(0.02, rel=0.1)


def test_without_correction_intervals_are_those_of_the_tables() -> None:
    for number in range(4):
        evidence = world(number, {"dagrpo": 0.5}, bases=1)
        (found,) = measure(claim(), evidence)
        names = list(evidence.arms)
        table = estimate(list(evidence.arms.values()), FAMILY, COLUMNS["in_distribution"][None], 4000, generator("t"))
        at = (names.index("dagrpo"), names.index("grpo"), 0)
        assert found.effect.estimate == pytest.approx(table.difference[at])
        width = (table.difference_high[at] - table.difference_low[at]) / 2
        assert found.effect.half_width(0.05) == pytest.approx(width, rel=0.08)


# The rule


@pytest.mark.parametrize(
    ("estimate", "error", "verdict"),
    [
        (0.05, 0.01, REPRODUCED),
        (0.05, 0.04, UNDECIDED),
        (0.008, 0.002, UNDECIDED),  # surely above zero, perhaps too small to matter
        (0.004, 0.001, NO_DIFFERENCE),  # surely above zero, surely too small to matter
        (0.0, 0.002, NO_DIFFERENCE),
        (-0.004, 0.001, NO_DIFFERENCE),  # surely below zero, surely too small to matter
        (-0.008, 0.002, CONTRADICTED),  # surely not what was claimed; the opposite may matter
        (-0.01, 0.006, CONTRADICTED),
        (-0.05, 0.01, CONTRADICTED),
        (-0.01, 0.02, UNDECIDED),
    ],
)
@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_a_verdict_can_be_read_off_the_interval(
    estimate: float, error: float, verdict: Verdict, direction: str
) -> None:
    sign = 1 if direction == "higher" else -1
    found = decide(claim(direction=direction), [part(sign * estimate, error)], 0.05)
    assert found.verdict is verdict
    assert found.low <= found.estimate <= found.high
    assert found.estimate == sign * estimate
    opposite = verdict is CONTRADICTED and estimate + 2.01 * error < 0
    assert (found.reason == "the opposite was found") == opposite


def test_an_effect_of_exactly_the_size_that_matters_is_enough() -> None:
    assert decide(claim(), [part(0.01, 0.001)], 0.05).verdict is REPRODUCED


def test_an_order_needs_each_step_and_fails_by_one() -> None:
    order = claim({"kind": "order", "arms": ["a", "b", "c"]}, smallest=0.0)
    assert decide(order, [part(0.05, 0.01), part(0.06, 0.01)], 0.05).verdict is REPRODUCED
    assert decide(order, [part(0.05, 0.01), part(0.01, 0.01)], 0.05).verdict is UNDECIDED
    failed = decide(order, [part(0.05, 0.01), part(-0.05, 0.01)], 0.05)
    assert failed.verdict is CONTRADICTED
    assert failed.estimate == -0.05
    assert failed.reason == "at least one of its comparisons goes the other way"


def test_corpora_must_agree() -> None:
    assert overall([REPRODUCED, REPRODUCED]) is REPRODUCED
    assert overall([CONTRADICTED, CONTRADICTED]) is CONTRADICTED
    assert overall([REPRODUCED, CONTRADICTED, UNDECIDED]) is Verdict.DEPENDS
    assert overall([NO_DIFFERENCE, NO_DIFFERENCE]) is NO_DIFFERENCE
    assert overall([NO_DIFFERENCE, CONTRADICTED]) is CONTRADICTED  # what was claimed is excluded on both
    assert overall([REPRODUCED, NO_DIFFERENCE]) is Verdict.DEPENDS
    assert overall([NO_DIFFERENCE, UNDECIDED]) is UNDECIDED
    assert overall([REPRODUCED, UNDECIDED]) is UNDECIDED
    assert overall([CONTRADICTED, UNDECIDED]) is UNDECIDED
    assert overall([REPRODUCED, Verdict.NOT_APPLICABLE]) is UNDECIDED
    assert overall([Verdict.NOT_APPLICABLE] * 2) is Verdict.NOT_APPLICABLE


def test_two_corpora_that_disagree_make_the_claim_depend_on_the_base() -> None:
    corpora = {
        "one": world(1, {"dagrpo": 1.5}, seeds=8, luck=0.02),
        "other": world(2, {"dagrpo": -1.5}, seeds=8, luck=0.02),
    }
    (judged,) = judge([claim()], corpora)
    assert [found.verdict for found in judged.corpora.values()] == [REPRODUCED, CONTRADICTED]
    assert judged.verdict is Verdict.DEPENDS


def test_more_claims_make_longer_intervals_and_those_that_do_not_apply_make_none() -> None:
    evidence = world(3)
    alone = judge_corpus([claim()], evidence)["one"]
    absent = claim({"kind": "difference", "arm": "nobody", "rival": "grpo"}, id="absent")
    same = judge_corpus([claim(), absent], evidence)["one"]
    among = judge_corpus([claim(id=name) for name in ("one", "two", "three", "four")], evidence)["one"]
    assert (same.low, same.high) == (alone.low, alone.high)
    assert among.high - among.low > 1.15 * (alone.high - alone.low)


def test_an_arm_against_itself_is_no_difference_and_no_crash() -> None:
    evidence = world(4, seeds=8)
    same = replace(evidence, arms={**evidence.arms, "dagrpo": evidence.arms["grpo"]})
    found = judge_corpus([claim(smallest=0.1)], same)["one"]
    assert found.estimate == 0
    assert found.verdict is NO_DIFFERENCE


# What cannot be judged


@pytest.mark.parametrize(
    ("statistic", "reason"),
    [
        ({"kind": "difference", "arm": "nobody", "rival": "grpo"}, "no arm named nobody was trained"),
        ({"kind": "difference", "arm": "dagrpo", "rival": "grpo", "column": "aime2024"}, "no problems of aime2024"),
        ({"kind": "difference", "arm": "dagrpo", "rival": "grpo", "levels": [7]}, "has level 7"),
        ({"kind": "distinctiveness", "arm": "grpo"}, "gradients of grpo were not measured"),
        ({"kind": "curve", "arm": "grpo", "metrics": ["mood"], "summary": "late"}, "records no mood"),
    ],
)
def test_what_is_missing_is_named(statistic: dict[str, Any], reason: str) -> None:
    found = judge_corpus([claim(statistic)], world(5))["one"]
    assert found.verdict is Verdict.NOT_APPLICABLE
    assert reason in found.reason


def test_one_seed_is_no_evidence() -> None:
    with pytest.raises(NotApplicable, match="share fewer than two seeds"):
        measure(claim(), world(6, seeds=1, bases=1))


def test_spikes_that_no_run_has_cannot_become_fewer() -> None:
    evidence = with_curves(world(7), 7)
    calm = replace(evidence, metrics=evidence.metrics.assign(grad_norm=1.0))
    fewer = {"kind": "curve", "arm": "dagrpo", "rival": "grpo", "metrics": ["grad_norm"], "summary": "spikes"}
    with pytest.raises(NotApplicable, match="has a spike"):
        measure(claim(fewer, direction="lower"), calm)


# Statistics


def test_arms_are_compared_over_the_seeds_and_problems_they_share() -> None:
    cells = np.array([[1.0, 0, 1, 1], [0, 0, 1, 0], [1, 1, 1, 1]])
    arms = {"dagrpo": Scores((0, 1, 2), cells), "grpo": Scores((2, 1), np.array([[1.0, 0, 0, 1], [0, 0, 0, 0]]))}
    weights = {"in_distribution": np.array([0.5, 0.5])}
    evidence = Evidence(arms, np.array([0, 0, 0, 1]), ("a", "b"), weights, np.zeros(4), {0: 0, 1: 1, 2: 0})
    (found,) = measure(claim(), evidence)
    # Seed 1: 1/3 and 0; seed 2: 2/3 and 0.
    assert found.effect.estimate == pytest.approx((1 / 6 + 1 / 3) / 2)
    assert found.effect.of_bases == pytest.approx({1: 1 / 6, 0: 1 / 3})
    assert found.effect.seeds == 2


def test_hard_minus_routine_is_the_difference_of_two_differences() -> None:
    evidence = world(8, {"dagrpo": 0.5})
    about = {"kind": "difference", "arm": "dagrpo", "rival": "grpo"}
    hard, routine, both = (
        measure(claim({**about, **more}), evidence)[0].effect.estimate
        for more in ({"levels": [2, 3]}, {"levels": [0, 1]}, {"levels": [2, 3], "minus_levels": [0, 1]})
    )
    assert both == pytest.approx(hard - routine)


def test_spikes_are_counted_against_the_median_around_them() -> None:
    drifting = np.exp(np.linspace(0, 5, 200))
    assert curves.spikes(drifting) == 0
    drifting[[20, 90]] *= 20
    assert curves.spikes(drifting) == pytest.approx(1.0)
    assert curves.spikes(np.append(1e-7 * drifting, [0.0] * 5)) == pytest.approx(1.0)
    assert curves.peak(np.array([0.0, 1, 2, 3, 50])) == 50 / 2.5


def test_summaries_of_a_curve_by_hand() -> None:
    values = np.arange(10.0)
    assert curves.late(values) == 8
    assert curves.ends(values) == (0.5, 8.5)
    assert curves.rank_correlation(np.array([1.0, 2, 3]), np.array([1.0, 10, 100])) == pytest.approx(1)
    assert curves.rank_correlation(np.array([1.0, 1, 2]), np.array([3.0, 3, 1])) == pytest.approx(-1)
    assert np.isnan(curves.rank_correlation(np.ones(3), np.arange(3.0)))


def test_a_planted_movement_of_a_curve_is_seen() -> None:
    shifts = {("dagrpo", "response_tokens"): 1.5, ("grpo", "response_tokens"): -1.5, ("dagrpo", "entropy"): 2.0}
    evidence = with_curves(world(9, seeds=8), 9, shifts | {("dagrpo", "anchor/push"): -2.0})
    found = judge_corpus([one for one in load_claims() if one.statistic.kind in ("curve", "apart")], evidence)
    assert {name for name, one in found.items() if one.verdict is REPRODUCED} == {"length", "entropy", "anchors_fade"}


def test_conflict_that_falls_with_the_gap_is_seen() -> None:
    evidence = with_curves(world(10, seeds=8), 10)
    rows = evidence.conflict
    rows["cosine"] = rows["cosine"] + 0.1 * rows["score_gap"]
    rows["conflict_after"] = rows["conflict_after"] - 0.1
    chosen = [one for one in load_claims() if one.statistic.kind in ("distinctiveness", "conflict")]
    assert {one.verdict for one in judge_corpus(chosen, evidence).values()} == {REPRODUCED}


@pytest.mark.parametrize(
    ("gain", "compute", "verdict"),
    [
        (2.0, 1.0, REPRODUCED),
        (2.0, 1.5, Verdict.NOT_APPLICABLE),  # a win by more compute
        (2.0, 0.5, REPRODUCED),  # a win with less is a win all the more
        (-2.0, 0.5, Verdict.NOT_APPLICABLE),  # a loss by less compute
        (-2.0, 1.5, CONTRADICTED),
    ],
)
def test_equal_compute_takes_back_what_compute_explains(gain: float, compute: float, verdict: Verdict) -> None:
    evidence = with_curves(world(11, {"dagrpo": gain}, luck=0.02), 11)
    more = evidence.consumed["arm"] == "dagrpo"
    for key in ("prompt_tokens", "response_tokens_total", "trained_tokens", "samples"):
        evidence.consumed[key] = evidence.consumed[key] * np.where(more, compute, 1.0)
    found = judge_corpus([claim(equal="compute")], evidence)["one"]
    assert found.verdict is verdict
    assert found.taken["samples"] == pytest.approx(compute)
    assert taken(evidence, "dagrpo", "grpo")["optimiser_steps"] == 1


# Known truths


def false_claims(numbers: range) -> tuple[list[bool], list[bool]]:
    """Of experiments without any effect: which call anything reproduced, and which the opposite."""
    claims, reproduced, opposite = load_claims(), [], []
    for number in numbers:
        found = judge_corpus(claims, with_curves(world(number, luck=0.2), number)).values()
        reproduced.append(any(one.verdict is REPRODUCED for one in found))
        opposite.append(any("opposite" in one.reason or "other way" in one.reason for one in found))
    return reproduced, opposite


def test_without_effect_hardly_anything_is_reproduced() -> None:
    reproduced, opposite = false_claims(range(60))
    assert sum(reproduced) <= 7  # of 60: more would have a chance below 2 % at a rate of 5 %
    assert sum(opposite) <= 7


@pytest.mark.slow
def test_without_effect_at_most_one_study_in_twenty_reproduces_anything() -> None:
    reproduced, opposite = false_claims(range(1000, 1300))
    assert np.mean(reproduced) <= 0.07
    assert np.mean(opposite) <= 0.07


@pytest.mark.parametrize("parts", [1, 3])
def test_an_effect_that_just_matters_is_rarely_contradicted(parts: int) -> None:
    """Both ends keep their promise: at the smallest effect that matters, and at none, one in twenty errs at most."""
    draws, order = generator("just", parts), claim({"kind": "order", "arms": ["a", "b"]})
    contradicted, reproduced = [], []
    for _ in range(600):
        found = [_measured(draws, 0.01, 0.01, 4) for _ in range(parts)]
        contradicted.append(decide(order, found, 0.05).verdict is CONTRADICTED)
        none = [_measured(draws, 0.0, 0.01, 4), *(_measured(draws, 0.1, 0.01, 4) for _ in range(parts - 1))]
        reproduced.append(decide(order, none, 0.05).verdict is REPRODUCED)
    assert np.mean(contradicted) <= 0.045  # one side of 5 %
    assert np.mean(reproduced) <= 0.045


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("side", [1, -1])
def test_a_difference_that_just_matters_is_rarely_called_none(parts: int, side: int) -> None:
    """Each of the two one-sided tests errs in one of forty experiments at most, where the truth lies on its border; and
    where there is no difference, seeds enough call it so."""
    draws, order = generator("none", parts, side), claim({"kind": "order", "arms": ["a", "b"]})
    missed, seen = [], []
    for _ in range(600):
        # The weakest comparison is on the border, the others are far above it.
        at_border = [
            _measured(draws, 0.01 * side, 0.004, 8),
            *(_measured(draws, 0.1, 0.004, 8) for _ in range(parts - 1)),
        ]
        missed.append(decide(order, at_border, 0.05).verdict is NO_DIFFERENCE)
        equal = [_measured(draws, 0.0, 0.004, 8), *(_measured(draws, 0.1, 0.004, 8) for _ in range(parts - 1))]
        seen.append(decide(order, equal, 0.05).verdict is NO_DIFFERENCE)
    assert np.mean(missed) <= 0.045  # one side of 5 %, and what 600 experiments may add
    assert np.mean(seen) >= 0.9


def test_without_a_margin_there_is_no_difference_that_matters() -> None:
    assert decide(claim(smallest=0.0), [part(0.0, 1e-9)], 0.05).verdict is UNDECIDED


def _measured(draws: np.random.Generator, truth: float, spread: float, seeds: int, problems: float = 0.0) -> Part:
    """A fresh experiment on an effect with seeds of this standard deviation and problems of that variance."""
    values = draws.normal(truth, spread, seeds)
    shift = draws.normal(0, problems**0.5)
    effect = Effect(values.mean() + shift, values.var(ddof=1) / seeds, seeds - 1, seeds, problems)
    return Part("x over y", effect)


@pytest.mark.parametrize(("truth", "verdict"), [(0.04, REPRODUCED), (-0.02, CONTRADICTED)])
def test_as_many_seeds_as_are_named_settle_a_claim_four_times_in_five(truth: float, verdict: Verdict) -> None:
    level, problems, seeds = 0.005, 2e-5, 3
    known = Effect(truth, 0.03**2 / seeds, seeds - 1, seeds, problems)
    needed = seeds_to_decide(known, 0.01, level)
    assert needed is not None and needed > seeds
    draws = generator("needed")
    found = [decide(claim(), [_measured(draws, truth, 0.03, needed, problems)], level).verdict for _ in range(600)]
    assert np.mean([one is verdict for one in found]) == pytest.approx(0.8, abs=0.06)


def test_seeds_are_not_asked_for_where_they_cannot_help() -> None:
    many_seeds = Effect(0.02, 0.01**2, 7, 8)
    few_problems = replace(many_seeds, problems=0.02**2)
    at_the_border = replace(many_seeds, estimate=0.01)
    assert seeds_to_decide(many_seeds, 0.01, 0.05) is not None
    assert seeds_to_decide(few_problems, 0.01, 0.05) is None
    assert more_problems_needed(few_problems, 0.01, 0.05)
    assert seeds_to_decide(at_the_border, 0.01, 0.05) is None
    assert not more_problems_needed(at_the_border, 0.01, 0.05)
    reasons = [
        decide(claim(), [Part("", one)], 0.05).reason for one in (few_problems, replace(at_the_border, spread=1))
    ]
    assert "more problems" in reasons[0] and "even a thousand seeds" in reasons[1]


def test_samples_of_problems_shrink_with_seeds_and_problems_do_not() -> None:
    effect = Effect(0.05, 4e-4, 3, 4, problems=1e-4, samples=2e-4).with_seeds(16)
    assert (effect.spread, effect.samples, effect.problems) == pytest.approx((1e-4, 5e-5, 1e-4))
    assert effect.freedom == 15
    assert power_at(effect, 0.01, 0.05) > power_at(effect.with_seeds(4), 0.01, 0.05)


def test_a_planted_effect_is_found_by_the_seeds_that_a_pilot_asks_for() -> None:
    """A pilot of four seeds each, its variances averaged; then experiments with as many seeds as it names."""
    gains = {"dagrpo": 0.75}
    pilots = [measure(claim(), world(number, gains, bases=1))[0].effect for number in range(30)]
    keys = ("estimate", "spread", "freedom", "problems", "samples")
    gain, spread, freedom, problems, samples = (np.mean([getattr(one, key) for one in pilots]) for key in keys)
    mean = Effect(float(gain), float(spread), float(freedom), 4, float(problems), float(samples))
    level = 0.05 / 20
    needed = seeds_to_decide(mean, 0.01, level)
    assert needed is not None and 4 < needed < 40
    found = [
        decide(claim(), measure(claim(), world(number, gains, seeds=needed, bases=1)), level).verdict
        for number in range(100, 160)
    ]
    assert np.mean([one is REPRODUCED for one in found]) == pytest.approx(0.8, abs=0.16)


def test_bases_that_favour_arms_are_covered() -> None:
    """Seeds on two bases, each of which favours some arms as much as seeds spread: a claim on bases in general."""
    pairs = [("dagrpo", "grpo"), ("luffy", "sft"), ("dagrpo_no_anchors", "sft_then_rl")]
    covered: list[bool] = []
    ignored: list[bool] = []
    for number in range(60):
        evidence = world(number, seeds=8, favour=0.3, luck=0.3)
        alone = replace(evidence, base_seed=dict.fromkeys(range(8), 0))
        for arm, rival in pairs:
            asked = claim({"kind": "difference", "arm": arm, "rival": rival})
            for found, cases in ((evidence, covered), (alone, ignored)):
                effect = measure(asked, found)[0].effect
                cases.append(abs(effect.estimate) <= effect.half_width(0.05))
    assert np.mean(covered) >= 0.91
    assert np.mean(ignored) < 0.9


def test_the_world_without_effect_has_all_that_the_claims_ask_for() -> None:
    found = judge_corpus(load_claims(), with_curves(world(0), 0))
    missing = {name for name, one in found.items() if one.verdict is Verdict.NOT_APPLICABLE}
    assert missing == {"anchors_on_aime", "anchors_on_olympiad"}
