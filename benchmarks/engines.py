"""How fast vLLM samples beside the torch engine: one process, one policy, the same prompts and budgets, in turns.

    .venv-vllm/bin/python -m benchmarks.engines CHECKPOINT

Nothing ends a response but its budget, so that both draw as many tokens. The hand-over of weights is timed apart.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks.timing import HEADER, alternate
from dagrpo.config import TorchEmbedded, VllmColocated
from dagrpo.policy.checkpoint import Policy, load_policy
from dagrpo.policy.device import resolve_device
from dagrpo.rollout.engine import Request, Sampling
from dagrpo.rollout.make import make_engine


class Endless(Policy):
    """A policy whose responses end by their budget alone."""

    @property
    def end_tokens(self) -> frozenset[int]:
        return frozenset()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8)
    parser.add_argument("--prompt-tokens", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=64, help="of each response")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--eager", action="store_true", help="no compilation in vLLM")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    policy = load_policy(arguments.checkpoint, resolve_device("auto"))
    endless = Endless(policy.model, policy.tokenizer, policy.device)
    requests = [
        Request(f"p{i}", tuple(5 + (i + k) % 20 for k in range(arguments.prompt_tokens)), arguments.group)
        for i in range(arguments.prompts)
    ]
    rows = arguments.prompts * arguments.group
    options = VllmColocated(memory=0.05 if policy.device.type == "cpu" else 0.4, eager=arguments.eager, dtype="float32")
    with (
        make_engine(TorchEmbedded(), endless, rows, policy.device) as own,
        make_engine(options, endless, rows, policy.device) as vllm,
    ):
        asked = Sampling(1.0, arguments.tokens, 0, "benchmark")

        def handed_over() -> None:
            vllm.update()
            vllm.sample(requests[:1], replace(asked, max_new_tokens=1))

        took = alternate(
            {
                "torch": lambda: own.sample(requests, asked),
                "vLLM": lambda: vllm.sample(requests, asked),
                "hand-over of weights, and one token": handed_over,
            },
            arguments.repeats,
        )
    lines = [timing.row(name, took["torch"]) for name, timing in took.items()]
    print(f"{rows} rows of {arguments.tokens} tokens, {arguments.threads} threads, {policy.device}")
    print(tabulate(lines, HEADER, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
