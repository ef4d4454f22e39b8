"""A base is tried on a few problems before anything is trained; what would spoil every arm ends it with a sentence."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from dagrpo.config import EvaluationSpec, MiniProblems, MirrorProblems, PromptSpec, Verifier
from dagrpo.errors import UserError
from dagrpo.problems.store import read_problems, write_problems
from dagrpo.records import Problem
from dagrpo.verify import make_verifier
from eval.trial import ROWS, check_golds, check_rows, trial
from tests.benchmark_rows import write_mirror


def _spec(verifier: Verifier, opening: str | None = None) -> EvaluationSpec:
    return EvaluationSpec(
        samples=1,
        samples_by_family={},
        temperature=0.6,
        max_new_tokens=20,
        rollout_rows=4,
        threads=1,
        prompt=PromptSpec(opening=opening),
        verifier=verifier,
        device="cpu",
    )


EXACT = _spec(Verifier(kind="exact"))


def test_the_first_problems_of_each_family_are_sampled(
    base: Path, problems: Path, evaluation_problems: Path, tmp_path: Path
) -> None:
    trial(EXACT, base, problems, evaluation_problems, tmp_path / "s.jsonl", MiniProblems())
    records = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    held = [Counter(problem.family for problem in read_problems(path)) for path in (problems, evaluation_problems)]
    expected = sum((Counter({family: min(ROWS, count) for family, count in one.items()}) for one in held), Counter())
    assert Counter(record["family"] for record in records) == expected
    assert all(record["verdict"] and record["tokens"] for record in records)


def test_a_gold_that_no_response_could_meet_ends_it(
    base: Path, problems: Path, evaluation_problems: Path, tmp_path: Path
) -> None:
    rows = read_problems(evaluation_problems)
    write_problems(tmp_path / "rows.jsonl", [replace(row, answer=f"A{row.answer} A") for row in rows])
    with pytest.raises(UserError, match=f"^{rows[0].family}: the verifier .* 'A.* A' is no_answer"):
        trial(EXACT, base, problems, tmp_path / "rows.jsonl", tmp_path / "s.jsonl", MiniProblems())
    assert not (tmp_path / "s.jsonl").exists()


@pytest.mark.parametrize("opening", [None, "<think>\n"])
def test_golds_are_held_against_the_verifier_in_the_form_that_is_asked_for(opening: str | None) -> None:
    fine = [
        Problem("1", "math", "?", r"\frac{1}{2}"),
        Problem("2", "choice", "?", "B", choices=("two", "three")),
        Problem("3", "math", "?", "$(0, 3]$"),
    ]
    with make_verifier(Verifier(thought="required" if opening else "optional")) as verifier:
        check_golds(fine, [opening or ""] * 3, verifier, "math")
        beyond = Problem("4", "math", "?", "see the figure } {")
        check_golds(
            [*fine, beyond], [opening or ""] * 4, verifier, "math"
        )  # one of real rows may be beyond the verifier
        with pytest.raises(UserError, match=r"^other: .*'4': .* wrong"):
            check_golds([*fine, replace(beyond, family="other")], [opening or ""] * 4, verifier, "math")


def test_rows_of_a_benchmark_that_are_not_the_locked_ones_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = write_mirror(tmp_path, monkeypatch)
    source = MirrorProblems(mirror=mirror, benchmarks=("aime2024", "math500", "own_set"))
    check_rows(source)  # the lock knows nothing of a set of one's own
    path = mirror / "benchmarks" / "math500.jsonl"
    path.write_text(path.read_text().replace("otherwise", "again"))
    with pytest.raises(UserError, match=r"math500\.jsonl: not the rows of the lock"):
        check_rows(source)
    check_rows(source.model_copy(update={"benchmarks": ("aime2024",)}))
