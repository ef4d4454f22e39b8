"""What an experiment left behind, as frames: one of problems, one of steps, and the run cards.

Tables, figures and claims are functions of these frames. They come from the files of the runs or from a ledger of
records (:mod:`eval.ledger`), and are the same either way.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from dagrpo.config import Experiment, parse
from dagrpo.errors import UserError
from eval import design
from eval.benchmark_tasks.benchmarks import BENCHMARKS
from eval.files import VERDICTS, Files, read_json
from eval.statistics import Scores

BASE = "base"
OUT_OF_DISTRIBUTION, EXTRA = (
    tuple(one.name for one in BENCHMARKS.values() if one.domain == domain) for domain in ("ood", "extra")
)


class Source(Protocol):
    """What the runs on one base corpus left: see :class:`eval.files.Files`."""

    def samples(self, kept: str, arm: str, seed: int) -> pd.DataFrame: ...
    def meta(self, kept: str, arm: str, seed: int) -> dict[str, Any]: ...
    def digest(self, kept: str, arm: str, seed: int) -> str: ...
    def profile(self) -> pd.DataFrame: ...
    def card(self, arm: str, seed: int) -> dict[str, Any]: ...
    def lines(self, name: str, arm: str, seed: int) -> list[dict[str, Any]]: ...
    def conflict(self, arm: str, seed: int) -> list[dict[str, Any]] | None: ...
    def probe(self) -> list[dict[str, Any]] | None: ...
    def judge(self) -> str | None: ...
    def seconds(self, arm: str, seed: int) -> dict[str, float]: ...


@dataclass(frozen=True, slots=True)
class Runs:
    """The runs of an experiment on one base corpus: its arms and seeds, in table order, and what they left.

    Arms with fewer seeds than others, the sweeps, stand after the main arms. ``results`` is the folder of tables and
    figures, ``kept`` that of the samples; ``alone`` are families that count in no average. ``interim`` says which part
    of the study these runs are, where it lacks others, ``design`` in which commit it was fixed; empty where there is
    nothing to say.
    """

    results: Path
    experiment: Experiment
    base: str
    source: Source
    kept: str = "samples"
    alone: tuple[str, ...] = ()
    interim: str = ""
    design: str = ""

    @property
    def benchmarks(self) -> "Runs | None":
        """The same runs on the real benchmarks, with the arms that were asked them; ``None`` without benchmarks."""
        if (asked := self.experiment.benchmarks) is None:
            return None
        changes: dict[str, Any] = {
            "arms": {
                name: arm for name, arm in self.experiment.arms.items() if asked.arms is None or name in asked.arms
            },
            "evaluation": self.experiment.evaluation.model_copy(update={"out_of_distribution": OUT_OF_DISTRIBUTION}),
        }
        return replace(self, experiment=self.experiment.model_copy(update=changes), kept="benchmarks", alone=EXTRA)

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
        """The file of samples of a checkpoint; of a ledger, the one that its record was made from."""
        return self.results / self.kept / self.base / arm / f"seed{seed}.jsonl"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The frame that the tables of one base corpus are made from: problems that every run was evaluated on.

    ``frame`` has a row for each problem of each run: arm, seed, family, problem (position in table order), level, a
    count of samples for each verdict and of all, tokens, judged and apart (:func:`eval.files.read_samples`), right (the
    share of correct samples) and majority (NaN where nobody counted). ``families`` are in table order. ``limited`` says
    how many problems of how many were asked for, where not all were; ``missing`` how many were left out because some
    run lacks them.
    """

    frame: pd.DataFrame
    families: tuple[str, ...]
    limited: Mapping[str, tuple[int, int]]
    missing: Mapping[str, int]


def open_runs(results: Path, spec: Path | None = None) -> dict[str, Runs]:
    """Read the resolved experiment, by default ``specs/report.json`` of the results folder: the runs of each corpus.

    Raises:
        UserError: it is not there, or is no experiment; the reference arm has fewer seeds than others.
    """
    experiment = read_experiment(spec or results / "specs" / "report.json")
    fixed = design.of_file(experiment.name)
    return {base: Runs(results, experiment, base, Files(results, base), design=fixed) for base in experiment.bases}


def read_experiment(path: Path) -> Experiment:
    """Read a resolved experiment. Raises :class:`UserError` like :func:`open_runs`."""
    experiment = parse(Experiment, read_json(path), str(path))
    reference = experiment.evaluation.reference
    counts = {arm: len(experiment.seeds_of(arm)) for arm in experiment.arms}
    if counts[reference] < max(counts.values()):
        raise UserError(
            f"{path}: evaluation.reference: arm {reference!r} has fewer seeds than others; give it as many seeds, or "
            "name another arm"
        )
    return experiment


def load_evaluation(runs: Runs) -> Evaluation:
    """Put what every arm and seed came to into one frame, and keep the problems that all of them have.

    Raises:
        UserError: something is missing or broken; two runs were asked different questions under one id, or sampled
            under different settings; samples are not of the weights that their run ended with, or a run does not start
            from the base of its seed; no common problem is left.
    """
    frames: list[pd.DataFrame] = []
    limited: dict[str, tuple[int, int]] = {}
    settings: dict[Path, Any] = {}
    for arm, seeds in runs.seeds.items():
        for seed in seeds:
            frames.append(runs.source.samples(runs.kept, arm, seed).assign(arm=arm, seed=seed))
            meta = runs.source.meta(runs.kept, arm, seed)
            settings[runs.samples(arm, seed)] = meta["spec"]
            limited |= {family: (shown, of) for family, (shown, of) in meta["limited"].items()}
            _check_weights(runs, arm, seed, meta["model_fingerprint"])
    first = next(iter(settings))
    for path, other in settings.items():
        if other != settings[first]:
            raise UserError(f"{path} and {first} were sampled under different settings; evaluate both again")
    frame = pd.concat(frames, ignore_index=True)
    _check_questions(frame)
    return _common(counted(frame), limited, sum(len(seeds) for seeds in runs.seeds.values()))


