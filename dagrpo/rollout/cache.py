"""A key-value cache of fixed size whose rows come and go."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig


class SlotCache:
    """Keys and values of up to ``slots`` rows, each of which has its own length.

    ``store`` has the shape (layers, slots, 2 * kv_heads, length, head_dim), keys before values. The live rows are the
    first ones. It stands in for a transformers cache while every row decodes one token.
    """

    def __init__(self, config: PreTrainedConfig, slots: int, length: int, like: Tensor) -> None:
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        # Zeros, not empty memory: what lies beyond a row's end gets weight zero, and 0 * NaN would be NaN.
        self.store = like.new_zeros(config.num_hidden_layers, slots, 2 * heads, length, width)
        self.rows = torch.arange(slots, device=like.device)
        self.columns = torch.arange(length, device=like.device)

    def start(self, positions: Tensor, longest: int) -> Tensor:
        """Say where the next token of each live row goes, and get which columns it sees.

        Args:
            positions: (n,), all below ``longest``.

        Returns:
            bool, (n, 1, 1, longest).
        """
        self._rows, self._positions, self._longest = self.rows[: len(positions)], positions, longest
        return (self.columns[:longest] <= positions[:, None])[:, None, None]

    def write(self, layer: int, keys_and_values: Tensor) -> tuple[Tensor, Tensor]:
        """Add one token to each live row, (n, 2 * kv_heads, head_dim); return views of all keys and all values."""
        store = self.store[layer]
        store[self._rows, :, self._positions] = keys_and_values
        keys, values = store[: len(self._rows), :, : self._longest].chunk(2, dim=1)
        return keys, values

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """The protocol of a transformers cache; ``keys`` and ``values`` are (n, kv_heads, 1, head_dim)."""
        return self.write(layer_idx, torch.cat((keys, values), 1)[:, :, 0])

    def fill(self, first: int, prompts: Tensor, of: Tensor) -> None:
        """Copy prompts to the n slots from ``first`` on.

        Args:
            prompts: (layers, p, 2 * kv_heads, length, head_dim).
            of: which prompt each slot gets, (n,).
        """
        self.store[:, first : first + len(of), :, : prompts.shape[3]] = prompts[:, of]

    def move(self, source: Tensor, target: Tensor, longest: int) -> None:
        """Copy the first ``longest`` columns of rows to other slots."""
        self.store[:, target, :, :longest] = self.store[:, source, :, :longest]
