"""Benchmarks are read in both forms, checked against the lock, and shuffled by the question alone."""

import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from dagrpo.config import ContaminationSpec, Experiment, HubProblems, MiniProblems, MirrorProblems, benchmarks_spec
from dagrpo.config import load as load_spec
from dagrpo.errors import UserError
from eval.benchmark_cli import read_models, read_samples, read_source
from eval.benchmark_tasks import benchmarks
from eval.benchmark_tasks.benchmarks import BENCHMARKS, check, evaluated, load
from eval.benchmark_tasks.names import choose
from eval.rehearsal.replace import Place, rehearsed
from tests.benchmark_rows import HUB, QUESTIONS, write_mirror

CONFIG = Path(__file__).parent.parent / "config"


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_mirror(tmp_path, monkeypatch)


def test_a_set_is_read_from_the_mirror(made_up: Path) -> None:
    loaded = load("gpqa_diamond")
    assert [problem.id for problem in loaded.problems] == [f"gpqa_diamond-{i}" for i in range(QUESTIONS)]
    assert loaded.problems[1].answer == "B" and loaded.problems[1].prompt.endswith("A. zero\nB. one\nC. two")
    assert loaded.source["form"] == "mirror" and loaded.source["rows"] == QUESTIONS


@pytest.mark.parametrize("change", [lambda text: text.replace("otherwise", "again"), lambda text: text * 2])
def test_a_set_that_differs_from_the_lock_is_refused(made_up: Path, change: Any) -> None:
    path = made_up / "benchmarks" / "math500.jsonl"
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=r"math500\.jsonl: .* the lock says 3 rows"):
        load("math500")
    assert [row["as_locked"] for row in check(["aime2024", "math500"])] == [True, False]


def test_another_set_can_be_written_into_the_lock(made_up: Path) -> None:
    path = made_up / "benchmarks" / "math500.jsonl"
    path.write_text(path.read_text().replace("otherwise", "again"))
    check(["math500"], write=True)
    assert load("math500").problems[0].prompt == "What is 0, said again?"
    assert check(["math500"])[0]["as_locked"]


@pytest.mark.parametrize("path", sorted(CONFIG.glob("qwen*.yaml")), ids=lambda path: path.stem)
@pytest.mark.parametrize("rehearsal", [False, True], ids=["itself", "rehearsed"])
def test_the_papers_setting_asks_each_of_the_nine_once_with_the_papers_k(
    path: Path, rehearsal: bool, tmp_path: Path
) -> None:
    """The benchmarks ask what the evaluation asks, in the same way, so that they take its samples."""
    experiment = load_spec(Experiment, path)
    if rehearsal:
        experiment, _ = rehearsed(experiment, Place(tmp_path, "http://127.0.0.1:1/v1"))
    assert isinstance(experiment.problems, HubProblems) and experiment.benchmarks is not None
    assert experiment.problems.benchmarks == choose(",".join(experiment.benchmarks.tasks)) == choose("nine")
    asked, again = experiment.evaluation, experiment.benchmarks
    samples = {name: k for group, k in again.samples.items() for name in choose(group)}
    for name in choose("nine"):
        assert asked.samples_by_family.get(name, asked.samples) == samples[name]
        assert samples[name] == (min(2, BENCHMARKS[name].samples) if rehearsal else BENCHMARKS[name].samples)
    same = ("temperature", "max_new_tokens")
    assert [getattr(again, key) for key in same] == [getattr(asked, key) for key in same]
    assert again.prompt == "experiment" and again.arms is None and again.limit is None
    fewer = experiment.model_copy(update={"problems": experiment.problems.model_copy(update={"limit": 2})})
    assert [benchmarks_spec(one).limit for one in (experiment, fewer)] == [None, 2]
    assert asked.out_of_distribution == choose("ood")


