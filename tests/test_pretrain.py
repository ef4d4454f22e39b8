"""Training of the miniature's base: decided by its spec, resumable to the bit, saved as an ordinary checkpoint."""

from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dagrpo.config import Corpus, MiniBase, MiniProblems
from dagrpo.errors import Interrupted
from dagrpo.policy.pretrain import Reading, build_model, build_optimizers, learning_rate, pretrain, train_step
from dagrpo.problems import build
from dagrpo.problems.mini.expressions import canonical, parse
from dagrpo.problems.mini.families import split_of
from dagrpo.problems.mini.tokenizer import build_tokenizer

PROBLEMS = MiniProblems(train=12, evaluation=4)
SPEC = MiniBase(
    width=16, layers=1, heads=2, feedforward=32, steps=12, step_tokens=400, threads=1, corpus=Corpus(problems=300)
)


def questions(reading: Reading) -> list[str]:
    return [problem.prompt for cell in reading.cells.values() for problem in cell]


def weights(folder: Path) -> str:
    return sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    pretrain(SPEC, 0, PROBLEMS, folder / "base", folder / "state")
    assert not (folder / "state").exists()
    return folder / "base"


def test_an_ordinary_checkpoint(base: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    tokenizer = AutoTokenizer.from_pretrained(base)
    assert model.config.eos_token_id == tokenizer.eos_token_id
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    chat = [{"role": "user", "content": "12+7-3"}]
    prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    assert model.generate(**prompt, max_new_tokens=4, do_sample=False).shape[1] <= prompt["input_ids"].shape[1] + 4


def test_the_default_has_the_promised_size() -> None:
    parameters = sum(parameter.numel() for parameter in build_model(MiniBase(), 0, build_tokenizer()).parameters())
    assert 300_000 <= parameters <= 3_000_000


def test_the_spec_decides_the_weights(base: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    pretrain(SPEC, 0, PROBLEMS, tmp_path / "again", tmp_path / "state")
    assert weights(tmp_path / "again") == weights(base)
    assert torch.equal(torch.get_rng_state(), before)
    pretrain(SPEC, 1, PROBLEMS, tmp_path / "other", tmp_path / "state")
    assert weights(tmp_path / "other") != weights(base)


@pytest.mark.parametrize("stop_before", [0, 1, 7])
def test_interrupted_training_continues_to_the_same_bits(base: Path, tmp_path: Path, stop_before: int) -> None:
    asked = iter([False] * stop_before + [True])
    with pytest.raises(Interrupted):
        pretrain(SPEC, 0, PROBLEMS, tmp_path / "base", tmp_path / "state", lambda: next(asked))
    assert not (tmp_path / "base").exists()
    taken = count()
    pretrain(SPEC, 0, PROBLEMS, tmp_path / "base", tmp_path / "state", lambda: next(taken) < 0)
    assert next(taken) == SPEC.steps - stop_before, "only the steps that were left are taken"
    assert weights(tmp_path / "base") == weights(base)


def test_state_of_another_base_is_not_used(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = iter([False] * 3 + [True])
    with pytest.raises(Interrupted):
        pretrain(SPEC, 1, PROBLEMS, tmp_path / "base", tmp_path / "state", lambda: next(asked))
    pretrain(SPEC, 0, PROBLEMS, tmp_path / "base", tmp_path / "state")
    assert weights(tmp_path / "base") == weights(base)
    assert "starting afresh" in capsys.readouterr().err


def test_loss_falls() -> None:
    spec = SPEC.model_copy(update={"steps": 60})
    reading = Reading(spec, 0, PROBLEMS, build_tokenizer())
    model = build_model(spec, 0, reading.tokenizer)
    optimizers = build_optimizers(model, spec)
    losses = [
        train_step(model, optimizers, reading.batch(step), learning_rate(step, spec.steps))
        for step in range(spec.steps)
    ]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_batches_are_decided_by_their_step_and_have_the_asked_size() -> None:
    reading = Reading(SPEC, 0, PROBLEMS, build_tokenizer())
    for step in (0, SPEC.steps - 1):
        batch = reading.batch(step)
        assert batch == reading.batch(step)
        size = sum(len(group.prompt_tokens) + len(group.responses[0]) - 1 for group in batch)
        assert SPEC.step_tokens <= size <= SPEC.step_tokens + 100
    assert reading.batch(0) != reading.batch(1)
    assert {split_of(question) for question in questions(reading)} == {"train"}
    facts = sum(len(group.prompt_tokens) for group in reading.batch(0) if len(group.responses[0]) == 1)
    assert facts / SPEC.step_tokens == pytest.approx(SPEC.corpus.facts[0], abs=0.05)


def test_the_base_reads_no_training_problem() -> None:
    problems = MiniProblems(train=900, evaluation=4)
    reading = Reading(SPEC.model_copy(update={"corpus": Corpus(problems=3000)}), 0, problems, build_tokenizer())
    trained = {canonical(parse(problem.prompt)) for problem in build(problems).train}
    assert not trained & {canonical(parse(question)) for question in questions(reading)}


def test_learning_rate_warms_up_and_decays() -> None:
    rates = [learning_rate(step, 1000) for step in range(1000)]
    assert rates[0] == pytest.approx(1 / 40)
    assert rates[39] == rates[300] == 1.0
    assert rates[-1] == pytest.approx(1 / 400)
    assert max(rates) == 1.0
