"""What large pages for malloc gain on the miniature, with the same bits.

    python -m benchmarks.pages

Steps of a base's training and sampling, on one thread: as it is against our GLIBC_TUNABLES, in turn, in ms of the
processor, with a checksum of what comes out.
"""

import argparse
import os
import sys
import time
from collections import defaultdict

import torch
from tabulate import tabulate

from benchmarks.sides import header, measured, row
from dagrpo.config import Corpus, MiniBase, MiniProblems
from dagrpo.jobs.environment import LARGE_PAGES
from dagrpo.policy.checkpoint import Policy
from dagrpo.policy.pretrain import Reading, build_model, build_optimizers, train_step
from dagrpo.problems.mini.tokenizer import build_tokenizer
from dagrpo.rollout.engine import Request, Sampling
from dagrpo.rollout.torch_engine import TorchEngine

SIDES: dict[str, dict[str, str | None]] = {
    "as it is": {"GLIBC_TUNABLES": None},
    "large pages": {"GLIBC_TUNABLES": LARGE_PAGES},
}


def measure(steps: int) -> None:
    """Print what a step of training and a batch of samples take, and what came out."""
    torch.set_num_threads(1)
    spec, tokenizer = MiniBase(steps=900, corpus=Corpus(problems=3000)), build_tokenizer()
    model = build_model(spec, 0, tokenizer)
    optimizers, reading = build_optimizers(model, spec), Reading(spec, 0, MiniProblems(train=50), tokenizer)
    prompts = list(reading.prompts.items())[:8]
    engine = TorchEngine(Policy(model.eval(), tokenizer, torch.device("cpu")), rows=64)
    for number in range(2 * steps):
        if number == steps:  # all before is a warm-up
            started = time.process_time()
        loss = train_step(model, optimizers, reading.batch(number), 0.1)
    print("step of a base", 1e3 * (time.process_time() - started) / steps)
    print("(loss)", loss)
    requests = [Request(name, tokens, 8) for name, tokens in prompts]
    total = 0.0
    for number in range(2 * steps):
        if number == steps:
            started = time.process_time()
        sampled = engine.sample(requests, Sampling(1.0, 60, 0, "benchmark", number))
        total += sum(sum(rollout.logps) for rollouts in sampled for rollout in rollouts)
    print("64 samples", 1e3 * (time.process_time() - started) / steps)
    print("(log-probabilities)", total)


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.pages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    script = f"from benchmarks.pages import measure; measure({arguments.steps})"
    took: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(arguments.repeats):
        for side, changes in SIDES.items():
            for name, value in measured(script, changes).items():
                took[name][side].append(value)
    outcomes = {name: took.pop(name) for name in list(took) if name.startswith("(")}
    for name, found in outcomes.items():
        assert len({value for values in found.values() for value in values}) == 1, f"{name} differ: {dict(found)}"
    print(f"\n{os.cpu_count()} cores, Python {sys.version.split()[0]}, torch {torch.__version__}; ms of a core\n")
    print(tabulate([row(*each) for each in took.items()], header(SIDES), "github", disable_numparse=True), flush=True)


if __name__ == "__main__":
    main()
