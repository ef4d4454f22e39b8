"""Read what an experiment left behind: graded samples, metrics, run cards. Everything is checked while it is read."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dagrpo.config import Experiment, parse
from dagrpo.errors import UserError
from dagrpo.records import Verdict
from eval.nine.benchmarks import BENCHMARKS
from eval.statistics import Scores

BASE = "base"
OUT_OF_DISTRIBUTION, EXTRA = (
    tuple(one.name for one in BENCHMARKS.values() if one.domain == domain) for domain in ("ood", "extra")
)
_KEYS = ("problem_id", "family", "level", "problem_hash", "prompt_hash", "sample", "tokens", "verdict")


@dataclass(frozen=True, slots=True)
class Runs:
    """Where the files of an experiment on one base corpus stand, and its arms and seeds, in table order.

    Arms with fewer seeds than others, the sweeps, stand after the main arms. ``kept`` is the folder of the samples;
    ``alone`` are families that count in no average.
    """

    results: Path
    experiment: Experiment
    base: str
    kept: str = "samples"
    alone: tuple[str, ...] = ()

    @property
    def nine(self) -> "Runs | None":
        """The same runs on the real benchmarks, with the arms that were asked them; ``None`` without benchmarks."""
        if (asked := self.experiment.benchmarks) is None:
            return None
        changes: dict[str, Any] = {
            "arms": {
                name: arm for name, arm in self.experiment.arms.items() if asked.arms is None or name in asked.arms
            },
            "evaluation": self.experiment.evaluation.model_copy(update={"out_of_distribution": OUT_OF_DISTRIBUTION}),
        }
        return replace(self, experiment=self.experiment.model_copy(update=changes), kept="nine", alone=EXTRA)

    @property
    def seeds(self) -> dict[str, tuple[int, ...]]:
        """Seeds of each arm; those of the untrained base are base seeds."""
        ordered = [arm for arm in self.experiment.arms if arm not in self.sweeps] + list(self.sweeps)
        return {BASE: self.experiment.base_seeds, **{arm: self.experiment.seeds_of(arm) for arm in ordered}}

    @property
    def sweeps(self) -> tuple[str, ...]:
        """Arms with fewer seeds than others."""
        counts = {arm: len(self.experiment.seeds_of(arm)) for arm in self.experiment.arms}
        return tuple(arm for arm, count in counts.items() if count < max(counts.values()))

    @property
    def trained(self) -> list[tuple[str, int]]:
        """Every training run."""
        return [(arm, seed) for arm, seeds in self.seeds.items() if arm != BASE for seed in seeds]

    @property
    def tables(self) -> Path:
        return self.results / "tables" / self.base

    @property
    def timing(self) -> Path:
        return self.results / "timing" / f"{self.base}.csv"

    @property
    def subject(self) -> str | None:
        """The arm that the page asks about: the one called dagrpo, else the last main arm but the reference."""
        apart = (BASE, self.experiment.evaluation.reference, *self.sweeps)
        others = [arm for arm in self.seeds if arm not in apart]
        return "dagrpo" if "dagrpo" in others else others[-1] if others else None

    def samples(self, arm: str, seed: int) -> Path:
        return self.results / self.kept / self.base / arm / f"seed{seed}.jsonl"

    def run(self, arm: str, seed: int) -> Path:
        return self.results / "runs" / self.base / arm / f"seed{seed}"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The samples that the tables of one base corpus are made from: problems that every run was evaluated on.

    ``samples`` has a row for each sample: arm, seed, family, problem (position in table order), level, verdict,
    tokens, correct, disagreement (of two judges; NaN where fewer spoke) and majority (NaN where nobody counted).
    ``families`` are in table order. ``limited`` says how many problems of how many were asked for,
    where not all were; ``missing`` how many were left out because some run lacks them.
    """

    samples: pd.DataFrame
    families: tuple[str, ...]
    limited: Mapping[str, tuple[int, int]]
    missing: Mapping[str, int]


def open_runs(results: Path, spec: Path | None = None) -> dict[str, Runs]:
    """Read the resolved experiment, by default ``specs/report.json`` of the results folder: the runs of each corpus.

    Raises:
        UserError: it is not there, or is no experiment; the reference arm has fewer seeds than others.
    """
    path = spec or results / "specs" / "report.json"
    experiment = parse(Experiment, read_json(path), str(path))
    reference = experiment.evaluation.reference
    if reference in Runs(results, experiment, "").sweeps:
        raise UserError(
            f"{path}: evaluation.reference: arm {reference!r} has fewer seeds than others; give it as many seeds, or "
            "name another arm"
        )
    return {base: Runs(results, experiment, base) for base in experiment.bases}


