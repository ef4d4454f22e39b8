"""A rehearsal differs from its experiment where it says so, and finds what would stop or spoil the real run."""

import json
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests

from dagrpo.config import BaseSpec, Experiment, ProblemsSpec, load, load_experiment, parse, train_spec, trial_spec
from dagrpo.problems import build
from dagrpo.scorers.judge.prompt import read_reply
from eval.benchmark_tasks import benchmarks
from eval.rehearsal.judge import stand_in_judge
from eval.rehearsal.replace import Place, judges, rehearsed

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config"
FILES = {path.stem: [path] for path in sorted(CONFIG.glob("*.yaml"))} | {
    "an open judge": [CONFIG / "qwen2.5-math-7b.yaml", CONFIG / "judges" / "open.yaml"]
}


def plain(experiment: Experiment) -> dict[str, Any]:
    return experiment.model_dump(mode="json", exclude={"rehearsal"}) | {"processes": experiment.processes}


def leaves(value: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*keys, key))
    else:
        yield keys, value


@pytest.mark.parametrize("paths", FILES.values(), ids=FILES)
def test_a_rehearsal_differs_from_its_file_where_it_says_so_and_nowhere_else(paths: list[Path], tmp_path: Path) -> None:
    experiment = load_experiment(paths)
    short, replaced = rehearsed(experiment, Place(tmp_path, "http://127.0.0.1:1/v1"))
    before, after = dict(leaves(plain(experiment))), dict(leaves(plain(short)))
    told = [one.keys for one in replaced]
    for keys in before.keys() | after.keys():
        if before.get(keys) != after.get(keys):
            assert any(keys[: len(one)] == one for one in told), keys
    assert len(set(told)) == len(told) == len(short.rehearsal)
    assert short.name == tmp_path.name and short.device == "cpu"
    assert list(short.arms) == list(experiment.arms)
    for _, options in judges(short):
        assert options["base_url"] == "http://127.0.0.1:1/v1" and not options.get("serve")


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
    """The stand-ins of the paper's setting, on our own rows; the base has hardly read anything."""
    from eval.rehearsal import standins

    place = Place(tmp_path_factory.mktemp("stage"), "http://127.0.0.1:1/v1")
    experiment = load(Experiment, ROOT / "config" / "qwen2.5-math-7b.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standins, "WARM_STEPS", 21)
        standins.make(experiment, place, None)
    return rehearsed(experiment, place)[0], place


def test_a_mirror_s_rows_may_hold_any_sign(tmp_path: Path) -> None:
    """Such as a line separator, at which Python cuts lines."""
    from eval.rehearsal.standins import mirror_problems

    row = {"id": "a", "problem": "One\u2028and two?", "answer": "3", "solution": "<think>\nSo\u2029on.\n</think>\n3"}
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "math_gptoss_traces.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", "utf-8")
    (problem,) = mirror_problems(tmp_path)
    assert problem.prompt == row["problem"] and "So\u2029on." in (problem.solution or "")


def test_the_stand_ins_have_the_form_of_what_they_stand_for(stage: tuple[Experiment, Place]) -> None:
    from transformers import AutoTokenizer

    from eval.rehearsal import standins

    experiment, place = stage
    tokenizer = AutoTokenizer.from_pretrained(place.base("qwen_7b"))
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert text == "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|endoftext|>", "<|endoftext|>")
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    assert special == {"<|endoftext|>", *standins.SPECIAL}
    config = json.loads((place.base("qwen_7b") / "config.json").read_text())
    assert config["model_type"] == "qwen2" and config["tie_word_embeddings"] is False
    sets = build(experiment.problems)
    assert len(sets.train) == 48 and all("</think>" in (problem.solution or "") for problem in sets.train)
    assert not any((problem.solution or "").startswith("<think>") for problem in sets.train)  # the prompt opens it
    assert {len(benchmarks.load(name, mirror=place.mirror).problems) for name in benchmarks.BENCHMARKS} == {3}


GOES_ON = """
import os, signal, sys, time
from pathlib import Path

told, left = os.environ["OPENAI_API_KEY"] + Path(sys.argv[1], "experiment.yaml").read_text(), Path(sys.argv[1], "left")
if left.exists():
    sys.exit(left.read_text() != told)
left.write_text(told)
time.sleep(0.3)
os.kill(os.getppid(), signal.SIGINT)  # a terminal's Ctrl-C reaches both
sys.exit(75)
"""


