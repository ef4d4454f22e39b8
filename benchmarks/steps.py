"""Whole training steps: ours for any method, and those of TRL's GRPOTrainer.

The learning rate is zero on every side, so that all steps sample from the same weights and stay comparable.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.plain import rows_at_once
from dagrpo.algorithm import find_method
from dagrpo.config import Optimizer, PromptSpec, Scorer, Train
from dagrpo.errors import UserError
from dagrpo.policy.checkpoint import Policy
from dagrpo.policy.sharding import Weights
from dagrpo.problems.prompts import render
from dagrpo.processes.signals import never
from dagrpo.records import Problem, Response
from dagrpo.rollout.torch_engine import TorchEngine
from dagrpo.scorers import make_scorer
from dagrpo.trainer import optimizer as optim
from dagrpo.trainer.collect import Collector
from dagrpo.trainer.curriculum import problems_of_step
from dagrpo.trainer.learn import learn
from dagrpo.verify import Verifier


@dataclass(frozen=True, slots=True)
class Took:
    """What one step took (seconds, by phase) and what it handled (tokens and rows)."""

    whole: float
    processor: float
    rollout: float
    score: float
    update: float
    sampled: int
    trained: int
    masked: int


def settings(prompts: int, group: int, budget: int, micro_tokens: int = 4096) -> Train:
    """Training settings of a step with one update, which holds at most ``micro_tokens`` tokens at once."""
    adamw = Optimizer(lr=1e-4)
    return Train(
        steps=1, prompts=prompts, group_size=group, max_new_tokens=budget, rl=adamw, sft=adamw, sft_steps=1,
        rollout_rows=prompts * group, micro_tokens=micro_tokens,
    )  # fmt: skip


def our_step(
    policy: Policy, problems: Sequence[Problem], method: str, train: Train, grader: Verifier, scorer: Scorer
) -> Callable[[int], Took]:
    """A function that runs one step of a method's only phase, at learning rate zero."""
    recipe = find_method(method).algorithm({}, method).phases[0].recipe
    optimizer = optim.build(policy.model, train.rl)
    engine = TorchEngine(policy, train.rollout_rows)
    collector = Collector(problems, policy, engine, grader, make_scorer(scorer), train, PromptSpec(), seed=0)
    if recipe.anchors:
        collector.prepare_demonstrations()

    def run(number: int) -> Took:
        wall, processor = time.perf_counter(), time.process_time()
        step = collector.rollouts(recipe, number, {})
        collected = time.perf_counter()
        learned = learn(Weights(policy), None, optimizer, recipe, step, train, train.rl, 0.0, {}, never)
        done = time.perf_counter()
        return Took(
            whole=done - wall,
            processor=time.process_time() - processor,
            rollout=step.rollout_seconds,
            score=step.score_seconds,
            update=done - collected,
            sampled=int(step.rows.length[~step.rows.anchor].sum()),
            trained=int(learned["trained_tokens"]),
            masked=int(((step.rows.advantage != 0) & (step.rows.weight == 0)).sum()),
        )

    return run


def trl_steps(
    policy: Policy, problems: Sequence[Problem], train: Train, grader: Verifier, steps: int, scratch: str
) -> list[Took]:
    """Run TRL's GRPOTrainer on the prompts of our first ``steps`` steps; its first step is a warm-up and not returned.

    It samples all rows of a step together, as we do, and learns from at most ``train.micro_tokens`` tokens at once.

    Raises:
        UserError: TRL is not installed.
    """
    try:
        from datasets import Dataset
        from transformers import TrainerCallback
        from trl import GRPOConfig, GRPOTrainer
    except ImportError:
        raise UserError(
            "TRL is not installed; pip install -c constraints.txt -e '.[bench]' in an environment of its own"
        ) from None

    chosen = [problem for step in range(steps) for problem in problems_of_step(problems, train.prompts, step, seed=0)]
    ends: list[tuple[float, float]] = []
    tokens: list[int] = []

    def reward(completions: list[str], completion_ids: list[list[int]], number: list[int], **_: Any) -> list[float]:
        tokens.append(sum(map(len, completion_ids)))
        graded = grader.grade([chosen[i] for i in number], [Response(text, "stop", "") for text in completions])
        return [float(outcome.verdict == "correct") for outcome in graded]

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append((time.perf_counter(), time.process_time()))

    texts = [_prompt_text(problem, policy) for problem in chosen]
    rows = train.prompts * train.group_size
    longest = max(len(policy.tokenizer(text).input_ids) for text in texts)
    at_once = rows_at_once(rows, longest + train.max_new_tokens, train.micro_tokens)
    trainer = GRPOTrainer(
        model=policy.model,
        processing_class=policy.tokenizer,
        reward_funcs=reward,
        train_dataset=Dataset.from_dict({"prompt": texts, "number": list(range(len(chosen)))}),
        callbacks=[Clock()],
        args=GRPOConfig(
            output_dir=scratch,
            per_device_train_batch_size=at_once,
            gradient_accumulation_steps=rows // at_once,
            steps_per_generation=rows // at_once,
            num_generations=train.group_size,
            max_completion_length=train.max_new_tokens,
            max_steps=steps,
            learning_rate=0.0,
            lr_scheduler_type="constant",
            temperature=train.temperature,
            loss_type="grpo",
            shuffle_dataset=False,
            bf16=False,
            gradient_checkpointing=False,
            use_cpu=True,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )
    trainer.train()
    policy.model.eval()
    return [
        Took(wall - earlier[0], processor - earlier[1], 0.0, 0.0, 0.0, count, count, 0)
        for earlier, (wall, processor), count in zip(ends, ends[1:], tokens[1:], strict=False)
    ]


def _prompt_text(problem: Problem, policy: Policy) -> str:
    """The rendered prompt as text, which must give the very tokens that our side reads."""
    messages = [{"role": "user", "content": problem.prompt}]
    text: str = policy.tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert tuple(policy.tokenizer(text).input_ids) == render(problem, policy.tokenizer, PromptSpec()).tokens
    return text
