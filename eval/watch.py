"""A live view of the runs of an experiment, from its files alone: what trains, how far, what waits, what failed."""

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dagrpo.config import Experiment
from eval.ledger.book import asked_runs, files_of
from eval.records import BASE, read_experiment

RULES = ("bases", "train", "evaluate", "benchmarks", "conflict")
SILENT = 120.0
"""Seconds after which a job that says nothing is called silent."""
_EVERY = 2.0
_MOST = 24
_LINE = re.compile(r"^.*: (\d+)/(\d+), (\d+) s left ?(.*)$")
_ENDED = re.compile(r"^took [\d.]+ s, ")
_FIGURES = ("accuracy", "response_tokens", "grad_norm")
_RIGHT = ("seed", "step", "left", "reward", "length", "grad norm")
_COLOURS = {"failed": "red", "stopped": "yellow", "silent": "yellow", "runs": "green"}

Word = Literal["done", "runs", "silent", "stopped", "failed", "waits"]


@dataclass(frozen=True, slots=True)
class State:
    """Where a run is: its job (a rule of the workflow), steps done of all, seconds left, its last figures by name, and
    what it said where it failed or stopped."""

    run: tuple[str, str, int]
    word: Word
    job: str = ""
    done: str = ""
    left: float | None = None
    figures: tuple[tuple[str, str], ...] = ()
    said: str = ""


def states(results: Path, experiment: Experiment, now: float) -> list[State]:
    """The state of every run; ``now`` is the time, in seconds since the epoch."""
    return [_state(results, experiment, run, now) for run in asked_runs(experiment)]


def view(results: Path, found: Sequence[State]) -> Group:
    """What the terminal shows: a line of counts, the runs that are under way or in trouble, and each arm's progress."""
    tally = Counter(one.word for one in found)
    counts = ", ".join(f"{tally[word]} {word}" for word in get_args(Word) if tally[word])
    busy = Table(box=None, pad_edge=False)
    for name in ("base", "arm", "seed", "job", "", "step", "left", "reward", "length", "grad norm", "said"):
        busy.add_column(name, justify="right" if name in _RIGHT else "left")
    order = ["failed", "stopped", "silent", "runs"]
    shown = sorted((one for one in found if one.word in order), key=lambda one: order.index(one.word))
    for one in shown[:_MOST]:
        figures = dict(one.figures)
        left = "" if one.left is None else _duration(one.left)
        values = (figures.get(name, "") for name in _FIGURES)
        word = Text(one.word, style=_COLOURS[one.word])
        busy.add_row(*map(str, one.run), one.job, word, one.done, left, *values, one.said)
    if len(shown) > _MOST:
        busy.add_row("", f"and {len(shown) - _MOST} more")
    return Group(Text(f"{results}: {counts}"), busy, _by_arm(found))


def watch(results: Path, once: bool) -> None:
    """Show the view until all runs are done, anew every two seconds; or once."""
    experiment = read_experiment(results / "specs" / "report.json")
    console = Console()
    if once:
        console.print(view(results, states(results, experiment, time.time())))
        return
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            found = states(results, experiment, time.time())
            live.update(view(results, found), refresh=True)
            if all(one.word == "done" for one in found):
                return
            time.sleep(_EVERY)


def _state(results: Path, experiment: Experiment, run: tuple[str, str, int], now: float) -> State:
    if all((results / file).is_file() for file in files_of(experiment, run)):
        return State(run, "done")
    logs = [(rule, path) for rule in RULES if (path := _log(results, rule, run)).is_file()]
    if not logs:
        return State(run, "waits")
    job, path = max(logs, key=lambda one: one[1].stat().st_mtime)
    lines = [line for line in path.read_text(errors="replace").splitlines() if line.strip()]
    ended = bool(lines) and _ENDED.match(lines[-1]) is not None
    told = [line for line in lines if not _ENDED.match(line)]
    last = told[-1] if told else ""
    met = next((found for line in reversed(told) if (found := _LINE.match(line))), None)
    figures = tuple(re.findall(r"(\w+) (\S+)", met[4])) if met else ()
    done, left = (f"{met[1]}/{met[2]}", float(met[3])) if met else ("", None)
    if last.startswith("interrupted"):
        return State(run, "stopped", job, done, None, figures, last)
    if last.startswith("error:") or "Traceback (most recent call last):" in told:
        return State(run, "failed", job, done, None, figures, last)
    if ended:  # this job is done, and the next one has not begun
        return State(run, "waits")
    quiet = now - path.stat().st_mtime
    if quiet > SILENT:
        return State(run, "silent", job, done, left, figures, f"nothing said for {_duration(quiet)}")
    return State(run, "runs", job, done, left, figures)


def _log(results: Path, rule: str, run: tuple[str, str, int]) -> Path:
    base, arm, seed = run
    name = f"{base}.seed{seed}" if rule == "bases" and arm == BASE else f"{base}.{arm}.seed{seed}"
    return results / "logs" / rule / f"{name}.log"


def _by_arm(found: Sequence[State]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("base", "arm", "done", "of"):
        table.add_column(name, justify="right" if name in ("done", "of") else "left")
    for base, arm in dict.fromkeys(one.run[:2] for one in found):
        of_arm = [one for one in found if one.run[:2] == (base, arm)]
        table.add_row(base, arm, str(sum(one.word == "done" for one in of_arm)), str(len(of_arm)))
    return table


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
