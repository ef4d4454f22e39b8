"""Does anything break at the shapes of the paper's model? Two training steps of a randomly initialised one.

    python -m benchmarks.full_shape --out results/reference/full-shape/NAME.json

The rows are noise of full length, one right and one wrong in each group, and go through the trainer's own collecting
and learning. Printed and written: what was cut, seconds, and the highest memory over what the program held before there
was a model, beside what `dagrpo plan` says. The defaults are the 7B's vocabulary and widths with as few layers as fit
into 24 GiB; `--layers 28 --untied` on a large GPU is the whole.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.untrained import untrained
from dagrpo import provenance
from dagrpo.algorithm import find_method
from dagrpo.config import Optimizer, PromptSpec, Scorer, Train, Verifier
from dagrpo.plan.hours import update_operations, work_of
from dagrpo.plan.memory import FP32, Load, Setup, load_of, update
from dagrpo.plan.shapes import Shape, shape_from_config
from dagrpo.policy.device import resolve_device
from dagrpo.policy.sharding import Weights
from dagrpo.processes.signals import never
from dagrpo.records import Problem, Rollout
from dagrpo.rollout.engine import Request, Sampling
from dagrpo.scorers import Tools, make_scorer
from dagrpo.trainer import optimizer as optim
from dagrpo.trainer.collect import Collector
from dagrpo.trainer.learn import learn
from dagrpo.verify import make_verifier

GIB = 2**30


@dataclass(frozen=True, slots=True)
class Cut:
    """The model and the rows. The full one has 28 layers and an output layer of its own."""

    vocabulary: int = 152064
    width: int = 3584
    layers: int = 1
    heads: int = 28
    kv_heads: int = 4
    feedforward: int = 18944
    untied: bool = False
    dtype: str = "float32"
    prompt: int = 64
    response: int = 8192
    short: int = 64
    prompts: int = 1
    steps: int = 2
    micro_tokens: int = 8256
    recompute: bool = False
    threads: int = 2


class NoiseEngine:
    """Answers with random tokens: the first sample of a prompt at full length and right, the others short and wrong."""

    shared = False

    def __init__(self, cut: Cut) -> None:
        self.cut = cut
        self.generator = torch.Generator().manual_seed(0)

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Rollout]]:
        """Make the rollouts of each request."""
        return [[self._rollout(index) for index in range(request.samples)] for request in requests]

    def update(self) -> None:
        """Nothing is held that new weights would change."""

    def _rollout(self, index: int) -> Rollout:
        length = self.cut.short if index else self.cut.response
        tokens = torch.randint(3, self.cut.vocabulary, (length,), generator=self.generator).tolist()
        return Rollout(index, tuple(tokens), f"A {index}", "stop", "policy", (-1.0,) * length)


class NoisePrompts(Collector):
    """Collects with prompts of random tokens in place of rendered questions, which would be too short."""

    cut: Cut

    def prompt_of(self, problem: Problem, question: str | None = None) -> tuple[int, ...]:
        """The prompt of a problem: always the same length."""
        return tuple((7 * i + int(problem.id)) % self.cut.vocabulary for i in range(self.cut.prompt))


def run(cut: Cut, device: torch.device) -> dict[str, Any]:
    """Make the model and take the steps; returns the figures."""
    torch.set_num_threads(cut.threads)
    optimizer = Optimizer(lr=1e-6)
    train = Train(
        steps=cut.steps,
        prompts=cut.prompts,
        group_size=2,
        max_new_tokens=cut.response,
        micro_tokens=cut.micro_tokens,
        rl=optimizer,
        sft=optimizer,
        sft_steps=1,
    )
    problems = [Problem(str(i), "noise", f"{i}?", "0") for i in range(cut.prompts)]
    recipe = find_method("dr_grpo").algorithm({"clip": None}, "full shape").phases[0].recipe
    before = reset_peak(device)
    policy = untrained(
        device,
        getattr(torch, cut.dtype),
        vocabulary=cut.vocabulary,
        width=cut.width,
        layers=cut.layers,
        heads=cut.heads,
        kv_heads=cut.kv_heads,
        feedforward=cut.feedforward,
        window=16384,
        untied=cut.untied,
    )
    weights, adamw = Weights(policy, cut.recompute), optim.build(policy.model, optimizer)
    taken = []
    with make_verifier(Verifier(kind="exact")) as grader:
        scorer = make_scorer(Scorer(kind="reference_overlap"), Tools(policy, never))
        collector = NoisePrompts(problems, policy, NoiseEngine(cut), grader, scorer, train, PromptSpec(), seed=0)
        collector.cut = cut
        for number in range(cut.steps):
            started = time.monotonic()
            step = collector.rollouts(recipe, number, {})
            figures = learn(weights, None, adamw, recipe, step, train, optimizer, 1e-6, {}, never, number, cut.steps)
            taken.append({"seconds": time.monotonic() - started, **figures})
            print(json.dumps(taken[-1]), flush=True)
    peak = peak_bytes(device) - before
    bytes_ = torch.finfo(getattr(torch, cut.dtype)).bits // 8
    planned = planned_bytes(cut, bytes_)
    return {
        "cut": asdict(cut),
        "parameters": sum(parameter.numel() for parameter in policy.model.parameters()),
        "steps": taken,
        "peak_gib": peak / GIB,
        "planned_operations": planned_operations(cut),
        "planned_gib": {name: value / GIB for name, value in planned.items()} if bytes_ == 4 else None,
        "machine": provenance.card(device)["hardware"],
    }


def planned_bytes(cut: Cut, bytes_: int) -> dict[str, float]:
    """What the model of `dagrpo plan` says of these steps; it holds where weights are fp32, as training has them."""
    return update(_shape(cut), _setup(cut, bytes_), _load(cut))


def planned_operations(cut: Cut) -> float:
    """Operations of all steps, by the model of `dagrpo plan`."""
    load = _load(cut)
    work = work_of(cut.prompts * (cut.response + cut.short - 2), cut.prompts, cut.prompt, load)
    return cut.steps * update_operations(_shape(cut), _setup(cut, FP32), load, work)


def _shape(cut: Cut) -> Shape:
    config = {
        "model_type": "qwen2",
        "vocab_size": cut.vocabulary,
        "hidden_size": cut.width,
        "num_hidden_layers": cut.layers,
        "num_attention_heads": cut.heads,
        "num_key_value_heads": cut.kv_heads,
        "intermediate_size": cut.feedforward,
        "tie_word_embeddings": not cut.untied,
    }
    return shape_from_config(config, "full shape")


def _setup(cut: Cut, bytes_: int) -> Setup:
    return Setup(compute_bytes=bytes_, recompute=cut.recompute)


def _load(cut: Cut) -> Load:
    return load_of(cut.prompt, cut.response, cut.micro_tokens, rows=0)


def reset_peak(device: torch.device) -> int:
    """Forget the highest memory until now; returns the bytes that are held."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def peak_bytes(device: torch.device) -> int:
    """The highest memory since :func:`reset_peak` (bytes)."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _status("VmHWM")


def _status(name: str) -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Cut()).items():
        if isinstance(value, bool):
            parser.add_argument(f"--{name}", action="store_true")
        else:
            parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--out", type=Path)
    words = vars(parser.parse_args())
    device, out = resolve_device(words.pop("device")), words.pop("out")
    figures = run(Cut(**words), device)
    print(json.dumps({name: figures[name] for name in ("parameters", "peak_gib", "planned_gib")}, indent=1))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
