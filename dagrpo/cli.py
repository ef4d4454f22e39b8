"""The command line. Other packages add commands through the entry points ``dagrpo.commands``."""

import errno
import os
import signal
import sys
import time
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer
from typer.models import CommandInfo

from dagrpo import help_panels
from dagrpo.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR, Interrupted, UserError
from dagrpo.jobs.client import run_hosted
from dagrpo.jobs.environment import with_defaults
from dagrpo.jobs.usage import usage
from dagrpo.jobs.wire import ADDRESS
from dagrpo.processes.signals import STOPS, interrupt_at_once
from dagrpo.processes.world import ends_first, launched, leave
from dagrpo.records import Tracker

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train, evaluate and compare DaGRPO and other methods.",
)

SpecFile = Annotated[Path, typer.Option("--spec", help="The configuration of this job (JSON or YAML).")]
Out = Annotated[Path, typer.Option("--out", help="Where the result goes.")]
StateFolder = Annotated[Path, typer.Option("--state", help="Resumable state; deleted when the job is done.")]
ModelFolder = Annotated[Path, typer.Option("--model", help="Checkpoint to sample from.")]
ProblemsPath = Annotated[Path, typer.Option("--problems", help="Problems, one JSON object a line.")]

_NO_ROOM = {errno.ENOSPC: "no space is left on the device", errno.EDQUOT: "the disk quota is used up"}
_NO_ENTRY = {
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission is denied",
    errno.EPERM: "permission is denied",
}


@app.command(rich_help_panel=help_panels.JOBS)
def problems(spec: SpecFile, out: Out) -> None:
    """Make or load the problems of an experiment: train.jsonl, evaluation.jsonl and about.json."""
    from dagrpo import config
    from dagrpo.problems import write_problem_sets

    write_problem_sets(config.load(config.ProblemsSpec, spec).problems, out)


@app.command(rich_help_panel=help_panels.JOBS)
def base(spec: SpecFile, out: Out, state: StateFolder) -> None:
    """Make the base checkpoint that every arm starts from: train the miniature, convert, or copy."""
    from dagrpo import config
    from dagrpo.policy.base import make_base
    from dagrpo.processes.signals import stop_flag

    with stop_flag() as should_stop:
        make_base(config.load(config.BaseSpec, spec), out, state, should_stop)


@app.command(rich_help_panel=help_panels.JOBS)
def train(
    spec: SpecFile,
    seed: Annotated[int, typer.Option(help="Seed of sampling, order and every other random choice.")],
    base: Annotated[Path, typer.Option(help="Checkpoint to start from.")],
    problems: ProblemsPath,
    out: Out,
    state: StateFolder,
    processes: Annotated[int, typer.Option(min=1, help="How many share the run, one on each GPU.")] = 1,
    logger: Annotated[Tracker | None, typer.Option(help="Tracker that also receives the metrics of each step.")] = None,
) -> None:
    """Train one arm with one seed."""
    from dagrpo import config
    from dagrpo.loggers import check_tracker
    from dagrpo.processes.launch import launch
    from dagrpo.processes.signals import stop_flag
    from dagrpo.processes.world import launched, open_world

    check_tracker(logger)
    if processes > 1 and not launched():
        launch(sys.argv[1:], processes)
        return
    from dagrpo.trainer.job import train as run

    job = config.load(config.TrainSpec, spec)
    with stop_flag() as should_stop, open_world(sharded=job.train.precision != "fp32") as world:
        run(job, seed, base, problems, out, state, should_stop, world, logger)


@app.command(rich_help_panel=help_panels.PREPARE)
def check(spec: Annotated[Path, typer.Option("--spec", help="A whole experiment (YAML or JSON).")]) -> None:
    """Check an experiment with the options of all its methods, before anything is spent on it."""
    from importlib.util import find_spec

    from dagrpo import config
    from dagrpo.algorithm import find_method
    from dagrpo.hub import check_pins
    from dagrpo.scorers import check_scorer

    experiment = config.load(config.Experiment, spec)
    check_pins(experiment)
    check_scorer(experiment.scorer)
    if experiment.benchmarks is not None and find_spec("lm_eval") is None:
        raise UserError("benchmarks: lm-eval is not installed; run: pip install -c constraints.txt -e '.[lm-eval]'")
    for name, arm in experiment.arms.items():
        find_method(arm.method).algorithm(arm.options, f"arms.{name}.options")
        if arm.scorer is not None:
            check_scorer(arm.scorer, f"arms.{name}.scorer")


@app.command(rich_help_panel=help_panels.METHODS)
def methods() -> None:
    """List the registered methods with their options and defaults."""
    from dagrpo.algorithm import methods as registered

    for name, method in registered().items():
        options = ", ".join(f"{key}={field.default!r}" for key, field in method.options.model_fields.items())
        print(f"{name}  ({method.module})  {options}")


