"""The gradient of each rollout on its own: over all parameters, over the last layer, or as a random projection."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dagrpo import seeds
from dagrpo.errors import UserError
from dagrpo.policy.logprobs import token_logps
from dagrpo.policy.packing import PackedGroup, pack
from dagrpo.signals import ShouldStop, check, never

_CHUNK = 2**22

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
    arXiv 0902.2206, Lemma 2). Cells and signs are drawn anew from the key for each rollout, so nothing as long as the
    gradient is stored.
    """

    size: int
    key: int = 0

    def __call__(self, gradients: Sequence[Tensor]) -> Tensor:
        """Project the gradients of one rollout: float64, (size,)."""
        cells = torch.zeros(self.size, dtype=torch.float64, device=gradients[0].device)
        keys, passed = np.array([seeds.key("sketch", self.key)], dtype=np.uint64), 0
        for gradient in gradients:
            for part in gradient.flatten().split(_CHUNK):
                drawn = seeds.uniforms(keys, np.arange(passed, passed + len(part), dtype=np.uint64))
                cell = torch.from_numpy((2 * self.size * drawn).astype(np.int64)).to(part.device)
                cells.index_add_(0, cell >> 1, part.double() * (1 - 2 * (cell & 1)))
                passed += len(part)
        return cells


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
    products = (part.double() @ part.double().T for part in rows.split(_CHUNK, dim=1))
    return torch.stack(list(products)).sum(0).cpu()


def rollout_gradients(
    model: PreTrainedModel,
    prompt: Sequence[int],
    responses: Sequence[Sequence[int]],
    temperature: float,
    read: Read = flat,
    only_last_layer: bool = False,
    should_stop: ShouldStop = never,
) -> Tensor:
    """Differentiate the mean log-probability of each response's tokens: ∇ (1 / |o_i|) Σ_t log π(o_it), shape (N, D).

    Args:
        prompt: token ids.
        responses: token ids of N responses, none empty.
        temperature: divides the logits.
        read: what is kept of each gradient.
        only_last_layer: differentiate by the final block, the final norm and the output layer alone. Where the output
            layer shares its weights with the embedding, the use of these as an embedding does not count.

    Raises:
        Interrupted: between two responses.
    """

    def likelihoods() -> Iterator[Tensor]:
        for response in responses:
            check(should_stop)
            (micro,) = pack([PackedGroup(prompt, [response], [0])], micro_tokens=1)
            yield token_logps(model, micro, temperature).logp.mean()

    if not only_last_layer:
        return gradient_rows(likelihoods(), _learning(model), read)
    with _last_layer(model) as parameters:
        return gradient_rows(likelihoods(), parameters, read)


def _learning(module: nn.Module) -> list[Tensor]:
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


@contextmanager
def _last_layer(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Cut the graph in front of the final block; give the parameters behind the cut."""
    body = model.base_model
    if not (hasattr(body, "layers") and hasattr(body, "norm")):
        raise UserError(
            f"architecture {model.config.model_type!r}: where its last layer begins is not known; "
            "take all layers, with a projection"
        )
    modules = (body.layers[-1], body.norm, model.get_output_embeddings())
    cut = body.layers[-1].register_forward_pre_hook(lambda _, inputs: (inputs[0].detach(), *inputs[1:]))
    try:
        yield [parameter for module in modules for parameter in _learning(module)]
    finally:
        cut.remove()
