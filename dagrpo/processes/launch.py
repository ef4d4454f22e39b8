"""Start a run on several processes of this machine: torchrun, but what it ends with is what the processes end with."""

import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress

from dagrpo.errors import DELIBERATE_EXITS, EXIT_INTERRUPTED, UserError
from dagrpo.processes.signals import STOPS

_SEALING = 270
"""Seconds that processes have to seal their state after a SIGTERM: less than a cluster's job is given (five minutes in
the Slurm profile), more than torchrun's own 30, in which tens of gigabytes are not written."""


def launch(words: Sequence[str], processes: int) -> None:
    """Run ``dagrpo`` with these words on so many processes, which share one run, and return when all are done.

    A signal is passed on to all of them. Where one of them says why it ends, this process exits with the same code.

    Raises:
        UserError: one of them died.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main

    logging.disable(logging.ERROR)  # torchrun reports each signal and exit code, though the processes speak themselves
    started = ["--standalone", f"--nproc-per-node={processes}", f"--shutdown-timeout={_SEALING}", "-m", "dagrpo.cli"]
    try:
        main([*started, *words])
    except SignalException:
        _wait_for_all()
        sys.exit(EXIT_INTERRUPTED)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode in DELIBERATE_EXITS:
            sys.exit(failure.exitcode)
        how = failure.signal_name() if failure.exitcode < 0 else f"exit code {failure.exitcode}"
        raise UserError(
            f"process {rank + 1} of {processes} ended first, with {how}; the newest sealed state is whole: "
            "run the same command again to continue from it"
        ) from None


def _wait_for_all() -> None:
    """Let the processes seal their state, also where a second signal has broken torchrun's own waiting for them."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    with suppress(ChildProcessError):
        while True:
            os.wait()
