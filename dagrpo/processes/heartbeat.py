"""A sign of life of this process: what waits on purpose gives one, so that waiting is not taken for hanging."""

import time

_last = time.monotonic()


def beat() -> None:
    """Say that this process is alive and knows what it waits for."""
    global _last
    _last = time.monotonic()


def age() -> float:
    """Seconds since the last sign."""
    return time.monotonic() - _last
