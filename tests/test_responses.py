"""One way from a rollout to a verdict: training, evaluation, files and lm-eval's tasks judge a response alike."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from transformers import PreTrainedTokenizerBase

from dagrpo.config import EvaluationSpec, ProbeSpec, Probing, PromptSpec, Scorer, Train, Verifier, parse
from dagrpo.measurements.probe import sample_groups
from dagrpo.policy.checkpoint import Policy
from dagrpo.problems.mini.tokenizer import build_tokenizer
from dagrpo.problems.prompts import render
from dagrpo.records import Finish, Problem, Rollout
from dagrpo.rollout.engine import Request, Sampling
from dagrpo.scorers import make_scorer
from dagrpo.trainer.collect import Collector
from dagrpo.verify import make_verifier
from eval.benchmark_tasks.grade import grade_file
from eval.rescore import rescore
from eval.sampling import sampled
from tests.miniature import TRAIN

PROBLEM = Problem("p", "math", "What is one half?", r"\frac{1}{2}")
BOX = r"\boxed{\frac12}"
OTHER = r"\boxed{3}"
Opener = Literal["none", "configuration", "template"]
OPENERS: tuple[Opener, ...] = ("none", "configuration", "template")
FINISHES: tuple[Finish, ...] = ("stop", "length")


@dataclass(frozen=True)
class Text:
    """A response, and its verdict where the prompt has opened a thought: (thoughts optional, thoughts required)."""

    text: str
    optional: str
    required: str


UNCLOSED = Text(f"so {BOX} and on", "no_answer", "no_answer")
OPENED = [
    UNCLOSED,
    Text(f"hm</think>so {BOX}", "correct", "correct"),
    Text(f"hm {OTHER}</think>so {BOX}", "correct", "correct"),
    Text(f"hm {BOX}</think>so {OTHER}", "wrong", "wrong"),
    Text(f"hm {BOX}</think>so it is", "correct", "no_answer"),
    Text(f"hm {BOX}</think>", "correct", "no_answer"),
    Text("I cannot tell", "no_answer", "no_answer"),
]
CUT = {"no_answer": "truncated"}


class Recited:
    """An engine that gives one text for an answer."""

    shared = False

    def __init__(self, text: str, finish: Finish) -> None:
        self.rollout = Rollout(0, (5, 6), text, finish)

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Rollout]]:
        return [[self.rollout] * request.samples for request in requests]

    def update(self) -> None: ...


def tokenizer_of(opener: Opener) -> PreTrainedTokenizerBase:
    tokenizer = build_tokenizer()
    if opener == "template":
        tokenizer.chat_template = f"{tokenizer.chat_template}{{{{ '<think>\n' }}}}"
    return tokenizer


def prompt_of(opener: Opener) -> PromptSpec:
    return PromptSpec(opening="<think>\n" if opener == "configuration" else None)


@pytest.fixture(scope="module", params=["optional", "required"])
def grading(request: pytest.FixtureRequest) -> Any:
    spec = Verifier(thought=request.param)
    with make_verifier(spec) as verifier:
        yield SimpleNamespace(spec=spec, verifier=verifier)


def trained(grading: Any, opener: Opener, text: str, finish: Finish) -> str:
    policy = Policy(torch.nn.Linear(1, 1), tokenizer_of(opener), torch.device("cpu"))
    engine, scorer = Recited(text, finish), make_scorer(Scorer())
    train = parse(Train, TRAIN, "train")
    made = Collector([PROBLEM], policy, engine, grading.verifier, scorer, train, prompt_of(opener), 0)
    return str(made._verdicts([(PROBLEM, engine.rollout)])[0])


def probed(grading: Any, opener: Opener, text: str, finish: Finish) -> str:
    policy = Policy(torch.nn.Linear(1, 1), tokenizer_of(opener), torch.device("cpu"))
    spec = ProbeSpec(probe=Probing(), prompt=prompt_of(opener), verifier=grading.spec, device="cpu")
    return str(sample_groups([PROBLEM], policy, Recited(text, finish), grading.verifier, spec)[0].rows[0].verdict)


def evaluated(grading: Any, opener: Opener, text: str, finish: Finish) -> dict[str, Any]:
    policy = Policy(torch.nn.Linear(1, 1), tokenizer_of(opener), torch.device("cpu"))
    spec = EvaluationSpec(
        samples=1, samples_by_family={}, temperature=1, max_new_tokens=9, rollout_rows=1, threads=1,
        prompt=prompt_of(opener), verifier=grading.spec, device="cpu",
    )  # fmt: skip
    return sampled([PROBLEM], policy, Recited(text, finish), grading.verifier, spec, 0)[0]


def asked_by_lm_eval(grading: Any, opener: Opener, text: str, finish: Finish) -> str:
    lm_task = pytest.importorskip("eval.benchmark_tasks.lm_task", reason="lm-eval is not installed")
    tokenizer = tokenizer_of(opener)
    prompt = tokenizer.decode(list(render(PROBLEM, tokenizer, prompt_of(opener)).tokens))
    task = object.__new__(lm_task.Benchmark)
    task.problems, task.verifier = {PROBLEM.id: PROBLEM}, grading.spec
    task._config = SimpleNamespace(metadata=prompt_of(opener).model_dump())
    instance = SimpleNamespace(
        doc={"id": PROBLEM.id}, args=(prompt, {}), resps=[lm_task.Response.of(text, 2, finish)], filtered_resps={}
    )
    task._instances = [instance]
    task.apply_filters()
    return str(instance.filtered_resps[lm_task.GRADED]["samples"][0]["verdict"])


def read(tmp_path: Path, grading: Any, record: dict[str, Any]) -> list[str]:
    """Verdicts of a stored sample: graded again, and as a row of anybody's file."""
    (tmp_path / "samples.jsonl").write_text(json.dumps(record) + "\n")
    row = {"gold": PROBLEM.answer, "response": record["text"], **{key: record[key] for key in ("finish", "opening")}}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    assert rescore(tmp_path / "samples.jsonl", [PROBLEM], grading.spec, tmp_path / "again.jsonl") == 0
    grade_file(tmp_path / "rows.jsonl", tmp_path / "graded.jsonl", grading.spec)
    files = [json.loads((tmp_path / name).read_text()) for name in ("again.jsonl", "graded.jsonl")]
    assert all(one["extracted"] == record["extracted"] and one["rule"] == record["rule"] for one in files)
    return [one["verdict"] for one in files]


