"""Scores of responses: formulas by hand, and what they must not be fooled by."""

import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagrpo.config import MiniProblems
from dagrpo.config import Scorer as ScorerSpec
from dagrpo.errors import UserError
from dagrpo.problems import mini
from dagrpo.records import Problem, Verdict
from dagrpo.scorers import ScoreRequest, Tools, check_scorer, make_scorer, registry, scorer, to_ten
from dagrpo.scorers.answer_likelihood import mean_probability, working_before
from dagrpo.scorers.embed_sim import similarity
from dagrpo.scorers.length_aware import length_factor
from dagrpo.scorers.reference_overlap import atoms, combine
from dagrpo.scorers.registry import NoOptions
from dagrpo.scorers.request import Missing, Scorer
from dagrpo.scorers.step_checker import prefix_score

PROBLEM = Problem("p", "f", "What is 3 times 4, plus 5?", "17", solution="3 × 4 = 12, then 12 + 5 = 17.")


def overlap(
    response: str, verdict: Verdict = Verdict.CORRECT, finished: bool = True, problem: Problem = PROBLEM
) -> float:
    spec = ScorerSpec(kind="reference_overlap", max_missing=1.0)
    return make_scorer(spec).score([ScoreRequest(problem, response, verdict, finished)])[0]


@pytest.mark.parametrize(
    ("parts", "score", "ten"),
    [
        ((1, 0.8, 0.6, 1), 0.83, 8.47),
        ((0, 0.7, 0.5, 1), 0.47, 5.23),
        ((0, 0.8, 0.6, 1), 0.53, 5.77),
        ((0, 0.2, 0.1, 0), 0.095, 1.855),
    ],
)
def test_overlap_weights(parts: tuple[float, float, float, float], score: float, ten: float) -> None:
    assert combine(*parts) == pytest.approx(score, abs=1e-12)
    assert to_ten(combine(*parts)) == pytest.approx(ten, abs=1e-12)


def test_overlap_margin_follows_the_working() -> None:
    right = to_ten(combine(1, 0.8, 0.6, 1))
    assert right - to_ten(combine(0, 0.7, 0.5, 1)) == pytest.approx(3.24)
    assert right - to_ten(combine(0, 0.8, 0.6, 1)) == pytest.approx(2.70)


def test_atoms_are_numbers_and_links_of_equations() -> None:
    assert atoms("We get $3\\times 4 = 12.0 = 10+2$.") == {"3", "4", "12", "10", "2", "3*4=12", "12=10+2"}
    assert atoms("12+07=19;A19") == {"12", "7", "19", "12+7=19"}
    assert atoms("\\frac{1}{2} + 1,000 = x") == {"1", "2", "1000", "1/2+1000=x"}
    assert atoms("no figure here = ") == frozenset()


def test_overlap_by_hand() -> None:
    # reference atoms: 3 4 12 5 17, 3*4=12, 12+5=17; the response has 3 4 12 3*4=12, all of them shared
    assert overlap("3*4=12") == pytest.approx(0.30 + 0.35 + 0.25 * 4 / 7 + 0.10)
    assert overlap("3*4=13", Verdict.WRONG) == pytest.approx(0.35 * 2 / 4 + 0.25 * 2 / 7 + 0.10)
    assert overlap(PROBLEM.solution or "") == pytest.approx(1.0)
    assert overlap("I do not know", Verdict.NO_ANSWER) == 0.0


def test_overlap_counts_an_answer_only_where_one_was_given_in_time() -> None:
    base = overlap("3*4=12", Verdict.WRONG)
    assert overlap("3*4=12", Verdict.NO_ANSWER) == pytest.approx(base - 0.10)
    assert overlap("3*4=12", Verdict.WRONG, finished=False) == pytest.approx(base - 0.10)


@pytest.mark.parametrize("solution", [None, "", "It is plain to see."])
def test_overlap_without_a_reference_is_missing(solution: str | None) -> None:
    assert math.isnan(overlap("3*4=12", problem=replace(PROBLEM, solution=solution)))


def test_overlap_takes_long_texts_in_its_stride() -> None:
    for text in ("7" * 200_000, "=" * 200_000, "a=" * 100_000, " " * 200_000, "{" * 200_000, "1," * 100_000):
        assert 0 <= overlap(text) <= 1


@pytest.mark.parametrize(
    ("flags", "total", "score"),
    [
        ([1, 1, 0, 1], 4, 0.5),
        ([], 3, 0.0),
        ([1, 1], 2, 1.0),
        ([1, 1], 4, 0.5),
        ([0, 1, 1], 3, 0.0),
        ([1, 0, 0, 0, 0], 5, 0.2),
    ],
)
def test_prefix_score(flags: list[bool], total: int, score: float) -> None:
    assert prefix_score(flags, total) == score


@given(st.lists(st.booleans(), max_size=12), st.integers(1, 12))
def test_prefix_score_never_gains_from_an_appended_step(flags: list[bool], reference: int) -> None:
    score = prefix_score(flags, max(len(flags), reference))
    wrong = [*flags, False]
    assert 0 <= score <= 1
    assert prefix_score(wrong, max(len(wrong), reference)) <= score


def test_step_checker_on_the_miniature() -> None:
    scorer = make_scorer(ScorerSpec(kind="step_checker"))
    problems = mini.generate(MiniProblems(train=60, evaluation=2))["train"]
    for problem in problems:
        solution = problem.solution or ""
        sound, sloppy, empty = (
            ScoreRequest(problem, text, Verdict.WRONG, True) for text in (solution, "9=8;" + solution, "")
        )
        assert scorer.score([sound, sloppy, empty]) == [1.0, 0.0, 0.0]


