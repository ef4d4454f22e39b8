"""Rows of a data set of the hub, read from local copies of our own making, and the pins that the hub itself needs."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dagrpo.config import BaseSpec, Experiment, HubBase, HubProblems, MiniProblems, PromptSpec, load
from dagrpo.errors import UserError
from dagrpo.hub import check_pins
from dagrpo.policy.base import make_base
from dagrpo.policy.checkpoint import load_policy
from dagrpo.problems import build
from dagrpo.problems.mini.tokenizer import build_tokenizer
from dagrpo.problems.prompts import render
from dagrpo.processes.signals import never

CONFIG = Path(__file__).parent.parent / "config"
PAPER = ("qwen2.5-math-7b", "qwen2.5-math-1.5b")


def row(question: str, **changes: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": "Think."}, {"role": "user", "content": question}]
    target = [{"role": "assistant", "content": "<think>\nOne and two.\n</think>\n\\boxed{3}"}]
    return {
        "data_source": "sums",
        "prompt": messages,
        "target": target,
        "reward_model": {"ground_truth": "3", "style": "rule"},
    } | changes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "benchmarks").mkdir()
    benchmark = {"id": "a", "problem": "One?", "answer": "1"}
    (tmp_path / "benchmarks" / "plain.jsonl").write_text(json.dumps(benchmark) + "\n")
    write(tmp_path, [row("One plus two?"), row("Long " * 9), row("Two plus one?", target=None)])
    return tmp_path


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    (folder / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))


def spec(folder: Path, **changes: Any) -> HubProblems:
    settings: dict[str, Any] = {
        "dataset": str(folder / "rows.jsonl"),
        "opening": "<think>\n",
        "mirror": folder,
        "benchmarks": ("plain",),
    }
    return HubProblems(**(settings | changes))


def test_rows_become_problems(folder: Path) -> None:
    sets = build(spec(folder))
    first, _, third = sets.train
    assert (first.id, first.family, first.prompt, first.answer) == ("train-0", "sums", "One plus two?", "3")
    assert first.solution == "One and two.\n</think>\n\\boxed{3}"  # the prompt holds what it opened with
    assert third.solution is None
    assert [problem.prompt for problem in sets.evaluation] == ["One?"]
    assert sets.families == {"plain": (1, 1)}


def test_a_packed_copy_reads_alike(folder: Path) -> None:
    plain = build(spec(folder)).train
    packed = folder / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress((folder / "rows.jsonl").read_bytes()))
    assert build(spec(folder, dataset=str(packed))).train == plain


def test_a_parquet_copy_reads_alike(folder: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the extra hub is not installed")
    copy = folder / "rows.parquet"
    datasets.load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train").to_parquet(str(copy))
    assert build(spec(folder, dataset=str(copy))).train == build(spec(folder)).train
    copy.write_bytes(copy.read_bytes()[:100])
    with pytest.raises(UserError, match=r"rows.parquet cannot be read as parquet .*; give a whole local copy"):
        build(spec(folder, dataset=str(copy)))


def test_rows_are_chosen_by_length_and_number(folder: Path) -> None:
    chosen = build(spec(folder, max_prompt_chars=20)).train
    assert [problem.id for problem in chosen] == ["train-0", "train-2"]
    assert [problem.id for problem in build(spec(folder, train=1)).train] == ["train-0"]
    with pytest.raises(UserError, match=r"has 2 rows .* 3 wanted"):
        build(spec(folder, max_prompt_chars=20, train=3))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompt": "One?"}, "row 0: needs prompt"),
        ({"reward_model": {}}, "row 0: needs prompt .*KeyError: 'ground_truth'"),
        ({"reward_model": {"ground_truth": " "}}, "row 0: answer is empty"),
        ({"prompt": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "row 0: needs prompt"),
    ],
)
def test_a_broken_row_is_named(folder: Path, changes: dict[str, Any], sentence: str) -> None:
    write(folder, [row("One plus two?", **changes)])
    with pytest.raises(UserError, match=sentence):
        build(spec(folder))


def test_nothing_is_read_from_the_hub_without_a_commit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", object())
    with pytest.raises(UserError, match=r"owner/name is not pinned; set problems.revision"):
        build(spec(folder, dataset="owner/name"))


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_setting_waits_for_one_pin(name: str) -> None:
    experiment = load(Experiment, CONFIG / f"{name}.yaml")
    with pytest.raises(UserError, match="Openr1-Math-46k-8192 is not pinned"):
        check_pins(experiment)
    pinned = experiment.model_copy(update={"problems": experiment.problems.model_copy(update={"revision": "0" * 40})})
    check_pins(pinned)


def test_the_two_sizes_differ_by_their_base_and_its_gpus_alone() -> None:
    seven, small = (yaml.safe_load((CONFIG / f"{name}.yaml").read_text()) for name in PAPER)
    differ = {key for key in seven if seven[key] != small[key]}
    assert differ == {"name", "title", "bases", "processes"}


def test_the_opening_must_be_the_prompts(folder: Path) -> None:
    settings = yaml.safe_load((CONFIG / f"{PAPER[0]}.yaml").read_text())
    with pytest.raises(ValueError, match="opening"):
        Experiment.model_validate(settings | {"opening": None})


def test_a_prompt_ends_with_the_opening(folder: Path) -> None:
    tokenizer = build_tokenizer()
    problem = build(MiniProblems(train=1, evaluation=1)).train[0]
    plain, opened = (render(problem, tokenizer, PromptSpec(opening=opening)) for opening in (None, "12"))
    assert opened.tokens == (*plain.tokens, *tokenizer.encode("12", add_special_tokens=False))
    assert (plain.opening, opened.opening) == ("", "12")


def test_a_base_is_copied_with_a_longer_window(base: Path, tmp_path: Path) -> None:
    source = HubBase(model=str(base), window=2048, rope_theta=40000.0)
    made = tmp_path / "made"
    make_base(BaseSpec(base=source, problems=MiniProblems()), made, tmp_path / "state", never)
    config = load_policy(made, torch.device("cpu")).model.config
    assert config.max_position_embeddings == 2048
    assert config.rope_parameters["rope_theta"] == 40000.0
