"""The command line. Jobs of the workflow are its verbs; other packages add theirs through ``dagrpo.commands``."""

import errno
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from dagrpo.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, Interrupted, UserError
from dagrpo.signals import interrupt_at_once

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)

SpecFile = Annotated[Path, typer.Option("--spec", help="What this job is told (JSON or YAML).")]
Out = Annotated[Path, typer.Option("--out", help="Where the result goes.")]
StateFolder = Annotated[Path, typer.Option("--state", help="Resumable state; deleted when the job is done.")]
ProblemsPath = Annotated[Path, typer.Option("--problems", help="Problems, one JSON object a line.")]

_NO_ROOM = {errno.ENOSPC: "no space is left on the device", errno.EDQUOT: "the disk quota is used up"}
_NO_ENTRY = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
}


@app.command()
def problems(spec: SpecFile, out: Out) -> None:
    """Make or load the problems of an experiment: train.jsonl, evaluation.jsonl and about.json."""
    from dagrpo import config
    from dagrpo.problems import write_problem_sets

    write_problem_sets(config.load(config.ProblemsSpec, spec).problems, out)


@app.command()
def base(spec: SpecFile, out: Out, state: StateFolder) -> None:
    """Make the base checkpoint that every arm starts from: train the miniature, convert, or copy."""
    from dagrpo import config
    from dagrpo.policy.base import make_base
    from dagrpo.signals import stop_flag

    with stop_flag() as should_stop:
        make_base(config.load(config.BaseSpec, spec), out, state, should_stop)


@app.command()
def train(
    spec: SpecFile,
    seed: Annotated[int, typer.Option(help="Seed of sampling, order and every other draw.")],
    base: Annotated[Path, typer.Option(help="Checkpoint to start from.")],
    problems: ProblemsPath,
    out: Out,
    state: StateFolder,
) -> None:
    """Train one arm with one seed."""
    from dagrpo import config
    from dagrpo.signals import stop_flag
    from dagrpo.trainer.loop import train as run

    with stop_flag() as should_stop:
        run(config.load(config.TrainSpec, spec), seed, base, problems, out, state, should_stop)


@app.command()
def check(spec: Annotated[Path, typer.Option("--spec", help="A whole experiment (YAML or JSON).")]) -> None:
    """Check an experiment with the options of all its methods, before anything is spent on it."""
    from dagrpo import config
    from dagrpo.algorithm import find_method

    experiment = config.load(config.Experiment, spec)
    for name, arm in experiment.arms.items():
        find_method(arm.method).algorithm(arm.options, f"arms.{name}.options")


@app.command()
def methods() -> None:
    """List the registered methods with their options and defaults."""
    from dagrpo.algorithm import methods as registered

    for name, method in registered().items():
        options = ", ".join(f"{key}={field.default!r}" for key, field in method.options.model_fields.items())
        print(f"{name}  ({method.module})  {options}")


@app.command()
def schema() -> None:
    """Print the JSON schema of an experiment file."""
    import json

    from dagrpo.config import Experiment

    print(json.dumps(Experiment.model_json_schema(), indent=2))


def main() -> None:
    """Run the command line; turn the two deliberate endings and an unusable disk into one line and an exit code."""
    try:
        interrupt_at_once()
        for entry in entry_points(group="dagrpo.commands"):
            app.registered_commands.extend(entry.load().registered_commands)
        app()
    except UserError as error:
        _end(f"error: {error}", EXIT_USER_ERROR)
    except Interrupted:
        _end("interrupted: the state is sealed; run the same command again to continue", EXIT_INTERRUPTED)
    except OSError as error:
        what = (_NO_ROOM | _NO_ENTRY).get(error.errno or 0)
        if what is None:
            raise
        remedy = "free some space" if error.errno in _NO_ROOM else "make it writable, or choose another results folder"
        where = error.filename or "the results"
        _end(f"error: cannot write {where}: {what}; {remedy}, then run this again: nothing is lost", EXIT_USER_ERROR)


def _end(message: str, code: int) -> None:
    print(message, file=sys.stderr, flush=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
