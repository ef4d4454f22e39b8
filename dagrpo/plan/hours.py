"""Hours of an arm on GPUs of one kind, by counting operations and bytes of what the trainer does.

Not modelled: the verifier, the judge's delay, evaluation, the time to start. Operations that the CPU can count are held
against a real step by ``tests/test_plan_hours.py``.
"""

import math
from dataclasses import dataclass, fields

from dagrpo.algorithm import Algorithm, Phase, Recipe
from dagrpo.config import Train
from dagrpo.plan.devices import Device
from dagrpo.plan.memory import FP32, Load, Setup, kv_bytes, last_layer, side_by_side, trained, vllm_bytes
from dagrpo.plan.shapes import Shape
from dagrpo.policy.logprobs import chunk_rows

FORWARD = 2
"""Operations a parameter and token; a backward pass takes as many for the activations, and as many for the weights
(Kaplan et al., arXiv 2001.08361)."""
ATTENTION_BACKWARD = 2.5
"""A backward pass of attention makes five products where the forward pass makes two (Dao et al., arXiv 2205.14135)."""
HANDOVER = 18
"""How often the weights that vLLM takes over pass through the memory of a GPU: a copy, and a digest on either side."""
SKETCH = 400
"""Bytes that pass through the memory of a GPU for each number of a gradient that is projected."""
DISK = 1e9
"""Bytes a second to and from the disk that states are sealed on; assumed."""
_SLICES = 64


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths that are taken for granted (tokens): means, and the ``budget`` that responses end at. How many responses
    are longer than t falls off exponentially with t."""

    prompt: int
    response: int
    demonstration: int
    budget: int

    def beyond(self, tokens: float) -> float:
        """The share of responses that are longer."""
        return math.exp(-tokens / _decay(self.response, self.budget)) if tokens < self.budget else 0.0


@dataclass(frozen=True, slots=True)
class Seconds:
    """Of one arm, over all its steps, by what is done in them. ``transfer`` is the gathering of weights and their way
    to what samples."""

    rollout: float = 0.0
    transfer: float = 0.0
    update: float = 0.0
    conflict: float = 0.0
    sealing: float = 0.0

    def __add__(self, other: "Seconds") -> "Seconds":
        return Seconds(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))

    @property
    def hours(self) -> float:
        return sum(getattr(self, part.name) for part in fields(self)) / 3600


@dataclass(frozen=True, slots=True)
class Work:
    """What an update puts through the model: tokens that are laid out in lines, prompts repeated; those of them that a
    response's token is predicted from; and all pairs of tokens of a line, whether they see each other or not."""

    laid_out: float
    predicting: float
    pairs: float

    def __add__(self, other: "Work") -> "Work":
        return Work(*(getattr(self, part.name) + getattr(other, part.name) for part in fields(self)))


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a step: sampled ones, demonstrations that join them, and demonstrations that come by themselves."""

    sampled: int
    anchors: int
    streamed: int


def arm_seconds(
    algorithm: Algorithm, train: Train, shape: Shape, setup: Setup, load: Load, lengths: Lengths, device: Device
) -> Seconds:
    """Add up the phases of an arm; a recipe's interleaved updates are left out: how many there are is not known."""
    exported = shape.parameters * FP32 / DISK
    total = Seconds(sealing=exported * (1 + len(train.snapshots)))
    for phase in algorithm.phases:
        total += _phase(phase, train, shape, setup, load, lengths, device)
    return total


