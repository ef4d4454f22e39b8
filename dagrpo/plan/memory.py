"""Memory of a GPU, in bytes, by counting the tensors that are held at the two moments when most are.

What is counted follows from the code of the trainer and of transformers' Llama and Qwen2: which operands autograd
keeps, which copies an expression makes. No factor is fitted to a measurement; ``tests/test_plan_memory.py`` holds the
sum against a real step.
"""

from dataclasses import dataclass

from dagrpo.plan.shapes import Shape
from dagrpo.policy.logprobs import CHUNK_ELEMENTS
from dagrpo.policy.packing import SHORT_LINE

FP32 = 4
LOGITS_COPIES = 5
"""Logits in fp32 held at once in the backward pass: themselves, the gradient of the chosen ones, and three of logsumexp
(difference, exponential, product)."""
SAMPLING_COPIES = 4
"""Logits in fp32 held at once where a token is drawn: scaled, their softmax, its running sum, and one product."""


@dataclass(frozen=True, slots=True)
class Setup:
    """How the model is held. With several GPUs weights, gradients and optimiser are shared out among them; in any case
    they are fp32, and ``compute_bytes`` a number is what activations are held in. ``recompute`` keeps only what enters
    a layer and computes the layer again in the backward pass."""

    gpus: int = 1
    compute_bytes: int = FP32
    recompute: bool = False

    @property
    def gathers(self) -> bool:
        return self.gpus > 1 or self.compute_bytes != FP32


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


def state(shape: Shape, setup: Setup) -> dict[str, float]:
    """What is always there: weights, gradients (from the first update on), both moments of AdamW."""
    share = shape.parameters * FP32 / setup.gpus
    # The layer at hand and the next one are put together from their shares, in the type of the computation.
    gathered = 2 * max(shape.layer_parameters, shape.embedding) * setup.compute_bytes if setup.gathers else 0
    return {"weights": share + gathered, "gradients": share, "optimiser": 2 * share}


def layer_activations(shape: Shape) -> int:
    """Numbers that the backward pass of one layer needs, a token: both norms keep input, scaled input and output;
    attention its queries, its keys and values (repeated for every query head) and its output; the feedforward its two
    inner products, the activated one, and what they make."""
    return 6 * shape.width + 4 * shape.heads_width + 4 * shape.feedforward


def update(shape: Shape, setup: Setup, load: Load) -> dict[str, float]:
    """What is held at the worst moment of an update: all activations, while the first logits go backward."""
    bytes_ = setup.compute_bytes
    kept = layer_activations(shape) * bytes_
    if setup.recompute:
        layers = load.micro * (shape.layers * shape.width * bytes_ + kept)
    else:
        layers = load.micro * shape.layers * kept
    last_norm = 3 * load.micro * shape.width * bytes_
    # One for all layers; while it is made, as many numbers again as bytes that say who sees whom.
    mask = load.micro * load.line * (bytes_ + 1)
    chunk = min(load.micro, max(1, CHUNK_ELEMENTS // shape.vocabulary)) * shape.vocabulary * FP32
    # Of several chunks each gives a gradient of the output layer, which is added to the sum of those before it.
    sum_of_chunks = shape.embedding * FP32 if chunk < load.micro * shape.vocabulary * FP32 else 0.0
    logits = max(LOGITS_COPIES * chunk, chunk + shape.embedding * FP32) + sum_of_chunks
    return {**state(shape, setup), "activations": layers + last_norm, "mask": mask, "logits": logits}


def rollout(shape: Shape, setup: Setup, load: Load) -> dict[str, float]:
    """What is held while rows are sampled: the state of the training beside the cache. Several GPUs share the rows."""
    sampling = FP32 * SAMPLING_COPIES * load.rows * shape.vocabulary
    cache = load.rows * kv_bytes(shape, setup) * load.length
    whole = shape.parameters * setup.compute_bytes if setup.gathers else 0
    held = state(shape, setup)
    return {**held, "weights": held["weights"] + whole, "logits": sampling, "cache": cache}


def kv_bytes(shape: Shape, setup: Setup) -> int:
    """Bytes of keys and values, a token."""
    return 2 * shape.layers * shape.kv_width * setup.compute_bytes
