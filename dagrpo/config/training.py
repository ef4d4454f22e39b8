"""How an arm trains: optimiser, steps, scorer, verifier."""

from typing import Any, Literal

from pydantic import Field, model_validator

from dagrpo.config.reading import Name, Strict


class Optimizer(Strict):
    """AdamW with linear warm-up, then a constant or cosine schedule."""

    lr: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(0.01, ge=0)
    warmup: float = Field(0.0, ge=0, le=1, description="Share of the phase's steps.")
    schedule: Literal["constant", "cosine"] = "constant"
    clip: float = Field(1.0, gt=0, description="Bound on the global gradient norm.")


class Lora(Strict):
    """Low-rank adapters beside the weights, which alone learn; needs the extra lora."""

    rank: int = Field(16, ge=1)
    alpha: float = Field(32.0, gt=0, description="The product of an adapter counts alpha / rank.")
    targets: tuple[str, ...] = Field(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        min_length=1,
        description="Names of the linear layers that get adapters; by default all of a block of Llama or Qwen2.",
    )


class Train(Strict):
    """What a training run consumes, the same for every arm unless the arm says otherwise."""

    steps: int = Field(ge=1, description="Rollout steps of the reinforcement phase.")
    prompts: int = Field(ge=1, description="Prompts in a step.")
    group_size: int = Field(ge=2, description="Rows of a prompt, anchors included.")
    max_new_tokens: int = Field(ge=1, description="Response budget, L_max (tokens).")
    temperature: float = Field(1.0, gt=0)
    updates: int = Field(1, ge=1, description="Optimiser steps for each rollout step.")
    sampler_correction: float | None = Field(
        None,
        gt=0,
        description="Bound on the ratio of policy to sampler by which tokens are weighed; null: no weighing.",
    )
    max_logp_gap: float = Field(
        0.5,
        gt=0,
        description="Mean distance of sampled from recomputed log-probabilities (nats) beyond which the run ends.",
    )
    max_skipped: int = Field(
        3,
        ge=1,
        description="Steps in a row with a loss or gradient that is not finite, of which the last ends the run.",
    )
    stall: float = Field(
        20.0,
        gt=1,
        description="A step that takes so many times the median one ends the run (and ten minutes at least).",
    )
    rl: Optimizer
    sft: Optimizer
    sft_rows: int = Field(64, ge=1, description="Demonstrations in an SFT step.")
    sft_steps: int = Field(ge=1, description="Optimiser steps of an SFT phase.")
    rollout_rows: int = Field(64, ge=1, description="Rows decoded together; does not change a sample.")
    micro_tokens: int = Field(4096, ge=16, description="Tokens in a micro-batch; does not change a gradient.")
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Of sampling and of the forward and backward passes; weights, their gradients and their optimiser "
        "are kept in fp32.",
    )
    recompute: bool = Field(
        False, description="Keep only the input of each layer and compute the rest again (activation checkpointing)."
    )
    lora: Lora | None = Field(
        None,
        exclude_if=lambda lora: lora is None,  # specs without it, and the runs made of them, stay what they were
        description="Train low-rank adapters and not the weights; null: the weights.",
    )
    checkpoint_every: int = Field(50, ge=1, description="Steps between checkpoints.")
    conflict_every: int = Field(10, ge=0, description="Steps between conflict probes of one group; 0: none.")
    snapshots: tuple[int, ...] = Field(
        (), description="Steps of the reinforcement phase, from 0, whose groups and weights before the update are kept."
    )
    threads: int = Field(1, ge=1, description="CPU threads of a run; fixed, since they decide the rounding.")

    @model_validator(mode="after")
    def _updates_split_prompts(self) -> "Train":
        if self.prompts % self.updates:
            raise ValueError(f"updates ({self.updates}) must divide prompts ({self.prompts})")
        return self

    @model_validator(mode="after")
    def _snapshots_are_steps(self) -> "Train":
        if outside := [step for step in self.snapshots if not 0 <= step < self.steps]:
            raise ValueError(f"snapshots: {outside[0]} is none of the {self.steps} steps, which are counted from 0")
        return self


class Scorer(Strict):
    """The fine-grained scorer that a method with a score gate asks for; kind and options are checked by the scorer."""

    kind: str = Field("reference_overlap", description="Name of a scorer.")
    options: dict[str, Any] = Field(default_factory=dict, description="The scorer's own parameters.")
    length_aware: bool = Field(False, description="Lower the score of what was cut or is far too short.")
    max_missing: float = Field(
        0.1,
        ge=0,
        le=1,
        description="A larger share of missing scores, of all in a run so far, ends it; so does a whole step of them.",
    )


class Verifier(Strict):
    """How a response is graded."""

    kind: Literal["exact", "math"] = "math"
    judge: Literal["math_verify", "sympy"] = Field("math_verify", description="Whose word is the verdict (kind math).")
    thought: Literal["optional", "required"] = Field(
        "optional",
        description="Whether an answer must follow a closed thought (required: the reward of LUFFY, a box inside the "
        "thought counts for nothing) or need not, and the box of a closed thought counts where nothing follows it.",
    )
    workers: int = Field(1, ge=1, description="Killable worker processes (kind math).")
    seconds: float = Field(2.0, gt=0, description="Wall-clock limit of one verdict (seconds; kind math).")


class Arm(Strict):
    """One row of the tables: a method, its options, and what it changes of the common training settings."""

    method: Name
    label: str | None = Field(None, description="Name in tables and figures; the method's own where null.")
    options: dict[str, Any] = Field(default_factory=dict, description="The method's own parameters.")
    train: dict[str, Any] = Field(default_factory=dict, description="Keys of `train` that this arm changes.")
    scorer: Scorer | None = Field(None, description="A scorer of its own; the experiment's where null.")
    seeds: tuple[int, ...] | None = Field(None, min_length=1, description="Fewer seeds than the experiment's.")