@app.command("new-baseline", rich_help_panel=help_panels.METHODS)
def new_baseline(name: Annotated[str, typer.Argument(help="Name of the method, as in my_method.")]) -> None:
    """Write the file of a new method, with a working example and its test."""
    from dagrpo.scaffold import new_baseline as write

    file, test = write(name, Path.cwd())
    print(f"{file.relative_to(Path.cwd())}    the method: change its head, options and slots")
    print(f"{test.relative_to(Path.cwd())}    numbers by hand")
    print(f"next:  make test ARGS='-k {name}'")
    print(f"       make reproduce EXPERIMENT=mini METHODS=grpo,{name}")


@app.command(rich_help_panel=help_panels.PREPARE)
def schema() -> None:
    """Print the JSON schema of an experiment file."""
    import json

    from dagrpo.config import Experiment

    print(json.dumps(Experiment.model_json_schema(), indent=2))


@app.command("judge-check", rich_help_panel=help_panels.MEASURE)
def judge_check(
    groups: Annotated[Path, typer.Option(help="Stored groups: groups.jsonl of a snapshot.")],
    scorer: Annotated[str, typer.Option(help="A scorer's name, or a YAML file with the keys of `scorer`.")],
    against: Annotated[str, typer.Option(help="The scorer to compare with, given likewise.")],
    delta: Annotated[float, typer.Option(help="Margin of the mask, on the scale 1 to 10.")] = 3.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first mixed groups.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Checkpoint, for scorers that run a policy.")] = None,
) -> None:
    """Compare two scorers on stored groups: agreement, share masked by delta, and whether a rubric can mask at all."""
    from dagrpo.measurements.judge_check import judge_check as compare
    from dagrpo.policy.checkpoint import load_policy
    from dagrpo.policy.device import resolve_device
    from dagrpo.processes.signals import stop_flag
    from dagrpo.scorers import Tools

    with stop_flag() as should_stop:
        model = None if policy is None else load_policy(policy, resolve_device("auto"))
        print(compare(groups, scorer, against, delta, limit, Tools(model, should_stop)))


@app.command("judge-base", rich_help_panel=help_panels.JOBS)
def judge_base(
    spec: SpecFile,
    model: Annotated[Path, typer.Option(help="Checkpoint of the base.")],
    problems: ProblemsPath,
    out: Out,
) -> None:
    """Let an experiment's judges score groups that its base samples, and say what the masks would do."""
    from dagrpo import config
    from dagrpo.measurements.judge_check import check_base
    from dagrpo.processes.signals import stop_flag

    with stop_flag() as should_stop:
        check_base(config.load(config.JudgeCheckSpec, spec), model, problems, out, should_stop)


@app.command(rich_help_panel=help_panels.MEASURE)
def conflict(
    spec: SpecFile,
    snapshots: Annotated[Path, typer.Option(help="Folder of a run's snapshots.")],
    out: Out,
    groups: Annotated[int | None, typer.Option(min=1, help="At most so many mixed groups a snapshot.")] = None,
    delta: Annotated[float, typer.Option(help="Margin of the mask tried on groups of a method without one.")] = 3.0,
    last_layer: Annotated[bool, typer.Option("--last-layer", help="Gradients of the last layer only.")] = False,
    projection: Annotated[int | None, typer.Option(min=1, help="Project gradients to so many numbers.")] = None,
) -> None:
    """Measure the gradient conflict among the rows of a group, before and after the mask."""
    from dagrpo import config
    from dagrpo.measurements.conflict import Settings, measure
    from dagrpo.processes.signals import stop_flag

    with stop_flag() as should_stop:
        settings = Settings(groups, delta, "last_layer" if last_layer else "all", projection)
        measure(config.load(config.TrainSpec, spec), snapshots, out, settings, should_stop)


@app.command(rich_help_panel=help_panels.JOBS)
def probe(spec: SpecFile, model: ModelFolder, problems: ProblemsPath, out: Out, state: StateFolder) -> None:
    """Sample a base's own groups and measure how the gradients of their rows agree and oppose each other."""
    from dagrpo import config
    from dagrpo.measurements.probe import probe as run
    from dagrpo.processes.signals import stop_flag

    with stop_flag() as should_stop:
        run(config.load(config.ProbeSpec, spec), model, problems, out, state, should_stop)


@app.command("rate-probe", rich_help_panel=help_panels.JOBS)
def rate_probe(
    spec: SpecFile,
    probed: Annotated[Path, typer.Option("--probe", help="Folder that `dagrpo probe` wrote.")],
    model: ModelFolder,
    out: Out,
) -> None:
    """Score the rows of a probe, and say how gradients and scores go together."""
    from dagrpo import config
    from dagrpo.measurements.probe import rate
    from dagrpo.processes.signals import stop_flag

    with stop_flag() as should_stop:
        rate(config.load(config.RatingSpec, spec), probed, model, out, should_stop)