def _phase(
    phase: Phase, train: Train, shape: Shape, setup: Setup, load: Load, lengths: Lengths, device: Device
) -> Seconds:
    recipe = phase.recipe
    steps = phase.share * (train.steps if phase.kind == "rl" else train.sft_steps)
    rollout = transfer = conflict = 0.0
    if recipe.samples:
        rollout = decoding(rows_of(recipe, train).sampled, train.prompts, lengths, shape, setup, load, device)
        transfer = handing_over(shape, setup, device)
        if train.conflict_every:
            conflict = glancing(train.group_size, lengths, shape, setup, device) / train.conflict_every
    work = work_of_step(recipe, train, lengths, load)
    frozen = (train.updates * recipe.epochs > 1) + recipe.needs_reference
    operations = recipe.epochs * update_operations(shape, setup, load, work)
    operations += frozen * forward_operations(shape, work)
    passes = max(work.laid_out / setup.gpus / load.micro, train.updates if phase.kind == "rl" else 1)
    travels = recipe.epochs * passes * _update_traffic(shape, setup) + frozen * passes * _gathered(shape, setup)
    # What travels does so while the layer before computes.
    update = max(operations / (rate(setup, device) * setup.gpus), travels / (device.mbu * device.link))
    sealing = state_bytes(shape, setup) / DISK / train.checkpoint_every
    return Seconds(*(steps * seconds for seconds in (rollout, transfer, update, conflict, sealing)))


def rows_of(recipe: Recipe, train: Train) -> Rows:
    """Count the rows of a step."""
    if recipe.data == "demonstrations":
        return Rows(0, 0, train.sft_rows)
    anchors = recipe.anchors.count * train.prompts if recipe.anchors else 0
    within = anchors if recipe.anchors and recipe.anchors.within_group else 0
    streamed = train.sft_rows if recipe.data == "both" else 0
    return Rows(train.prompts * train.group_size - within, anchors, streamed)


def work_of_step(recipe: Recipe, train: Train, lengths: Lengths, load: Load) -> Work:
    """The work of a step in which every row has a gradient."""
    rows = rows_of(recipe, train)
    joined = rows.sampled * (lengths.response - 1) + rows.anchors * (lengths.demonstration - 1)
    alone = work_of(rows.streamed * (lengths.demonstration - 1), rows.streamed, lengths.prompt, load)
    return work_of(joined, train.prompts if rows.sampled else 0, lengths.prompt, load) + alone


