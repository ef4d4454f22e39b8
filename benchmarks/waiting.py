"""What threads that soon sleep while they wait gain beside other work, and cost on a quiet machine.

    python -m benchmarks.waiting

Matrix products and a forward with its backward pass, on two threads: libgomp as it is, with our GOMP_SPINCOUNT, and
with OMP_WAIT_POLICY=PASSIVE, in turn. First as quiet as the machine is, then beside as many busy processes as there
are cores. --alone takes the cores from all other processes (real-time priority; needs root) for the first part.
"""

import argparse
import os
from collections import defaultdict

from tabulate import tabulate

from benchmarks.sides import busy, header, measured, row
from dagrpo.jobs.environment import SPIN

SIDES: dict[str, dict[str, str | None]] = {
    "as it is": {"GOMP_SPINCOUNT": None, "OMP_WAIT_POLICY": None},
    "ours": {"GOMP_SPINCOUNT": SPIN, "OMP_WAIT_POLICY": None},
    "passive": {"GOMP_SPINCOUNT": None, "OMP_WAIT_POLICY": "PASSIVE"},
}

SCRIPT = """
import os, sys, time, torch
from torch import nn
torch.set_num_threads(int(sys.argv[1]))
if sys.argv[3] == "alone":  # before libgomp starts its threads, which inherit it
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))

def product(rows, inner, outer):
    a, b = torch.randn(rows, inner), torch.randn(inner, outer)
    return lambda: a @ b

def update(rows, width):
    net = nn.Sequential(nn.Linear(width, 3 * width), nn.SiLU(), nn.Linear(3 * width, width), nn.RMSNorm(width))
    x = torch.randn(rows, width)
    return lambda: net(x).square().mean().backward()

for name, run in {
    "product 64 x 96 x 256": product(64, 96, 256),
    "product 2048 x 96 x 256": product(2048, 96, 256),
    "product 1024 x 576 x 1536": product(1024, 576, 1536),
    "update of 2048 rows, width 96": update(2048, 96),
}.items():
    for _ in range(3):
        run()
    count, started = 0, time.perf_counter()
    while time.perf_counter() < started + float(sys.argv[2]):
        run()
        count += 1
    print(name, 1e3 * (time.perf_counter() - started) / count)
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.waiting", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--alone", action="store_true")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    for others in (0, cores):
        words = str(arguments.threads), str(arguments.seconds), "alone" if arguments.alone and not others else ""
        took: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        for _ in range(arguments.repeats):
            for side, changes in SIDES.items():
                with busy(others):
                    found = measured(SCRIPT, changes, *words)
                for name, milliseconds in found.items():
                    took[name][side].append(milliseconds)
        print(f"\n{arguments.threads} threads on {cores} cores, {others or 'no'} other busy processes; ms\n")
        print(
            tabulate([row(*each) for each in took.items()], header(SIDES), "github", disable_numparse=True), flush=True
        )


if __name__ == "__main__":
    main()
