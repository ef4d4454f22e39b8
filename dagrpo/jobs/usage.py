"""What a job took, for the last line of its log."""

import resource
import sys
import time


def usage(started: float) -> str:
    """Seconds, seconds of the processor and peak memory of this process and of those that it has waited for.

    Args:
        started: when the work began (``time.monotonic``).
    """
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(one.ru_utime + one.ru_stime for one in both)
    return (
        f"took {time.monotonic() - started:.1f} s, {processor:.1f} s of a core, "
        f"{peak_bytes() / 2**20:.0f} MiB at the peak"
    )


def peak_bytes() -> int:
    """Peak memory of this process, or of the largest of those that it has waited for where that is more (bytes)."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return max(one.ru_maxrss for one in both) * (1 if sys.platform == "darwin" else 1024)
