"""A base that trains in milliseconds, its problems and job specs: what tests of trainer and evaluation share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from dagrpo.config import MiniProblems, PromptSpec, Scorer, Train, TrainSpec, Verifier, parse
from dagrpo.policy.checkpoint import Policy, save_policy
from dagrpo.problems import write_problem_sets
from dagrpo.problems.mini.tokenizer import build_tokenizer
from dagrpo.problems.store import read_problems, write_problems
from dagrpo.trainer.job import train

TRAIN: dict[str, Any] = {
    "steps": 4,
    "prompts": 4,
    "group_size": 4,
    "max_new_tokens": 60,
    "rl": {"lr": 1e-3, "betas": (0.9, 0.95)},
    "sft": {"lr": 1e-3, "warmup": 0.5, "schedule": "cosine"},
    "sft_rows": 4,
    "sft_steps": 3,
    "rollout_rows": 16,
    "micro_tokens": 512,
    "checkpoint_every": 2,
}


def tiny_base(folder: Path, width: int = 16) -> Path:
    """Save a randomly initialised Llama of one layer with the miniature's tokenizer."""
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    save_policy(Policy(LlamaForCausalLM(config), tokenizer, torch.device("cpu")), folder)
    return folder


def tiny_problems(folder: Path) -> Path:
    """Write small problem sets."""
    write_problem_sets(MiniProblems(train=40, evaluation=4), folder)
    return folder


def spec(method: str, options: dict[str, Any] | None = None, **changes: Any) -> TrainSpec:
    """The spec of a training job on the miniature."""
    return TrainSpec(
        arm=method,
        method=method,
        options=options or {},
        train=parse(Train, {**TRAIN, **changes}, "train"),
        prompt=PromptSpec(),
        verifier=Verifier(kind="exact"),
        scorer=Scorer(kind="step_checker"),
        device="cpu",
    )


def guessing_base(folder: Path, width: int = 16) -> tuple[Path, Path]:
    """A base that answers every question with "A1" or "A2", and questions of which half want the one, half the other.

    So the groups hold right and wrong answers, as a trained base's would. Returns (checkpoint, problem file).
    """
    tiny_problems(folder / "made")
    made = read_problems(folder / "made" / "train.jsonl")
    problems = [replace(problem, answer=str(1 + i % 2), solution=f"A{1 + i % 2}") for i, problem in enumerate(made)]
    write_problems(folder / "train.jsonl", problems)
    school = spec("sft", sft_steps=60, sft_rows=40, sft={"lr": 2e-2})
    train(school, 0, tiny_base(folder / "random", width), folder / "train.jsonl", folder / "school", folder / "state")
    return folder / "school" / "model", folder / "train.jsonl"


def stop_after(calls: int) -> Callable[[], bool]:
    """A flag that asks for a stop once it has been looked at ``calls`` times."""
    left = [calls]

    def should_stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    return should_stop
