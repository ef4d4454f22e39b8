"""Two scorers compared on stored groups: the statistics by hand, the warnings, and the verb."""

import json
import math
import re
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dagrpo.cli import app
from dagrpo.config import JudgeCheckSpec, MiniProblems
from dagrpo.config import Scorer as ScorerSpec
from dagrpo.errors import UserError
from dagrpo.measurements.judge_check import Scored, check_base, describe, judge_check, kendall, spearman
from dagrpo.problems import mini
from dagrpo.scorers import Tools
from tests.judge_server import Play, Visit, good, judge_server
from tests.miniature import spec


def columns(*values: Sequence[float]) -> list[Any]:
    return [np.array(column, dtype=float) for column in values]


@pytest.mark.parametrize(
    ("a", "b", "rho", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0, 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0, -1.0),
        ([1, 2, 3, 4, 5], [2, 1, 4, 3, 5], 0.8, 0.6),
        # ties: ranks of b 1.5 1.5 3; 2 concordant pairs, 3 and 2 pairs that are not tied
        ([1, 2, 3], [5, 5, 9], math.sqrt(0.75), 2 / math.sqrt(6)),
    ],
)
def test_rank_correlations_by_hand(a: list[float], b: list[float], rho: float, tau: float) -> None:
    assert spearman(*columns(a, b)) == pytest.approx(rho)
    assert kendall(*columns(a, b)) == pytest.approx(tau)


def test_rank_correlations_with_a_constant_are_undefined() -> None:
    assert math.isnan(spearman(*columns([1, 1, 1], [1, 2, 3])))
    assert math.isnan(kendall(*columns([1, 2, 3], [2, 2, 2])))


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=12))
def test_kendall_counts_pairs(pairs: list[tuple[int, int]]) -> None:
    signs = [(np.sign(x - u), np.sign(y - v)) for (x, y), (u, v) in combinations(pairs, 2)]
    agreed, untied = sum(s * t for s, t in signs), [sum(map(abs, side)) for side in zip(*signs, strict=True)]
    found = kendall(*columns(*zip(*pairs, strict=True)))
    assert math.isnan(found) if not all(untied) else found == pytest.approx(agreed / math.sqrt(untied[0] * untied[1]))


def scored(*scores: Sequence[float]) -> Scored:
    """Groups of two right rows before two wrong ones."""
    return Scored(
        np.array([0.5, 0.5, -0.5, -0.5] * len(scores)),
        np.repeat(np.arange(len(scores)), 4),
        np.array([score for group in scores for score in group], dtype=float),
    )


def test_the_description_by_hand() -> None:
    text = describe({"one": scored([7, 9, 4, 6], [8, 8, 2, 2]), "two": scored([7, 9, 4, 6], [8, 8, 6, 2])}, 3.0)
    lines = text.splitlines()
    assert lines[0] == "2 mixed groups, 8 rows, 8 scored by one and two"
    assert lines[1].startswith("Spearman") and "within a group (mean of 2 groups)" in lines[1]
    # one masks rows 0 and 3 (the tie at 3 is kept); two masks both right rows of its second group and one wrong one too
    assert "same verdict of the mask at delta 3: 62.5% of rows" in text
    shares = {line.split()[0]: line.split()[1:] for line in lines[-2:]}
    assert shares["one"][3] == "25.0%" and shares["two"][3] == "62.5%"


def test_missing_scores_stay_out_of_correlations_and_are_not_masked() -> None:
    text = describe({"one": scored([math.nan, 9, 4, 6]), "two": scored([1, 9, 4, 6])}, 3.0)
    assert "4 rows, 3 scored by one and two" in text and "1.000 over all rows" in text


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        ([[10, 9, 4, 1], [8, 7, 1, 4]], "can never mask"),
        ([[10, 9, 4, 1]] * 4 + [[9, 6, 4, 1]], "masks 10.0% of rows at delta 3, so that the mask hardly acts"),
        ([[5, 5, 5, 5]], "masks 100.0% of rows at delta 3, so that little is learned"),
        ([[7, 9, 4, 6]], None),
    ],
)
def test_a_rubric_that_cannot_mask_is_warned_of(rows: list[list[float]], warning: str | None) -> None:
    text = describe({"mine": scored(*rows), "other": scored(*[[7.0, 9.0, 4.0, 6.0]] * len(rows))}, 3.0)
    assert ("warning" in text) == (warning is not None)
    assert warning is None or warning in text
    assert "other masks" not in text