def load_evaluation(runs: Runs) -> Evaluation:
    """Read the samples of every arm and seed, and keep the problems that all of them have.

    Raises:
        UserError: a file is missing or broken; two runs were asked different questions under one id, or sampled under
            different settings; samples are not of the weights that their run ended with, or a run does not start from
            the base of its seed; no common problem is left.
    """
    frames: list[pd.DataFrame] = []
    limited: dict[str, tuple[int, int]] = {}
    settings: dict[Path, Any] = {}
    for arm, seeds in runs.seeds.items():
        for seed in seeds:
            path = runs.samples(arm, seed)
            frames.append(read_samples(path).assign(arm=arm, seed=seed))
            meta = read_json(path.with_suffix(".meta.json"))
            settings[path] = meta["spec"]
            limited |= {family: (shown, of) for family, (shown, of) in meta["limited"].items()}
            _check_weights(runs, arm, seed, meta["model_fingerprint"])
    first = next(iter(settings))
    for path, other in settings.items():
        if other != settings[first]:
            raise UserError(f"{path} and {first} were sampled under different settings; evaluate both again")
    samples = pd.concat(frames, ignore_index=True)
    _check_hashes(samples)
    return _common(samples, limited, sum(len(seeds) for seeds in runs.seeds.values()))


def read_samples(path: Path) -> pd.DataFrame:
    """Read one file of samples; the texts stay on disk.

    Raises:
        UserError: it is missing; a line is broken; a sample stands twice; problems of one family have unequal counts.
    """
    frame = pd.DataFrame(_picked(path), columns=[*_KEYS, "disagreement", "majority"])
    if frame.empty:
        raise UserError(f"{path}: holds no sample; evaluate again")
    twice = frame.duplicated(["problem_id", "sample"])
    if twice.any():
        first = frame[twice].iloc[0]
        raise UserError(
            f"{path}: sample {first['sample']} of problem {first['problem_id']!r} stands twice; evaluate again"
        )
    counts = frame.groupby("problem_id").agg(family=("family", "first"), count=("sample", "size"))
    uneven = counts.groupby("family")["count"].nunique()
    if (uneven > 1).any():
        family = uneven.index[uneven > 1][0]
        raise UserError(f"{path}: problems of {family!r} have different numbers of samples; evaluate again")
    floats = {key: frame[key].astype(float) for key in ("level", "disagreement", "majority")}
    return frame.assign(**floats, correct=frame["verdict"] == Verdict.CORRECT)


def cells(samples: pd.DataFrame, problems: np.ndarray, values: str = "correct") -> tuple[tuple[int, ...], np.ndarray]:
    """Average over the samples of each problem: the seeds, and an array of shape (seeds, problems)."""
    table = samples.pivot_table(index="seed", columns="problem", values=values, aggfunc="mean")[problems]
    return tuple(int(seed) for seed in table.index), table.to_numpy(float)


def scores(evaluation: Evaluation, runs: Runs, problems: np.ndarray, values: str = "correct") -> list[Scores]:
    """What each arm scored on the chosen problems, arms in table order; ``values`` names the score's column.

    The base has a row for each training seed: the checkpoint that runs of this seed start from.
    """
    by_arm = dict(list(evaluation.samples.groupby("arm")))
    base_seeds, rows = cells(by_arm[BASE], problems, values)
    seeds = runs.experiment.seeds
    start = rows[[base_seeds.index(runs.experiment.base_seed(seed)) for seed in seeds]]
    trained = [Scores(*cells(by_arm[arm], problems, values)) for arm in runs.seeds if arm != BASE]
    return [Scores(seeds, start, trained=False), *trained]


def load_metrics(runs: Runs, name: str = "metrics") -> pd.DataFrame:
    """Read the lines of all runs: a row for each step, numbered over all phases; NaN where a line lacks a key."""
    frames = []
    for arm, seed in runs.trained:
        path = runs.run(arm, seed) / f"{name}.jsonl"
        frame = pd.DataFrame(list(read_lines(path)))
        frames.append(frame.assign(arm=arm, seed=seed, step=np.arange(len(frame))))
    return pd.concat(frames, ignore_index=True)


