"""The plan as a person reads it, and the refusal of what cannot fit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from dagrpo.algorithm import Algorithm, find_method
from dagrpo.config import Experiment, Train
from dagrpo.errors import UserError
from dagrpo.plan.devices import GIB, Device, find_device
from dagrpo.plan.hours import DISK, Lengths, Seconds, arm_seconds
from dagrpo.plan.judge import beside_the_judge, judge_table
from dagrpo.plan.memory import (
    FP32,
    Load,
    Setup,
    conflict_probe,
    gradients,
    load_of,
    rollout,
    setup_of,
    state,
    update,
    vllm_least,
)
from dagrpo.plan.published import held_against_published
from dagrpo.plan.shapes import Shape, shape_of
from dagrpo.plan.storage import disk_bytes, run_host
from dagrpo.plan.taken import PROMPT_TOKENS, SHARE_OF_BUDGET, SHARE_OF_DEMONSTRATION


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """What the plan is made for; ``None``: by the shares of :mod:`dagrpo.plan.taken`."""

    gpu: str
    response_tokens: int | None = None
    measured: Path | None = None


def show_plan(experiment: Experiment, request: PlanRequest) -> str:
    """Describe memory and hours of every base and arm."""
    device = find_device(request.gpu, request.measured)
    parts = [_header(experiment, request, device)]
    for name, base in experiment.bases.items():
        shape = shape_of(base)
        parts.append(f"{name}: {shape.parameters / 1e9:.2f} billion parameters")
        parts.append(_memory_table(shape, experiment, device))
        parts.append(_hours_table(shape, experiment, request, device))
        parts.append(_host_table(shape, experiment))
    parts.append(
        f"Disk: {disk_bytes(experiment) / GIB:,.0f} GiB for all checkpoints, and the sealed states of one run."
    )
    lengths = _lengths(experiment.train, request)
    if (table := judge_table(experiment, lengths.prompt, lengths.response, lengths.demonstration)) is not None:
        parts.append(table)
    parts.append(_published_table())
    return "\n\n".join(parts)


def _load(train: Train) -> Load:
    return load_of(PROMPT_TOKENS, train.max_new_tokens, train.micro_tokens, train.rollout_rows)


def _lengths(train: Train, request: PlanRequest) -> Lengths:
    return Lengths(
        PROMPT_TOKENS,
        request.response_tokens or round(SHARE_OF_BUDGET * train.max_new_tokens),
        round(SHARE_OF_DEMONSTRATION * train.max_new_tokens),
        train.max_new_tokens,
    )


def _header(experiment: Experiment, request: PlanRequest, device: Device) -> str:
    train, lengths = experiment.train, _lengths(experiment.train, request)
    setup = setup_of(experiment, train)
    held = f"shared out among {setup.gpus} GPUs" if setup.gpus > 1 else "on one GPU"
    learns = f"adapters of rank {train.lora.rank} learn" if train.lora else "all weights learn"
    kept = "computed again in the backward pass" if setup.recompute else "kept"
    return (
        f"{experiment.name} on {setup.gpus} x {device.name} ({device.source}): {device.usable:.0%} of the memory, "
        f"{device.mfu:.0%} of the rate and {device.mbu:.0%} of the bandwidth can be used.\n"
        f"A run in fp32 {held} (processes: {setup.gpus}); {learns}; computed in {train.precision} (train.precision); "
        f"activations {kept} (train.recompute); sampled by {setup.engine.kind} (engine.kind).\n"
        f"Lengths (tokens): prompts of {lengths.prompt}, responses of {lengths.response} on average and "
        f"{lengths.budget} at most (some of every step), demonstrations of {lengths.demonstration}.\n"
        f"Every row has a gradient; attention is over whole lines; states are sealed at {DISK / 1e9:.0f} GB/s.\n"
        "Not counted: the judge's delay, verifier, evaluation, start, a vLLM server's own GPUs."
    )


def _memory_table(shape: Shape, experiment: Experiment, device: Device) -> str:
    train = experiment.train
    setup, load = setup_of(experiment, train), _load(train)
    moments = {"update": update(shape, setup, load), "rollout": rollout(shape, setup, load, device)}
    if train.conflict_every:
        moments["conflict"] = conflict_probe(shape, setup, load, train.group_size)
    names = list(dict.fromkeys(name for parts in moments.values() for name in parts))
    rows = [[name, *(parts.get(name, 0) / GIB for parts in moments.values())] for name in names]
    rows.append(["all", *(sum(parts.values()) / GIB for parts in moments.values())])
    rows.append(["there is", *(device.memory * device.usable / GIB,) * len(moments)])
    return tabulate(rows, ["GiB on a GPU", *moments], floatfmt=".2f")


def _hours_table(shape: Shape, experiment: Experiment, request: PlanRequest, device: Device) -> str:
    names = [part.name for part in fields(Seconds)]
    rows: list[list[Any]] = []
    gpu_hours = 0.0
    for name in experiment.arms:
        train = experiment.train_of(name)
        algorithm = _algorithm(experiment, name)
        setup = setup_of(experiment, train, algorithm.needs_reference)
        took = arm_seconds(algorithm, train, shape, setup, _load(train), _lengths(train, request), device)
        gpus = took.hours * setup.gpus * len(experiment.seeds_of(name))
        rows.append([name, *(getattr(took, part) / 3600 for part in names), took.hours, gpus])
        gpu_hours += gpus
    rows.append(["all", *[""] * (len(names) + 1), gpu_hours])
    return tabulate(rows, ["hours of a run", *names, "together", "GPU-hours, all seeds"], floatfmt=",.1f")


def _host_table(shape: Shape, experiment: Experiment) -> str:
    """Main memory of the run that takes most."""
    host = max((run_host(experiment, shape, arm) for arm in experiment.arms), key=lambda host: host.all)
    rows = [[part.name, getattr(host, part.name) / GIB] for part in fields(host)]
    return tabulate([*rows, ["all", host.all / GIB]], ["GiB of main memory, a run", ""], floatfmt=".1f")


def _published_table() -> str:
    source, found = held_against_published()
    rows = [[one.method, one.published, one.planned, one.planned / one.published] for one in found]
    table = tabulate(
        rows, ["hours of a run", "published", "by this model", "ratio"], floatfmt=("", ".0f", ".0f", ".2f")
    )
    return (
        f"This model and published totals ({source}; another program, lengths not published, 500 steps taken):\n{table}"
    )


def refuse_what_cannot_fit(experiment: Experiment, device: Device) -> None:
    """Raise :class:`UserError` for the first arm that does not fit; it names the setting to change, and to what."""
    device = beside_the_judge(experiment, device)
    for name, base in experiment.bases.items():
        shape = shape_of(base)
        for arm in experiment.arms:
            train = experiment.train_of(arm)
            setup = setup_of(experiment, train, _algorithm(experiment, arm).needs_reference)
            try:
                _refuse(shape, setup, _load(train), device)
                _refuse_conflict_probe(shape, setup, train, device)
            except UserError as error:
                raise UserError(f"bases.{name}, arms.{arm}: {error}") from None


def _refuse(shape: Shape, setup: Setup, load: Load, device: Device) -> None:
    there = device.memory * device.usable
    needed = _all(state(shape, setup)) + gradients(shape, setup)
    if needed > there:
        raise UserError(
            f"weights, gradients and optimiser alone take {needed / GIB:.1f} GiB of a GPU and "
            f"{there / GIB:.1f} can be used; {_more_gpus(shape, setup, there)}"
        )
    if (needed := _all(update(shape, setup, load))) > there:
        raise UserError(
            f"an update takes {needed / GIB:.1f} GiB and {there / GIB:.1f} can be used; "
            f"{_smaller_update(shape, setup, load, there)}"
        )
    if (needed := _all(rollout(shape, setup, load, device))) > there:
        raise UserError(
            f"sampling takes {needed / GIB:.1f} GiB and {there / GIB:.1f} can be used; "
            f"{_less_sampling(shape, setup, load, device)}"
        )
    if setup.engine.kind == "vllm":
        least = vllm_least(shape, setup.engine, load.length) / device.memory
        if setup.engine.memory < least:
            raise UserError(f"vLLM has no room for its weights and one full row; {_knob_of_vllm(least, up=True)}")


def _refuse_conflict_probe(shape: Shape, setup: Setup, train: Train, device: Device) -> None:
    there = device.memory * device.usable
    needed = _all(conflict_probe(shape, setup, _load(train), train.group_size)) if train.conflict_every else 0.0
    if needed > there:
        raise UserError(
            f"a conflict probe takes {needed / GIB:.1f} GiB and {there / GIB:.1f} can be used; leave it out: "
            "train.conflict_every: 0"
        )


def _algorithm(experiment: Experiment, arm: str) -> Algorithm:
    request = experiment.arms[arm]
    return find_method(request.method).algorithm(request.options, f"arms.{arm}.options")


def _all(parts: Mapping[str, float]) -> float:
    return sum(parts.values())


def _more_gpus(shape: Shape, setup: Setup, there: float) -> str:
    for gpus in range(setup.gpus + 1, 1025):
        shared = replace(setup, gpus=gpus)
        if _all(state(shape, shared)) + gradients(shape, shared) < there / 2:
            return f"share them out: processes: {gpus}, or take a GPU with more memory"
    return "take a smaller base, or a GPU with more memory"


def _smaller_update(shape: Shape, setup: Setup, load: Load, there: float) -> str:
    row = load.length - 1
    one_row = replace(load, micro=row, line=row)
    if load.micro > row and _all(update(shape, setup, one_row)) <= there:
        return f"lower train.micro_tokens to {row}, one row at a time"
    if not setup.recompute:
        return "compute activations again in the backward pass: train.recompute: true"
    if setup.compute_bytes == FP32:
        return "compute in half as many bits: train.precision: bf16"
    shorter = [length for length in range(row, 0, -256) if _fits(shape, setup, length, there)]
    return f"lower train.max_new_tokens to {max(1, shorter[0] - PROMPT_TOKENS)}" if shorter else "raise processes"


def _fits(shape: Shape, setup: Setup, length: int, there: float) -> bool:
    return _all(update(shape, setup, Load(length, length, 0, length))) <= there


def _less_sampling(shape: Shape, setup: Setup, load: Load, device: Device) -> str:
    there = device.memory * device.usable
    if setup.engine.kind == "vllm":
        share = setup.engine.memory - (_all(rollout(shape, setup, load, device)) - there) / device.memory
        if share >= vllm_least(shape, setup.engine, load.length) / device.memory:
            return _knob_of_vllm(share, up=False)
        return "raise processes, or take a GPU with more memory"
    none, one = (_all(rollout(shape, setup, replace(load, rows=rows), device)) for rows in (0, 1))
    rows = math.floor((there - none) / (one - none)) if one > none else 0
    return f"lower train.rollout_rows to {rows}" if rows > 0 else "lower train.max_new_tokens, or raise processes"


def _knob_of_vllm(share: float, up: bool) -> str:
    percent = math.ceil(100 * share) if up else math.floor(100 * share)
    return f"{'raise' if up else 'lower'} engine.memory to {percent / 100:.2f}"
