"""Is it right on a GPU, and how fast? One command, under nine minutes, nothing is downloaded.

    python -m benchmarks.gpu_check --out results/reference/gpu/NAME.json

Correctness: objectives and the torch engine on the GPU against the CPU in fp32, and a run stopped and continued in
deterministic mode. Speed: steps of GRPO and DaGRPO on a randomly initialised model in bf16, with a coin for a reward,
so that every row has a gradient; each phase beside what the device can do at best, which is measured in the same run.
On a machine without a GPU, `--device cpu --size tiny` checks the program itself.
"""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # before CUDA starts: deterministic products need it

import torch
import transformers
from tabulate import tabulate

from baselines.random_reward import random_reward
from benchmarks.steps import Took, settings
from benchmarks.untrained import untrained
from dagrpo.algorithm import Recipe, find_method, methods
from dagrpo.config import MiniProblems, Optimizer, PromptSpec, Scorer, Train, TrainSpec, Verifier
from dagrpo.errors import Interrupted
from dagrpo.policy.checkpoint import Policy, save_policy
from dagrpo.policy.sharding import Weights, shard
from dagrpo.problems import mini
from dagrpo.problems.store import write_problems
from dagrpo.processes.signals import never
from dagrpo.processes.world import open_world
from dagrpo.records import Problem
from dagrpo.rollout.engine import Request, Sampling
from dagrpo.rollout.torch_engine import TorchEngine
from dagrpo.scorers import make_scorer
from dagrpo.trainer import optimizer as optim
from dagrpo.trainer.collect import Collector
from dagrpo.trainer.job import train as train_run
from dagrpo.trainer.learn import learn
from dagrpo.verify import Verifier as Grader
from dagrpo.verify import make_verifier

CPU = torch.device("cpu")
TOLERANCE = 1e-3
"""Largest relative difference of a loss or gradient norm between GPU and CPU, in fp32 without TF32."""
BF16_TOLERANCE = 0.1
"""The same between fp32 and bf16."""


