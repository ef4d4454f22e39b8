"""The tasks: prompts by family, every sample counted, the verifier of training, averages as in the papers."""

from pathlib import Path
from typing import Any

import pytest

from dagrpo.errors import UserError
from dagrpo.records import Problem
from eval.benchmark_tasks.benchmarks import BENCHMARKS, TASKS
from eval.benchmark_tasks.prompts import BOX, EXPERIMENT, FAMILIES, LETTER, ask
from tests.benchmark_rows import QUESTIONS, write_mirror

pytest.importorskip("lm_eval", reason="lm-eval is not installed")

from lm_eval import simple_evaluate
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

from eval.benchmark_tasks.lm_task import Response, averages

NINE = [name for name, benchmark in BENCHMARKS.items() if benchmark.domain != "extra"]


class Scripted(LM):
    """A model that answers by a function of question and sample number; asked with the chat template it says so."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer
        self.prompts: list[str] = []

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        self.prompts = [request.args[0] for request in requests]
        self.settings = requests[0].args[1]
        seen: dict[int, int] = {}
        answers = []
        for request in requests:
            number = seen[id(request)] = seen.get(id(request), -1) + 1
            answers.append(self.answer(request.doc, number))
        return answers

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        return "".join(f"[{message['role']}]{message['content']}" for message in chat_history)

    @property
    def tokenizer_name(self) -> str:
        return "scripted"

    def loglikelihood(self, requests: Any) -> Any:
        raise NotImplementedError

    def loglikelihood_rolling(self, requests: Any) -> Any:
        raise NotImplementedError


def manager(**metadata: Any) -> TaskManager:
    return TaskManager(include_path=str(TASKS), include_defaults=False, metadata=metadata)


def evaluate(model: LM, *tasks: str, chat: bool = True, **metadata: Any) -> Any:
    return simple_evaluate(
        model=model, tasks=list(tasks), task_manager=manager(**metadata), apply_chat_template=chat, bootstrap_iters=0
    )


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_mirror(tmp_path, monkeypatch)


@pytest.fixture(autouse=True)
def _no_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare lm-eval the list of all packages that it makes for its results: seconds."""
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)


def right(doc: dict[str, Any], number: int) -> str:
    return rf"Thus \boxed{{{doc['answer']}}}."


def test_every_benchmark_has_a_task_under_the_papers_protocol(made_up: Path) -> None:
    known = manager()
    assert set(known.all_subtasks) == {benchmark.task for benchmark in BENCHMARKS.values()}
    loaded = known.load([benchmark.task for benchmark in BENCHMARKS.values()])["tasks"]
    for benchmark in BENCHMARKS.values():
        config = loaded[benchmark.task].config
        assert config.repeats == benchmark.samples and config.metadata["benchmark"] == benchmark.name
        sampling = {key: config.generation_kwargs[key] for key in ("temperature", "top_p", "max_gen_toks", "do_sample")}
        assert sampling == {"temperature": 0.6, "top_p": 1.0, "max_gen_toks": 8192, "do_sample": True}
        assert config.metadata["version"] == 1.0 and config.task_alias == benchmark.title


def test_groups_hold_the_nine() -> None:
    index = manager().task_index
    math = [BENCHMARKS[name].task for name in NINE if BENCHMARKS[name].domain == "math"]
    ood = [BENCHMARKS[name].task for name in NINE if BENCHMARKS[name].domain == "ood"]
    assert index["dagrpo_math"].cfg["task"] == math and index["dagrpo_ood"].cfg["task"] == ood
    assert index["dagrpo_nine"].cfg["task"] == ["dagrpo_math", "dagrpo_ood"] and len(math + ood) == 9


def test_every_sample_counts(made_up: Path) -> None:
    """Samples 0 and 2 of four are right: a score of the first sample alone would be 1."""
    model = Scripted(lambda doc, number: rf"\boxed{{{doc['answer'] if number % 2 == 0 else number + 7}}}")
    results = evaluate(model, "dagrpo_math500", k=4)
    metrics = results["results"]["dagrpo_math500"]
    assert metrics["acc,graded"] == 0.5 and metrics["maj,graded"] == 1
    assert len(model.prompts) == 4 * QUESTIONS
    samples = results["samples"]["dagrpo_math500"][1]["filtered_resps"][0]["samples"]
    assert [sample["verdict"] for sample in samples] == ["correct", "wrong"] * 2
    assert samples[0]["extracted"] == "1" and samples[0]["judges"] == {"math_verify": True, "sympy": True}


def test_averages_count_each_benchmark_the_same(made_up: Path) -> None:
    model = Scripted(lambda doc, number: right(doc, number) if doc["id"].startswith(("aime2024", "arc")) else "?")
    results = evaluate(model, "dagrpo_nine", k=1)["results"]
    assert results["dagrpo_math"]["acc,graded"] == pytest.approx(1 / 6)
    assert results["dagrpo_ood"]["acc,graded"] == pytest.approx(1 / 3)
    assert results["dagrpo_aime2024"]["acc,graded"] == 1 and results["dagrpo_mmlu_pro"]["no_answer,graded"] == 1


