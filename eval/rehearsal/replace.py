"""What a rehearsal replaces in an experiment: all of it stands here, and nothing else differs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dagrpo.config import Experiment, HubProblems, MiniBase, MiniProblems, Scorer, VllmColocated, WordProblems
from eval.benchmark_tasks.benchmarks import BENCHMARKS
from eval.benchmark_tasks.names import choose

Keys = tuple[str, ...]

TOKENS = 96

TRAIN = {
    "steps": 2,
    "prompts": 4,
    "max_new_tokens": TOKENS,
    "sft_steps": 2,
    "sft_rows": 8,
    "checkpoint_every": 1,
    "conflict_every": 1,
}
"""Most of each; a file that asks for less keeps it."""

EVALUATION = {
    "samples": 2,
    "max_new_tokens": TOKENS,
    "profile_samples": 2,
    "profile_problems": 6,
    "bootstrap": 100,
}

PROBE = {"problems": 4, "max_new_tokens": TOKENS, "projection": 256}

MACHINE = {
    "processes": 2,
    "train.threads": 1,
    "evaluation.threads": 1,
    "benchmarks.threads": 1,
    "probe.threads": 1,
    "verifier.workers": 1,
}

MINIATURE = {"width": 32, "layers": 2, "heads": 2, "feedforward": 64, "steps": 60, "step_tokens": 512}
"""Of a base that is trained here."""


@dataclass(frozen=True, slots=True)
class Place:
    """The folder of a rehearsal's results, with the stand-ins in it, and the address of its judge."""

    results: Path
    judge: str

    @property
    def folder(self) -> Path:
        """The stand-ins."""
        return self.results / "stand-ins"

    @property
    def dataset(self) -> Path:
        """Training rows as the hub has them."""
        return self.folder / "train.parquet"

    @property
    def mirror(self) -> Path:
        """Rows of the benchmarks, and training rows, as a mirror has them."""
        return self.folder / "mirror"

    def base(self, name: str) -> Path:
        """A base checkpoint."""
        return self.folder / "bases" / name


@dataclass(frozen=True, slots=True)
class Replacement:
    """One setting, by its keys; ``before`` is what the file, or its default, says."""

    keys: Keys
    before: Any
    after: Any

    def __str__(self) -> str:
        after, before = (json.dumps(value) for value in (self.after, self.before))
        return f"{'.'.join(self.keys)}: {after} in place of {before}"


def rehearsed(experiment: Experiment, place: Place) -> tuple[Experiment, list[Replacement]]:
    """Replace what a small machine cannot do.

    Returns:
        the experiment to run, and what differs from the one that was given; its ``rehearsal`` lists that too.
    """
    settings = experiment.model_dump(mode="json") | {"processes": experiment.processes}
    wanted = dict(_wanted(experiment, place))
    made = [
        Replacement(keys, before, after) for keys, after in wanted.items() if (before := _get(settings, keys)) != after
    ]
    for one in made:
        _set(settings, one.keys, one.after)
    return Experiment.model_validate(settings | {"rehearsal": [str(one) for one in made]}), made


def judges(experiment: Experiment) -> Iterator[tuple[Keys, Mapping[str, Any]]]:
    """Keys and options of each scorer that asks a judge."""
    scorers: dict[Keys, Scorer] = {("scorer",): experiment.scorer}
    scorers |= {("arms", name, "scorer"): arm.scorer for name, arm in experiment.arms.items() if arm.scorer is not None}
    if experiment.probe is not None:
        scorers |= {("probe", "rating", "scorers", name): one for name, one in experiment.probe.rating.scorers.items()}
    yield from (
        (keys, scorer.options) for keys, scorer in scorers.items() if {"base_url", "serve"} & set(scorer.options)
    )


