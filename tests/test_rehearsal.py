"""A rehearsal differs from its experiment where it says so, and finds what would stop or spoil the real run."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from dagrpo.config import Experiment, load
from dagrpo.problems import build
from dagrpo.scorers.judge.prompt import read_reply
from eval.nine import benchmarks
from eval.rehearsal.judge import stand_in_judge
from eval.rehearsal.replace import Place, rehearsed

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "config").glob("*.yaml"))


def plain(experiment: Experiment) -> dict[str, Any]:
    return experiment.model_dump(mode="json", exclude={"rehearsal"}) | {"processes": experiment.processes}


def leaves(value: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*keys, key))
    else:
        yield keys, value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_rehearsal_differs_from_its_file_where_it_says_so_and_nowhere_else(path: Path, tmp_path: Path) -> None:
    experiment = load(Experiment, path)
    short, replaced = rehearsed(experiment, Place(tmp_path, "http://127.0.0.1:1/v1"))
    before, after = dict(leaves(plain(experiment))), dict(leaves(plain(short)))
    told = [one.keys for one in replaced]
    for keys in before.keys() | after.keys():
        if before.get(keys) != after.get(keys):
            assert any(keys[: len(one)] == one for one in told), keys
    assert len(set(told)) == len(told) == len(short.rehearsal)
    assert short.name == f"rehearsal-{experiment.name}" and short.device == "cpu"
    assert list(short.arms) == list(experiment.arms)


def test_the_paper_s_methods_keep_their_settings(tmp_path: Path) -> None:
    experiment = load(Experiment, ROOT / "config" / "qwen2.5-math-7b.yaml")
    short, _ = rehearsed(experiment, Place(tmp_path, "http://127.0.0.1:1/v1"))
    assert {name: arm.options for name, arm in short.arms.items()} == {
        name: arm.options for name, arm in experiment.arms.items()
    }
    same = ("updates", "group_size", "precision", "recompute", "rl", "sft", "micro_tokens", "temperature")
    assert {key: getattr(short.train, key) for key in same} == {key: getattr(experiment.train, key) for key in same}
    assert (short.processes, short.opening, short.system_prompt) == (2, experiment.opening, experiment.system_prompt)


def test_the_stand_in_replies_in_the_judge_s_form() -> None:
    grades = dict.fromkeys(("answer", "validity", "completeness"), (1, 10))
    with stand_in_judge(0) as url:
        replies = [
            requests.post(f"{url}/chat/completions", json={"model": "m", "messages": messages}, timeout=10).json()
            for messages in (
                [{"role": "system", "content": "Give three grades."}, {"role": "user", "content": "a candidate"}],
                [{"role": "system", "content": 'Reply {"first_wrong_step": n}.'}, {"role": "user", "content": "[1] 1"}],
            )
        ]
    texts = [reply["choices"][0]["message"]["content"] for reply in replies]
    assert read_reply(texts[0], grades).keys() == grades.keys()
    assert read_reply(texts[1], {"first_wrong_step": (0, 1)}).keys() == {"first_wrong_step"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> tuple[Experiment, Place]:
    """The stand-ins of the paper's setting, on our own rows; the base has read nothing."""
    from eval.rehearsal import standins

    place = Place(tmp_path_factory.mktemp("stage"), "http://127.0.0.1:1/v1")
    experiment = load(Experiment, ROOT / "config" / "qwen2.5-math-7b.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standins, "WARM_STEPS", 0)
        standins.make(experiment, place, None)
    return rehearsed(experiment, place)[0], place


def test_the_stand_ins_have_the_form_of_what_they_stand_for(stage: tuple[Experiment, Place]) -> None:
    from transformers import AutoTokenizer

    experiment, place = stage
    tokenizer = AutoTokenizer.from_pretrained(place.base("qwen_7b"))
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|endoftext|>", "<|endoftext|>")
    config = json.loads((place.base("qwen_7b") / "config.json").read_text())
    assert config["model_type"] == "qwen2" and config["tie_word_embeddings"] is False
    sets = build(experiment.problems)
    assert len(sets.train) == 48 and all("</think>" in (problem.solution or "") for problem in sets.train)
    assert not any((problem.solution or "").startswith("<think>") for problem in sets.train)  # the prompt opens it
    assert {len(benchmarks.load(name, mirror=place.mirror).problems) for name in benchmarks.BENCHMARKS} == {3}
