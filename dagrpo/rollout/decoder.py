"""One decoding step: the next-token logits of every live row.

Small models spend more time in launching operations than in computing, so Llama and Qwen2 have a short path of their
own; any other architecture takes the forward pass of transformers. Both read and write the same cache.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel

from dagrpo.policy.adapters import matrix
from dagrpo.rollout.cache import SlotCache

Decoder = Callable[[Tensor, Tensor, Tensor, SlotCache], Tensor]
"""(tokens (n,), positions (n,), mask (n, 1, 1, longest), cache) -> logits (n, vocabulary)"""


def make_decoder(model: PreTrainedModel, length: int) -> Decoder:
    """Choose the fastest decoder for a model, good for positions below ``length`` and for its weights of now."""
    rope = model.config.get_text_config().rope_parameters or {}
    if model.config.model_type in ("llama", "qwen2") and rope.get("rope_type") in ("default", "linear", "llama3"):
        return _LlamaDecoder(model, length)

    def decode(tokens: Tensor, positions: Tensor, mask: Tensor, cache: SlotCache) -> Tensor:
        output = model.base_model(
            input_ids=tokens[:, None],
            attention_mask=mask,
            position_ids=positions[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        return model.get_output_embeddings()(output.last_hidden_state[:, 0])

    return decode


class _LlamaDecoder:
    """The blocks of Llama and Qwen2 for one token a row, with queries, keys and values from one product."""

    def __init__(self, model: PreTrainedModel, length: int) -> None:
        self.model = model
        attention = model.base_model.layers[0].self_attn
        self.width = attention.head_dim
        self.heads = model.config.num_attention_heads
        self.kv_heads = model.config.num_key_value_heads
        self.projections = []
        for layer in model.base_model.layers:
            parts = (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj)
            bias = None if parts[0].bias is None else torch.cat([part.bias for part in parts])
            self.projections.append((torch.cat([matrix(part) for part in parts]), bias))
        everywhere = torch.arange(length, device=model.device)[None]
        cos, sin = model.base_model.rotary_emb(self.projections[0][0], everywhere)
        # rotate_half(x) * sin is a half turn of x times sin with its first half negated.
        sign = torch.ones(self.width, device=model.device, dtype=sin.dtype)
        sign[: self.width // 2] = -1
        self.cos, self.sin = cos[0], sin[0] * sign

    def __call__(self, tokens: Tensor, positions: Tensor, mask: Tensor, cache: SlotCache) -> Tensor:
        cos, sin = self.cos[positions][:, None], self.sin[positions][:, None]  # (n, 1, head_dim)
        turned = self.heads + self.kv_heads
        base = self.model.base_model
        hidden = base.embed_tokens(tokens)  # (n, width)
        for number, (layer, projection) in enumerate(zip(base.layers, self.projections, strict=True)):
            heads = F.linear(layer.input_layernorm(hidden), *projection).view(len(tokens), -1, self.width)
            rotated = heads[:, :turned]
            rotated.copy_(torch.addcmul(rotated * cos, rotated.roll(self.width // 2, -1), sin))
            keys, values = cache.write(number, heads[:, self.heads :])
            # The query heads of one key head stand where a sequence of queries would, so that keys need no repeating.
            queries = heads[:, : self.heads].view(len(tokens), self.kv_heads, -1, self.width)
            seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask).view(len(tokens), -1)
            hidden = hidden + layer.self_attn.o_proj(seen)
            hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        return self.model.get_output_embeddings()(base.norm(hidden))
