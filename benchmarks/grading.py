"""How many verdicts a second the verifier gives, and how long hostile answers delay it.

    python -m benchmarks.grading --workers 2

Two clocks: the wall's, and processor time (this process's, and the workers' divided by their number), which is what the
wall would show on idle cores. Needs /proc.
"""

import argparse
import random
import time
from dataclasses import dataclass

from tabulate import tabulate

from benchmarks.answers import HOSTILE, hostile_responses, ordinary_step
from benchmarks.stopwatch import stopwatch
from dagrpo.processes.signals import never
from dagrpo.records import Problem, Response
from dagrpo.verify import Graded, MathVerifier
from dagrpo.verify.workers import Workers

SHOWN = 5


@dataclass(frozen=True, slots=True)
class Rate:
    """Verdicts a second, by the wall clock and by processor time."""

    wall: float
    processor: float


@dataclass(frozen=True, slots=True)
class Delay:
    """Seconds of one call, by both clocks, and what it found."""

    wall: float
    processor: float
    graded: list[Graded]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2, help="processes that judge answers")
    parser.add_argument("--seconds", type=float, default=2.0, help="wall-clock limit of one verdict")
    parser.add_argument("--calls", type=int, default=6, help="steps of 2,048 ordinary answers; the first warms up")
    arguments = parser.parse_args()
    with MathVerifier(Workers(arguments.workers, arguments.seconds, never)) as verifier:
        rates = throughput(verifier, arguments.calls)
        print(f"{arguments.workers} worker(s), limit {arguments.seconds} s\n\nordinary answers, verdicts a second:")
        rows = [[call, f"{rate.wall:,.0f}", f"{rate.processor:,.0f}"] for call, rate in enumerate(rates)]
        print(tabulate(rows, ["call", "wall", "processor"], disable_numparse=True))
        together = delay(verifier, hostile_responses(64))
        print(f"\n64 hostile answers in one call: {together.wall:.2f} s (wall), {together.processor:.2f} s (processor)")
        alone = {text: delay(verifier, [rf"\boxed{{{text}}}"]) for text in HOSTILE}
        slowest = sorted(alone.items(), key=lambda item: -item[1].processor)[:SHOWN]
        print(f"\nthe slowest {SHOWN} of {len(HOSTILE)}, each in a call of its own:")
        rows = [[_short(text), *_shown(one)] for text, one in slowest]
        print(tabulate(rows, ["answer", "wall, s", "processor, s", "verdict"], disable_numparse=True))


def throughput(verifier: MathVerifier, calls: int) -> list[Rate]:
    """Grade steps of ordinary answers, each of its own; the first call waits for the workers."""
    draw = random.Random(0)
    rates = []
    for _ in range(calls):
        pairs = ordinary_step(draw)
        problems, responses = zip(*pairs, strict=True)
        started = time.perf_counter()
        with stopwatch(verifier.workers) as watch:
            verifier.grade(problems, [Response(text, "stop", "") for text in responses])
        rates.append(Rate(len(pairs) / (time.perf_counter() - started), len(pairs) / watch.seconds))
    return rates


def delay(verifier: MathVerifier, responses: list[str]) -> Delay:
    """Grade responses to a question whose answer is x, in one call."""
    question = Problem("hostile", "benchmark", "?", "x")
    started = time.perf_counter()
    with stopwatch(verifier.workers) as watch:
        graded = verifier.grade([question] * len(responses), [Response(text, "stop", "") for text in responses])
    return Delay(time.perf_counter() - started, watch.seconds, graded)


def _shown(one: Delay) -> list[str]:
    return [f"{one.wall:.2f}", f"{one.processor:.2f}", one.graded[0].verdict.value]


def _short(text: str) -> str:
    return text if len(text) <= 40 else f"{text[:24]} ... ({len(text):,} characters)"


if __name__ == "__main__":
    main()