@dataclass(frozen=True, slots=True)
class Size:
    """Shape of the model that is timed, and of its steps."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    feedforward: int
    vocabulary: int
    prompts: int
    group: int
    budget: int
    steps: int


SIZES = {
    "tiny": Size(64, 2, 4, 2, 128, 512, prompts=2, group=4, budget=64, steps=2),
    "0.5b": Size(896, 24, 14, 2, 4864, 151936, prompts=32, group=8, budget=512, steps=4),  # the shape of Qwen2.5-0.5B
    "1.5b": Size(1536, 28, 12, 2, 8960, 151936, prompts=16, group=8, budget=1024, steps=3),  # that of Qwen2.5-Math-1.5B
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--size", default="0.5b", choices=SIZES)
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    words = parser.parse_args()
    device = torch.device(words.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU; on a machine without one: --device cpu --size tiny")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    problems = mini.generate(MiniProblems())["train"]
    figures: dict[str, Any] = {"machine": machine(device)}
    with make_verifier(Verifier(kind="exact")) as grader:
        figures["correct"] = {
            "engine": engine_agrees(device, problems),
            "objectives": objectives_agree(device, problems, grader),
            "resume": resume_is_exact(words.device, problems),
            "sharded": sharded_agrees(device, problems, grader),
        }
        show("Right?", [["check", "result"], *([name, str(value)] for name, value in figures["correct"].items())])
        figures["best"] = best(device)
        figures["speed"] = {
            name: speed(device, problems, grader, name, SIZES[words.size]) for name in ("grpo", "dagrpo")
        }
    figures["size"] = asdict(SIZES[words.size])
    figures["share"] = {name: share(took, figures["best"]) for name, took in figures["speed"].items()}
    for part in ("best", "speed", "share"):
        show(part.capitalize(), table(figures[part]))
    if words.out:
        words.out.parent.mkdir(parents=True, exist_ok=True)
        words.out.write_text(json.dumps(figures, indent=1) + "\n")
    if not all(bool(value["right"]) for value in figures["correct"].values()):
        raise SystemExit("not right: see the first table")


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    card = {"torch": torch.__version__, "transformers": transformers.__version__, "python": platform.python_version()}
    if device.type == "cuda":
        seen = torch.cuda.get_device_properties(device)
        return card | {"device": seen.name, "memory_gib": seen.total_memory / 2**30, "cuda": torch.version.cuda}
    return card | {"device": platform.processor() or platform.machine(), "threads": torch.get_num_threads()}


def make_policy(size: Size, device: torch.device, dtype: torch.dtype) -> Policy:
    """A randomly initialised model; a small one, which is made twice and compared, is the same on every device."""
    return untrained(
        device,
        dtype,
        vocabulary=size.vocabulary,
        width=size.width,
        layers=size.layers,
        heads=size.heads,
        kv_heads=size.kv_heads,
        feedforward=size.feedforward,
        window=size.budget + 512,
        drawn_on=CPU if size.vocabulary < 10_000 else None,
    )


def engine_agrees(device: torch.device, problems: list[Problem]) -> dict[str, Any]:
    """The engine draws the same tokens on both devices, with the same log-probabilities."""
    size, drawn = SIZES["tiny"], []
    for where in (CPU, device):
        policy = make_policy(size, where, torch.float32)
        prompt = tuple(policy.tokenizer.encode("1 + 2 = ", add_special_tokens=False))
        requests = [Request(problem.id, prompt, 8) for problem in problems[:8]]
        sampled = TorchEngine(policy, 32).sample(requests, Sampling(1.0, 48, seed=0, purpose="check"))
        drawn.append([rollout for rollouts in sampled for rollout in rollouts])
    same = sum(one.tokens == other.tokens for one, other in zip(*drawn, strict=True))
    gaps = [
        abs(a - b)
        for one, other in zip(*drawn, strict=True)
        if one.tokens == other.tokens
        for a, b in zip(one.logps, other.logps, strict=True)
    ]
    # A draw may fall the other way where its uniform number lies within rounding of a boundary.
    right = same >= 0.95 * len(drawn[0]) and max(gaps, default=1.0) < 1e-4
    return {"right": right, "same_rows": same, "of": len(drawn[0]), "largest_logp_gap": max(gaps, default=1.0)}


def with_a_coin(name: str) -> Recipe:
    """The recipe of a method's first phase that samples, rewarded by a coin, for a random model solves nothing."""
    recipe = next(phase.recipe for phase in find_method(name).algorithm({}, name).phases if phase.recipe.samples)
    coin = random_reward(find_method("random_reward").resolved({})).phases[0].recipe.reward
    return replace(recipe, reward=coin, filter=None, curriculum=None)


def objectives_agree(device: torch.device, problems: list[Problem], grader: Grader) -> dict[str, Any]:
    """One update of every method from the same rows has the same loss and gradient norm on both devices."""
    size, worst, compared = SIZES["tiny"], 0.0, 0
    train = settings(size.prompts, size.group, 64)
    for name in methods():
        if not any(phase.recipe.samples for phase in find_method(name).algorithm({}, name).phases):
            continue
        recipe, outcomes = with_a_coin(name), []
        collected = None
        for where in (CPU, device):
            policy = make_policy(size, where, torch.float32)
            tools = collector(policy, problems, grader, train, recipe)
            collected = collected or tools.rollouts(recipe, 0, {})
            reference = Weights(make_policy(size, where, torch.float32)) if recipe.needs_reference else None
            optimizer = optim.build(policy.model, train.rl)
            outcomes.append(
                learn(Weights(policy), reference, optimizer, recipe, collected, train, train.rl, 0.0, {}, never)
            )
        compared += 1
        for key in ("loss", "grad_norm"):
            one, other = (outcome[key] for outcome in outcomes)
            worst = max(worst, abs(one - other) / max(abs(one), abs(other), 1e-3))
    return {"right": worst < TOLERANCE, "methods": compared, "largest_difference": worst}


