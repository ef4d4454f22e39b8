"""Memory of a GPU, in bytes, by counting the tensors that are held at the three moments when most are.

What is counted follows from the code of the trainer and of transformers' Llama and Qwen2: which operands autograd
keeps, which copies an expression makes. No factor is fitted to a measurement; ``tests/test_plan_memory.py`` holds the
sum against a real step, and ``tests/test_plan_conflict_probe.py`` that of a conflict probe.
"""

import math
from dataclasses import dataclass, field

from dagrpo.config import EngineOptions, Experiment, Lora, TorchEmbedded, Train, VllmColocated
from dagrpo.diagnostics.gradients import CHUNK, SMALL
from dagrpo.plan.devices import Device
from dagrpo.plan.shapes import Shape
from dagrpo.policy.logprobs import chunk_rows
from dagrpo.policy.packing import SHORT_LINE

FP32, BF16 = 4, 2
LOGITS_COPIES = 5
"""Logits in fp32 held at once in the backward pass: themselves, the gradient of the chosen ones, and three of logsumexp
(difference, exponential, product)."""
PROJECTING = 48
"""Bytes held at once for each number that is projected at a time: six columns of eight."""
SAMPLING_COPIES = 4
"""Logits in fp32 held at once where a token is drawn: scaled, their softmax, its running sum, and one product."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How the model is held. With several GPUs weights, gradients and optimiser are shared out among them; in any case
    they are fp32, and ``compute_bytes`` a number is what activations are held in. ``recompute`` keeps only what enters
    a layer and computes the layer again in the backward pass. With ``lora`` only adapters have gradients and moments.
    ``reference`` says whether there is a frozen reference model too, sharded as the policy is.
    """

    gpus: int = 1
    compute_bytes: int = FP32
    recompute: bool = False
    lora: Lora | None = None
    reference: bool = False
    engine: EngineOptions = field(default_factory=TorchEmbedded)

    @property
    def gathers(self) -> bool:
        return self.gpus > 1 or self.compute_bytes != FP32


def setup_of(experiment: Experiment, train: Train, reference: bool = False) -> Setup:
    """How an experiment holds the model of an arm with these settings."""
    bytes_ = {"fp32": FP32, "bf16": BF16}[train.precision]
    return Setup(experiment.processes, bytes_, train.recompute, train.lora, reference, experiment.engine)


@dataclass(frozen=True, slots=True)
class Load:
    """What passes through the model: ``line`` tokens in the longest line, ``micro`` in a micro-batch, and ``rows`` that
    are sampled side by side, of up to ``length`` tokens, prompt included."""

    line: int
    micro: int
    rows: int
    length: int