def load_cards(runs: Runs) -> dict[tuple[str, int], dict[str, Any]]:
    """Read ``run.json`` of every run."""
    return {(arm, seed): read_json(runs.run(arm, seed) / "run.json") for arm, seed in runs.trained}


def labels(runs: Runs) -> dict[str, str]:
    """Name of each arm in tables: the experiment's, else the method's own, made unique by the arm's name."""
    found = {BASE: "Base"}
    for arm, settings in runs.experiment.arms.items():
        found[arm] = settings.label or read_json(runs.run(arm, runs.seeds[arm][0]) / "run.json")["label"]
    names = list(found.values())
    return {arm: found[arm] if names.count(found[arm]) == 1 else f"{found[arm]} ({arm})" for arm in runs.seeds}


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises :class:`UserError` where there is none, or it is broken."""
    try:
        return json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); run the experiment to its end first") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); delete it and run the experiment again") from None


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSON Lines one by one. Raises :class:`UserError` naming file and line."""
    try:
        stream = path.open()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); run the experiment to its end first") from None
    with stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield json.loads(line)
            except ValueError as error:
                raise UserError(
                    f"{path}, line {number}: not valid JSON ({error}); delete the file and run again"
                ) from None


def _picked(path: Path) -> Iterator[list[Any]]:
    verdicts = {verdict.value for verdict in Verdict}
    for number, row in enumerate(read_lines(path), start=1):
        lacking = [key for key in (*_KEYS, "judges") if key not in row]
        if lacking:
            raise UserError(f"{path}, line {number}: key {lacking[0]!r} is missing; evaluate again")
        if row["verdict"] not in verdicts:
            raise UserError(f"{path}, line {number}: unknown verdict {row['verdict']!r}; evaluate again")
        said = row["judges"].values()
        apart = float(len(set(said)) > 1) if len(said) > 1 else None
        yield [*(row[key] for key in _KEYS), apart, row.get("majority")]


def _check_weights(runs: Runs, arm: str, seed: int, fingerprint: str) -> None:
    if arm == BASE:  # every run of a seed must name the base that its seed starts from
        from_here = [run for run in runs.trained if runs.experiment.base_seed(run[1]) == seed]
        named = {read_json(runs.run(*run) / "run.json")["base_fingerprint"] for run in from_here}
    else:
        named = {read_json(runs.run(arm, seed) / "run.json")["model_fingerprint"]}
    if named - {fingerprint}:
        path = runs.samples(arm, seed)
        raise UserError(f"{path}: sampled from other weights than the runs name; delete it and evaluate {arm!r} again")


def _check_hashes(samples: pd.DataFrame) -> None:
    differing = samples.groupby("problem_id")[["problem_hash", "prompt_hash", "family"]].nunique().max(axis=1) > 1
    if differing.any():
        raise UserError(
            f"problem {differing.index[differing][0]!r} is not the same question in all runs (its hash, its prompt's "
            "or its family differs); evaluate all arms again on one problem file"
        )


def _common(samples: pd.DataFrame, limited: Mapping[str, tuple[int, int]], runs: int) -> Evaluation:
    families = tuple(samples["family"].unique())
    problems = samples.drop_duplicates("problem_id")
    present = samples.drop_duplicates(["arm", "seed", "problem_id"])["problem_id"].value_counts()
    kept = problems[problems["problem_id"].map(present) == runs]
    counts = kept["family"].value_counts().reindex(families, fill_value=0)
    missing = problems["family"].value_counts() - counts
    for family in families:
        if family not in set(kept["family"]):
            raise UserError(f"family {family!r}: no problem was evaluated by every arm and seed; evaluate them again")
    # Table order: by family, then as the files have them.
    ordered = kept.sort_values("family", key=lambda column: column.map(families.index), kind="stable")["problem_id"]
    position = pd.Series(np.arange(len(ordered)), index=ordered.to_numpy())
    chosen = samples[samples["problem_id"].isin(position.index)]
    chosen = chosen.assign(problem=chosen["problem_id"].map(position).astype(int))
    return Evaluation(
        chosen.drop(columns=["problem_hash", "prompt_hash"]).reset_index(drop=True),
        families,
        {family: limited[family] for family in families if family in limited},
        {family: int(missing[family]) for family in families if missing[family]},
    )
