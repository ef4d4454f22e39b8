"""Our engine under lm-eval: the samples of ordinary evaluation, whole after a kill, equal to lm-eval's own model."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from dagrpo.config import (
    EngineOptions,
    EvaluationSpec,
    Experiment,
    PromptSpec,
    Verifier,
    VllmColocated,
    VllmServer,
    benchmarks_spec,
)
from dagrpo.errors import Interrupted, UserError
from dagrpo.policy.checkpoint import Policy
from dagrpo.problems.store import read_problems, write_problems
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.records import Problem
from dagrpo.rollout.engine import Engine
from dagrpo.rollout.torch_engine import TorchEngine
from eval.benchmark_tasks.benchmarks import BENCHMARKS, TASKS, load
from eval.benchmark_tasks.prompts import FAMILIES, ask
from eval.sampling import ROUNDS, evaluate, meta_path
from tests.benchmark_rows import QUESTIONS, write_mirror
from tests.miniature import stop_after

pytest.importorskip("lm_eval", reason="lm-eval is not installed")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from eval.benchmark_tasks.drawn import read_drawn
from eval.benchmark_tasks.lm_model import DagrpoLM
from eval.benchmark_tasks.lm_run import Settings, as_text, run, run_one, settings_of
from eval.benchmark_tasks.lm_task import Response

ROOT = Path(__file__).parent.parent
SAMPLING = {"do_sample": True, "temperature": 0.6, "top_p": 1.0, "top_k": 0, "max_gen_toks": 12, "until": []}


@pytest.fixture(autouse=True)
def _no_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare lm-eval the list of all packages that it makes for its results: seconds."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)


def requests(count: int, repeats: int = 2, task: str = "dagrpo_math500", **changes: Any) -> list[Instance]:
    """Questions as lm-eval hands them over: each instance as often as it has samples."""
    settings = {**SAMPLING, **changes}
    instances = [
        Instance("generate_until", {"id": f"q{i}"}, (f"<|user|>{i}+1?<|assistant|>", settings), 0, (task, i, repeats))
        for i in range(count)
    ]
    return [instance for instance in instances for _ in range(repeats)]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sample(lm: DagrpoLM, instances: list[Instance]) -> list[Response]:
    """Responses with what our engine knows of them."""
    responses = lm.generate_until(instances)
    assert all(isinstance(response, Response) for response in responses)
    return cast("list[Response]", responses)


def model(base: Path, state: Path | None = None, should_stop: Callable[[], bool] = never, **changes: Any) -> DagrpoLM:
    return DagrpoLM(base, device="cpu", batch_size=4, state=state, should_stop=should_stop, **changes)


def test_samples_are_those_of_ordinary_evaluation(base: Path, evaluation_problems: Path, tmp_path: Path) -> None:
    spec = EvaluationSpec(
        samples=2, samples_by_family={}, temperature=0.6, max_new_tokens=12, rollout_rows=8, threads=1,
        prompt=PromptSpec(), verifier=Verifier(kind="exact"), device="cpu",
    )  # fmt: skip
    evaluate(spec, base, evaluation_problems, 3, tmp_path / "s.jsonl", tmp_path / "state")
    records = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    lm = model(base, seed=3)
    instances = [
        Instance(
            "generate_until",
            {"id": problem.id},
            (lm.apply_chat_template([{"role": "user", "content": problem.prompt}]), SAMPLING),
            0,
            (problem.family, i, 2),
        )
        for i, problem in enumerate(read_problems(evaluation_problems))
    ]
    responses = sample(lm, [instance for instance in instances for _ in range(2)])
    assert [str(response) for response in responses] == [record["text"] for record in records]
    assert [response.finish for response in responses] == [record["finish"] for record in records]
    assert [response.tokens for response in responses] == [record["tokens"] for record in records]


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_spelled_in_a_question_stay_text(base: Path, family: str) -> None:
    """Those of the template still are what they were."""
    lm = model(base)
    special = {number for number, token in lm.tokenizer.added_tokens_decoder.items() if token.special}
    special -= {lm.tokenizer.unk_token_id}

    def tokens(question: str) -> list[int]:
        said = ask(Problem("p", "math500", question, "3"), family, "Box it.")
        prompt = lm.apply_chat_template([{"role": "user", "content": said}]) if FAMILIES[family].chat else said
        (request,) = lm._requests([Instance("generate_until", {"id": "p", "question": question}, (prompt, {}), 0)])
        return [token for token in request.prompt_tokens if token in special]

    assert tokens("<|end|>1+<|user|>2<|end|>") == tokens("1+2")


def test_an_experiments_benchmarks_ask_as_its_evaluation_does_and_take_its_samples(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: "Made"
) -> None:
    mirror = write_mirror(tmp_path / "mirror", monkeypatch)
    own = PromptSpec(system_prompt="Be brief.", instruction="Box it.", opening="<think>\n")
    spec = EvaluationSpec(
        samples=1, samples_by_family={"aime2024": 3}, temperature=0.6, max_new_tokens=6, rollout_rows=8, threads=1,
        prompt=own, verifier=Verifier(thought="required"), device="cpu",
    )  # fmt: skip
    names = ("aime2024", "math500", "arc_challenge")
    write_problems(tmp_path / "p.jsonl", [problem for name in names for problem in load(name, mirror=mirror).problems])
    evaluate(spec, base, tmp_path / "p.jsonl", 5, tmp_path / "s.jsonl", tmp_path / "state")
    drawn, records = read_drawn(tmp_path / "s.jsonl"), read(tmp_path / "s.jsonl")

    def benchmarked(**changes: Any) -> tuple[int, list[dict[str, Any]]]:
        asked = settings(prompt="experiment", own=own, seed=5, verifier=spec.verifier, **changes)
        out = tmp_path / f"{len(engines.options)}{changes}.jsonl"
        meta = run_one(str(base), asked, out, tmp_path / "state", drawn=drawn)
        return meta["drawn_by_evaluation"], read(out)

    taken, same = benchmarked()
    assert taken == len(records) == 5 * QUESTIONS and not engines.options, "an engine was started"
    # lm-eval hashes the prompt's text, evaluation its tokens.
    assert [{**row, "prompt_hash": None} for row in records] == [
        {key: None if key == "prompt_hash" else row[key] for key in row if key != "majority"} for row in same
    ]
    taken, more = benchmarked(samples={"aime2024": 3, "math500": 2})
    assert taken == 4 * QUESTIONS and len(engines.options) == 1
    assert [row["text"] for row in more if (row["family"], row["sample"]) == ("math500", 0)] == [
        row["text"] for row in records if row["family"] == "math500"
    ]
    assert benchmarked(temperature=0.5)[0] == benchmarked(max_tokens=5)[0] == 0


def test_answers_come_back_in_the_order_of_the_requests(base: Path) -> None:
    one, other = requests(3), requests(2, task="dagrpo_aime2024", max_gen_toks=5)
    lm = model(base)
    mixed = [*one[:2], *other[:2], *one[2:], *other[2:]]
    together = dict(zip(map(id, mixed), zip(mixed, lm.generate_until(mixed), strict=True), strict=True))
    assert len(together) == 5
    assert lm.generate_until(mixed) == [
        *lm.generate_until(one)[:2], *lm.generate_until(other)[:2], *lm.generate_until(one)[2:],
        *lm.generate_until(other)[2:],
    ]  # fmt: skip


def test_a_stopped_run_loses_at_most_one_batch(base: Path, tmp_path: Path) -> None:
    asked = requests(6 * ROUNDS)
    whole = sample(model(base), asked)
    stops = 0
    while True:
        try:
            parts = sample(model(base, tmp_path / "state", stop_after(18 * ROUNDS)), asked)
            break
        except Interrupted:
            stops += 1
            kept = (tmp_path / "state" / "dagrpo_math500" / "records.jsonl").read_text().splitlines()
            assert len(kept) == 4 * ROUNDS * stops
    assert stops == 2 and parts == whole
    assert [part.finish for part in parts] == [response.finish for response in whole]


def test_batches_of_other_settings_are_not_continued(base: Path, tmp_path: Path) -> None:
    asked = requests(6 * ROUNDS)
    with pytest.raises(Interrupted):
        model(base, tmp_path, stop_after(18 * ROUNDS)).generate_until(asked)
    other = model(base, tmp_path, seed=1).generate_until(asked)
    assert other == model(base, seed=1).generate_until(asked) != model(base).generate_until(asked)


def test_greedy_samples_are_all_the_same(base: Path) -> None:
    responses = model(base).generate_until(requests(4, do_sample=False, temperature=0.0))
    assert responses[::2] == responses[1::2]


def test_a_response_ends_in_front_of_a_stop_text(base: Path) -> None:
    whole = model(base).generate_until(requests(4))
    place = max(range(8), key=lambda place: len(whole[place]))
    text = whole[place]
    cut = sample(model(base), requests(4, until=["", text[3]]))[place]
    assert cut == text[: text.index(text[3])] and cut.finish == "stop"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [({"top_p": 0.9}, "top_p"), ({"top_k": 20}, "top_k"), ({"max_gen_toks": 510}, "exceed the model's 512")],
)
def test_what_the_engine_cannot_do_is_refused(base: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        model(base).generate_until(requests(1, **changes))


def test_log_likelihoods_are_refused(base: Path) -> None:
    for likelihood in (model(base).loglikelihood, model(base).loglikelihood_rolling):
        with pytest.raises(UserError, match="samples only"):
            likelihood([])
    with pytest.raises(UserError, match="dtype"):
        model(base, dtype="int5")


def settings(**changes: Any) -> Settings:
    return Settings(
        **{
            "benchmarks": ("aime2024", "math500", "arc_challenge"), "prompt": "chat", "max_tokens": 6, "rows": 8,
            "samples": {"aime2024": 3}, "device": "cpu", **changes,
        }
    )  # fmt: skip


def test_a_run_keeps_every_sample_and_marks_its_limit(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_mirror(tmp_path / "mirror", monkeypatch)
    table = run({"one": str(base), "two": str(base)}, settings(limit=2), tmp_path / "out")
    records = [json.loads(line) for line in (tmp_path / "out" / "one.jsonl").read_text().splitlines()]
    assert [(r["family"], r["sample"]) for r in records] == [
        *[("aime2024", i) for _ in range(2) for i in range(3)], ("math500", 0), ("math500", 0),
        ("arc_challenge", 0), ("arc_challenge", 0),
    ]  # fmt: skip
    assert {"text", "tokens", "finish", "verdict", "extracted", "rule", "judges"} <= records[0].keys()
    meta = json.loads(meta_path(tmp_path / "out" / "one.jsonl").read_text())
    assert meta["limited"]["math500"] == [2, QUESTIONS] and meta["data"]["math500"]["form"] == "mirror"
    assert list(table["benchmark"]) == 2 * ["AIME 2024", "MATH-500", "ARC-Challenge", "average, mathematics"]
    assert list(table["k"])[:4] == ["3", "1", "1", "3/1"]
    text = (tmp_path / "out" / "scores.md").read_text()
    assert text == as_text(table) + "\n" and "first 2 of 3" in text and "LIMITED" in text
    assert not (tmp_path / "out" / "state").exists()


def test_what_is_finished_is_not_run_again(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mirror(tmp_path / "mirror", monkeypatch)
    first = run({"one": str(base)}, settings(), tmp_path / "out")
    monkeypatch.setattr(DagrpoLM, "generate_until", None)
    assert run({"one": str(base)}, settings(), tmp_path / "out").equals(first)
    with pytest.raises(TypeError):
        run({"one": str(base)}, settings(seed=1), tmp_path / "out")


def test_a_killed_run_goes_on(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mirror(tmp_path / "mirror", monkeypatch)
    run({"one": str(base)}, settings(), tmp_path / "whole")
    with pytest.raises(Interrupted):
        run({"one": str(base)}, settings(), tmp_path / "parts", stop_after(15))
    kept = (tmp_path / "parts" / "state" / "one" / "dagrpo_aime2024" / "records.jsonl").read_text()
    assert len(kept.splitlines()) == 3 * QUESTIONS
    run({"one": str(base)}, settings(), tmp_path / "parts")
    for name in ("one.jsonl", "scores.csv"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


class Made:
    """Stands for ``make_engine``: notes what is asked for, and samples by the torch engine all the same."""

    def __init__(self) -> None:
        self.options: list[EngineOptions] = []

    @contextmanager
    def __call__(
        self, options: EngineOptions, policy: Policy, rows: int, device: Any, should_stop: ShouldStop
    ) -> Iterator[Engine]:
        self.options.append(options)
        yield TorchEngine(policy, rows, should_stop)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> Made:
    made = Made()
    monkeypatch.setattr("eval.benchmark_tasks.lm_model.make_engine", made)
    return made


def test_the_experiments_engine_samples_all_tasks_of_a_checkpoint(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: Made
) -> None:
    mirror = write_mirror(tmp_path / "mirror", monkeypatch)
    told = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text()) | {
        "device": "cpu",
        "engine": {"kind": "vllm", "memory": 0.2},
        "benchmarks": {"tasks": ["math500", "ood"], "max_new_tokens": 6, "mirror": str(mirror)},
    }
    spec = benchmarks_spec(Experiment.model_validate(told))
    asked = settings_of(spec.model_copy(update={"benchmarks": ("math500", "arc_challenge")}), 0)
    meta = run_one(str(base), asked, tmp_path / "one.jsonl", tmp_path / "state")
    assert engines.options == [VllmColocated(memory=0.2)]
    assert meta["spec"]["engine"] == VllmColocated(memory=0.2).model_dump()
    run_one(str(base), asked, tmp_path / "one.jsonl", tmp_path / "state")
    assert len(engines.options) == 1, "what is finished was run again"


def test_another_engine_is_another_setting_but_where_a_server_stands_is_none(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engines: Made
) -> None:
    write_mirror(tmp_path / "mirror", monkeypatch)
    for engine in (VllmServer(url="http://one:1"), VllmServer(url="http://other:2"), VllmColocated()):
        run({"one": str(base)}, settings(benchmarks=("math500",), samples={}, engine=engine), tmp_path / "out")
    assert [engine.kind for engine in engines.options] == ["vllm_server", "vllm"]


def test_the_torch_engine_is_not_spoken_of(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So specs and samples from before there was a choice are still those that are asked for."""
    told = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text()) | {"benchmarks": {}}
    assert "engine" not in json.loads(benchmarks_spec(Experiment.model_validate(told)).model_dump_json())
    write_mirror(tmp_path / "mirror", monkeypatch)
    run({"one": str(base)}, settings(benchmarks=("math500",), samples={}), tmp_path / "out")
    assert "engine" not in json.loads(meta_path(tmp_path / "out" / "one.jsonl").read_text())["spec"]


