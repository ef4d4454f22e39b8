"""The one definition of a log-probability: log softmax(logits / temperature) over the whole vocabulary, in fp32."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from dagrpo.errors import UserError
from dagrpo.policy.packing import MicroBatch, PackedGroup, pack

CHUNK_ELEMENTS = 2**25
"""Logits held at once (elements; 128 MiB in fp32). More are computed in chunks, and again in the backward pass."""


def chunk_rows(vocabulary: int, width: int) -> int:
    """Distributions whose logits are held at once, for an output layer of ``vocabulary`` x ``width`` weights.

    Each chunk adds a gradient of the whole output layer to the sum of those before it. That is width / chunk_rows of
    what the logits themselves take, so a chunk has at least a quarter of the width.
    """
    return max(CHUNK_ELEMENTS // vocabulary, width // 4, 1)


@dataclass(frozen=True, slots=True)
class Logps:
    """Columns over response tokens, each (n,): log-probability and entropy of its distribution (nats), and its row."""

    logp: Tensor
    entropy: Tensor
    row: Tensor


def token_logps(model: PreTrainedModel, micro: MicroBatch, temperature: float, entropy_gradient: bool = False) -> Logps:
    """Compute the log-probability of every response token of a micro-batch, in the order of ``micro.row``.

    The output layer runs only where a response token is predicted, once for all responses that start from a prompt.

    Args:
        temperature: divides the logits; > 0.
        entropy_gradient: whether the entropy carries a gradient as the log-probability does.
    """
    micro = micro.to(model.device)
    hidden = _hidden(model, micro)
    head = model.get_output_embeddings()
    order = micro.at.argsort(stable=True)  # by distribution, so that a chunk of these serves a run of tokens
    at, target = micro.at[order], micro.target[order]
    rows = chunk_rows(*head.weight.shape)
    starts = range(0, max(1, len(hidden)), rows)  # one chunk where there is no response, for the graph must be whole
    bounds = torch.searchsorted(at, torch.tensor([*starts, len(hidden)], device=at.device)).tolist()
    parts = []
    for start, low, high in zip(starts, bounds, bounds[1:], strict=False):
        places = hidden[start : start + rows], at[low:high] - start, target[low:high]
        if len(starts) > 1 and torch.is_grad_enabled():
            parts.append(checkpoint(_chunk, head, *places, temperature, entropy_gradient, use_reentrant=False))
        else:
            parts.append(_chunk(head, *places, temperature, entropy_gradient))
    back = order.argsort()
    logp, entropy = (torch.cat(column)[back] for column in zip(*parts, strict=True))
    return Logps(logp, entropy, micro.row)


def token_states(
    model: PreTrainedModel, micro: MicroBatch, temperature: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What predicts every response token of a micro-batch, in the order of ``micro.row``.

    Returns:
        the row and the id of each of the n tokens, both (n,); the state that the output layer reads, (n, width); and
        the log-probabilities (nats) of the whole vocabulary, (n, vocabulary), in fp32.
    """
    micro = micro.to(model.device)
    hidden = _hidden(model, micro)
    logps = F.log_softmax(model.get_output_embeddings()(hidden).float() / temperature, -1)
    return micro.row, micro.target, hidden[micro.at].float(), logps[micro.at]


def _hidden(model: PreTrainedModel, micro: MicroBatch) -> Tensor:
    """The states from which response tokens are predicted: (m, width)."""
    # Added to the scores as numbers: of a bool mask every layer would make such a copy, and keep it for its gradient.
    seen = micro.mask()
    mask = torch.zeros_like(seen, dtype=model.dtype).masked_fill_(~seen, float("-inf"))
    states = model.base_model(
        input_ids=micro.tokens, attention_mask=mask, position_ids=micro.positions, use_cache=False
    ).last_hidden_state  # (lines, length, width)
    return states.flatten(0, 1).index_select(0, micro.source)


def _chunk(
    head: torch.nn.Module, hidden: Tensor, at: Tensor, target: Tensor, temperature: float, entropy_gradient: bool
) -> tuple[Tensor, Tensor]:
    logits = head(hidden).float() / temperature  # (m, vocabulary)
    total = logits.logsumexp(-1)
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        entropy = total - (logits.softmax(-1) * logits).sum(-1)
    return logits[at, target] - total[at], entropy[at]


@torch.no_grad()
def check_supported(model: PreTrainedModel) -> None:
    """Compare packed log-probabilities with those of a plain forward pass on a few tokens.

    This finds at once what a list of names could not: logits that are not the output layer of the last hidden state
    (soft-capped or scaled), positions that are not given by ``position_ids``, attention that is not given by the mask.

    Raises:
        UserError: they differ, so that gradients would be wrong for this architecture.
    """
    config = model.config.get_text_config()
    prompt, responses = [1, 2, 3], [[4, 5, 6], [6, 5]]
    sequences = [prompt + response for response in responses]
    (micro,) = pack([PackedGroup(prompt, responses, [0, 1])], micro_tokens=64)
    expected = []
    for sequence in sequences:
        logits = model(torch.tensor([sequence], device=model.device)).logits[0].float()
        logps = F.log_softmax(logits[:-1], -1).gather(1, torch.tensor(sequence[1:], device=model.device)[:, None])[:, 0]
        expected.append(logps[len(prompt) - 1 :])
    tolerance = 1e-4 if model.dtype == torch.float32 else 0.1
    layers = set(getattr(config, "layer_types", None) or ["full_attention"])
    if layers != {"full_attention"} or not torch.allclose(
        token_logps(model, micro, 1.0).logp, torch.cat(expected), rtol=tolerance, atol=tolerance
    ):
        raise UserError(
            f"architecture {config.model_type!r}: packed log-probabilities would not be those of its forward pass "
            "(attention windows, scaled or capped logits, or its own positions); choose a model like Llama or Qwen2"
        )