def test_k_may_differ_by_benchmark(made_up: Path) -> None:
    model = Scripted(right)
    evaluate(model, "dagrpo_math500", "dagrpo_aime2024", k={"aime2024": 5})
    assert len(model.prompts) == 6 * QUESTIONS
    with pytest.raises(UserError, match="k: must be a whole number"):
        manager(k=0.5).load(["dagrpo_math500"])


def test_how_a_response_ended_decides_what_counts(made_up: Path) -> None:
    cut = Scripted(lambda doc, number: Response.of(f"the answer is {doc['answer']}", 9, "length"))
    whole = Scripted(lambda doc, number: Response.of(f"the answer is {doc['answer']}", 9, "stop"))
    assert evaluate(cut, "dagrpo_math500", k=1)["results"]["dagrpo_math500"]["truncated,graded"] == 1
    assert evaluate(whole, "dagrpo_math500", k=1)["results"]["dagrpo_math500"]["acc,graded"] == 1


def test_the_end_of_a_plain_response_is_told_by_its_tokens(made_up: Path, base: Path) -> None:
    """The miniature spells words out, so this response has 17 tokens; it may have been sampled as two more."""
    model = Scripted(lambda doc, number: f"the answer is: {doc['answer']}.")
    for budget, key in ((19, "truncated"), (20, "acc")):
        results = simple_evaluate(
            model=model,
            tasks=["dagrpo_math500"],
            task_manager=manager(pretrained=str(base)),
            apply_chat_template=True,
            gen_kwargs={"max_gen_toks": budget},
        )
        assert results["results"]["dagrpo_math500"][f"{key},graded"] == 1


def test_disagreement_is_a_share_of_the_samples() -> None:
    def sample(**judges: bool) -> dict[str, Any]:
        return {"verdict": "correct", "judges": judges}

    samples = [
        sample(math_verify=True, sympy=False),
        sample(math_verify=True, sympy=True),
        sample(sympy=True),
        sample(),
    ]
    assert averages({}, [{"samples": samples, "majority": 0.5}])["disagreement"] == 0.25


def test_the_prompt_is_that_of_the_family(made_up: Path) -> None:
    model = Scripted(right)
    evaluate(model, "dagrpo_math500", k=1, prompt="chat")
    assert model.prompts[0] == f"[user]What is 0, said otherwise?\n{BOX}"
    evaluate(model, "dagrpo_math500", k=1, prompt="think")
    assert model.prompts[0] == "[user]What is 0, said otherwise?"
    evaluate(model, "dagrpo_math500", k=1, prompt="experiment", instruction="Box it.", opening="<think>\n")
    assert model.prompts[0] == "[user]What is 0, said otherwise?\nBox it.<think>\n"
    evaluate(model, "dagrpo_math500", k=1, prompt="qwen", chat=False)
    assert model.prompts[0] == (
        f"<|im_start|>system\n{BOX}<|im_end|>\n<|im_start|>user\nWhat is 0, said otherwise?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_how_a_thought_counts_is_the_experiments_choice(made_up: Path) -> None:
    """The box is in the closed thought, which the experiment's prompt opens."""
    model = Scripted(lambda doc, number: rf"So \boxed{{{doc['answer']}}}.</think>\nDone.")
    for thought, key in (("optional", "acc"), ("required", "no_answer")):
        results = evaluate(model, "dagrpo_math500", k=1, prompt="experiment", opening="<think>\n", thought=thought)
        assert results["results"]["dagrpo_math500"][f"{key},graded"] == 1


def test_a_prompt_with_the_wrong_wrapping_is_refused(made_up: Path) -> None:
    with pytest.raises(UserError, match="'qwen' is a whole prompt; drop --apply_chat_template"):
        evaluate(Scripted(right), "dagrpo_math500", prompt="qwen")
    with pytest.raises(UserError, match="'think' needs the model's chat template; add --apply_chat_template"):
        evaluate(Scripted(right), "dagrpo_math500", prompt="think", chat=False)


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() - {EXPERIMENT}))
def test_multiple_choice_always_asks_for_the_letter(name: str) -> None:
    question = Problem("p", "arc_challenge", "Which?\nA. this\nB. that", "A", choices=("this", "that"))
    assert f"Which?\nA. this\nB. that\n{LETTER}" in ask(question, name)


def test_unknown_words_are_refused(made_up: Path) -> None:
    for metadata, fault in (({"prompt": "qwem"}, "did you mean 'qwen'"), ({"source": "web"}, "must be mirror or hub")):
        with pytest.raises(UserError, match=fault):
            manager(**metadata).load(["dagrpo_math500"])
    with pytest.raises(UserError, match="judge"):
        manager(judge="oat").load(["dagrpo_math500"])
