"""What single jobs read, cut out of an experiment, so that a change of one arm changes one spec."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from dagrpo.config.bases import Base, WarmedBase
from dagrpo.config.engines import EngineOptions, TorchEmbedded
from dagrpo.config.evaluation import Probing, Rating
from dagrpo.config.experiment import Experiment
from dagrpo.config.problems import LongDemonstrations, Problems
from dagrpo.config.reading import Name, Strict
from dagrpo.config.training import Scorer, Train, Verifier


class PromptSpec(Strict):
    """How a question becomes a prompt."""

    system_prompt: str | None = None
    instruction: str | None = None
    opening: str | None = None


class ProblemsSpec(Strict):
    """All that the making of problems reads."""

    problems: Problems


class BaseSpec(Strict):
    """All that the making of a base checkpoint reads."""

    base: Base
    seed: int = Field(0, ge=0, description="Of its weights and corpus, where the base is trained here.")
    problems: Problems
    # Left out where they say nothing, so that a base which does not read them is not made again.
    prompt: PromptSpec = Field(PromptSpec(), exclude_if=lambda prompt: prompt == PromptSpec())
    device: Literal["auto", "cpu", "cuda"] = Field("auto", exclude_if=lambda device: device == "auto")


class TrainSpec(Strict):
    """All that one training job reads."""

    arm: Name
    method: Name
    options: dict[str, Any]
    train: Train
    prompt: PromptSpec
    verifier: Verifier
    scorer: Scorer
    device: Literal["auto", "cpu", "cuda"]
    engine: EngineOptions = TorchEmbedded()
    long_demonstrations: LongDemonstrations = Field("refused", exclude_if=lambda rule: rule == "refused")


class ProbeSpec(Strict):
    """All that the probe of one base reads."""

    probe: Probing
    prompt: PromptSpec
    verifier: Verifier
    device: Literal["auto", "cpu", "cuda"]
    engine: EngineOptions = TorchEmbedded()


class RatingSpec(Strict):
    """All that the rating of a probe's rows reads."""

    rating: Rating
    device: Literal["auto", "cpu", "cuda"]
    threads: int = Field(1, ge=1)


class JudgeCheckSpec(Strict):
    """All that the check of judges on a base's own groups reads: ``arms`` are those whose scorer names a model."""

    arms: dict[Name, TrainSpec] = Field(min_length=1)
    problems: int = Field(32, ge=1, description="Training problems that are sampled.")


class EvaluationSpec(Strict):
    """All that one evaluation job reads."""

    samples: int
    samples_by_family: dict[str, int]
    temperature: float
    max_new_tokens: int
    rollout_rows: int
    threads: int
    prompt: PromptSpec
    verifier: Verifier
    device: Literal["auto", "cpu", "cuda"]
    engine: EngineOptions = TorchEmbedded()


class BenchmarksSpec(Strict):
    """All that the benchmarks of one checkpoint read; ``benchmarks`` are names, no groups.

    ``own`` is the experiment's prompt, where ``prompt`` says that it asks.
    """

    benchmarks: tuple[str, ...]
    prompt: str
    own: PromptSpec = Field(PromptSpec(), exclude_if=lambda prompt: prompt == PromptSpec())
    samples: dict[str, int]
    temperature: float
    max_new_tokens: int
    limit: int | None
    mirror: Path | None
    rollout_rows: int
    threads: int
    verifier: Verifier
    device: Literal["auto", "cpu", "cuda"]
    engine: EngineOptions = Field(
        TorchEmbedded(),
        exclude_if=lambda engine: engine.kind == "torch",  # specs of it, and the samples, stay what they were
    )


class ContaminationSpec(Strict):
    """All that the comparison of training questions with the evaluated ones reads."""

    problems: Problems
    benchmarks: tuple[str, ...] = Field((), description="Benchmarks that the experiment runs besides, by name.")
    mirror: Path | None = None


def base_spec(experiment: Experiment, base: str, seed: int) -> BaseSpec:
    """Cut out what the making of a base reads; only one that is warmed here reads a prompt."""
    made = experiment.bases[base]
    told = {"prompt": prompt_spec(experiment), "device": experiment.device} if isinstance(made, WarmedBase) else {}
    return BaseSpec(base=made, seed=seed, problems=experiment.problems, **told)


