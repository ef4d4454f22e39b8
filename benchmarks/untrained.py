"""A model of any shape without its weights, for what does not depend on them."""

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from dagrpo.policy.checkpoint import Policy
from dagrpo.problems.mini.tokenizer import build_tokenizer


def untrained(
    device: torch.device,
    dtype: torch.dtype,
    *,
    vocabulary: int,
    width: int,
    layers: int,
    heads: int,
    kv_heads: int,
    feedforward: int,
    window: int,
    untied: bool = False,
    drawn_on: torch.device | None = None,
) -> Policy:
    """A randomly initialised Qwen2 with the miniature's tokenizer.

    Args:
        window: longest text (tokens).
        untied: whether the output layer has weights of its own.
        drawn_on: where the numbers are drawn, each kind of device having numbers of its own; ``device`` if left out.
    """
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=feedforward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=window,
        tie_word_embeddings=not untied,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # so that a large model is never there in more bits than asked for
    try:
        with drawn_on or device:
            model = Qwen2ForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(before)
    return Policy(model.to(device), tokenizer, device)