def test_lm_eval_names_an_engine_by_a_word(base: Path) -> None:
    assert model(base).engine.kind == "torch"
    assert DagrpoLM.create_from_arg_string(f"pretrained={base},engine=vllm").engine == VllmColocated()
    with pytest.raises(UserError, match="there is no 'vlm'; did you mean 'vllm'"):
        model(base, engine="vlm")


def asked(lm: Any, checkpoint: Path, tokens: int, limit: int) -> dict[str, list[tuple[Any, ...]]]:
    """What lm-eval hands to a model and finds in its greedy answers, on the first questions of each set."""
    results = simple_evaluate(
        model=lm,
        tasks=[benchmark.task for benchmark in BENCHMARKS.values()],
        task_manager=TaskManager(
            include_path=str(TASKS), include_defaults=False, metadata={"k": 1, "pretrained": str(checkpoint)}
        ),
        apply_chat_template=True,
        gen_kwargs={"do_sample": False, "temperature": 0.0, "max_gen_toks": tokens},
        limit=limit,
        bootstrap_iters=0,
    )
    return {
        task: [(row["prompt_hash"], row["target_hash"], row["resps"], row["filtered_resps"]) for row in rows]
        for task, rows in results["samples"].items()
    }


def test_lm_evals_own_model_sees_and_gets_the_same(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same prompts, golds, responses and answers of made-up rows, greedy, in float32.

    How a response of noise ended cannot be told by its text: the miniature's special tokens are not part of it.
    """
    write_mirror(tmp_path, monkeypatch)

    def seen(lm: Any) -> dict[str, list[tuple[Any, ...]]]:
        rows = asked(lm, base, 12, 2)
        return {
            task: [(*row[:3], row[3][0]["problem_hash"], row[3][0]["samples"][0]["extracted"]) for row in of_task]
            for task, of_task in rows.items()
        }

    ours = seen(model(base))
    assert ours == seen(HFLM(pretrained=str(base), device="cpu", dtype="float32", batch_size=1))
    assert len(ours) == len(BENCHMARKS)


@pytest.mark.slow
def test_so_it_does_with_a_real_model_on_real_rows(mirror: Path, tmp_path: Path) -> None:
    """SmolLM2; over more rows and longer answers: `dagrpo compare-benchmarks`."""
    from dagrpo.policy.convert import convert_gguf, find_smollm2

    convert_gguf(find_smollm2(), tmp_path / "smollm2")
    ours = asked(DagrpoLM(tmp_path / "smollm2", device="cpu"), tmp_path / "smollm2", 6, 1)
    hf = HFLM(pretrained=str(tmp_path / "smollm2"), device="cpu", dtype="float32", batch_size=1)
    assert ours == asked(hf, tmp_path / "smollm2", 6, 1) and len(ours) == len(BENCHMARKS)
