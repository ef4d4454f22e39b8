"""How checkpoints are evaluated, and how the base is probed."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dagrpo.config.reading import Name, Strict
from dagrpo.config.training import Scorer


class Evaluation(Strict):
    samples: int = Field(1, ge=1, description="Samples of each problem, k of avg@k.")
    samples_by_family: dict[str, int] = Field(default_factory=dict, description="k where it differs.")
    temperature: float = Field(0.6, ge=0, description="0 is greedy.")
    max_new_tokens: int = Field(ge=1)
    rollout_rows: int = Field(128, ge=1, description="Rows decoded together; does not change a sample.")
    threads: int = Field(1, ge=1)
    profile_samples: int = Field(8, ge=2, description="Samples a training prompt in the table of the base's regime.")
    profile_problems: int = Field(300, ge=1, description="Training prompts in that table.")
    bootstrap: int = Field(2000, ge=100, description="Bootstrap resamples behind an interval.")
    out_of_distribution: tuple[str, ...] = Field((), description="Families averaged apart from the others.")
    reference: Name = Field("grpo", description="The arm that paired differences are taken to.")


class Benchmarks(Strict):
    """The real benchmarks, run over the checkpoints as lm-eval tasks; needs the extra lm-eval."""

    tasks: tuple[str, ...] = Field(("nine",), min_length=1, description="Benchmarks by name, or nine, math, ood, all.")
    arms: tuple[Name, ...] | None = Field(None, description="Arms beside the base, the reference among them; or all.")
    prompt: Literal["experiment", "think", "chat", "qwen", "plain"] = Field(
        "chat",
        description="How the model wants to be asked; experiment: by this experiment's system prompt, instruction and "
        "opening, and what its evaluation has sampled so is not sampled again.",
    )
    samples: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="k of avg@k by benchmark or group, where it is not the benchmark's own."
    )
    temperature: float = Field(0.6, ge=0, description="0 is greedy.")
    max_new_tokens: int = Field(8192, ge=1)
    limit: int | None = Field(
        None,
        ge=1,
        description="Only the first questions of each; marked everywhere. Where null, with prompt experiment, that of "
        "the problems.",
    )
    mirror: Path | None = Field(None, description="Folder that holds benchmarks/; where null, that of the problems.")
    rollout_rows: int = Field(64, ge=1, description="Rows decoded together; does not change a sample.")
    threads: int = Field(1, ge=1)


class Rating(Strict):
    """How the rows of a probe are rated."""

    scorers: dict[Name, Scorer] = Field(min_length=1, description="What rates the rows; each is compared by itself.")
    delta: float = Field(3.0, ge=0, description="Margin of the mask that is tried.")


class Probing(Strict):
    """What is sampled and differentiated."""

    problems: int = Field(60, ge=1, description="Training problems, drawn by a seed; those with mixed groups count.")
    group_size: int = Field(8, ge=2, description="Rollouts of each problem.")
    max_new_tokens: int = Field(256, ge=1)
    temperature: float = Field(1.0, gt=0)
    part: Literal["all", "last_layer", "last_block"] = Field(
        "last_block", description="What of the model is differentiated by."
    )
    whole: int = Field(2, ge=0, description="Mixed groups that the whole model's gradients in fp32 check this on.")
    projection: int = Field(65536, ge=64, description="Numbers kept of each of those whole gradients.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="Of weights and arithmetic, for all but the check.")
    rollout_rows: int = Field(64, ge=1, description="Rows decoded together; does not change a sample.")
    threads: int = Field(1, ge=1)


class Probe(Probing):
    """Gradients of a base's own groups, before any training: do alike rows of both sides oppose each other?"""

    rating: Rating