def sharded_agrees(device: torch.device, problems: list[Problem], grader: Grader) -> dict[str, Any]:
    """An update of GRPO through FSDP2, in fp32 and in bf16, has the loss and gradient norm of plain weights."""
    size, recipe, found = SIZES["tiny"], with_a_coin("grpo"), {}
    policy = make_policy(size, device, torch.float32)
    train = settings(size.prompts, size.group, 64)
    collected = collector(policy, problems, grader, train, recipe).rollouts(recipe, 0, {})

    def learned(weights: Weights, train: Train) -> dict[str, float]:
        adamw = optim.build(weights.model, train.rl)
        return learn(weights, None, adamw, recipe, collected, train, train.rl, 0.0, {}, never)

    plain = learned(Weights(policy), train)
    with open_world(sharded=True) as world:
        for precision in ("fp32", "bf16"):
            asked = train.model_copy(update={"precision": precision, "recompute": True})
            weights = shard(make_policy(size, CPU, torch.float32), asked, world, device)
            took = learned(weights, asked)
            found[precision] = max(
                abs(took[key] - plain[key]) / max(abs(plain[key]), 1e-3) for key in ("loss", "grad_norm")
            )
    return {"right": found["fp32"] < TOLERANCE and found["bf16"] < BF16_TOLERANCE, "largest_difference": found}


def collector(policy: Policy, problems: list[Problem], grader: Grader, train: Train, recipe: Recipe) -> Collector:
    engine = TorchEngine(policy, train.rollout_rows)
    scorer = make_scorer(Scorer(kind="step_checker"))
    made = Collector(problems, policy, engine, grader, scorer, train, PromptSpec(), seed=0)
    if recipe.needs_demonstrations:
        made.prepare_demonstrations()
    return made


def resume_is_exact(device: str, problems: list[Problem]) -> dict[str, Any]:
    """A run that is stopped and continued ends with the very weights of one that is not, in deterministic mode."""
    size, adamw = SIZES["tiny"], Optimizer(lr=1e-3)
    job = TrainSpec(
        arm="check", method="random_reward", options={},
        train=Train(steps=4, prompts=4, group_size=4, max_new_tokens=24, updates=2, rl=adamw, sft=adamw, sft_steps=1,
                    checkpoint_every=1, conflict_every=0),
        prompt=PromptSpec(), verifier=Verifier(kind="exact"), scorer=Scorer(kind="step_checker"), device=device,
    )  # fmt: skip
    torch.use_deterministic_algorithms(True)
    try:
        with tempfile.TemporaryDirectory() as scratch:
            root = Path(scratch)
            save_policy(make_policy(size, CPU, torch.float32), root / "base")
            write_problems(root / "problems.jsonl", problems[:40])
            prints, stops = {}, 0
            for name, patience in (("whole", None), ("again", None), ("parts", 60)):
                while True:
                    try:
                        out, state = root / name, root / f"{name}-state"
                        train_run(job, 0, root / "base", root / "problems.jsonl", out, state, after(patience))
                    except Interrupted:
                        stops += 1
                    else:
                        break
                prints[name] = json.loads((root / name / "run.json").read_text())["model_fingerprint"]
    finally:
        torch.use_deterministic_algorithms(False)
    return {"right": len(set(prints.values())) == 1 and stops > 0, "stopped": stops}


def after(looks: int | None) -> Callable[[], bool]:
    """A wish to stop that comes up after so many looks; never for ``None``."""
    left = [looks]

    def should_stop() -> bool:
        if left[0] is None:
            return False
        left[0] -= 1
        return left[0] < 0

    return should_stop


