"""Where the problems come from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dagrpo.config.reading import Strict

LongDemonstrations = Literal["refused", "left_out"]


class MiniProblems(Strict):
    """Procedural families: nothing is read from disk."""

    kind: Literal["mini"] = "mini"
    split: Literal["evaluation", "development"] = Field(
        "evaluation", description="Held-out problems that arms are evaluated on; settings are tuned on development."
    )
    seed: int = Field(0, ge=0, description="Seed of the problem generator.")
    train: int = Field(1000, ge=1, description="Training problems, all families together.")
    evaluation: int = Field(60, ge=1, description="Evaluation problems for each family.")
    level_weights: tuple[float, ...] = Field(
        (1.8, 1.0, 1.0, 0.7), description="Training mixture over levels 0, 1, 2, 3."
    )


class MirrorProblems(Strict):
    """Real rows from a local folder of JSON Lines (benchmarks/ and train/)."""

    kind: Literal["mirror"] = "mirror"
    mirror: Path | None = Field(None, description="The folder; the environment variable DAGRPO_MIRROR where null.")
    train_file: str = Field("math_gptoss_traces", description="File of train/ with verified traces, without suffix.")
    train: int = Field(200, ge=1, description="Training problems; the shortest prompts first.")
    max_prompt_chars: int = Field(300, ge=1, description="Longer training prompts are left out (characters).")
    benchmarks: tuple[str, ...] = Field(description="Files of benchmarks/, without suffix, in table order.")
    limit: int | None = Field(None, ge=1, description="Only the first rows of each benchmark; null for all.")
    drop_overlap: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Leave out training rows that share such a part of their word 8-grams with a question.",
    )
    long_demonstrations: LongDemonstrations = Field(
        "refused",
        description="One of more tokens than train.max_new_tokens ends a run (refused), or is counted and not used.",
        exclude_if=lambda rule: rule == "refused",  # specs without it, and the runs made of them, stay what they were
    )


Revision = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class HubProblems(Strict):
    """Training rows of a Hugging Face data set (or a local copy of it) in the columns that verl reads; benchmarks from
    a local folder of JSON Lines (benchmarks/)."""

    kind: Literal["hub"] = "hub"
    dataset: str = Field(description="Name on the hub, or the path of a local copy: .parquet, .jsonl or .jsonl.gz.")
    revision: Revision | None = Field(None, description="Commit of the data set on the hub; no job starts without it.")
    split: str = Field("train", description="Split of the data set on the hub.")
    train: int | None = Field(None, ge=1, description="Only the first rows; null for all.")
    max_prompt_chars: int | None = Field(None, ge=1, description="Longer prompts are left out (characters).")
    opening: str = Field("", description="What every prompt ends with; taken off the start of demonstrations.")
    mirror: Path | None = Field(
        None, description="Folder of benchmarks/; the environment variable DAGRPO_MIRROR if null."
    )
    benchmarks: tuple[str, ...] = Field(description="Files of benchmarks/, without suffix, in table order.")
    limit: int | None = Field(None, ge=1, description="Only the first rows of each benchmark; null for all.")
    drop_overlap: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Leave out training rows that share such a part of their word 8-grams with a question.",
    )
    long_demonstrations: LongDemonstrations = Field(
        "refused",
        description="One of more tokens than train.max_new_tokens ends a run (refused), or is counted and not used.",
        exclude_if=lambda rule: rule == "refused",  # specs without it, and the runs made of them, stay what they were
    )


class WordProblems(Strict):
    """Word problems in arithmetic, from a local folder of JSON Lines (benchmarks/ and train/): a stratified draw, with
    demonstrations that are composed from the sources' own formulas, one operation a line."""

    kind: Literal["words"] = "words"
    mirror: Path | None = Field(None, description="The folder; the environment variable DAGRPO_MIRROR where null.")
    split: Literal["evaluation", "development"] = Field(
        "evaluation", description="The benchmarks, or rows of the sources that settings are tuned on."
    )
    seed: int = Field(0, ge=0, description="Seed of the draw.")
    train: dict[str, Annotated[int, Field(ge=1)]] = Field(
        min_length=1, description="Training rows drawn from each file of train/, by its name without suffix."
    )
    warm: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="Rows drawn to warm a base on, which no arm sees."
    )
    development: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="Rows drawn to tune settings on, which are neither of these."
    )
    max_prompt_chars: int = Field(300, ge=1, description="Longer questions are left out (characters).")
    max_operations: int = Field(3, ge=1, description="Rows whose formula has more operations are left out.")
    benchmarks: tuple[str, ...] = Field(description="Files of benchmarks/, without suffix, in table order.")
    limit: int | None = Field(None, ge=1, description="Only the first rows of each benchmark; null for all.")
    drop_overlap: float = Field(
        0.8,
        gt=0,
        le=1,
        description="Leave out rows that share such a part of their word 8-grams with a question, or with a row drawn "
        "for another purpose.",
    )

    @model_validator(mode="after")
    def _development_is_drawn(self) -> "WordProblems":
        if self.split == "development" and not self.development:
            raise ValueError("split development: say how many rows of each source in development")
        return self


Problems = Annotated[MiniProblems | MirrorProblems | HubProblems | WordProblems, Field(discriminator="kind")]