def test_a_compressed_mirror_file_is_the_same_set(made_up: Path) -> None:
    path = made_up / "benchmarks" / "math500.jsonl"
    path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    assert load("math500").source["rows"] == QUESTIONS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_rows_of_the_hub_become_problems(name: str, monkeypatch: pytest.MonkeyPatch, made_up: Path) -> None:
    lock = json.loads(benchmarks.LOCK.read_text())
    lock[name]["hub"] |= {"rows": 1, "sha256": None}
    benchmarks.LOCK.write_text(json.dumps(lock))
    data = (json.dumps(HUB[name]) + "\n").encode()
    monkeypatch.setattr(benchmarks, "_hub_file", lambda lock: ("rows.jsonl", data))
    (problem,) = load(name, "hub").problems
    assert problem.prompt.startswith("One plus two?") and problem.family == name
    if problem.choices is None:
        assert float(problem.answer.strip("$")) == 3
    else:
        assert problem.choices["ABCD".index(problem.answer)] == "three"


def test_options_are_shuffled_by_the_question() -> None:
    def converted(question: str) -> dict[str, Any]:
        return BENCHMARKS["gpqa_diamond"].convert({**HUB["gpqa_diamond"], "Question": question})

    assert converted("Why?") == converted("Why?")
    letters = {converted(f"Question {i}?")["answer"] for i in range(40)}
    assert letters == set("ABCD")


def test_the_lock_holds_both_forms_of_every_set() -> None:
    lock = benchmarks.read_lock()
    assert list(lock) == list(BENCHMARKS)
    for entry in lock.values():
        assert re.fullmatch("[0-9a-f]{64}", entry["mirror"]["sha256"])
        hub = entry["hub"]
        if "url" in hub:
            assert re.search("/[0-9a-f]{40}/", hub["url"])
        else:
            assert re.fullmatch("[0-9a-f]{40}", hub["revision"]) and re.fullmatch("[0-9a-f]{64}", hub["sha256"])


def test_without_a_network_the_hub_is_a_mistake_with_a_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DAGRPO_MIRROR", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="set DAGRPO_MIRROR"):
        load("aime2024")


def test_a_mirror_that_is_not_there_is_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGRPO_MIRROR", "/nowhere")
    with pytest.raises(UserError, match="not a folder"):
        load("aime2024")
    monkeypatch.delenv("DAGRPO_MIRROR")
    with pytest.raises(UserError, match="no mirror is given"):
        load("aime2024", "mirror")
    with pytest.raises(UserError, match="did you mean 'aime2024'"):
        load("aime24")


def test_names_groups_and_samples_are_read() -> None:
    assert choose("ood, gsm8k_test") == ("arc_challenge", "gpqa_diamond", "mmlu_pro", "gsm8k_test")
    assert len(choose("nine")) == 9 and choose("dagrpo_math500") == ("math500",)
    assert read_samples(["2", "aime2024=8"], choose("math500,aime2024")) == {"math500": 2, "aime2024": 8}
    assert read_models(["results/a", "b=results/a"]) == {"a": "results/a", "b": "results/a"}
    for fault in (
        lambda: choose("math501"), lambda: read_samples(["none"], ()), lambda: read_models(["x/a", "y/a"]),
        lambda: read_source("web"),
    ):  # fmt: skip
        with pytest.raises(UserError):
            fault()


def test_the_mirror_at_hand_is_the_locked_one(mirror: Path) -> None:
    assert all(row["as_locked"] for row in check(list(BENCHMARKS), "mirror", mirror))


def test_what_an_experiment_evaluates_on_is_compared_whole(made_up: Path) -> None:
    problems = MirrorProblems(mirror=made_up, benchmarks=("math500",), limit=1)
    names = {question.family for question in evaluated(ContaminationSpec(problems=problems))}
    both = evaluated(ContaminationSpec(problems=problems, benchmarks=("aime2024", "math500"), mirror=made_up))
    assert names == {"math500"} and len(both) == 2 * QUESTIONS
    assert not evaluated(ContaminationSpec(problems=MiniProblems()))
