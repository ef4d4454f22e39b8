"""What takes the place of a base, of a data set and of the benchmarks' rows in a rehearsal. Nothing is fetched."""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerBase, Qwen2Tokenizer

from dagrpo import seeds
from dagrpo.config import Base, Experiment, HubProblems, MiniBase, MiniProblems, PromptSpec, WordProblems, prompt_spec
from dagrpo.files.checkpoints import write_atomically
from dagrpo.files.text_files import read_object
from dagrpo.plan.shapes import shape_of
from dagrpo.policy.checkpoint import Policy, save_policy
from dagrpo.problems import mini
from dagrpo.problems.mirror import find_file, read_text, training_files
from dagrpo.problems.prompts import render
from dagrpo.records import Problem
from eval.benchmark_tasks.benchmarks import BENCHMARKS, FETCHED, OWN
from eval.rehearsal.replace import Place

SPECIAL = [
    "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>",
    "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>",
    "<|video_pad|>",
]  # fmt: skip
"""The special tokens of Qwen2.5's tokenizer, in its order, beside the one that ends a text."""

TEMPLATE = r"""
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>system\nPlease reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or message.role == 'assistant' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
"""In the form of Qwen2.5-Math's, less its tools."""

VOCABULARY = 1024
WIDTH, LAYERS, HEADS, KV_HEADS, FEEDFORWARD = 64, 2, 2, 1, 128  # vLLM's CPU build knows heads of 32 and more
WARM_STEPS, WARM_LAST, WARM_PROMPT, WARM_ROWS, WARM_LR = 150, 20, 16, 16, 4e-3
TRACES = "math_gptoss_traces.jsonl"
OWN_ROWS, MIRROR_ROWS, WORD_ROWS = 48, 16, 150
BENCHMARK_ROWS = 3


def make(experiment: Experiment, place: Place, mirror: Path | None) -> None:
    """Write what the experiment needs: bases, training rows, benchmarks' rows.

    Raises:
        UserError: the mirror, or a base that is kept as it is, cannot be read.
    """
    if isinstance(experiment.problems, MiniProblems):
        return
    words = isinstance(experiment.problems, WordProblems)
    own = word_problems() if words else own_problems()
    train = [*own, *(mirror_problems(mirror) if mirror and not words else [])]
    prompt = prompt_spec(experiment)
    torch.set_num_threads(1)
    for name, base in experiment.bases.items():
        if not isinstance(base, MiniBase):
            save_policy(build_base(base, own, prompt, [text_of(problem) for problem in train]), place.base(name))
    if isinstance(experiment.problems, HubProblems):
        write_dataset([hub_row(problem, experiment.system_prompt) for problem in train], place.dataset)
    else:
        rows = [
            {"id": one.id, "problem": one.prompt, "answer": one.answer, "solution": one.solution, "level": None}
            for one in train
        ]
        for name in training_files(experiment.problems):
            _write_rows(place.mirror / "train" / f"{name}.jsonl", rows)
    write_benchmarks(experiment, place.mirror, mirror)


def own_problems() -> list[Problem]:
    """Training problems with an answer from 1 to 3, so that a hardly trained model is right by chance at times.

    Their solutions think, and state the answer in a box.
    """
    sets = mini.generate(MiniProblems(train=600, evaluation=1))
    easy = [problem for problem in sets["train"] if problem.answer in ("1", "2", "3")]
    return [_worked(problem) for problem in easy[:OWN_ROWS]]