def test_an_interrupted_rehearsal_goes_on_with_what_it_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings are the same to the byte, the judge's address among them, and the stand-ins are not made again: so
    the workflow finds its own work, as it does where any experiment was stopped."""
    from eval.rehearsal import standins
    from eval.rehearsal.run import rehearse

    made: list[Place] = []
    monkeypatch.setattr(standins, "make", lambda experiment, place, mirror: made.append(place))
    words = ([CONFIG / "qwen2.5-math-7b.yaml"], tmp_path, None, [sys.executable, "-c", GOES_ON, str(tmp_path)])
    assert [rehearse(*words) for _ in range(2)] == [75, 0] and len(made) == 1
    rehearse([CONFIG / "qwen2.5-math-1.5b.yaml"], *words[1:])
    assert len(made) == 2, "another experiment got the stand-ins of this one"


# Faults planted in what a real run would meet, each found by the rule that meets it first.


def told(stage: tuple[Experiment, Place], folder: Path, **changes: Any) -> Experiment:
    """The rehearsal with these keys changed; its specs lie in the folder."""
    settings = stage[0].model_dump(mode="json")
    for key, value in changes.items():
        *outer, last = key.split("__")
        inner = settings
        for name in outer:
            inner = inner[name]
        inner[last] = value
    experiment = parse(Experiment, settings, "the rehearsal")
    specs = {
        "problems": ProblemsSpec(problems=experiment.problems),
        "base": BaseSpec(base=experiment.bases["qwen_7b"], problems=experiment.problems),
        "trial": trial_spec(experiment),
        "dagrpo": train_spec(experiment, "dagrpo"),
    }
    folder.mkdir(exist_ok=True)
    for name, spec in specs.items():
        (folder / f"{name}.json").write_text(spec.model_dump_json())
    return experiment


def runs(folder: Path, words: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a job of the workflow, run here."""
    from dagrpo.cli import _run

    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.argv", ["dagrpo", *words.split()])
    return _run()


PROBLEMS = "problems --spec problems.json --out problems"
BASE = "base --spec base.json --out base --state base.state"
TRIAL = (
    "trial --spec trial.json --model base --train problems/train.jsonl --problems problems/evaluation.jsonl "
    "--source problems.json --out trial.jsonl"
)
TRAIN = "train --spec dagrpo.json --seed 0 --base base --problems problems/train.jsonl --out run --state state"


def test_an_opening_that_the_demonstrations_do_not_have_is_found(
    stage: tuple[Experiment, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told(stage, tmp_path, opening="<thought>\n", problems__opening="<thought>\n")
    assert runs(tmp_path, PROBLEMS, monkeypatch) == 2
    assert r"begins with '<think>\n" in capsys.readouterr().err


def test_golds_in_another_format_are_found(
    stage: tuple[Experiment, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from eval.rehearsal.standins import hub_row, own_problems

    rows = [hub_row(replace(problem, answer=f"#### {problem.answer}"), None) for problem in own_problems()]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    told(stage, tmp_path, problems__dataset=str(tmp_path / "rows.jsonl"))
    assert [runs(tmp_path, words, monkeypatch) for words in (PROBLEMS, BASE, TRIAL)] == [0, 0, 2]
    assert "takes no demonstration for right" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
        ("{{ messages[-1]['content'] }}<|im_end|>", "leaves the message of the system out"),
    ],
    ids=["refused", "left out"],
)
def test_a_template_without_a_system_role_is_found(
    stage: tuple[Experiment, Place],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    template: str,
    said: str,
) -> None:
    shutil.copytree(stage[1].base("qwen_7b"), tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    told(stage, tmp_path, bases__qwen_7b__model=str(tmp_path / "model"))
    assert [runs(tmp_path, words, monkeypatch) for words in (PROBLEMS, BASE, TRIAL)] == [0, 0, 2]
    assert said in capsys.readouterr().err


def test_a_judge_that_is_down_for_a_while_is_waited_for(
    stage: tuple[Experiment, Place], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second in place of a minute. A run that may not wait ends with its state sealed, and goes on later."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = stage[0].scorer.options | {
        "base_url": f"http://127.0.0.1:{port}/v1",
        "cache": str(tmp_path / "judge"),
        "backoff": 0.05,
        "max_wait": 0.1,
    }
    monkeypatch.setenv("OPENAI_API_KEY", "stand-in")
    told(stage, tmp_path, scorer__options=options | {"outage_hours": 0.0}, train__steps=1)
    assert [runs(tmp_path, words, monkeypatch) for words in (PROBLEMS, BASE, TRAIN)] == [0, 0, 2]
    assert f"127.0.0.1:{port}" in capsys.readouterr().err

    told(stage, tmp_path, scorer__options=options, train__steps=1)
    up = ExitStack()
    timer = threading.Timer(1.0, lambda: up.enter_context(stand_in_judge(port)))
    timer.start()
    try:
        assert runs(tmp_path, TRAIN, monkeypatch) == 0
    finally:
        timer.join()
        up.close()
    (line,) = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["score/asked"] > 0 and json.loads(line)["score/missing"] == 0
