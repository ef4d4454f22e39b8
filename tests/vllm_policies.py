"""Small policies that vLLM's CPU build can run, which knows heads of 32 dimensions and more."""

from importlib.util import find_spec

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedConfig, Qwen2Config, Qwen3Config

from dagrpo.policy.checkpoint import Policy
from dagrpo.problems.mini.tokenizer import build_tokenizer
from dagrpo.records import Rollout
from dagrpo.rollout.engine import Request

BUDGET = 24
TOKENIZER = build_tokenizer()
SHAPE = {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 96,
    "max_position_embeddings": 256,
    "eos_token_id": TOKENIZER.eos_token_id,
    "pad_token_id": TOKENIZER.pad_token_id,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "qwen2, tied": Qwen2Config(**SHAPE, num_key_value_heads=2, tie_word_embeddings=True),
    "llama, grouped heads": LlamaConfig(**SHAPE, num_key_value_heads=1, tie_word_embeddings=False),
    "qwen3": Qwen3Config(**SHAPE, num_key_value_heads=1, head_dim=64, tie_word_embeddings=True),
}

needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed here (make test-vllm)")


def make_policy(name: str = "qwen2, tied") -> Policy:
    """A policy with random weights large enough for its distributions to be far from flat."""
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(CONFIGS[name], dtype=torch.float32).eval()
    for parameter_name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean="norm" in parameter_name, std=0.2)
    with torch.no_grad():  # some responses end, and some never do
        model.get_output_embeddings().weight[TOKENIZER.eos_token_id] *= 2
    return Policy(model, TOKENIZER, torch.device("cpu"))


def make_requests(samples: int = 4, count: int = 5) -> list[Request]:
    """Prompts of different lengths, from one token on."""
    return [Request(f"p{i}", tuple(5 + (i + k) % 40 for k in range(1 + 7 * i)), samples) for i in range(count)]


def largest_gap(policy: Policy, requests: list[Request], sampled: list[list[Rollout]], temperature: float) -> float:
    """Largest distance of the sampled log-probabilities from those of a plain forward pass (nats)."""
    gaps = []
    for request, rollouts in zip(requests, sampled, strict=True):
        for rollout in rollouts:
            ids = torch.tensor([[*request.prompt_tokens, *rollout.tokens]])
            with torch.no_grad():
                logits = policy.model(ids).logits[0, len(request.prompt_tokens) - 1 : -1]
            logps = (logits / temperature).log_softmax(-1)[range(len(rollout.tokens)), list(rollout.tokens)]
            gaps.append((logps - torch.tensor(rollout.logps)).abs().max())
    return float(torch.stack(gaps).max())
