"""The plan as a person reads it, and the refusal of what cannot fit."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from dagrpo.algorithm import find_method
from dagrpo.config import Base, Experiment, Train
from dagrpo.errors import UserError
from dagrpo.plan.devices import GIB, Device, find_device
from dagrpo.plan.hours import Lengths, arm_seconds
from dagrpo.plan.memory import Load, Setup, load_of, rollout, state, update
from dagrpo.plan.shapes import Shape, shape_of

PROMPT_TOKENS = 1024
"""Prompt and its template at most, LUFFY's bound (arXiv 2504.14945)."""
SHARE_OF_BUDGET = 0.25
"""Mean length of a response, as a share of the budget: DaGRPO's figure 4 has 1200 to 2500 tokens of 8192."""
SHARE_OF_DEMONSTRATION = 0.5
"""Mean length of a demonstration, likewise; a guess."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the plan is made for; ``None``: by the shares above."""

    gpu: str
    setup: Setup
    response_tokens: int | None = None
    measured: Path | None = None


def show_plan(experiment: Experiment, asked: Asked) -> str:
    """Describe memory and hours of every base and arm."""
    device = find_device(asked.gpu, asked.measured)
    parts = [_header(experiment, asked, device)]
    for name, base in experiment.bases.items():
        shape = shape_of(base)
        parts.append(f"{name}: {shape.parameters / 1e9:.2f} billion parameters")
        parts.append(_memory_table(shape, experiment, asked.setup, device))
        parts.append(_hours_table(shape, experiment, asked, device))
    return "\n\n".join(parts)


def _load(train: Train) -> Load:
    return load_of(PROMPT_TOKENS, train.max_new_tokens, train.micro_tokens, train.rollout_rows)


def _lengths(train: Train, asked: Asked) -> Lengths:
    return Lengths(
        PROMPT_TOKENS,
        asked.response_tokens or round(SHARE_OF_BUDGET * train.max_new_tokens),
        round(SHARE_OF_DEMONSTRATION * train.max_new_tokens),
    )


def _header(experiment: Experiment, asked: Asked, device: Device) -> str:
    setup, lengths = asked.setup, _lengths(experiment.train, asked)
    held = "shared out among them" if setup.gpus > 1 else "on it"
    kept = "computed again in the backward pass" if setup.recompute else "kept"
    return (
        f"{experiment.name} on {setup.gpus} x {device.name} ({device.source}): {device.usable:.0%} of the memory, "
        f"{device.mfu:.0%} of the rate and {device.mbu:.0%} of the bandwidth can be used.\n"
        f"Weights, gradients and optimiser in fp32 {held}; {8 * setup.compute_bytes} bits to compute in; activations "
        f"{kept}.\n"
        f"Lengths (tokens): prompts of {lengths.prompt}, responses of {lengths.response} on average and "
        f"{experiment.train.max_new_tokens} at most, demonstrations of {lengths.demonstration}.\n"
        "Not counted: judge, verifier, communication, sealing, evaluation."
    )


def _memory_table(shape: Shape, experiment: Experiment, setup: Setup, device: Device) -> str:
    load = _load(experiment.train)
    moments = {"update": update(shape, setup, load), "rollout": rollout(shape, setup, load)}
    names = list(dict.fromkeys(name for parts in moments.values() for name in parts))
    rows = [[name, *(parts.get(name, 0) / GIB for parts in moments.values())] for name in names]
    rows.append(["all", *(sum(parts.values()) / GIB for parts in moments.values())])
    rows.append(["there is", *(device.memory * device.usable / GIB,) * 2])
    return tabulate(rows, ["GiB on a GPU", *moments], floatfmt=".2f")


def _hours_table(shape: Shape, experiment: Experiment, asked: Asked, device: Device) -> str:
    rows: list[list[Any]] = []
    gpu_hours = 0.0
    for name, arm in experiment.arms.items():
        train = experiment.train_of(name)
        algorithm = find_method(arm.method).algorithm(arm.options, f"arms.{name}.options")
        took = arm_seconds(algorithm, train, shape, asked.setup, _load(train), _lengths(train, asked), device)
        seeds = len(experiment.seeds_of(name))
        hours = (took.rollout / 3600, took.update / 3600, took.hours, took.hours * asked.setup.gpus * seeds)
        rows.append([name, *hours])
        gpu_hours += hours[-1]
    rows.append(["all", "", "", "", gpu_hours])
    return tabulate(rows, ["hours of a run", "rollout", "update", "both", "GPU-hours, all seeds"], floatfmt=",.1f")


def refuse_what_cannot_fit(experiment: Experiment, asked: Asked) -> None:
    """Raise :class:`UserError` for the first arm that does not fit; it names the setting to change, and to what."""
    device = find_device(asked.gpu, asked.measured)
    for name, base in experiment.bases.items():
        _refuse(name, base, experiment, asked.setup, device)


def _refuse(name: str, base: Base, experiment: Experiment, setup: Setup, device: Device) -> None:
    shape, there = shape_of(base), device.memory * device.usable
    trains: Mapping[str, Train] = {arm: experiment.train_of(arm) for arm in experiment.arms}
    for arm, train in trains.items():
        load = _load(train)
        where = f"bases.{name}, arms.{arm}"
        needed = sum(state(shape, setup).values())
        if needed > there:
            raise UserError(
                f"{where}: weights, gradients and optimiser alone take {needed / GIB:.1f} GiB of a GPU and "
                f"{there / GIB:.1f} can be used; {_more_gpus(shape, setup, there)}"
            )
        if (needed := sum(update(shape, setup, load).values())) > there:
            raise UserError(
                f"{where}: an update takes {needed / GIB:.1f} GiB and {there / GIB:.1f} can be used; "
                f"{_smaller_update(shape, setup, load, there)}"
            )
        if (needed := sum(rollout(shape, setup, load).values())) > there:
            raise UserError(
                f"{where}: sampling takes {needed / GIB:.1f} GiB and {there / GIB:.1f} can be used; "
                f"{_fewer_rows(shape, setup, load, there)}"
            )


def _more_gpus(shape: Shape, setup: Setup, there: float) -> str:
    for gpus in range(setup.gpus + 1, 1025):
        if sum(state(shape, replace(setup, gpus=gpus)).values()) < there / 2:
            return f"share them out: --gpus {gpus}, or a GPU with more memory"
    return "take a smaller base, or a GPU with more memory"


def _smaller_update(shape: Shape, setup: Setup, load: Load, there: float) -> str:
    row = load.length - 1
    one_row = replace(load, micro=row, line=row)
    if load.micro > row and sum(update(shape, setup, one_row).values()) <= there:
        return f"lower train.micro_tokens to {row}, one row at a time"
    if not setup.recompute:
        return "compute activations again in the backward pass: --recompute"
    shorter = [length for length in range(row, 0, -256) if _fits(shape, setup, length, there)]
    return (
        f"lower train.max_new_tokens to {max(1, shorter[0] - PROMPT_TOKENS)}" if shorter else "take more GPUs: --gpus"
    )


def _fits(shape: Shape, setup: Setup, length: int, there: float) -> bool:
    return sum(update(shape, setup, Load(length, length, 0, length)).values()) <= there


def _fewer_rows(shape: Shape, setup: Setup, load: Load, there: float) -> str:
    none, one = (sum(rollout(shape, setup, replace(load, rows=rows)).values()) for rows in (0, 1))
    rows = math.floor((there - none) / (one - none))
    return (
        f"lower train.rollout_rows to {rows}" if rows > 0 else "lower train.max_new_tokens, or take more GPUs: --gpus"
    )
