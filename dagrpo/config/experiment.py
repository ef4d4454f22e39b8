"""A whole experiment file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from dagrpo.config.bases import Base
from dagrpo.config.engines import EngineOptions, TorchEmbedded
from dagrpo.config.evaluation import Benchmarks, Evaluation, Probe
from dagrpo.config.problems import HubProblems, Problems
from dagrpo.config.reading import Name, Strict, merge, nearest, parse, read_settings, sentences
from dagrpo.config.training import Arm, Scorer, Train, Verifier
from dagrpo.errors import UserError
from dagrpo.records import Tracker


class Experiment(Strict):
    """A whole experiment file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", description="Of the file and of its folder in results/.")
    title: str
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: EngineOptions = Field(TorchEmbedded(), description="What samples, in training and evaluation.")
    problems: Problems
    bases: dict[Name, Base] = Field(min_length=1, description="Base checkpoints; every arm starts from each of them.")
    base_seeds: tuple[int, ...] = Field((0,), min_length=1, description="Seeds of each base; arms' seeds share them.")
    system_prompt: str | None = Field(None, description="System message of every prompt.")
    instruction: str | None = Field(None, description="Appended to every question.")
    opening: str | None = Field(None, description="Begins every response, as a part of the prompt.")
    verifier: Verifier = Verifier()
    scorer: Scorer = Scorer()
    train: Train
    processes: int = Field(
        1,
        ge=1,
        exclude=True,  # no part of what is computed, so another number makes nothing out of date
        description="Processes that share each training run, one a GPU where it runs on GPUs; torchrun starts them.",
    )
    logger: Tracker | None = Field(
        None,
        exclude=True,  # nor is who is told
        description="Where runs tell their metrics while they go on, beside their files; null: nowhere. Each needs the "
        "extra of its name, and keeps what it is told on this machine.",
    )
    arms: dict[Name, Arm] = Field(min_length=1)
    seeds: tuple[int, ...] = Field(min_length=1)
    evaluation: Evaluation
    benchmarks: Benchmarks | None = None
    probe: Probe | None = None
    rehearsal: tuple[str, ...] = Field(
        (),
        exclude_if=lambda replaced: not replaced,
        description="What was replaced, where this is a dress rehearsal: `dagrpo rehearse` writes it.",
    )

    @field_validator("seeds", "base_seeds")
    @classmethod
    def _seeds_differ(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) != len(seeds):
            raise ValueError("seeds must differ from each other")
        return seeds

    @field_validator("bases")
    @classmethod
    def _names_of_files_differ(cls, bases: dict[str, Base]) -> dict[str, Base]:
        """Files are named ``<base>.<arm>.seed<n>``, so that only a base could take another's."""
        for name in bases:
            if others := [other for other in bases if other.startswith(f"{name}.")]:
                raise ValueError(
                    f"{others[0]!r} begins with {name!r} and a dot, so their files could collide; rename one"
                )
        return bases

    @model_validator(mode="after")
    def _arms_are_sound(self) -> "Experiment":
        if "base" in self.arms:
            raise ValueError("arms: 'base' is the untrained checkpoint, which is always evaluated; rename the arm")
        if self.evaluation.reference not in self.arms:
            raise ValueError(f"evaluation.reference: no arm is named {self.evaluation.reference!r}")
        for name, arm in self.arms.items():
            self.train_of(name)
            if unknown := set(arm.seeds or ()) - set(self.seeds):
                raise ValueError(f"arms.{name}.seeds: {min(unknown)} is not among the experiment's seeds {self.seeds}")
        if isinstance(self.problems, HubProblems) and self.problems.opening != (self.opening or ""):
            raise ValueError("problems.opening must be the experiment's opening, which prompts end with")
        asked = self.benchmarks.arms if self.benchmarks else None
        if strange := [name for name in asked or () if name not in self.arms]:
            raise ValueError(f"benchmarks.arms: no arm is named {strange[0]!r}")
        if asked is not None and self.evaluation.reference not in asked:
            raise ValueError(f"benchmarks.arms: add {self.evaluation.reference!r}, which differences are taken to")
        if len(self.base_seeds) > 1 and (fixed := [name for name, base in self.bases.items() if base.kind != "mini"]):
            raise ValueError(f"base_seeds: base {fixed[0]!r} is not trained here and has one version; give one seed")
        return self

    def seeds_of(self, arm: str) -> tuple[int, ...]:
        """Training seeds of an arm, in the experiment's order."""
        own = self.arms[arm].seeds
        return self.seeds if own is None else tuple(seed for seed in self.seeds if seed in own)

    def base_seed(self, seed: int) -> int:
        """The base that a training seed starts from: training seeds take the base seeds in turn."""
        return self.base_seeds[self.seeds.index(seed) % len(self.base_seeds)]

    def train_of(self, arm: str) -> Train:
        """The training settings of one arm: the common ones under the arm's changes."""
        try:
            return Train.model_validate(merge(self.train.model_dump(), self.arms[arm].train))
        except ValidationError as error:
            raise ValueError(f"arms.{arm}.train: {sentences(error, Train)}") from None


def load_experiment(paths: Sequence[Path]) -> Experiment:
    """Read an experiment file under the changes of further ones, as snakemake's `--configfile` and
    `--config experiment=` put them together. Raises :class:`UserError` like :func:`parse`."""
    merged: Any = read_settings(paths[0])
    for path in paths[1:]:
        changes = read_settings(path)
        if not (isinstance(merged, dict) and isinstance(changes, Mapping)):
            raise UserError(f"{path}: expected a mapping of keys to values; give keys of an experiment")
        merged = merge(merged, changes)
    return parse(Experiment, merged, " + ".join(map(str, paths)))


def experiment_file(folder: Path, name: str) -> Path:
    """The file of an experiment by its name. Raises :class:`UserError`, with the nearest name, if there is none."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = [other.stem for other in folder.glob("*.yaml")]
        raise UserError(f"experiment: there is no config/{name}.yaml{nearest(name, known)}")
    return path