def load_of(prompt: int, response: int, micro_tokens: int, rows: int) -> Load:
    """The load of rows of ``prompt`` + ``response`` tokens, as :func:`dagrpo.policy.packing.pack` lays them out."""
    longest = prompt + response - 1
    line = max(longest, min(max(SHORT_LINE, longest * 3 // 2), micro_tokens))
    return Load(line, max(micro_tokens, longest), rows, prompt + response)


def trained(shape: Shape, setup: Setup) -> int:
    """Numbers that have a gradient: all of them, or those of the adapters."""
    if setup.lora is None:
        return shape.parameters
    ends = shape.projections
    per_layer = sum(sum(ends[name]) for name in setup.lora.targets if name in ends)
    return shape.layers * setup.lora.rank * per_layer


def gradients(shape: Shape, setup: Setup) -> float:
    """The gradients, which only an update holds."""
    return trained(shape, setup) * FP32 / setup.gpus


def state(shape: Shape, setup: Setup) -> dict[str, float]:
    """What is always there: weights, and both moments of AdamW from the first update on."""
    weights = (shape.parameters + (trained(shape, setup) if setup.lora else 0)) * FP32 / setup.gpus
    # The layer at hand and the next one are put together from their shares, in the type of the computation.
    gathered = 2 * max(shape.layer_parameters, shape.embedding) * setup.compute_bytes if setup.gathers else 0
    held = {"weights": weights + gathered, "optimiser": 2 * gradients(shape, setup)}
    return held | ({"reference": shape.parameters * FP32 / setup.gpus} if setup.reference else {})


def layer_activations(shape: Shape) -> int:
    """Numbers that the backward pass of one layer needs, a token: both norms keep input, scaled input and output;
    attention its queries, its keys and values (repeated for every query head) and its output; the feedforward its two
    inner products, the activated one, and what they make."""
    return 6 * shape.width + 4 * shape.heads_width + 4 * shape.feedforward


def update(shape: Shape, setup: Setup, load: Load) -> dict[str, float]:
    """What is held at the worst moment of an update: all activations, while the first logits go backward. Those that
    adapters add are left out: they are as narrow as their rank."""
    bytes_ = setup.compute_bytes
    kept = layer_activations(shape) * bytes_
    if setup.recompute:
        layers = load.micro * (shape.layers * shape.width * bytes_ + kept)
    else:
        layers = load.micro * shape.layers * kept
    last_norm = 3 * load.micro * shape.width * bytes_
    # One for all layers; while it is made, as many numbers again as bytes that say who sees whom.
    mask = load.micro * load.line * (bytes_ + 1)
    rows = min(load.micro, chunk_rows(shape.vocabulary, shape.width))
    chunk = rows * shape.vocabulary * FP32
    # Each chunk gives a gradient of the output layer, which is added to the sum of those before it.
    part = shape.embedding * FP32 if setup.lora is None else 0.0
    logits = max(LOGITS_COPIES * chunk, chunk + part) + (part if rows < load.micro else 0.0)
    held = {**state(shape, setup), "gradients": gradients(shape, setup)}
    return {**held, "activations": layers + last_norm, "mask": mask, "logits": logits}


def rollout(shape: Shape, setup: Setup, load: Load, device: Device) -> dict[str, float]:
    """What is held while rows are sampled: the state of the training, a whole copy of the weights where that is shared
    out, and what samples. Several GPUs share the rows."""
    held = state(shape, setup)
    held["weights"] += shape.parameters * setup.compute_bytes if setup.gathers else 0
    match setup.engine.kind:
        case "torch":
            logits = FP32 * SAMPLING_COPIES * load.rows * shape.vocabulary
            return {**held, "logits": logits, "cache": load.rows * kv_bytes(shape, setup.compute_bytes) * load.length}
        case "vllm":
            return {**held, "vLLM": setup.engine.memory * device.memory}
        case "vllm_server":
            return held


def conflict_probe(shape: Shape, setup: Setup, load: Load, rows: int) -> dict[str, float]:
    """What is held at the worst moment of a conflict probe of a group (:mod:`dagrpo.trainer.conflict_probe`): the
    activations of the last layer alone, while the logits of one row go backward. vLLM sleeps meanwhile.

    Args:
        rows: of the group, which the GPUs share out.
    """
    bytes_ = setup.compute_bytes
    row = load.length - 1
    held = state(shape, setup)
    held["weights"] += shape.parameters * bytes_ if setup.gathers else 0
    kept = row * (layer_activations(shape) + 3 * shape.width) * bytes_
    chunk = min(row, chunk_rows(shape.vocabulary, shape.width)) * shape.vocabulary * FP32
    gradient = last_layer(shape) * bytes_
    # Each chunk gives a gradient of the output layer, which is added to the sum of those before it.
    part = shape.embedding * bytes_
    mask = row * row * (bytes_ + 1)
    logits = max(LOGITS_COPIES * chunk, chunk + part) + (part if chunk < row * shape.vocabulary * FP32 else 0.0)
    backward = kept + mask + logits
    if shape.embedding < SMALL:  # the gradients of all rows are kept, and stacked when there is nothing else any more
        all_rows = math.ceil(rows / setup.gpus) * gradient
        beside = max(all_rows, 2 * all_rows - backward)
    else:  # a gradient is projected when the graph that it is from is gone
        beside = max(0.0, PROJECTING * CHUNK - backward)
    held |= {"gradients": gradient, "activations": kept, "mask": mask, "logits": logits}
    return {**held, "projection": beside}


def last_layer(shape: Shape) -> int:
    """Numbers of the gradient that a conflict probe reads: of the last layer, the last norm and the output layer."""
    return shape.layer_parameters + shape.width + shape.embedding


def vllm_bytes(options: VllmColocated) -> int:
    """Bytes of a number in vLLM's weights and cache, on a GPU."""
    return FP32 if options.dtype == "float32" else BF16


def vllm_least(shape: Shape, options: VllmColocated, length: int) -> float:
    """The least that vLLM must have: its weights, and the cache of one full row of ``length`` tokens."""
    bytes_ = vllm_bytes(options)
    return shape.parameters * bytes_ + kv_bytes(shape, bytes_) * length


def side_by_side(shape: Shape, setup: Setup, load: Load, length: int, device: Device) -> float:
    """Rows of ``length`` tokens that are decoded together: as many as asked for, or as vLLM's cache has room for."""
    if setup.engine.kind != "vllm":
        return load.rows
    bytes_ = vllm_bytes(setup.engine)
    cache = setup.engine.memory * device.memory - shape.parameters * bytes_
    return max(1.0, min(load.rows, cache / (kv_bytes(shape, bytes_) * length)))


def kv_bytes(shape: Shape, bytes_: int) -> int:
    """Bytes of keys and values, a token."""
    return 2 * shape.layers * shape.kv_width * bytes_
