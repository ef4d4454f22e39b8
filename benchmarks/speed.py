"""How fast rollouts, updates and whole steps are, as ratios to the usual way, both sides in one run.

    python -m benchmarks.speed --base results/mini/bases/mini/seed0

measures on the mini experiment's problems. Without --base a base of its shape is trained for a minute first, so that
responses have lengths as in training. One thread is the default, for the experiments run two jobs side by side. `step`
needs TRL: pip install -c constraints.txt -e '.[bench]'.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks.plain import padded_update, replayed
from benchmarks.steps import Took, our_step, settings, trl_steps
from benchmarks.timing import HEADER, Timing, alternate
from dagrpo.config import MiniBase, MiniProblems, PromptSpec, Scorer, Verifier
from dagrpo.jobs.usage import peak_bytes
from dagrpo.policy.checkpoint import Policy, load_policy
from dagrpo.policy.logprobs import token_logps
from dagrpo.policy.packing import PackedGroup, pack
from dagrpo.policy.pretrain import pretrain
from dagrpo.problems import mini
from dagrpo.problems.prompts import render
from dagrpo.problems.store import read_problems
from dagrpo.processes.signals import never
from dagrpo.records import Problem, Rollout
from dagrpo.rollout.engine import Request, Sampling
from dagrpo.rollout.torch_engine import TorchEngine
from dagrpo.trainer.curriculum import problems_of_step
from dagrpo.verify import make_verifier
from eval.sampling import ROUNDS, batches

CPU = torch.device("cpu")
SKIPPED = 0.4


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(arguments.threads)
    problems = read_problems(arguments.problems) if arguments.problems else mini.generate(MiniProblems())["train"]
    with tempfile.TemporaryDirectory() as scratch:
        arguments.scratch = scratch
        arguments.base = arguments.base or _short_base(Path(scratch), arguments.threads)
        policy = load_policy(arguments.base, CPU)
        size = sum(parameter.numel() for parameter in policy.model.parameters())
        print(f"\n{size / 1e6:.2f} M parameters, {arguments.threads} thread(s), torch {torch.__version__}")
        for name in arguments.parts or PARTS:
            PARTS[name](policy, problems, arguments)
            print(f"\nat most {peak_bytes() / 2**30:.1f} GiB up to here", flush=True)


def rollouts(policy: Policy, problems: Sequence[Problem], arguments: argparse.Namespace) -> None:
    """Sampling by the torch engine against transformers' generate, the same tokens on both sides."""
    for prompts in (arguments.prompts, 2 * arguments.prompts):
        requests, sampled, sample = _sampled(policy, problems, prompts, arguments)
        plain = replayed(policy, requests, sampled, arguments.budget)
        times = alternate({"generate": plain, "engine": sample}, arguments.repeats)
        lengths = sorted(len(rollout.tokens) for rollouts in sampled for rollout in rollouts)
        note = f"{sum(lengths)} tokens; median length {lengths[len(lengths) // 2]}, longest {lengths[-1]}"
        _print(
            f"Rollouts: {prompts} prompts x {arguments.group} rows, at most {arguments.budget} tokens",
            [
                times["generate"].row("transformers generate", times["generate"], note),
                times["engine"].row("torch engine", times["generate"], note),
            ],
        )