@app.command(rich_help_panel=help_panels.PREPARE)
def plan(
    configfile: Annotated[
        list[Path], typer.Option("--configfile", help="A whole experiment (YAML); further files change keys of it.")
    ],
    gpu: Annotated[str, typer.Option(help="Which kind: a100-40, a100, h100, h200, l40s, rtx4090.")] = "h100",
    response_tokens: Annotated[int | None, typer.Option(min=1, help="Mean length of a response.")] = None,
    measured: Annotated[Path | None, typer.Option(help="File of benchmarks.gpu_check, for its rates.")] = None,
) -> None:
    """Say what an experiment takes before it is started: memory of a GPU, hours of each arm; refuse what cannot fit."""
    from dagrpo import config
    from dagrpo.plan.devices import find_device
    from dagrpo.plan.judge import refuse_small_budgets
    from dagrpo.plan.show import PlanRequest, refuse_what_cannot_fit, show_plan

    experiment = config.load_experiment(configfile)
    request = PlanRequest(gpu, response_tokens, measured)
    print(show_plan(experiment, request), flush=True)
    refuse_what_cannot_fit(experiment, find_device(gpu, measured))
    refuse_small_budgets(experiment)


@app.command(rich_help_panel=help_panels.PREPARE)
def doctor(
    name: Annotated[str | None, typer.Argument(metavar="EXPERIMENT", help="Of config/, without suffix.")] = None,
    configfile: Annotated[
        list[Path] | None, typer.Option("--configfile", help="An experiment file; further files change keys of it.")
    ] = None,
) -> None:
    """Say in one line each what this machine has, and whether an experiment can run here."""
    from dagrpo import config
    from dagrpo.doctor import diagnose, look, verdict

    paths = [*([config.experiment_file(Path("config"), name)] if name else []), *(configfile or [])]
    experiment = config.load_experiment(paths) if paths else None
    lines = []
    for line in diagnose(look(Path("results")), experiment):
        print(line, flush=True)
        lines.append(line)
    verdict(lines, experiment)


@app.command(
    "gpu-slot",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    rich_help_panel=help_panels.JOBS,
)
def gpu_slot(
    command: Annotated[list[str], typer.Argument(help="The command and its words, after --.")],
    count: Annotated[int, typer.Option(min=1, help="GPUs that it needs.")] = 1,
) -> None:
    """Run a command on a GPU that no other such command uses, and wait for one where all are taken."""
    from dagrpo.processes.gpu_slot import run_in_slot

    run_in_slot(command, count)


def main() -> None:
    """Run the command line and end this process with its exit code; a job of the workflow says what it took."""
    interrupt_at_once()
    started = time.monotonic()
    os.environ.update(with_defaults(os.environ))  # torch is not loaded yet
    code = _run()
    if ADDRESS in os.environ and not launched():
        print(usage(started), file=sys.stderr)
    leave(code)


def _run() -> int:
    """Turn the two deliberate endings and an unusable disk into one line and an exit code."""
    try:
        run_hosted(sys.argv[1:])
        whole_app()()
    except SystemExit as ended:  # typer's way to end
        if not isinstance(ended.code, int | None):
            raise
        return ended.code or 0
    except UserError as error:
        return _ends(f"error: {error}", EXIT_USER_ERROR)
    except Interrupted:
        return _ends("interrupted: the state is sealed; run the same command again to continue", EXIT_INTERRUPTED)
    except OSError as error:
        what = (_NO_ROOM | _NO_ENTRY).get(error.errno or 0)
        if what is None:
            raise
        remedy = "free some space" if error.errno in _NO_ROOM else "make it writable, or choose another results folder"
        where = error.filename or "the results"
        return _ends(
            f"error: cannot write {where}: {what}; {remedy}, then run this again: nothing is lost", EXIT_USER_ERROR
        )
    return 0


@cache
def whole_app() -> typer.Typer:
    """The command line with the commands that other packages add, in the order of the help's panels."""
    for entry in entry_points(group="dagrpo.commands"):
        added = entry.load()
        app.registered_commands.extend(added.registered_commands)
        app.registered_groups.extend(added.registered_groups)
    app.registered_commands.sort(key=_panel)
    return app


def _panel(command: CommandInfo) -> int:
    """The place of a command's panel in the help; those of other packages without one of these come last."""
    panels, panel = help_panels.PANELS, command.rich_help_panel
    return panels.index(panel) if panel in panels else len(panels)


def _ends(message: str, code: int) -> int:
    for number in STOPS:  # torchrun sends one to all others as soon as one of its processes has ended
        signal.signal(number, signal.SIG_IGN)
    if ends_first():
        print(message, file=sys.stderr, flush=True)
    return code


if __name__ == "__main__":
    main()