def counted(frame: pd.DataFrame) -> pd.DataFrame:
    """Add how many samples each row has, and what share of them is right."""
    samples = frame[list(VERDICTS)].sum(axis=1)
    return frame.assign(samples=samples, right=frame["correct"] / samples)


def cells(frame: pd.DataFrame, problems: np.ndarray, values: str = "right") -> tuple[tuple[int, ...], np.ndarray]:
    """What an arm came to on each problem: the seeds, and an array of shape (seeds, problems)."""
    table = frame.pivot(index="seed", columns="problem", values=values)[problems]
    return tuple(int(seed) for seed in table.index), table.to_numpy(float)


def scores(evaluation: Evaluation, runs: Runs, problems: np.ndarray, values: str = "right") -> list[Scores]:
    """What each arm scored on the chosen problems, arms in table order; ``values`` names the score's column.

    The base has a row for each training seed: the checkpoint that runs of this seed start from.
    """
    by_arm = dict(list(evaluation.frame.groupby("arm")))
    base_seeds, rows = cells(by_arm[BASE], problems, values)
    seeds = runs.experiment.seeds
    start = rows[[base_seeds.index(runs.experiment.base_seed(seed)) for seed in seeds]]
    trained = [Scores(*cells(by_arm[arm], problems, values)) for arm in runs.seeds if arm != BASE]
    return [Scores(seeds, start, trained=False), *trained]


def load_metrics(runs: Runs, name: str = "metrics") -> pd.DataFrame:
    """Read the lines of all runs: a row for each step, numbered over all phases; NaN where a line lacks a key."""
    frames = []
    for arm, seed in runs.trained:
        frame = pd.DataFrame(runs.source.lines(name, arm, seed))
        frames.append(frame.assign(arm=arm, seed=seed, step=np.arange(len(frame))))
    return pd.concat(frames, ignore_index=True)


def load_cards(runs: Runs) -> dict[tuple[str, int], dict[str, Any]]:
    """The card of every run."""
    return {(arm, seed): runs.source.card(arm, seed) for arm, seed in runs.trained}


def origin(cards: Sequence[Mapping[str, Any]]) -> str:
    """From how many machines and versions runs are, in words."""
    machines = {str([card["hardware"].get(key) for key in ("device", "processor", "cores")]) for card in cards}
    versions, codes = {str(card["versions"]) for card in cards}, {card["code_hash"] for card in cards}
    return (
        f"{counted_as(len(machines), 'kind')} of machine, {counted_as(len(versions), 'set')} of packages and "
        f"{counted_as(len(codes), 'version')} of the code"
    )


def counted_as(number: int, what: str) -> str:
    """A number and its noun, in the plural where it is one."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def labels(runs: Runs) -> dict[str, str]:
    """Name of each arm in tables: the experiment's, else the method's own, made unique by the arm's name."""
    found = {BASE: "Base"}
    for arm, settings in runs.experiment.arms.items():
        found[arm] = settings.label or runs.source.card(arm, runs.seeds[arm][0])["label"]
    names = list(found.values())
    return {arm: found[arm] if names.count(found[arm]) == 1 else f"{found[arm]} ({arm})" for arm in runs.seeds}


def _check_weights(runs: Runs, arm: str, seed: int, fingerprint: str) -> None:
    if arm == BASE:  # every run of a seed must name the base that its seed starts from
        from_here = [run for run in runs.trained if runs.experiment.base_seed(run[1]) == seed]
        named = {runs.source.card(*run)["base_fingerprint"] for run in from_here}
    else:
        named = {runs.source.card(arm, seed)["model_fingerprint"]}
    if named - {fingerprint}:
        path = runs.samples(arm, seed)
        raise UserError(f"{path}: sampled from other weights than the runs name; delete it and evaluate {arm!r} again")


def _check_questions(frame: pd.DataFrame) -> None:
    differing = frame.groupby("problem_id")[["question", "family"]].nunique().max(axis=1) > 1
    if differing.any():
        raise UserError(
            f"problem {differing.index[differing][0]!r} is not the same question in all runs (its hash, its prompt's "
            "or its family differs); evaluate all arms again on one problem file"
        )


def _common(frame: pd.DataFrame, limited: Mapping[str, tuple[int, int]], runs: int) -> Evaluation:
    families = tuple(frame["family"].unique())
    problems = frame.drop_duplicates("problem_id")
    kept = problems[problems["problem_id"].map(frame["problem_id"].value_counts()) == runs]
    counts = kept["family"].value_counts().reindex(families, fill_value=0)
    missing = problems["family"].value_counts() - counts
    for family in families:
        if family not in set(kept["family"]):
            raise UserError(f"family {family!r}: no problem was evaluated by every arm and seed; evaluate them again")
    # Table order: by family, then as the files have them.
    ordered = kept.sort_values("family", key=lambda column: column.map(families.index), kind="stable")["problem_id"]
    position = pd.Series(np.arange(len(ordered)), index=ordered.to_numpy())
    chosen = frame[frame["problem_id"].isin(position.index)]
    chosen = chosen.assign(problem=chosen["problem_id"].map(position).astype(int))
    return Evaluation(
        chosen.drop(columns="question").reset_index(drop=True),
        families,
        {family: limited[family] for family in families if family in limited},
        {family: int(missing[family]) for family in families if missing[family]},
    )