def test_step_checker_refuses_other_problems() -> None:
    with pytest.raises(UserError, match="reference_overlap"):
        make_scorer(ScorerSpec(kind="step_checker")).score([ScoreRequest(PROBLEM, "", Verdict.WRONG, True)])


@pytest.mark.parametrize(
    ("length", "reference", "finished", "factor"),
    [(50, 100, True, 1.0), (19, 100, True, 0.19), (20, 100, True, 1.0), (50, 100, False, 0.5), (150, 100, False, 1.0)],
)
def test_length_factor(length: int, reference: int, finished: bool, factor: float) -> None:
    assert length_factor(length, reference, finished) == factor


def test_length_aware_modifies_any_scorer() -> None:
    text = PROBLEM.solution or ""
    plain, aware = (
        make_scorer(ScorerSpec(kind="reference_overlap", length_aware=aware, max_missing=1.0))
        for aware in (False, True)
    )
    whole, cut, curt, bare = (
        ScoreRequest(PROBLEM, text, Verdict.CORRECT, True),
        ScoreRequest(PROBLEM, text[: len(text) // 2], Verdict.TRUNCATED, False),
        ScoreRequest(PROBLEM, text[:4], Verdict.CORRECT, True),
        ScoreRequest(replace(PROBLEM, solution=None), text, Verdict.CORRECT, True),
    )
    factors = [1.0, (len(text) // 2) / len(text), 4 / len(text)]
    before, after = plain.score([whole, cut, curt, bare]), aware.score([whole, cut, curt, bare])
    assert after[:3] == pytest.approx([score * factor for score, factor in zip(before[:3], factors, strict=True)])
    assert math.isnan(before[3]) and math.isnan(after[3])


def test_answer_likelihood_by_hand() -> None:
    assert mean_probability([-0.1, -0.3, -0.05]) == pytest.approx(0.860708, abs=5e-7)
    assert mean_probability([0.0]) == 1.0
    assert working_before("so \\boxed{1}, no: \\boxed{2}.", "\\boxed{") == "so \\boxed{1}, no: "
    assert working_before("3*4=12;A17", "A") == "3*4=12;"
    assert working_before("cut before any ans", "\\boxed{") == "cut before any ans"


def test_similarity_by_hand() -> None:
    assert [similarity(cosine) for cosine in (-1.0, 0.0, 0.5, 1.0, 1.0000001)] == [0.0, 0.5, 0.75, 1.0, 1.0]


@given(st.text(alphabet="0123456789+-*/=;A. ", max_size=60), st.sampled_from(list(Verdict)), st.booleans())
def test_overlap_is_a_share_and_repeatable(response: str, verdict: Verdict, finished: bool) -> None:
    score = overlap(response, verdict, finished)
    assert 0 <= score <= 1 and score == overlap(response, verdict, finished)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (ScorerSpec(kind="step_cheker"), "scorer.kind: no scorer is named 'step_cheker'; did you mean 'step_checker'"),
        (ScorerSpec(kind="step_checker", options={"x": 1}), "scorer.options: unknown key 'x'"),
        (ScorerSpec(kind="llm_judge", options={"base_url": "http://x/v1"}), "key 'model' is missing"),
        (
            ScorerSpec(kind="llm_judge", options={"base_url": "http://x/v1", "model": "m", "time_out": 3}),
            "unknown key 'time_out'; did you mean 'timeout'",
        ),
        (ScorerSpec(kind="answer_likelihood", options={"cue": ""}), "scorer.options: cue"),
    ],
)
def test_a_mistaken_scorer_is_refused_when_it_is_checked(spec: ScorerSpec, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check_scorer(spec)
    with pytest.raises(UserError, match=message):
        make_scorer(spec)


def test_checking_a_scorer_needs_no_torch() -> None:
    code = (
        "import sys; from dagrpo.config import Scorer; from dagrpo.scorers import check_scorer; check_scorer(Scorer())"
    )
    subprocess.run([sys.executable, "-c", f"{code}; assert 'torch' not in sys.modules"], check=True)


@pytest.mark.parametrize("kind", ["answer_likelihood", "embed_sim"])
def test_a_scorer_that_runs_a_policy_says_so(kind: str) -> None:
    with pytest.raises(UserError, match=f"scorer {kind} runs a policy"):
        make_scorer(ScorerSpec(kind=kind))


def test_a_scorer_of_your_own_is_a_class(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(registry, "_KINDS", dict(registry.kinds()))

    @scorer("shortest")
    class Shortest(Scorer):
        def __init__(self, options: NoOptions, tools: Tools) -> None:
            pass

        def score(self, requests: Sequence[ScoreRequest]) -> list[float | Missing]:
            return [1 / len(r.response) if r.response else Missing("nothing", "Say something") for r in requests]

    requests = [ScoreRequest(PROBLEM, text, Verdict.WRONG, True) for text in ("ab", "abcd", "")]
    own = make_scorer(ScorerSpec(kind="shortest", max_missing=0.35))
    assert own.score(requests)[:2] == [0.5, 0.25] and math.isnan(own.score(requests)[2])
    assert "scorer shortest: 1 of 3 scores are missing (1 x nothing)" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"2 of 4 scores .*allows 35% .*Say something, then run this again"):
        own.score([*requests, requests[-1]])
    assert own.card() == {"kind": "shortest"}