def evaluation(policy: Policy, problems: Sequence[Problem], arguments: argparse.Namespace) -> None:
    """Four samples of each problem in batches as evaluation makes them, against batches that never refill a row."""
    rows, samples = 2 * arguments.prompts * arguments.group, 4
    requests = [
        Request(problem.id, render(problem, policy.tokenizer, PromptSpec()).tokens, samples) for problem in problems
    ]
    engine = TorchEngine(policy, rows)
    sampling = Sampling(0.6, arguments.budget, 0, "benchmark")

    def sample(rounds: int) -> list[list[Rollout]]:
        cut = batches(requests, [samples] * len(requests), rows * rounds // ROUNDS)
        return [rollouts for batch in cut for rollouts in engine.sample(batch, sampling)]

    tokens = [[rollout.tokens for rollout in rollouts] for rollouts in sample(ROUNDS)]
    changed = sum(ours != [one.tokens for one in theirs] for ours, theirs in zip(tokens, sample(1), strict=True))
    times = alternate({"one": lambda: sample(1), "several": lambda: sample(ROUNDS)}, arguments.repeats)
    note = f"{sum(len(one) for group in tokens for one in group)} tokens"
    _print(
        f"Evaluation: {len(requests)} problems x {samples} samples, {rows} rows, at most {arguments.budget} tokens",
        [
            times["one"].row("batches of one round", times["one"], note),
            times["several"].row(f"batches of {ROUNDS} rounds", times["one"], f"{changed} problems sampled otherwise"),
        ],
    )


def update(policy: Policy, problems: Sequence[Problem], arguments: argparse.Namespace) -> None:
    """Forward and backward over one step's rows, packed against padded, with equal gradients."""
    requests, sampled, _ = _sampled(policy, problems, arguments.prompts, arguments)
    groups = [
        PackedGroup(
            request.prompt_tokens,
            [rollout.tokens for rollout in rollouts],
            range(number * arguments.group, (number + 1) * arguments.group),
        )
        for number, (request, rollouts) in enumerate(zip(requests, sampled, strict=True))
    ]
    rows = len(groups) * arguments.group
    draw = torch.Generator().manual_seed(0)
    full = torch.randn(rows, generator=draw)
    sparse = full.clone()
    sparse[torch.randperm(rows, generator=draw)[: round(SKIPPED * rows)]] = 0.0
    for coefficients, title in ((full, "every row has a gradient"), (sparse, f"{SKIPPED:.0%} of the rows have none")):

        def padded(coefficients: torch.Tensor = coefficients) -> None:
            policy.model.zero_grad()
            padded_update(policy, groups, coefficients, arguments.budget, arguments.micro_tokens)

        def packed(coefficients: torch.Tensor = coefficients) -> None:
            policy.model.zero_grad()
            _packed_update(policy, groups, coefficients, arguments.budget, arguments.micro_tokens)

        padded()
        expected = _gradient(policy)
        packed()
        difference = float((_gradient(policy) - expected).norm() / expected.norm())
        assert difference < 1e-5, f"gradients differ by {difference:.1e}"
        times = alternate({"padded": padded, "packed": packed}, arguments.repeats)
        tokens = sum(len(response) for group in groups for response in group.responses)
        _print(
            f"Update: {rows} rows, {title}; gradients differ by {difference:.0e} of their norm",
            [
                times["padded"].row("padded batches", times["padded"], f"{tokens} response tokens"),
                times["packed"].row("packed lines", times["padded"]),
            ],
        )


def methods(policy: Policy, problems: Sequence[Problem], arguments: argparse.Namespace) -> None:
    """One step of DaGRPO against one of LUFFY, from the same weights and with the same rollouts."""
    train = settings(arguments.prompts, arguments.group, arguments.budget, arguments.micro_tokens)
    verifier, scorer = _judges(arguments)
    count = arguments.repeats * arguments.steps
    took: dict[str, list[Took]] = {"luffy": [], "dagrpo": []}
    with make_verifier(verifier, never) as grader:
        sides = {name: our_step(policy, problems, name, train, grader, scorer) for name in took}
        for number in range(count + 1):
            for name, side in sides.items():
                figures = side(number)
                if number:
                    took[name].append(figures)
    luffy = took["luffy"]
    rows = [
        [
            {"luffy": "LUFFY", "dagrpo": "DaGRPO"}[name],
            *(f"{_median(each, phase) * 1e3:.0f}" for phase in ("whole", "processor", "rollout", "score", "update")),
            f"{_median(luffy, 'whole') / _median(each, 'whole'):.2f}",
            f"{sum(one.sampled for one in each)}",
            f"{sum(one.trained for one in each)}",
            f"{sum(one.masked for one in each)}",
        ]
        for name, each in took.items()
    ]
    header = [
        "",
        "median ms",
        "processor",
        "rollout",
        "verdict, score",
        "update",
        "times faster",
        "sampled",
        "trained",
        "masked rows",
    ]
    print(f"\nMethods: {_shape(arguments)}, {count} steps; tokens are their sums\n")
    print(tabulate(rows, header, tablefmt="github", disable_numparse=True), flush=True)


def step(_: Policy, problems: Sequence[Problem], arguments: argparse.Namespace) -> None:
    """Whole GRPO steps against TRL's GRPOTrainer: same weights, prompts, group, budget, precision and threads."""
    train = settings(arguments.prompts, arguments.group, arguments.budget, arguments.micro_tokens)
    verifier, scorer = _judges(arguments)
    ours, trl = [], []
    with make_verifier(verifier, never) as grader:
        for _repeat in range(arguments.repeats):
            one = our_step(load_policy(arguments.base, CPU), problems, "grpo", train, grader, scorer)
            ours += [one(number) for number in range(arguments.steps + 1)][1:]
            trl += trl_steps(
                load_policy(arguments.base, CPU), problems, train, grader, arguments.steps + 1, arguments.scratch
            )
    timings = {
        name: Timing([one.whole for one in took], [one.processor for one in took])
        for name, took in (("TRL GRPOTrainer", trl), ("dagrpo", ours))
    }
    tokens = {"TRL GRPOTrainer": sum(one.sampled for one in trl), "dagrpo": sum(one.sampled for one in ours)}
    _print(
        f"GRPO step: {_shape(arguments)}, {arguments.repeats} times {arguments.steps} steps",
        [
            timing.row(name, timings["TRL GRPOTrainer"], f"{tokens[name]} response tokens in all")
            for name, timing in timings.items()
        ],
    )


PARTS: dict[str, Callable[[Policy, Sequence[Problem], argparse.Namespace], None]] = {
    "rollouts": rollouts,
    "evaluation": evaluation,
    "update": update,
    "methods": methods,
    "step": step,
}


def _judges(arguments: argparse.Namespace) -> tuple[Verifier, Scorer]:
    if arguments.problems:
        return Verifier(kind="math"), Scorer(kind="reference_overlap")
    return Verifier(kind="exact"), Scorer(kind="step_checker")


def _shape(arguments: argparse.Namespace) -> str:
    return f"{arguments.prompts} prompts x {arguments.group} rows"


def _median(took: Sequence[Took], phase: str) -> float:
    return statistics.median(getattr(one, phase) for one in took)


def _packed_update(
    policy: Policy, groups: Sequence[PackedGroup], coefficients: torch.Tensor, budget: int, micro_tokens: int
) -> None:
    kept = []
    for group in groups:
        active = [index for index, row in enumerate(group.rows) if coefficients[row] != 0]
        if active:
            responses, rows = [group.responses[index] for index in active], [group.rows[index] for index in active]
            kept.append(PackedGroup(group.prompt_tokens, responses, rows))
    for micro in pack(kept, micro_tokens):
        out = token_logps(policy.model, micro, temperature=1.0)
        ratio = (out.logp - out.logp.detach()).exp()
        (-(coefficients[out.row] * ratio).sum() / (len(coefficients) * budget)).backward()


def _sampled(
    policy: Policy, problems: Sequence[Problem], prompts: int, arguments: argparse.Namespace
) -> tuple[list[Request], list[list[Rollout]], Callable[[], list[list[Rollout]]]]:
    """Requests for the problems of a first step, their samples, and the function that samples them."""
    chosen = problems_of_step(problems, prompts, step=0, seed=0)
    requests = [
        Request(problem.id, render(problem, policy.tokenizer, PromptSpec()).tokens, arguments.group)
        for problem in chosen
    ]
    engine = TorchEngine(policy, prompts * arguments.group)
    sampling = Sampling(1.0, arguments.budget, 0, "benchmark")

    def sample() -> list[list[Rollout]]:
        return engine.sample(requests, sampling)

    return requests, sample(), sample


def _gradient(policy: Policy) -> torch.Tensor:
    return torch.cat(
        [parameter.grad.flatten() for parameter in policy.model.parameters() if parameter.grad is not None]
    )


def _short_base(folder: Path, threads: int) -> Path:
    pretrain(MiniBase(steps=200, threads=threads), 0, MiniProblems(), folder / "base", folder / "state")
    return folder / "base"


def _print(title: str, rows: list[list[str]]) -> None:
    print(f"\n{title}\n")
    print(tabulate(rows, HEADER, tablefmt="github", disable_numparse=True), flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help=f"what to measure, of {', '.join(PARTS)}; all if left out")
    parser.add_argument("--base", type=Path, help="folder of a checkpoint, such as results/mini/bases/mini/seed0")
    parser.add_argument("--problems", type=Path, help="file of problems, such as results/smollm2/problems/train.jsonl")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--group", type=int, default=8, help="rows of a prompt")
    parser.add_argument("--budget", type=int, default=60, help="most tokens of a response")
    parser.add_argument(
        "--micro-tokens", type=int, default=4096, help="most tokens that an update of either side holds at once"
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10, help="steps in each repeat of `methods` and `step`")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.parts if name not in PARTS]:
        parser.error(f"nothing here is called {unknown[0]!r}; there are {', '.join(PARTS)}")
    return arguments


if __name__ == "__main__":
    main()
