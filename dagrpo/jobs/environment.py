"""What native libraries read from the environment once, when they are loaded: defaults that change no result."""

from collections.abc import Mapping

SPIN = "1000"
"""Turns that a thread of libgomp waits for others before it sleeps. By default it turns for milliseconds, and holds the
very core that the others need as soon as another process is busy; a thread that sleeps at once
(OMP_WAIT_POLICY=PASSIVE) makes the short steps of small networks slower on a quiet machine (benchmarks/waiting.py).
"""
LARGE_PAGES = "glibc.malloc.hugetlb=1"
"""Lets malloc ask the kernel for large pages: activations are freed and touched anew in each step
(benchmarks/pages.py). Only a process that is started with it has it."""


def with_defaults(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment and the defaults for what it leaves open."""
    defaults = {"GLIBC_TUNABLES": LARGE_PAGES}
    if "OMP_WAIT_POLICY" not in environment:
        defaults["GOMP_SPINCOUNT"] = SPIN
    return {**defaults, **environment}