def best(device: torch.device) -> dict[str, float]:
    """What the device reaches at best: GB/s read and written by a copy, TFLOP/s of a large bf16 product."""
    large = 2**28 if device.type == "cuda" else 2**24
    source = torch.ones(large, dtype=torch.bfloat16, device=device)
    target = torch.empty_like(source)
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, dtype=torch.bfloat16, device=device) for _ in range(2))
    return {
        "copy_gb_per_s": 2 * source.nbytes / seconds(device, lambda: target.copy_(source)) / 1e9,
        "matmul_tflop_per_s": 2 * side**3 / seconds(device, lambda: left @ right) / 1e12,
    }


def seconds(device: torch.device, work: Callable[[], object], repeats: int = 10) -> float:
    """The shortest of some repeats, after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        settle(device)
        started = time.perf_counter()
        work()
        settle(device)
        times.append(time.perf_counter() - started)
    return min(times[1:])


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def speed(device: torch.device, problems: list[Problem], grader: Grader, name: str, size: Size) -> dict[str, float]:
    """Steps of a method in bf16 after one that is not counted: medians by phase, tokens a second, peak memory."""
    policy = make_policy(size, device, torch.bfloat16)
    train = settings(size.prompts, size.group, size.budget).model_copy(
        update={"micro_tokens": 16384, "rollout_rows": size.prompts * size.group}
    )
    recipe = with_a_coin(name)
    tools = collector(policy, problems, grader, train, recipe)
    optimizer = optim.build(policy.model, train.rl)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    steps: list[Took] = []
    for number in range(size.steps + 1):
        settle(device)
        started = time.perf_counter()
        step = tools.rollouts(recipe, number, {})
        collected = time.perf_counter()
        learned = learn(Weights(policy), None, optimizer, recipe, step, train, train.rl, 0.0, {}, never)
        settle(device)
        done = time.perf_counter()
        steps.append(
            Took(
                whole=done - started,
                processor=0.0,
                rollout=step.rollout_seconds,
                score=step.score_seconds,
                update=done - collected,
                sampled=step.consumed.response_tokens,
                trained=int(learned["trained_tokens"]),
                masked=int(((step.rows.advantage != 0) & (step.rows.weight == 0)).sum()),
            )
        )
    taken = steps[1:]

    def middle(of: Callable[[Took], float]) -> float:
        return sorted(of(one) for one in taken)[len(taken) // 2]

    rows = size.prompts * size.group
    return {
        "parameters": sum(parameter.numel() for parameter in policy.model.parameters()),
        "steps_per_s": 1 / middle(lambda one: one.whole),
        "rollout_s": middle(lambda one: one.rollout),
        "score_s": middle(lambda one: one.score),
        "update_s": middle(lambda one: one.update),
        "rollout_tokens_per_s": middle(lambda one: one.sampled / one.rollout),
        "update_tokens_per_s": middle(lambda one: one.trained / one.update),
        "decoding_steps_per_s": middle(lambda one: one.sampled / rows / one.rollout),
        "masked_rows": sum(one.masked for one in taken) / (len(taken) * rows),
        "peak_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else float("nan"),
    }


def share(took: dict[str, float], limits: dict[str, float]) -> dict[str, float]:
    """How much of the device's best each phase reaches: decoding must read all weights once a token of a row, learning
    costs six operations a parameter and token (attention and cache left out, so that both are lower bounds)."""
    weights = 2 * took["parameters"]
    return {
        "decode_of_copy": took["decoding_steps_per_s"] * weights / (limits["copy_gb_per_s"] * 1e9),
        "update_of_matmul": 6
        * took["parameters"]
        * took["update_tokens_per_s"]
        / (limits["matmul_tflop_per_s"] * 1e12),
    }


def table(figures: dict[str, Any]) -> list[list[str]]:
    nested = figures if all(isinstance(value, dict) for value in figures.values()) else {"": figures}
    keys = list(next(iter(nested.values())))
    return [["", *nested], *([key, *(f"{one[key]:.4g}" for one in nested.values())] for key in keys)]


def show(title: str, rows: list[list[str]]) -> None:
    print(f"\n{title}\n{tabulate(rows[1:], headers=rows[0])}", flush=True)


if __name__ == "__main__":
    main()
