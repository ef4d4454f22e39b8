"""What is read back is checked: broken, doubled, unequal or foreign samples are refused or marked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dagrpo.errors import UserError
from eval.records import labels, load_evaluation, load_metrics, open_runs, scores
from tests.eval_tree import ARMS, BASE, CORPORA, SMALL_STUDY, make_study, make_tree, runs_of


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "toy", problems=4, samples=2)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return make_study(tmp_path / "study", problems=2, samples=1, arms=SMALL_STUDY)


def rewrite(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row) + "\n" for row in change(rows)))


def changed(rows: list[dict[str, Any]], key: str) -> list[dict[str, Any]]:
    """The samples of the first problem with another value."""
    return [row | ({key: "0"} if row["problem_id"] == rows[0]["problem_id"] else {}) for row in rows]


def refusal(tree: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_evaluation(runs_of(tree))
    return str(caught.value)


def test_scores_are_the_shares_of_correct_samples(tree: Path) -> None:
    runs = runs_of(tree)
    evaluation = load_evaluation(runs)
    arms = scores(evaluation, runs, np.arange(20))
    assert [arm.cells.shape for arm in arms] == [(2, 20)] * (1 + len(ARMS))
    assert [arm.trained for arm in arms] == [False] + [True] * len(ARMS)
    rows = [json.loads(line) for line in runs.samples("dagrpo", 1).read_text().splitlines()]
    by_hand = [np.mean([row["verdict"] == "correct" for row in rows[i : i + 2]]) for i in range(0, 40, 2)]
    assert arms[list(runs.seeds).index("dagrpo")].cells[1].tolist() == by_hand


def test_order_of_lines_does_not_matter(tree: Path) -> None:
    runs = runs_of(tree)
    before = scores(load_evaluation(runs), runs, np.arange(20))
    rewrite(runs.samples("grpo", 1), lambda rows: rows[::-1])
    after = scores(load_evaluation(runs_of(tree)), runs, np.arange(20))
    assert all(np.array_equal(one.cells, other.cells) for one, other in zip(before, after, strict=True))


def test_a_problem_that_some_run_lacks_is_left_out_and_counted(tree: Path) -> None:
    runs = runs_of(tree)
    rewrite(runs.samples("sft", 0), lambda rows: [row for row in rows if row["problem_id"] != "products-1"])
    evaluation = load_evaluation(runs)
    assert evaluation.missing == {"products": 1}
    assert "products-1" not in set(evaluation.frame["problem_id"])
    assert scores(evaluation, runs, np.arange(19))[0].cells.shape == (2, 19)


def test_a_family_that_no_problem_is_left_of_is_refused(tree: Path) -> None:
    rewrite(runs_of(tree).samples("sft", 0), lambda rows: [row for row in rows if row["family"] != "sums"])
    assert "family 'sums': no problem was evaluated by every arm" in refusal(tree)


def test_a_missing_file_is_named(tree: Path) -> None:
    runs_of(tree).samples("dagrpo", 1).unlink()
    assert "samples/school/dagrpo/seed1.jsonl: cannot be read" in refusal(tree)


def test_a_broken_line_is_named(tree: Path) -> None:
    path = runs_of(tree).samples("grpo", 0)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2][:30], *lines[3:]]))
    assert "samples/school/grpo/seed0.jsonl, line 3: not valid JSON" in refusal(tree)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: [*rows, rows[0]], "sample 0 of problem 'sums-0' stands twice"),
        (lambda rows: rows[1:], "problems of 'sums' have different numbers of samples"),
        (lambda rows: [rows[0] | {"problem_hash": "0"}, *rows[1:]], "problem 'sums-0' is not one question"),
        (lambda rows: changed(rows, "problem_hash"), "problem 'sums-0' is not the same question"),
        (lambda rows: changed(rows, "prompt_hash"), "problem 'sums-0' is not the same question"),
        (lambda rows: [rows[0] | {"verdict": "right"}, *rows[1:]], "line 1: unknown verdict 'right'"),
        (lambda rows: [{"problem_id": "sums-0"}, *rows[1:]], "line 1: key 'family' is missing"),
        (lambda rows: [], "holds no sample"),
    ],
)
def test_unusable_samples_are_refused(tree: Path, change: Callable[[Any], Any], message: str) -> None:
    rewrite(runs_of(tree).samples("grpo", 0), change)
    assert message in refusal(tree)


@pytest.mark.parametrize(
    ("arm", "key", "value", "message"),
    [
        ("grpo", "spec", {"samples": 4, "temperature": 1.0}, "sampled under different settings"),
        ("grpo", "model_fingerprint", "another", "sampled from other weights"),
        ("base", "model_fingerprint", "another", "sampled from other weights"),
    ],
)
def test_samples_of_other_settings_or_weights_are_refused(
    tree: Path, arm: str, key: str, value: Any, message: str
) -> None:
    path = runs_of(tree).samples(arm, 0).with_suffix(".meta.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    assert message in refusal(tree)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"[]", "expected a JSON object"),
        (b"\xff{}", "not UTF-8"),
        (rb'{"label": "\ud83d"}', "holds half a character"),
        (b"{}", "is missing"),
    ],
)
def test_a_card_or_settings_that_cannot_be_used_are_named(tree: Path, content: bytes, message: str) -> None:
    runs = runs_of(tree)
    card = tree / "runs" / BASE / "grpo" / "seed0" / "run.json"
    for path, read in (
        (card, lambda: runs.source.card("grpo", 0)),
        (card.with_name("metrics.jsonl"), lambda: runs.source.lines("metrics", "grpo", 0)),
        (runs.samples("grpo", 0).with_suffix(".meta.json"), lambda: runs.source.meta("samples", "grpo", 0)),
    ):
        path.write_bytes(content)
        if content != b"{}" or path.suffix == ".json":
            with pytest.raises(UserError, match=rf"{path.name}.*{message}"):
                read()


def test_an_experiment_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"specs/report\.json: cannot be read"):
        open_runs(tmp_path)


def test_steps_of_all_phases_are_counted_through(tree: Path) -> None:
    path = tree / "runs" / BASE / "sft" / "seed0" / "metrics.jsonl"
    rewrite(path, lambda rows: rows[:3] + [row | {"step": number} for number, row in enumerate(rows[:2])])
    metrics = load_metrics(runs_of(tree))
    chosen = metrics[(metrics["arm"] == "sft") & (metrics["seed"] == 0)]
    assert chosen["step"].tolist() == [0, 1, 2, 3, 4]


def test_arms_with_one_label_are_told_apart(tmp_path: Path) -> None:
    arms = {"grpo": ("grpo", "GRPO", 0.0), "one": ("dagrpo", "DaGRPO", 0.0), "two": ("dagrpo", "DaGRPO", 0.0)}
    runs = runs_of(make_tree(tmp_path, arms=arms, problems=2, samples=1))
    assert labels(runs) == {"base": "Base", "grpo": "GRPO", "one": "DaGRPO (one)", "two": "DaGRPO (two)"}
    assert runs.subject == "two"


def test_arms_with_fewer_seeds_come_last(study: Path) -> None:
    corpora = open_runs(study)
    assert list(corpora) == list(CORPORA)
    runs = corpora["working"]
    assert runs.sweeps == ("delta_0", "delta_5")
    assert list(runs.seeds) == ["base", "sft", "grpo", "dagrpo", "delta_0", "delta_5"]
    assert list(labels(runs)) == list(runs.seeds)
    assert [len(seeds) for seeds in runs.seeds.values()] == [2, 8, 8, 8, 4, 4]
    assert len(runs.trained) == 32
    assert runs.subject == "dagrpo"
    arms = scores(load_evaluation(runs), runs, np.arange(10))
    assert [arm.cells.shape for arm in arms] == [(8, 10)] * 4 + [(4, 10)] * 2


def test_the_base_has_a_row_for_each_training_seed(study: Path) -> None:
    runs = runs_of(study, "guessing")
    base = scores(load_evaluation(runs), runs, np.arange(10))[0]
    by_hand = [
        [json.loads(line)["verdict"] == "correct" for line in runs.samples("base", seed).read_text().splitlines()]
        for seed in (0, 1)
    ]
    assert by_hand[0] != by_hand[1]
    assert base.seeds == tuple(range(8))
    assert base.cells.tolist() == by_hand * 4


def refused(study: Path) -> str:
    with pytest.raises(UserError) as caught:
        load_evaluation(runs_of(study, "working"))
    return str(caught.value)


def test_every_base_seed_must_be_evaluated(study: Path) -> None:
    runs_of(study, "working").samples("base", 1).unlink()
    load_evaluation(runs_of(study, "guessing"))
    assert "samples/working/base/seed1.jsonl: cannot be read" in refused(study)


@pytest.mark.parametrize("named", ["working base 0", "guessing base 1", "another"])
def test_a_run_must_start_from_the_base_of_its_seed(study: Path, named: str) -> None:
    card = study / "runs" / "working" / "delta_5" / "seed3" / "run.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"base_fingerprint": named}))
    assert "samples/working/base/seed1.jsonl: sampled from other weights than the runs name" in refused(study)


def test_samples_of_another_corpus_are_refused(study: Path) -> None:
    wrong, right = (runs_of(study, base).samples("grpo", 5).with_suffix(".meta.json") for base in CORPORA)
    right.write_text(wrong.read_text())
    assert "samples/working/grpo/seed5.jsonl: sampled from other weights" in refused(study)


def test_the_reference_has_all_seeds(study: Path) -> None:
    path = study / "specs/report.json"
    spec = json.loads(path.read_text())
    spec["evaluation"]["reference"] = "delta_0"
    path.write_text(json.dumps(spec))
    with pytest.raises(UserError, match="arm 'delta_0' has fewer seeds than others"):
        open_runs(study)
