"""Two sides of a comparison, timed alternately in one process."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """Repeats of one side (seconds): by the wall clock, and by processor time, which other jobs disturb less."""

    wall: list[float]
    processor: list[float]

    def row(self, name: str, against: "Timing", note: str = "") -> list[str]:
        """A line of the table: median, spread and how many times faster than ``against``."""
        return [
            name,
            f"{statistics.median(self.wall) * 1e3:.0f}",
            f"{min(self.wall) * 1e3:.0f} to {max(self.wall) * 1e3:.0f}",
            f"{statistics.median(against.wall) / statistics.median(self.wall):.2f}",
            f"{statistics.median(against.processor) / statistics.median(self.processor):.2f}",
            note,
        ]


HEADER = ["", "median ms", "spread", "times faster", "by processor time", "note"]


def alternate(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Timing]:
    """Run every side once unmeasured, then ``repeats`` times in turn, so that a slow minute slows all of them."""
    timings: dict[str, Timing] = {name: Timing([], []) for name in sides}
    for repeat in range(repeats + 1):
        for name, side in sides.items():
            wall, processor = time.perf_counter(), time.process_time()
            side()
            if repeat:
                timings[name].wall.append(time.perf_counter() - wall)
                timings[name].processor.append(time.process_time() - processor)
    return timings