def _wanted(experiment: Experiment, place: Place) -> Iterator[tuple[Keys, Any]]:
    yield ("name",), place.results.name
    yield ("device",), "cpu"
    yield from _engine(experiment)
    for name, base in experiment.bases.items():
        if isinstance(base, MiniBase):
            yield from _capped(experiment, ("bases", name), MINIATURE)
        else:
            kept = {key: getattr(base, key, None) for key in ("window", "rope_theta")}
            yield ("bases", name), {"kind": "hub", "model": str(place.base(name)), "revision": None, **kept}
    if isinstance(experiment.problems, MiniProblems):
        yield from _capped(experiment, ("problems",), {"train": 60, "evaluation": 4})
    else:
        yield ("problems", "mirror"), str(place.mirror)
        if not isinstance(experiment.problems, WordProblems):
            yield from _capped(experiment, ("problems",), {"train": 32})
        else:
            for purpose in ("train", "warm", "development"):
                drawn = getattr(experiment.problems, purpose)
                yield from _capped(experiment, ("problems", purpose), dict.fromkeys(drawn, 12))
        if isinstance(experiment.problems, HubProblems):
            yield ("problems", "dataset"), str(place.dataset)
    for keys, _ in judges(experiment):
        yield (*keys, "options", "base_url"), place.judge
        yield (*keys, "options", "serve"), None
        yield (*keys, "options", "revision"), None
        yield (*keys, "options", "cache"), str(place.folder / "judge")  # its grades are no judge's
    yield from _budgets(experiment)


def _engine(experiment: Experiment) -> Iterator[tuple[Keys, Any]]:
    if experiment.engine.kind != "torch" and find_spec("vllm") is None:
        yield ("engine",), {"kind": "torch"}
    elif isinstance(experiment.engine, VllmColocated):
        yield ("engine", "memory"), 0.02  # of the machine's, on a CPU
        yield ("engine", "eager"), True  # compiling takes minutes on a CPU
    elif experiment.engine.kind == "vllm_server":
        yield ("engine",), {"kind": "vllm", "memory": 0.02, "eager": True}


def _budgets(experiment: Experiment) -> Iterator[tuple[Keys, Any]]:
    yield from _capped(experiment, (), MACHINE)
    yield from _capped(experiment, ("evaluation",), EVALUATION)
    yield from _capped(experiment, ("probe",), PROBE)
    few = EVALUATION["samples"]
    by_family = {family: min(k, few) for family, k in experiment.evaluation.samples_by_family.items()}
    yield ("evaluation", "samples_by_family"), by_family
    if experiment.benchmarks is not None:
        yield ("benchmarks", "mirror"), None  # that of the problems
        asked = {name: BENCHMARKS[name].samples for name in choose(",".join(experiment.benchmarks.tasks))}
        asked |= {name: k for group, k in experiment.benchmarks.samples.items() for name in choose(group)}
        yield ("benchmarks", "samples"), {name: min(k, few) for name, k in asked.items()}
        yield from _capped(experiment, ("benchmarks",), {"max_new_tokens": TOKENS})
    for keys in ((), *(("arms", name) for name in experiment.arms)):
        yield from _capped(experiment, (*keys, "train"), TRAIN)
        kept = _get(experiment.model_dump(mode="json"), (*keys, "train", "snapshots"))
        if kept is not None:
            yield (*keys, "train", "snapshots"), [step for step in kept if step < TRAIN["steps"]]
    updates = max(experiment.train_of(name).updates for name in experiment.arms)
    yield ("train", "prompts"), min(experiment.train.prompts, max(updates, TRAIN["prompts"]))
    yield ("seeds",), list(experiment.seeds[:1])
    yield ("base_seeds",), list(experiment.base_seeds[:1])
    for name, arm in experiment.arms.items():
        if arm.seeds is not None:
            yield ("arms", name, "seeds"), list(experiment.seeds[:1])


def _capped(experiment: Experiment, keys: Keys, most: Mapping[str, int]) -> Iterator[tuple[Keys, int]]:
    """Numbers beneath some keys, none larger than ``most`` says; those that are not there stay away."""
    settings = experiment.model_dump(mode="json") | {"processes": experiment.processes}
    for dotted, bound in most.items():
        own = (*keys, *dotted.split("."))
        if (before := _get(settings, own)) is not None:
            yield own, min(before, bound)


def _get(settings: Any, keys: Keys) -> Any:
    """The value under these keys; None where a key is missing."""
    for key in keys:
        settings = settings.get(key) if isinstance(settings, Mapping) else None
    return settings


def _set(settings: dict[str, Any], keys: Keys, value: Any) -> None:
    for key in keys[:-1]:
        settings = settings[key]
    settings[keys[-1]] = value
