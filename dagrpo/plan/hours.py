"""Hours of an arm on GPUs of one kind, by counting operations and bytes; nothing but these is modelled: no judge, no
verifier, no communication, no sealing of states."""

from dataclasses import dataclass

from dagrpo.algorithm import Algorithm, Recipe
from dagrpo.config import Train
from dagrpo.plan.devices import Device
from dagrpo.plan.memory import FP32, Load, Setup, kv_bytes, side_by_side, vllm_bytes
from dagrpo.plan.shapes import Shape

FORWARD = 2
"""Operations a parameter and token; a backward pass takes as many for the activations, and as many for the weights
(Kaplan et al., arXiv 2001.08361)."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean lengths that are taken for granted (tokens)."""

    prompt: int
    response: int
    demonstration: int


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of one arm, over all its steps."""

    rollout: float
    update: float

    @property
    def hours(self) -> float:
        return (self.rollout + self.update) / 3600


def arm_seconds(
    algorithm: Algorithm, train: Train, shape: Shape, setup: Setup, load: Load, lengths: Lengths, device: Device
) -> Seconds:
    """Add up the phases of an arm; a recipe's interleaved updates are left out: how many there are is not known."""
    rollout_seconds = update_seconds = 0.0
    for phase in algorithm.phases:
        steps = phase.share * (train.steps if phase.kind == "rl" else train.sft_steps)
        sampled, demonstrated = rows_of(phase.recipe, train)
        if phase.recipe.samples:
            tokens = sampled * lengths.response
            prompts = train.prompts * lengths.prompt
            rollout_seconds += steps * decoding(tokens, prompts, lengths, shape, setup, load, device)
        trained = sampled * lengths.response + demonstrated * lengths.demonstration
        trained += (train.prompts if phase.recipe.samples else demonstrated) * lengths.prompt
        passes = FORWARD * (2 + (setup.lora is None) + setup.recompute) * phase.recipe.epochs
        frozen = (train.updates * phase.recipe.epochs > 1) + phase.recipe.needs_reference
        mean = lengths.prompt + max(lengths.response, lengths.demonstration if demonstrated else 0)
        operations = (passes + FORWARD * frozen) * trained * (multiplied(shape) + attention(shape, mean))
        update_seconds += steps * operations / (rate(setup, device) * setup.gpus)
    return Seconds(rollout_seconds, update_seconds)


def rows_of(recipe: Recipe, train: Train) -> tuple[int, int]:
    """Rows of a step that are sampled, and demonstrations."""
    if recipe.data == "demonstrations":
        return 0, train.sft_rows
    anchors = recipe.anchors.count * train.prompts if recipe.anchors else 0
    within = anchors if recipe.anchors and recipe.anchors.within_group else 0
    streamed = train.sft_rows if recipe.data == "both" else 0
    return train.prompts * train.group_size - within, anchors + streamed


def multiplied(shape: Shape) -> int:
    """Parameters that a token is multiplied with: all but the embedding, which is looked up."""
    return shape.layers * shape.layer_parameters + shape.embedding


def attention(shape: Shape, length: int) -> float:
    """What attention adds, in parameters: two products of half the length with all heads, in every layer."""
    return shape.layers * shape.heads_width * length


def rate(setup: Setup, device: Device) -> float:
    """Operations a second that a GPU is taken to do."""
    return device.mfu * (device.fp32 if setup.compute_bytes == FP32 else device.bf16)


def decoding(
    tokens: int, prompt_tokens: int, lengths: Lengths, shape: Shape, setup: Setup, load: Load, device: Device
) -> float:
    """Seconds in which ``tokens`` are sampled on all GPUs, as many rows side by side on each as there is room for: a
    step of decoding reads the weights and half of every row's cache, and multiplies; whichever takes longer, and the
    prompts beside."""
    length = lengths.prompt + lengths.response
    rows = side_by_side(shape, setup, load, length, device)
    bytes_ = vllm_bytes(setup.engine) if setup.engine.kind == "vllm" else setup.compute_bytes
    read = multiplied(shape) * bytes_ + rows * kv_bytes(shape, bytes_) * length / 2
    multiply = FORWARD * rows * multiplied(shape)
    step = max(read / (device.mbu * device.bandwidth), multiply / rate(setup, device))
    steps = tokens / setup.gpus / rows
    return steps * step + FORWARD * prompt_tokens * multiplied(shape) / (rate(setup, device) * setup.gpus)
