"""The gradient of each rollout on its own: over all parameters, over the last layer, or as a random projection."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dagrpo import seeds
from dagrpo.errors import UserError
from dagrpo.policy.logprobs import token_logps
from dagrpo.policy.packing import PackedGroup, pack
from dagrpo.processes.signals import ShouldStop, check, never

CHUNK = 2**22
"""Numbers of a gradient that are projected, or multiplied, at a time."""
SMALL = 2**24
"""Weights of an output layer below which gradients of the last layer are kept whole for each row of a group."""
PROJECTION = 4096
"""Numbers that are kept of a larger one."""

Part = Literal["all", "last_layer", "last_block"]
"""What of a model is differentiated by: all of it; the final block, the final norm and the output layer, where the use
of shared weights as an embedding does not count; or the final block alone."""

Read = Callable[[Sequence[Tensor]], Tensor]
"""Turns the gradients of one rollout, a tensor for each parameter, into the row (D,) that is kept of them."""


def flat(gradients: Sequence[Tensor]) -> Tensor:
    """Keep everything: (parameters,)."""
    return torch.cat([gradient.flatten() for gradient in gradients])


@dataclass(frozen=True, slots=True)
class Sketch:
    """A keyed random projection to ``size`` numbers that keeps inner products (count sketch).

    Each coordinate is added, with a random sign, to one random cell. The inner product of two sketches is that of the
    gradients in the mean; the standard deviation of a cosine c is at most sqrt((1 + c^2) / size) (Weinberger et al.,
    arXiv 0902.2206, Lemma 2). Cells and signs are drawn anew from the key for each rollout, where the gradient is, so
    nothing as long as the gradient is stored and nothing but the sketch leaves the device.
    """

    size: int
    key: int = 0

    def __call__(self, gradients: Sequence[Tensor]) -> Tensor:
        """Project the gradients of one rollout: float64, (size,)."""
        device = gradients[0].device
        cells = torch.zeros(self.size, dtype=torch.float64, device=device)
        key, passed = seeds.key("sketch", self.key), 0
        for gradient in gradients:
            for part in gradient.flatten().split(CHUNK):
                cell = (2 * self.size * _uniforms(key, passed, len(part), device)).long()
                cells.index_add_(0, cell >> 1, part.double() * (1 - 2 * (cell & 1)))
                passed += len(part)
        return cells


def _uniforms(key: int, first: int, count: int, device: torch.device) -> Tensor:
    """The numbers that :func:`dagrpo.seeds.uniforms` gives a key at ``count`` positions from ``first`` on, to the bit,
    but made on a device: float64, (count,)."""
    # torch has signed words of 64 bits only: their product is the unsigned one, their shift is not
    z = torch.arange(first + 1, first + 1 + count, device=device) * _signed(seeds.GOLDEN) + _signed(key)
    for bits, factor in ((30, seeds.MIX_1), (27, seeds.MIX_2)):
        z = (z ^ _shifted(z, bits)) * _signed(factor)
    return _shifted(z ^ _shifted(z, 31), 11).double() * 2.0**-53


def _signed(word: int) -> int:
    """The signed number with the same 64 bits."""
    return word - (1 << 64) if word >> 63 else word


def _shifted(words: Tensor, bits: int) -> Tensor:
    return (words >> bits) & ((1 << (64 - bits)) - 1)


def gradient_rows(likelihoods: Iterable[Tensor], parameters: Sequence[Tensor], read: Read = flat) -> Tensor:
    """Differentiate each likelihood on its own.

    Args:
        likelihoods: N scalars, taken one at a time, each with a graph of its own.
        parameters: what to differentiate by.
        read: what is kept of each gradient.

    Returns:
        Shape (N, D).
    """
    # Not in place of `read`: the whole gradient of a rollout is freed before that of the next is made.
    return torch.stack([read(torch.autograd.grad(likelihood, parameters)) for likelihood in likelihoods])


def gram(rows: Tensor) -> Tensor:
    """Inner products of all pairs of rows: (N, D) -> (N, N), float64."""
    products = (part.double() @ part.double().T for part in rows.split(CHUNK, dim=1))
    return torch.stack(list(products)).sum(0).cpu()


def rollout_gradients(
    model: PreTrainedModel,
    prompt: Sequence[int],
    responses: Sequence[Sequence[int]],
    temperature: float,
    read: Read = flat,
    part: Part = "all",
    should_stop: ShouldStop = never,
) -> Tensor:
    """Differentiate the mean log-probability of each response's tokens: ∇ (1 / |o_i|) Σ_t log π(o_it), shape (N, D).

    A row depends on its own response alone, so that rows may be shared out.

    Args:
        prompt: token ids.
        responses: token ids of N responses, none empty.
        temperature: divides the logits.
        read: what is kept of each gradient.
        part: what of the model is differentiated by; what comes before it runs forward only, and keeps nothing.

    Raises:
        Interrupted: between two responses.
    """

    def likelihoods() -> Iterator[Tensor]:
        for response in responses:
            check(should_stop)
            (micro,) = pack([PackedGroup(prompt, [response], [0])], micro_tokens=1)
            yield token_logps(model, micro, temperature).logp.mean()

    if part == "all":
        return gradient_rows(likelihoods(), _learning(model), read)
    with _last(model, part) as parameters:
        return gradient_rows(likelihoods(), parameters, read)


def _learning(module: nn.Module) -> list[Tensor]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


@contextmanager
def _last(model: PreTrainedModel, part: Part) -> Iterator[list[Tensor]]:
    """Let no graph grow in front of the final block; give the parameters of the part that learn."""
    body = model.base_model
    if not (hasattr(body, "layers") and hasattr(body, "norm")):
        raise UserError(
            f"architecture {model.config.model_type!r}: where its last layer begins is not known; "
            "take all layers, with a projection"
        )
    behind = (body.norm, model.get_output_embeddings()) if part == "last_layer" else ()
    modules = (body.layers[-1], *behind)
    parameters = [parameter for module in modules for parameter in _learning(module)]
    chosen = {id(parameter) for parameter in parameters}
    before = [parameter for parameter in _learning(model) if id(parameter) not in chosen]
    # An embedding that is also the output layer still learns: its states are cut off.
    cut = body.get_input_embeddings().register_forward_hook(lambda _, __, states: states.detach())
    try:
        for parameter in before:
            parameter.requires_grad_(False)
        yield parameters
    finally:
        cut.remove()
        for parameter in before:
            parameter.requires_grad_(True)
