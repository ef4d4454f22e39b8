"""``dagrpo ledger``: records of finished runs, from one machine or several."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Keep one record a run, and make tables and report from records alone.")

Folder = Annotated[Path, typer.Argument(help="The ledger of a study: results/ledger/STUDY.")]


@app.command()
def add(
    results: Annotated[Path, typer.Argument(help="Folder of an experiment with finished runs: results/EXPERIMENT.")],
    to: Annotated[Path | None, typer.Option(help="The ledger; results/ledger/EXPERIMENT if left out.")] = None,
) -> None:
    """Make a record of each finished run that the ledger has none of."""
    from dagrpo.errors import UserError
    from eval.ledger import book

    folder = to or results.parent / "ledger" / results.name
    new, unfinished, refused = book.add(results, folder)
    size = sum(path.stat().st_size for path in new)
    print(f"{folder}: {len(new)} records added, {size:,} bytes", end="")
    print(f"; {len(unfinished)} runs are not finished" if unfinished else "")
    if refused:
        raise UserError(
            "\n".join(["these runs came out otherwise than their records say and are not added:", *refused])
        )


@app.command("list")
def list_runs(
    folder: Folder,
    missing: Annotated[
        bool, typer.Option("--missing", help="Print the files that would complete it, for snakemake.")
    ] = False,
    spec: Annotated[
        Path | None, typer.Option(help="Another version of the experiment; the ledger's if left out.")
    ] = None,
) -> None:
    """List the runs of a study: what has a record, what has none, from how many machines and versions it is."""
    from eval.ledger import book
    from eval.ledger.checks import origin
    from eval.records import read_experiment

    records, broken = book.read_records(folder)
    experiment = read_experiment(spec or folder / book.EXPERIMENT)
    lacking = book.missing_runs(experiment, records)
    if missing:
        for run in lacking:
            print("\n".join(f"results/{experiment.name}/{file}" for file in book.files_of(experiment, run)))
        return
    print(origin(list(records.values())))
    for base in experiment.bases:
        for arm in ("base", *experiment.arms):
            seeds = [run[2] for run in book.asked_runs(experiment) if run[:2] == (base, arm)]
            gone = [seed for seed in seeds if (base, arm, seed) in lacking]
            have = ", ".join(str(seed) for seed in seeds if seed not in gone) or "none"
            print(f"{base}  {arm}  seeds {have}" + (f"; missing {', '.join(map(str, gone))}" if gone else ""))
    for sentence in broken:
        print(sentence)


@app.command()
def verify(folder: Folder) -> None:
    """Check every record's seal and content, and that records agree; name what is wrong, mixed or duplicated."""
    from dagrpo.errors import UserError
    from eval.ledger import book, checks

    records, broken = book.read_records(folder)
    every = list(records.values())
    found = [*broken, *checks.faults(every)]
    mixed = [] if found else checks.mixtures(every)
    if found or mixed:
        raise UserError("\n".join([f"{folder}: {len(found) + len(mixed)} findings:", *found, *mixed]))
    print(checks.origin(every))
    for line in checks.duplicates(every):
        print(line)
    print(f"{len(every)} records: each is what was sealed, and they are one study")


@app.command()
def merge(
    source: Annotated[Path, typer.Argument(help="The ledger to take records from.")],
    target: Annotated[Path, typer.Argument(help="The ledger that they go to.")],
) -> None:
    """Copy the records of another machine's ledger into this one; nothing where one of them is broken or disagrees."""
    from eval.ledger import book, checks

    came, known = book.merge(source, target)
    print(f"{target}: {came} records came, {known} runs were known")
    every = list(book.read_records(target)[0].values())
    print(checks.origin(every))
    for line in checks.mixtures(every):
        print(line)


@app.command()
def replay(
    record: Annotated[Path, typer.Argument(help="The record of a training run.")],
    steps: Annotated[int, typer.Option(min=1, help="How many of its first steps.")] = 3,
    results: Annotated[
        Path | None, typer.Option(help="Folder with base and problems; results/STUDY if left out.")
    ] = None,
) -> None:
    """Train the first steps of a recorded run again here, and compare their metrics with the record."""
    from dagrpo.errors import UserError
    from dagrpo.processes.signals import stop_flag
    from eval.ledger.record import read_record
    from eval.ledger.replay import TOLERANCE, other_code, replay

    told = read_record(record)
    with stop_flag() as should_stop:
        found = replay(told, results or Path("results", told.study), steps, should_stop)
    kind = "a machine of the same kind" if found.alike else f"another kind of machine, where {TOLERANCE:g} is allowed"
    if found.differing:
        lines = [
            f"step {step}: {key} is {one} in the record and {other} here" for step, key, one, other in found.differing
        ]
        code = other_code(told)
        raise UserError(
            "\n".join([f"{told.label}: not what comes out on {kind}" + (f"; {code}" if code else ""), *lines[:5]])
        )
    bits = "equal to the bit" if found.worst == 0 else f"the worst of them off by {found.worst:.1e}"
    print(f"{told.label}: {found.steps} steps on {kind}: all metrics agree, {bits}")
