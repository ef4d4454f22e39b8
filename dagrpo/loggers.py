"""Trackers that a long run can tell its metrics to: tensorboard, wandb or trackio, each an optional package.

They are asked to keep what they are told on this machine, and a run needs none of them: where one fails, the run says
so once and goes on.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dagrpo.errors import UserError
from dagrpo.records import Tracker

Log = Callable[[str], None]
"""Takes a line of metrics, a JSON object with a step."""
PROJECT = "dagrpo"
_OFFLINE = {
    "WANDB_MODE": "offline",
    "WANDB_ERROR_REPORTING": "false",
    "GRADIO_ANALYTICS_ENABLED": "False",  # trackio shows its runs by gradio
}
"""What a tracker's environment says unless the user's own does."""
Send = Callable[[int, Mapping[str, float]], None]


def check_tracker(tracker: Tracker | None) -> None:
    """Look whether a tracker's package is there. Raises :class:`UserError` where it is not."""
    if tracker is not None and find_spec(tracker) is None:
        raise UserError(f"logger: {tracker} is not installed; run: pip install -e '.[{tracker}]'")


@contextmanager
def tracked(tracker: Tracker | None, run: Path, done: int) -> Iterator[Log]:
    """Tell a tracker the lines of a run's metrics, until the end of the context.

    Args:
        tracker: which one; ``None``: nobody is told.
        run: the folder of the run, after which the tracker names it; tensorboard's and wandb's files go into it.
        done: steps that an earlier start of this run has told.

    Raises:
        UserError: the package is not installed.
    """
    check_tracker(tracker)
    if tracker is None:
        yield lambda line: None
        return
    for name, value in _OFFLINE.items():
        os.environ.setdefault(name, value)
    calls: list[tuple[Send, Callable[[], None]]] = []
    with _forgiven(tracker):
        calls.append(_OPEN[tracker](run, done))

    def log(line: str) -> None:
        told = json.loads(line)
        figures = {name: value for name, value in told.items() if isinstance(value, int | float) and name != "step"}
        for send, _ in calls[:]:
            with _forgiven(tracker, calls.clear):
                send(told["step"], figures)

    try:
        yield log
    finally:
        for _, close in calls:
            with _forgiven(tracker):
                close()


@contextmanager
def _forgiven(tracker: Tracker, then: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Say what went wrong with a tracker, and let the run go on."""
    try:
        yield
    except Exception as error:  # a tracker may raise anything; none of it is the run's
        print(f"logger: {tracker} failed ({error!r}); the run goes on without it", file=sys.stderr, flush=True)
        then()


def _tensorboard(run: Path, done: int) -> tuple[Send, Callable[[], None]]:
    writer = import_module("torch.utils.tensorboard").SummaryWriter(str(run / "tensorboard"), purge_step=done)

    def send(step: int, figures: Mapping[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return send, writer.close


def _wandb(run: Path, done: int) -> tuple[Send, Callable[[], None]]:
    wandb: Any = import_module("wandb")
    (run / "wandb").mkdir(parents=True, exist_ok=True)
    opened = wandb.init(
        project=PROJECT,
        name=run.as_posix(),
        id=run.as_posix().strip("/").replace("/", "-"),
        dir=str(run),
        resume="allow",
        settings=wandb.Settings(console="off", silent=True),
    )
    return lambda step, figures: opened.log(dict(figures), step=step), opened.finish


def _trackio(run: Path, done: int) -> tuple[Send, Callable[[], None]]:
    trackio: Any = import_module("trackio")
    opened = trackio.init(project=PROJECT, name=run.as_posix(), resume="allow", embed=False)
    return lambda step, figures: opened.log(dict(figures), step=step), opened.finish


_OPEN: dict[Tracker, Callable[[Path, int], tuple[Send, Callable[[], None]]]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "trackio": _trackio,
}