def train_spec(experiment: Experiment, arm: str) -> TrainSpec:
    """Cut out what the training of one arm reads; the method's options are checked when it is built."""
    return TrainSpec(
        arm=arm,
        method=experiment.arms[arm].method,
        options=experiment.arms[arm].options,
        train=experiment.train_of(arm),
        prompt=prompt_spec(experiment),
        verifier=experiment.verifier,
        scorer=experiment.arms[arm].scorer or experiment.scorer,
        device=experiment.device,
        engine=experiment.engine,
        long_demonstrations=getattr(experiment.problems, "long_demonstrations", "refused"),
    )


def evaluation_spec(experiment: Experiment) -> EvaluationSpec:
    """Cut out what the evaluation of a checkpoint on the reported problems reads."""
    settings = experiment.evaluation
    return EvaluationSpec(
        samples=settings.samples,
        samples_by_family=settings.samples_by_family,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        rollout_rows=settings.rollout_rows,
        threads=settings.threads,
        prompt=prompt_spec(experiment),
        verifier=experiment.verifier,
        device=experiment.device,
        engine=experiment.engine,
    )


def profile_spec(experiment: Experiment) -> EvaluationSpec:
    """The evaluation that describes the base on training prompts: sampled as training samples."""
    return evaluation_spec(experiment).model_copy(
        update={
            "samples": experiment.evaluation.profile_samples,
            "samples_by_family": {},
            "temperature": experiment.train.temperature,
            "max_new_tokens": experiment.train.max_new_tokens,
        }
    )


def trial_spec(experiment: Experiment) -> EvaluationSpec:
    """The evaluation that tries the base on a few problems before anything is trained: one sample of each."""
    return evaluation_spec(experiment).model_copy(update={"samples": 1, "samples_by_family": {}})


def benchmarks_spec(experiment: Experiment) -> BenchmarksSpec:
    """Cut out what the benchmarks of a checkpoint read; a verifier for the miniature's answers gives way to the usual.

    Args:
        experiment: has a section ``benchmarks`` that names no groups.
    """
    settings = experiment.benchmarks
    assert settings is not None
    alike = settings.prompt == "experiment"
    return BenchmarksSpec(
        benchmarks=settings.tasks,
        own=prompt_spec(experiment) if alike else PromptSpec(),
        limit=settings.limit or (getattr(experiment.problems, "limit", None) if alike else None),
        verifier=experiment.verifier if experiment.verifier.kind == "math" else Verifier(),
        device=experiment.device,
        engine=experiment.engine,
        **settings.model_dump(exclude={"tasks", "arms", "limit"}),
    )


def trial_benchmarks_spec(experiment: Experiment) -> BenchmarksSpec:
    """The benchmarks that try the base before anything is trained: one sample of the first question of each."""
    asked = benchmarks_spec(experiment)
    return asked.model_copy(update={"samples": dict.fromkeys(asked.benchmarks, 1), "limit": 1})


def judged_arms(experiment: Experiment) -> list[str]:
    """The arms whose scorer names a model, which makes it a judge; not all of their methods ask it."""
    return [name for name, arm in experiment.arms.items() if "model" in (arm.scorer or experiment.scorer).options]


def judge_check_spec(experiment: Experiment) -> JudgeCheckSpec:
    """Cut out what the check of judges before any training reads; of an experiment that has some."""
    return JudgeCheckSpec(arms={arm: train_spec(experiment, arm) for arm in judged_arms(experiment)})


def probe_spec(experiment: Experiment) -> ProbeSpec:
    """Cut out what the probe of a base reads; of an experiment that has one."""
    assert experiment.probe is not None
    return ProbeSpec(
        probe=Probing(**experiment.probe.model_dump(exclude={"rating"})),
        prompt=prompt_spec(experiment),
        verifier=experiment.verifier,
        device=experiment.device,
        engine=experiment.engine,
    )


def rating_spec(experiment: Experiment) -> RatingSpec:
    """Cut out what the rating of a probe's rows reads; of an experiment that has one."""
    assert experiment.probe is not None
    return RatingSpec(rating=experiment.probe.rating, device=experiment.device, threads=experiment.probe.threads)


def contamination_spec(experiment: Experiment) -> ContaminationSpec:
    """Cut out what the comparison of training questions with the evaluated ones reads."""
    asked = experiment.benchmarks
    if asked is None:
        return ContaminationSpec(problems=experiment.problems)
    return ContaminationSpec(problems=experiment.problems, benchmarks=asked.tasks, mirror=asked.mirror)


def prompt_spec(experiment: Experiment) -> PromptSpec:
    """Cut out how a question becomes a prompt."""
    return PromptSpec(
        system_prompt=experiment.system_prompt, instruction=experiment.instruction, opening=experiment.opening
    )
