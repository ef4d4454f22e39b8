"""The folder of a study's records: what is in it, what goes into it, and the runs that tables are made from."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dagrpo.config import Experiment, parse
from dagrpo.errors import UserError
from dagrpo.files.checkpoints import write_atomically
from eval import design
from eval.ledger.checks import faults, same
from eval.ledger.record import Record, Records, packed, read_record, record_of
from eval.records import BASE, Runs, open_runs, read_experiment

EXPERIMENT = "experiment.json"
CONTAMINATION = "contamination.csv"


def record_files(folder: Path) -> list[Path]:
    """The files of records in a study's folder.

    Raises:
        UserError: there is no ledger.
    """
    if not (folder / EXPERIMENT).is_file():
        raise UserError(f"{folder}: there is no ledger; `dagrpo ledger add RESULTS` makes one of finished runs")
    return sorted(folder.glob("*/*/seed*.json.xz"))


def read_records(folder: Path) -> tuple[dict[Path, Record], list[str]]:
    """Read every record of a study: the sound ones, and a sentence for each file that is none."""
    found: dict[Path, Record] = {}
    broken: list[str] = []
    for path in record_files(folder):
        try:
            found[path] = read_record(path)
        except UserError as error:
            broken.append(str(error))
    return found, broken


def open_ledger(folder: Path, results: Path) -> dict[str, Runs]:
    """The runs of each base corpus from their records; tables and figures go to ``results``.

    Of a study that lacks runs these are the runs from those base seeds that lack none, and the runs say so.

    Raises:
        UserError: there is no ledger; a record is broken, or two of them disagree on a run.
    """
    records, broken = read_records(folder)
    if found := [*broken, *faults(list(records.values()))]:
        raise UserError("\n".join([f"{folder}: its records cannot be used:", *found]))
    asked = read_experiment(folder / EXPERIMENT)
    experiment = of_whole_bases(asked, missing_runs(asked, records))
    # Of records that say the same, the first by name: seconds aside, any would do.
    by_run = {record.run: record for record in reversed(records.values())}
    return {
        base: Runs(
            results,
            experiment,
            base,
            Records({(arm, seed): record for (of, arm, seed), record in by_run.items() if of == base}),
            interim=interim(asked, experiment),
            design=design.read(folder),
        )
        for base in experiment.bases
    }


def asked_runs(experiment: Experiment) -> Iterator[tuple[str, str, int]]:
    """Every run of an experiment: base corpus, arm, seed; the untrained bases first."""
    for base in experiment.bases:
        yield from ((base, BASE, seed) for seed in experiment.base_seeds)
        yield from ((base, arm, seed) for arm in experiment.arms for seed in experiment.seeds_of(arm))


def missing_runs(experiment: Experiment, records: Mapping[Path, Record]) -> list[tuple[str, str, int]]:
    """Runs of an experiment that have no record."""
    there = {record.run for record in records.values()}
    return [run for run in asked_runs(experiment) if run not in there]


def of_whole_bases(experiment: Experiment, missing: Sequence[tuple[str, str, int]]) -> Experiment:
    """The part of an experiment that is on base seeds from which no run is missing, on any corpus.

    It is the whole experiment where no run is missing, or no base seed is whole: then the first missing run is named
    where it is read.
    """
    lacking = {seed if arm == BASE else experiment.base_seed(seed) for _, arm, seed in missing}
    whole = tuple(seed for seed in experiment.base_seeds if seed not in lacking)
    if not whole:
        return experiment
    # Seeds take the base seeds in turn, and do so too where whole turns of a base are left out.
    seeds = tuple(seed for seed in experiment.seeds if experiment.base_seed(seed) in whole)
    arms = {
        name: arm if arm.seeds is None else arm.model_copy(update={"seeds": own})
        for name, arm in experiment.arms.items()
        if (own := tuple(seed for seed in experiment.seeds_of(name) if seed in seeds))
    }
    return experiment.model_copy(update={"base_seeds": whole, "seeds": seeds, "arms": arms})


def interim(asked: Experiment, found: Experiment) -> str:
    """Say which part of a study its tables are of; empty where they are of all of it."""
    if found.base_seeds == asked.base_seeds:
        return ""
    return (
        f"Interim: of the {len(asked.base_seeds)} base seeds that the study asks for, all runs are there of "
        f"{len(found.base_seeds)} ({', '.join(map(str, found.base_seeds))}). Every figure is of these, and no interval "
        "is corrected for looking before the study is complete."
    )


def files_of(experiment: Experiment, run: tuple[str, str, int]) -> list[str]:
    """The files that a finished run leaves in the results folder, those that its record is made of."""
    base, arm, seed = run
    trained, asked = arm != BASE, experiment.benchmarks
    found = [f"runs/{base}/{arm}/seed{seed}/run.json"] if trained else []
    found.append(f"samples/{base}/{arm}/seed{seed}.jsonl")
    if not trained and seed == experiment.base_seeds[0]:
        found.append(f"samples/{base}/profile.jsonl")
        found += [f"probe/{base}.jsonl"] if experiment.probe else []
    if asked and (asked.arms is None or arm in (BASE, *asked.arms)):
        found.append(f"benchmarks/{base}/{arm}/seed{seed}.jsonl")
    if trained and experiment.train_of(arm).snapshots:
        found.append(f"conflict/{base}/{arm}/seed{seed}.jsonl")
    return found


def add(results: Path, folder: Path) -> tuple[list[Path], list[tuple[str, str, int]], list[str]]:
    """Make a record of each finished run of a results folder that the ledger has none of.

    Returns:
        The new records, the runs that are not finished, and why those are refused that disagree with a record.

    Raises:
        UserError: the experiment is another one than the ledger's, or a finished run is broken.
    """
    corpora = open_runs(results)
    experiment = next(iter(corpora.values())).experiment
    if experiment.rehearsal:
        raise UserError(f"{results}: a rehearsal is no evidence, so it has no ledger")
    united = _united(folder, experiment)
    known = {record.run: record for record in read_records(folder)[0].values()} if _is_ledger(folder) else {}
    new: dict[Path, bytes] = {}
    unfinished: list[tuple[str, str, int]] = []
    refused: list[str] = []
    for base, arm, seed in asked_runs(experiment):
        runs = corpora[base]
        if not all((results / file).is_file() for file in files_of(experiment, (base, arm, seed))):
            if (base, arm, seed) not in known:
                unfinished.append((base, arm, seed))
            continue
        record = record_of(runs, arm, seed)
        if before := known.get(record.run):
            refused += [] if same(before, record) else faults([before, record])
            continue
        if found := faults([record]):
            raise UserError("; ".join(found))
        new[folder / record.path()] = packed(record)
    for path, content in new.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    if new or known:
        write_experiment(folder, united)
        design.keep(folder, design.of_file(experiment.name))
    summary = results / "contamination" / "summary.csv"
    if new and summary.is_file():
        shutil.copyfile(summary, folder / CONTAMINATION)
    return list(new), unfinished, refused


def merge(source: Path, target: Path) -> tuple[int, int]:
    """Copy into a ledger the records of another that it lacks.

    Returns:
        How many came, and how many it had already, in the same bytes or saying the same.

    Raises:
        UserError: a record of the other is broken or disagrees with one that is here, or the two are no one study;
            then nothing is copied.
    """
    theirs, broken = read_records(source)
    mine, _ = read_records(target) if _is_ledger(target) else ({}, [])
    united = _united(target, read_experiment(source / EXPERIMENT))
    if found := [*broken, *faults([*mine.values(), *theirs.values()])]:
        raise UserError("\n".join([f"{source}: nothing is merged:", *found]))
    here = {record.run for record in mine.values()}
    coming = {path: record for path, record in theirs.items() if record.run not in here}
    for path, record in coming.items():
        place = target / record.path()
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, path.read_bytes())
    write_experiment(target, united)
    design.keep(target, design.read(source))
    if (source / CONTAMINATION).is_file() and not (target / CONTAMINATION).exists():
        shutil.copyfile(source / CONTAMINATION, target / CONTAMINATION)
    return len(coming), len(theirs) - len(coming)


def write_experiment(folder: Path, experiment: Mapping[str, Any]) -> None:
    """Write the resolved experiment of a ledger."""
    checked = parse(Experiment, experiment, f"{folder / EXPERIMENT}")
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / EXPERIMENT, checked.model_dump_json(indent=1).encode())


def unite(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Join two versions of an experiment that differ in their arms, bases or seeds: what either has.

    Seeds of one must begin with those of the other, since training seeds take the base seeds in turn.

    Raises:
        UserError: they differ in anything else.
    """
    united = dict(one)
    for key in dict.fromkeys([*one, *other]):
        before, after = one.get(key), other.get(key)
        if before == after:
            continue
        if key in ("arms", "bases") and isinstance(before, Mapping) and isinstance(after, Mapping):
            united[key] = {
                **before,
                **{name: _joined(f"{key}.{name}", before.get(name), after[name]) for name in after},
            }
            continue
        if key == "seeds" and isinstance(before, list) and isinstance(after, list):
            shorter, longer = sorted((before, after), key=len)
            if longer[: len(shorter)] == shorter:
                united[key] = longer
                continue
        raise UserError(f"two versions of the study differ in {key}, so their runs are not of one study")
    return united


def _joined(name: str, one: Mapping[str, Any] | None, other: Mapping[str, Any]) -> dict[str, Any]:
    """Two versions of an arm, or of a base, that may differ in an arm's seeds alone."""
    if one is None or one == other:
        return dict(other)
    if {**one, "seeds": None} != {**other, "seeds": None}:
        raise UserError(f"two versions of the study differ in {name}; give one of them another name")
    lists = [each["seeds"] for each in (one, other)]
    return {**one, "seeds": None if None in lists else sorted({seed for seeds in lists for seed in seeds})}


def _united(folder: Path, experiment: Experiment) -> dict[str, Any]:
    new = experiment.model_dump(mode="json")
    return unite(read_experiment(folder / EXPERIMENT).model_dump(mode="json"), new) if _is_ledger(folder) else new


def _is_ledger(folder: Path) -> bool:
    return (folder / EXPERIMENT).is_file()