def stored(path: Path) -> Path:
    """Groups of the miniature: two right rows, two with a slip; and one group that is all wrong."""
    lines = []
    for number, problem in enumerate(mini.generate(MiniProblems(train=8, evaluation=1))["train"]):
        solution = problem.solution or ""
        texts = [solution, solution, "9=8;" + solution[:-1], solution.rpartition(";")[0] + ";A0"]
        advantages = [0.5, 0.5, -0.5, -0.5] if number else [0.0] * 4
        rows = [
            {
                "index": index,
                "tokens": [1, 2],
                "text": text,
                "finish": "stop",
                "source": "policy",
                "verdict": "correct" if advantage > 0 else "wrong",
                "reward": float(advantage > 0),
                "score": None,
                "advantage": advantage,
                "weight": 1.0,
            }
            for index, (text, advantage) in enumerate(zip(texts, advantages, strict=True))
        ]
        lines.append(json.dumps({"problem": problem.to_json(), "prompt_tokens": [1], "rows": rows}) + "\n")
    path.write_text("".join(lines))
    return path


def test_the_verb_compares_on_mixed_groups_only(tmp_path: Path) -> None:
    groups = stored(tmp_path / "groups.jsonl")
    (tmp_path / "aware.yaml").write_text("kind: reference_overlap\nlength_aware: true\n")
    arguments = ["judge-check", "--groups", str(groups), "--scorer", str(tmp_path / "aware.yaml")]
    result = CliRunner().invoke(app, [*arguments, "--against", "step_checker", "--limit", "5"])
    assert result.exit_code == 0, result.output
    assert result.output.startswith("5 mixed groups, 20 rows, 20 scored by ")
    assert "Kendall tau-b" in result.output and "masked at delta" in result.output
    everything = judge_check(groups, "step_checker", "reference_overlap", 3.0, None, Tools())
    assert everything.startswith("7 mixed groups, 28 rows")


def test_mistakes_of_a_check_are_sentences(tmp_path: Path) -> None:
    groups = stored(tmp_path / "groups.jsonl")
    for scorer, against, message in [
        ("step_checker", "step_checker", "agrees with itself"),
        ("step_cheker", "step_checker", "did you mean 'step_checker'"),
        ("embed_sim", "step_checker", "--policy"),
        (str(tmp_path / "none.yaml"), "step_checker", "cannot be read"),
    ]:
        with pytest.raises(UserError, match=message):
            judge_check(groups, scorer, against, 3.0, None, Tools())
    groups.write_text(groups.read_text().splitlines()[0])
    with pytest.raises(UserError, match="no group has advantages of both signs"):
        judge_check(groups, "step_checker", "reference_overlap", 3.0, None, Tools())


def own_groups(
    url: str, made: tuple[Path, Path], out: Path, method: str = "dagrpo", problems: int = 12, **options: Any
) -> str:
    """What the judges of an experiment with one arm say of a base's own groups."""
    scorer = {"base_url": url, "model": "m", "cache": str(out / "cache"), "outage_hours": 0.0, "retries": 0, **options}
    arm = spec(method).model_copy(update={"scorer": ScorerSpec(kind="llm_judge", options=scorer)})
    check_base(JudgeCheckSpec(arms={"arm": arm}, problems=problems), *made, out / "said.txt")
    return (out / "said.txt").read_text()


def by_answer(visit: Visit) -> None:
    """Everything to the right answers, nothing to the wrong ones."""
    right = re.search(r"Final answer: (\d)", visit.question)
    given = re.search(r"<candidate \w+>\nA(\d)", visit.question)
    grade = 10 if right and given and right[1] == given[1] else 1
    visit.say(json.dumps({"answer": grade, "validity": grade, "completeness": grade}))


@pytest.mark.parametrize(
    ("play", "sentences"),
    [
        (
            by_answer,
            ["scores from 1.0 to 10.0, 0 of", "masks 0.0% of rows at its delta 3", "this rubric can never mask"],
        ),
        (
            good,
            ["scores from 7.0 to 7.0, 0 of", "masks 100.0% of rows at its delta 3", "little is learned; lower delta"],
        ),
    ],
)
def test_a_judge_is_tried_on_the_groups_of_the_base(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, play: Play, sentences: list[str]
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with judge_server(play) as server:
        said = own_groups(server.url, made, tmp_path)
    assert re.match(r"12 groups of the base, \d+ of them with right and wrong rows", said)
    assert all(sentence in said for sentence in sentences), said


def test_a_check_before_training_fails_early_or_asks_nobody(
    made: tuple[Path, Path], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with judge_server(lambda visit: visit.send(401)) as server:
        assert own_groups(server.url, made, tmp_path, "grpo") == "no method of this experiment asks for scores\n"
        assert "no group is mixed" in own_groups(server.url, (base, made[1]), tmp_path), "that base knows nothing"
        assert server.asked == 0
        with pytest.raises(UserError, match="refuses the key"):
            own_groups(server.url, made, tmp_path)