def word_problems() -> list[Problem]:
    """Questions whose solutions are a formula, each with an answer from 1 to 3."""
    pairs = [(answer, taken) for taken in range(10, 10 + WORD_ROWS // 3) for answer in (1, 2, 3)]
    return [
        Problem(
            f"words-{answer + taken}-{taken}",
            "own",
            f"What is {answer + taken} without {taken}?",
            str(answer),
            f"{answer + taken} - {taken} = {answer}\n\\boxed{{{answer}}}",
        )
        for answer, taken in pairs
    ]


def mirror_problems(mirror: Path) -> list[Problem]:
    """The training problems of a mirror with the shortest verified traces; none where it has no such file."""
    folder = mirror / "train"
    if not (folder / TRACES).is_file():
        return []
    rows = _read_rows(folder / TRACES)
    shortest = sorted(rows, key=lambda row: (len(row["solution"]), row["id"]))[:MIRROR_ROWS]
    return [
        Problem(
            row["id"],
            "mirror",
            row["problem"],
            row["answer"],
            _demonstration(row["solution"].partition("</think>")[0].removeprefix("<think>").strip(), row["answer"]),
        )
        for row in shortest
    ]


def text_of(problem: Problem) -> str:
    """Question and demonstration, for a tokenizer to learn from."""
    return f"{problem.prompt}\n{problem.solution}"


def write_dataset(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows as Parquet, the hub's own form."""
    from datasets import Dataset

    path.parent.mkdir(parents=True, exist_ok=True)
    Dataset.from_list([dict(row) for row in rows]).to_parquet(str(path))


def write_benchmarks(experiment: Experiment, folder: Path, mirror: Path | None) -> None:
    """Write a few rows of each benchmark, from a mirror or of our own, and say so where the lock is looked after."""
    apart = experiment.evaluation.out_of_distribution
    named = getattr(experiment.problems, "benchmarks", ())
    records = {}
    for name in {**dict.fromkeys(named), **BENCHMARKS}:
        if mirror is not None:
            rows = _read_rows(find_file(mirror / "benchmarks", name))[:BENCHMARK_ROWS]
        else:
            choices = name in apart or (name in BENCHMARKS and BENCHMARKS[name].domain == "ood")
            rows = [own_question(name, number, choices) for number in range(BENCHMARK_ROWS)]
        text = _write_rows(folder / "benchmarks" / f"{name}.jsonl", rows)
        records[name] = {"from": OWN, "rows": len(rows), "sha256": sha256(text).hexdigest()}
    write_atomically(folder / FETCHED, json.dumps(records, indent=1).encode())


def own_question(name: str, number: int, choices: bool) -> dict[str, Any]:
    """A question in the form of a mirror's row; its answer is the number, or that option's letter."""
    options = [f"${option}$" for option in range(1, 5)] if choices else None
    return {
        "id": f"{name}-{number}",
        "problem": f"Compute ${number + 3} - 2$.",
        "answer": ascii_uppercase[number] if choices else str(number + 1),
        "choices": options,
        "level": None,
    }


def _read_rows(path: Path) -> list[dict[str, Any]]:
    lines = enumerate(read_text(path).split("\n"), start=1)  # a text may hold other ends of lines
    return [read_object(line, f"{path}, line {number}") for number, line in lines if line.strip()]


def _write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> bytes:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    write_atomically(path, text)
    return text


def _worked(problem: Problem) -> Problem:
    steps = (problem.solution or "").replace(";", "\n").rpartition("\nA")[0]
    question = f"What is the value of x in {problem.prompt}?" if "x" in problem.prompt else f"Compute {problem.prompt}."
    return Problem(problem.id, "own", question, problem.answer, _demonstration(steps, problem.answer))


def _demonstration(thought: str, answer: str) -> str:
    return f"<think>\n{thought}\n</think>\n\nThe answer is $\\boxed{{{answer}}}$."


def hub_row(problem: Problem, system_prompt: str | None) -> dict[str, Any]:
    """A row in the columns of LUFFY's OpenR1-Math-46k-8192."""
    system = [{"role": "system", "content": system_prompt}] if system_prompt else []
    return {
        "data_source": problem.family,
        "prompt": [*system, {"role": "user", "content": problem.prompt}],
        "target": [{"role": "assistant", "content": problem.solution}],
        "ability": "math",
        "reward_model": {"ground_truth": problem.answer, "style": "rule"},
        "extra_info": {"index": 0, "split": "train"},
    }


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerBase:
    """A tokenizer of Qwen2's kind, with its special tokens and the form of its chat template, learnt from these texts;
    what ends a text also pads, as in Qwen2.5-Math."""
    tokenizer = Qwen2Tokenizer().train_new_from_iterator(
        texts, VOCABULARY, new_special_tokens=SPECIAL, show_progress=False
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def build_base(base: Base, problems: Sequence[Problem], prompt: PromptSpec, texts: Sequence[str]) -> Policy:
    """A model of the base's architecture with few narrow layers and random weights, which then reads these problems for
    a few seconds: else it would never close a thought, no prompt had right and wrong rows, and no arm a gradient.

    Args:
        texts: what the tokenizer learns from, beside the prompt's own.
    """
    tokenizer = build_tokenizer([prompt.system_prompt or "", prompt.instruction or "", TEMPLATE, *texts])
    torch.manual_seed(0)
    shape = shape_of(base)
    config = AutoConfig.for_model(
        "qwen2" if shape.bias else "llama",
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        intermediate_size=FEEDFORWARD,
        max_position_embeddings=4096,
        tie_word_embeddings=shape.tied,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, max_new_tokens=2048)
    policy = Policy(model, tokenizer, torch.device("cpu"))
    _warm(policy, problems, prompt)
    model.eval()
    return policy


def _warm(policy: Policy, problems: Sequence[Problem], prompt: PromptSpec) -> None:
    rows: list[tuple[tuple[int, ...], list[int]]] = []
    for problem in problems:
        asked = render(problem, policy.tokenizer, prompt).tokens
        answer = (problem.solution or "").removeprefix(prompt.opening or "")
        said = [*policy.tokenizer.encode(answer, add_special_tokens=False), policy.tokenizer.eos_token_id]
        rows.append((asked, said))
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=WARM_LR)
    for step in range(WARM_STEPS):
        # The whole prompt, which is long, only at last.
        most = WARM_PROMPT if step < WARM_STEPS - WARM_LAST else None
        chosen = [rows[i] for i in seeds.permutation(len(rows), "rehearsal", step)[:WARM_ROWS]]
        texts = [torch.tensor([*asked[-(most or len(asked)) :], *said]) for asked, said in chosen]
        ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
        learnt = torch.zeros_like(ids, dtype=torch.bool)
        for row, (text, (_, said)) in enumerate(zip(texts, chosen, strict=True)):
            learnt[row, len(text) - len(said) : len(text)] = True
        hidden = policy.model.base_model(ids).last_hidden_state[:, :-1]
        logits = policy.model.get_output_embeddings()(hidden[learnt[:, 1:]])
        loss = torch.nn.functional.cross_entropy(logits, ids[learnt])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