WAYS: list[Callable[[Any, Opener, str, Finish], str]] = [trained, probed, asked_by_lm_eval]


@pytest.mark.parametrize("opener", OPENERS)
def test_all_ways_to_a_verdict_agree(grading: Any, opener: Opener, tmp_path: Path) -> None:
    for number, (case, finish) in enumerate(product(OPENED, FINISHES)):
        # without an opening the response opens its thought itself
        text = f"<think>{case.text}" if opener == "none" else case.text
        expected = getattr(case, grading.spec.thought)
        if finish == "length":
            expected = "correct" if case.text.endswith(f"so {BOX}") else CUT.get(expected, expected)
            expected = "truncated" if case.text.startswith(f"hm {BOX}") and OTHER not in case.text else expected
        record = evaluated(grading, opener, text, finish)
        assert record["verdict"] == expected, (text, finish)
        assert record["opening"] == ("" if opener == "none" else "<think>\n")
        found = [way(grading, opener, text, finish) for way in (WAYS if number % 3 == 0 else WAYS[:2])]
        assert set(found) == {expected}, (text, finish, found)
        if number % 4 == 0:
            assert read(tmp_path, grading, record) == [expected] * 2


def test_a_thought_that_the_prompt_opens_earns_nothing_before_it_is_closed(grading: Any) -> None:
    for opener in ("configuration", "template"):
        for finish in FINISHES:
            assert trained(grading, opener, UNCLOSED.text, finish) in ("no_answer", "truncated")
    assert (trained(grading, "none", UNCLOSED.text, "stop") == "correct") is (grading.spec.thought == "optional")
