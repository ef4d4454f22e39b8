"""Verbs of the command line that evaluate and report."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dagrpo import help_panels
from eval.ledger.cli import app as ledger_app

if TYPE_CHECKING:
    from eval.records import Runs

app = typer.Typer()
app.add_typer(ledger_app, name="ledger", rich_help_panel=help_panels.FOLLOW)

Results = Annotated[Path, typer.Option(help="Folder of the experiment.")]
Spec = Annotated[
    Path | None, typer.Option(help="The resolved experiment; specs/report.json of the folder if left out.")
]
Published = Annotated[
    Path | None, typer.Option(help="The published rows, to put ours beneath; no such table if left out.")
]
Out = Annotated[Path | None, typer.Option(help="Where the result goes; inside the folder if left out.")]
Ledger = Annotated[Path | None, typer.Option(help="Take the runs from this ledger, not from their files.")]


@app.command(rich_help_panel=help_panels.JOBS)
def tables(
    results: Results, spec: Spec = None, published: Published = None, out: Out = None, ledger: Ledger = None
) -> None:
    """Compute all tables, of every base corpus, and judge the claims, from stored samples, metrics and gradients."""
    from eval.benchmark_tasks.tables import write_benchmarks
    from eval.claims.read import write_claims
    from eval.gradients import write_conflict
    from eval.overlap import write_contamination
    from eval.probe import write_probe
    from eval.render import mark_rehearsal
    from eval.tables import write_tables

    corpora, folder = _open(results, spec, ledger), out or results / "tables"
    write_tables(corpora, folder)
    for base, runs in corpora.items():
        if runs.benchmarks is not None:
            write_benchmarks(runs.benchmarks, folder / base)
    write_conflict(corpora, folder)
    write_probe(corpora, folder)
    write_claims(corpora, folder)
    experiment = next(iter(corpora.values())).experiment
    summary = ledger / "contamination.csv" if ledger else results / "contamination" / "summary.csv"
    write_contamination(summary, folder, experiment.name)
    if published is not None:
        from eval.published.table import compare, write_paper

        write_paper(*compare(published, folder), folder)
    if experiment.rehearsal:
        mark_rehearsal(folder)


@app.command(rich_help_panel=help_panels.JOBS)
def figures(results: Results, spec: Spec = None, out: Out = None, ledger: Ledger = None) -> None:
    """Draw all figures, of every base corpus, from the tables and the metrics."""
    from eval.claims.figure import draw_claims
    from eval.claims.read import read_claims
    from eval.figures import draw_figures
    from eval.gradients import draw_conflict
    from eval.probe import draw_probe

    corpora, folder = _open(results, spec, ledger), out or results / "figures"
    draw_figures(corpora, folder)
    draw_conflict(corpora, folder)
    draw_probe(corpora, folder)
    draw_claims(read_claims(results / "tables"), folder)


@app.command(rich_help_panel=help_panels.JOBS)
def excerpts(results: Results, spec: Spec = None, out: Out = None) -> None:
    """Draw training groups (of snapshots) and samples for the page to show, by a seed, as two small JSON files."""
    from eval.excerpts.write import write_excerpts

    write_excerpts(_open(results, spec, None), out or results / "excerpts")


@app.command(rich_help_panel=help_panels.JOBS)
def report(
    results: Results, spec: Spec = None, published: Published = None, out: Out = None, ledger: Ledger = None
) -> None:
    """Write one self-contained page from tables, figures and run cards."""
    from eval.claims.read import read_claims
    from eval.claims.show import page_claims
    from eval.gradients import section
    from eval.probe import section as probe_section
    from eval.report import write_report

    corpora = _open(results, spec, ledger)
    claims = page_claims(read_claims(results / "tables"))
    applying = any(claim["corpora"] for claim in claims)
    paper = None
    if published is not None:
        from eval.published.table import section as published_section

        paper = published_section(published, results / "tables")
    gradients = [found for found in (section(corpora), probe_section(corpora)) if found is not None]
    write_report(corpora, out or results / "report.html", claims if applying else None, gradients, paper)


@app.command(rich_help_panel=help_panels.JOBS)
def evaluate(
    spec: Annotated[Path, typer.Option(help="The configuration of this job (JSON or YAML).")],
    model: Annotated[Path, typer.Option(help="Checkpoint to sample from.")],
    problems: Annotated[Path, typer.Option(help="Problems, one JSON object a line.")],
    seed: Annotated[int, typer.Option(help="Seed of every draw.")],
    out: Annotated[Path, typer.Option(help="File of graded samples.")],
    state: Annotated[Path, typer.Option(help="Resumable state; deleted when the job is done.")],
) -> None:
    """Sample a checkpoint on problems and grade every sample."""
    from dagrpo import config
    from dagrpo.processes.signals import stop_flag
    from eval.sampling import evaluate as run

    with stop_flag() as should_stop:
        run(config.load(config.EvaluationSpec, spec), model, problems, seed, out, state, should_stop)


@app.command(rich_help_panel=help_panels.JOBS)
def trial(
    spec: Annotated[Path, typer.Option(help="The configuration of this job (JSON or YAML).")],
    model: Annotated[Path, typer.Option(help="Checkpoint to sample from.")],
    train: Annotated[Path, typer.Option(help="Training problems, one JSON object a line.")],
    problems: Annotated[Path, typer.Option(help="Evaluation problems, likewise.")],
    source: Annotated[Path, typer.Option(help="What the job of the problems was told (JSON or YAML).")],
    out: Annotated[Path, typer.Option(help="File of graded samples.")],
) -> None:
    """Try a base on a few problems of each family before training: rows, prompts, engine, verifier and answers."""
    from dagrpo import config
    from dagrpo.processes.signals import stop_flag
    from eval.trial import trial as run

    with stop_flag() as should_stop:
        told, made = config.load(config.EvaluationSpec, spec), config.load(config.ProblemsSpec, source)
        run(told, model, train, problems, out, made.problems, should_stop)


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    rich_help_panel=help_panels.PREPARE,
)
def rehearse(
    configfile: Annotated[
        list[Path], typer.Option("--configfile", help="A whole experiment (YAML); further ones change keys of it.")
    ],
    command: Annotated[list[str], typer.Argument(help="The command that runs OUT/experiment.yaml, after --.")],
    out: Annotated[Path, typer.Option(help="Folder of the rehearsal.")],
    mirror: Annotated[Path | None, typer.Option(envvar="DAGRPO_MIRROR", help="Rows to take; else our own.")] = None,
) -> None:
    """Shrink an experiment to a small machine, print what is replaced, and run a command on it with a played judge."""
    from eval.rehearsal.run import rehearse as run

    raise typer.Exit(run(configfile, out, mirror, command))


@app.command(rich_help_panel=help_panels.PREPARE)
def power(
    experiment: Annotated[str, typer.Argument(help="An experiment with finished runs, or with a ledger.")],
    difference: Annotated[float | None, typer.Option(help="The true difference, in points; else the paper's.")] = None,
) -> None:
    """Say what varies in a study, and what bases, seeds, problems and samples would show a difference, at what cost."""
    from eval.claims.power_show import show_power

    results, ledger = Path("results", experiment), Path("results", "ledger", experiment)
    corpora = _open(results, None, ledger if ledger.is_dir() else None)
    print(show_power(corpora, None if difference is None else difference / 100))


@app.command(rich_help_panel=help_panels.FOLLOW)
def watch(
    results: Annotated[Path, typer.Argument(help="Folder of an experiment that runs: results/EXPERIMENT.")],
    once: Annotated[bool, typer.Option("--once", help="Print the view once.")] = False,
) -> None:
    """Show the runs of an experiment while they go on: step, reward, length, time left; what waits and what failed."""
    from eval.watch import watch as run

    run(results, once)


def _open(results: Path, spec: Path | None, ledger: Path | None) -> "dict[str, Runs]":
    from eval.ledger.book import open_ledger
    from eval.records import open_runs

    return open_runs(results, spec) if ledger is None else open_ledger(ledger, results)