def work_of(read: float, groups: int, prompt: int, load: Load) -> Work:
    """The work of groups of which the model reads so many tokens of responses, laid out as
    :func:`dagrpo.policy.packing.pack` does: one that does not fit in a line is cut, and each part has the prompt; a
    line holds as many parts as find room."""
    if not groups:
        return Work(0.0, 0.0, 0.0)
    parts = groups * math.ceil(max(1, read / groups / (load.line - prompt)))
    laid_out = read + parts * prompt
    part = laid_out / parts
    return Work(laid_out, read + parts, laid_out * part * max(1, load.line // part))


def update_operations(shape: Shape, setup: Setup, load: Load, work: Work) -> float:
    """Operations of the passes forward and backward, and of what is computed again."""
    weights = setup.lora is None
    again = min(load.micro, chunk_rows(shape.vocabulary, shape.width)) < load.micro
    layers = (2 + weights + setup.recompute) * shape.layers * shape.layer_parameters
    products = (1 + ATTENTION_BACKWARD + setup.recompute) * attention(shape)
    head = (2 + weights + again) * shape.embedding
    return FORWARD * (work.laid_out * layers + work.pairs * products + work.predicting * head)


def forward_operations(shape: Shape, work: Work) -> float:
    """Operations of a pass forward alone."""
    layers, head = shape.layers * shape.layer_parameters, shape.embedding
    return FORWARD * (work.laid_out * layers + work.pairs * attention(shape) + work.predicting * head)


def multiplied(shape: Shape) -> int:
    """Parameters that a sampled token is multiplied with: all but the embedding, which is looked up."""
    return shape.layers * shape.layer_parameters + shape.embedding


def attention(shape: Shape) -> int:
    """What attention adds for a pair of tokens, in parameters: two products with all heads, in every layer. The mask is
    dense, so that pairs which do not see each other are multiplied like the others."""
    return 2 * shape.layers * shape.heads_width


def rate(setup: Setup, device: Device) -> float:
    """Operations a second that a GPU is taken to do."""
    return device.mfu * (device.fp32 if setup.compute_bytes == FP32 else device.bf16)


def decoding(rows: int, groups: int, lengths: Lengths, shape: Shape, setup: Setup, load: Load, device: Device) -> float:
    """Seconds in which ``rows`` are sampled on all GPUs: as many side by side on each as there is room for, while
    others wait, and then until the longest has come to its end."""
    mine = rows / setup.gpus
    together = min(mine, side_by_side(shape, setup, load, lengths.prompt + lengths.response, device))
    waiting = (mine - together) * lengths.response / together
    seconds = waiting * decoding_step(together, lengths.prompt + lengths.response, shape, setup, device)
    width = lengths.budget / _SLICES
    for number in range(_SLICES):
        passed = (number + 0.5) * width
        alive = lengths.beyond(passed)
        any_alive = 1 - (1 - alive) ** together
        step = decoding_step(max(1.0, together * alive), lengths.prompt + passed, shape, setup, device)
        seconds += width * any_alive * step
    read = groups * lengths.prompt / setup.gpus
    prompts = Work(read, groups / setup.gpus, read * lengths.prompt)
    return seconds + forward_operations(shape, prompts) / rate(setup, device)


def decoding_step(rows: float, context: float, shape: Shape, setup: Setup, device: Device) -> float:
    """Seconds for one more token of each row: a GPU reads the weights and the rows' caches, and multiplies; whichever
    takes longer."""
    bytes_ = vllm_bytes(setup.engine) if setup.engine.kind == "vllm" else setup.compute_bytes
    read = multiplied(shape) * bytes_ + rows * kv_bytes(shape, bytes_) * context
    multiply = FORWARD * rows * (multiplied(shape) + attention(shape) * context)
    return max(read / (device.mbu * device.bandwidth), multiply / rate(setup, device))


def handing_over(shape: Shape, setup: Setup, device: Device) -> float:
    """Seconds until what samples has the weights of an update."""
    seconds = _gathered(shape, setup) / (device.mbu * device.link)
    match setup.engine.kind:
        case "torch":
            return seconds
        case "vllm":
            moved = HANDOVER * shape.parameters * vllm_bytes(setup.engine)
            return seconds + moved / (device.mbu * device.bandwidth)
        case "vllm_server":  # by way of a file
            return seconds + 2 * shape.parameters * setup.compute_bytes / DISK


def glancing(rows: int, lengths: Lengths, shape: Shape, setup: Setup, device: Device) -> float:
    """Seconds of a conflict probe of a group, whose rows the processes share out: a pass forward through all
    layers, one backward through the last and the output layer, and a projection of their gradient."""
    length = lengths.prompt + lengths.response
    work = Work(length, lengths.response, length * length)
    last = 2 * shape.layer_parameters + ATTENTION_BACKWARD * attention(shape) / shape.layers * length
    operations = forward_operations(shape, work) + FORWARD * (length * last + 3 * work.predicting * shape.embedding)
    moved = SKETCH * last_layer(shape)
    each = operations / rate(setup, device) + moved / (device.mbu * device.bandwidth)
    return math.ceil(rows / setup.gpus) * each


def state_bytes(shape: Shape, setup: Setup) -> float:
    """A sealed state of a run: what learns and both its moments."""
    return 3 * trained(shape, setup) * FP32


def _decay(mean: float, budget: float) -> float:
    """The decay length of an exponential that, cut at ``budget``, has this mean."""
    low, high = mean, 1e6 * budget
    for _ in range(100):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if -middle * math.expm1(-budget / middle) < mean else (low, middle)
    return low


def _gathered(shape: Shape, setup: Setup) -> float:
    """Bytes that reach a GPU where all weights are put together once, in the type of the computation."""
    return shape.parameters * setup.compute_bytes * (setup.gpus - 1) / setup.gpus


def _update_traffic(shape: Shape, setup: Setup) -> float:
    """Bytes that reach a GPU for a micro-batch: weights for the pass forward and for that backward, and gradients."""
    return 2 * _gathered(shape, setup) + trained(shape, setup) * FP32 * (setup.gpus - 1) / setup.gpus
