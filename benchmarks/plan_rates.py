"""Do steps of different shapes take the time that `dagrpo plan` says, relative to each other?

    python -m benchmarks.plan_rates --out results/reference/plan/NAME.json

Each shape takes one step, then three; the difference is the CPU time of two steps, on one thread. If the plan were
exact, and the processor as fast at products of any size, planned operations a second would be the same for all.
"""

import argparse
import contextlib
import io
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.full_shape import Cut, planned_operations, run
from dagrpo import provenance

CPU = torch.device("cpu")
ONE = Cut(
    vocabulary=16000,
    width=1536,
    layers=1,
    heads=12,
    kv_heads=2,
    feedforward=4480,
    untied=True,
    prompt=64,
    response=2048,
    short=512,
    micro_tokens=2700,
    threads=1,
)
DEEP = replace(ONE, layers=3, response=600, short=600)
SHAPES = {
    "a long row": ONE,
    "short rows": replace(ONE, response=160, short=160, prompts=8),
    "three layers": DEEP,
    "three layers, recomputed": replace(DEEP, recompute=True),
}


def measure(cut: Cut) -> dict[str, Any]:
    """CPU seconds of a step, and the operations that are planned for it."""
    taken = [_seconds(replace(cut, steps=steps)) for steps in (1, 3)]
    seconds, operations = (taken[1] - taken[0]) / 2, planned_operations(replace(cut, steps=1))
    return {"cut": asdict(cut), "seconds": seconds, "operations": operations, "rate": operations / seconds}


def _seconds(cut: Cut) -> float:
    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        run(cut, CPU)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    out = parser.parse_args().out
    found = {name: measure(cut) for name, cut in SHAPES.items()}
    middle = mean(one["rate"] for one in found.values())
    rows = [
        [name, one["seconds"], one["operations"] / 1e9, one["rate"] / 1e9, one["rate"] / middle]
        for name, one in found.items()
    ]
    print(tabulate(rows, ["shape", "CPU s a step", "planned Gop", "Gop/s", "of the mean"], floatfmt=".2f"))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        told = {"shapes": found, "machine": provenance.card(CPU)["hardware"]}
        out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
