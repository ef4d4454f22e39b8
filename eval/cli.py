"""Verbs of the command line that evaluate and report."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

Results = Annotated[Path, typer.Option(help="Folder of the experiment.")]
Spec = Annotated[
    Path | None, typer.Option(help="The resolved experiment; specs/report.json of the folder if left out.")
]
Out = Annotated[Path | None, typer.Option(help="Where the result goes; inside the folder if left out.")]


@app.command()
def tables(results: Results, spec: Spec = None, out: Out = None) -> None:
    """Compute all tables from stored samples, metrics and run cards."""
    from eval.records import open_runs
    from eval.tables import write_tables

    write_tables(open_runs(results, spec), out or results / "tables")


@app.command()
def figures(results: Results, spec: Spec = None, out: Out = None) -> None:
    """Draw all figures from the tables and the metrics."""
    from eval.figures import draw_figures
    from eval.records import open_runs

    draw_figures(open_runs(results, spec), out or results / "figures")


@app.command()
def report(results: Results, spec: Spec = None, out: Out = None) -> None:
    """Write one self-contained page from tables, figures and run cards."""
    from eval.records import open_runs
    from eval.report import write_report

    write_report(open_runs(results, spec), out or results / "report.html")


@app.command()
def evaluate(
    spec: Annotated[Path, typer.Option(help="What this job is told (JSON or YAML).")],
    model: Annotated[Path, typer.Option(help="Checkpoint to sample from.")],
    problems: Annotated[Path, typer.Option(help="Problems, one JSON object a line.")],
    seed: Annotated[int, typer.Option(help="Seed of every draw.")],
    out: Annotated[Path, typer.Option(help="File of graded samples.")],
    state: Annotated[Path, typer.Option(help="Resumable state; deleted when the job is done.")],
) -> None:
    """Sample a checkpoint on problems and grade every sample."""
    from dagrpo import config
    from dagrpo.signals import stop_flag
    from eval.sampling import evaluate as run

    with stop_flag() as should_stop:
        run(config.load(config.EvaluationSpec, spec), model, problems, seed, out, state, should_stop)
