"""Packed log-probabilities and their gradients against a plain forward pass over padded rows."""

import random
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, Gemma2Config, LlamaConfig, MistralConfig, PreTrainedModel, Qwen2Config

from dagrpo.errors import UserError
from dagrpo.policy import logprobs
from dagrpo.policy.logprobs import check_supported, token_logps
from dagrpo.policy.packing import SHORT_LINE, MicroBatch, PackedGroup, pack

VOCABULARY = 61
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
SHAPE |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
CONFIGS = {
    "qwen2": Qwen2Config(**SHAPE, num_key_value_heads=4, tie_word_embeddings=True),
    "llama": LlamaConfig(**SHAPE, num_key_value_heads=2, tie_word_embeddings=False),
}


def make_model(name: str) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name], dtype=torch.float32).eval()
    for parameter in model.parameters():  # wide enough for distributions that are far from flat
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def make_groups(seed: int = 0, count: int = 6, longest: int = 40) -> list[PackedGroup]:
    draw = random.Random(seed)
    row, groups = 0, []
    for number in range(count):
        size = draw.randint(1, 5)
        responses = [[draw.randrange(3, VOCABULARY) for _ in range(draw.randint(1, longest))] for _ in range(size)]
        prompt = [draw.randrange(3, VOCABULARY) for _ in range(1 if number == 0 else draw.randint(2, 15))]
        groups.append(PackedGroup(prompt, responses, list(range(row, row + size))))
        row += size
    return groups


def coefficients(rows: Tensor) -> Tensor:
    return torch.cos(rows.double() * 1.7 + 0.3).float()


def plain_logps(model: PreTrainedModel, groups: Sequence[PackedGroup], temperature: float) -> dict[int, Tensor]:
    """One right-padded batch, logits everywhere: what the packed form must equal."""
    sequences = [
        ([*g.prompt_tokens, *r], len(g.prompt_tokens), row)
        for g in groups
        for r, row in zip(g.responses, g.rows, strict=True)
    ]
    width = max(len(tokens) for tokens, _, _ in sequences)
    ids = torch.tensor([tokens + [0] * (width - len(tokens)) for tokens, _, _ in sequences])
    seen = torch.tensor([[1] * len(tokens) + [0] * (width - len(tokens)) for tokens, _, _ in sequences])
    logps = (model(input_ids=ids, attention_mask=seen).logits[:, :-1] / temperature).log_softmax(-1)
    picked = logps.gather(-1, ids[:, 1:, None])[..., 0]
    return {row: picked[i, start - 1 : len(tokens) - 1] for i, (tokens, start, row) in enumerate(sequences)}


def packed_logps(model: PreTrainedModel, micros: Sequence[MicroBatch], temperature: float) -> dict[int, Tensor]:
    found = {}
    for micro in micros:
        out = token_logps(model, micro, temperature)
        for row in out.row.unique().tolist():
            assert row not in found
            found[row] = out.logp[out.row == row]
    return found


def gradients(model: PreTrainedModel, logps: dict[int, Tensor]) -> Tensor:
    loss = torch.cat([coefficients(torch.tensor([row])) * logps[row].sum() for row in sorted(logps)]).sum()
    grads = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([grad.flatten() for grad in grads])


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logps_and_gradients_equal_a_padded_forward(name: str, temperature: float) -> None:
    model, groups = make_model(name), make_groups()
    expected = plain_logps(model, groups, temperature)
    found = packed_logps(model, pack(groups, 4096), temperature)
    assert found.keys() == expected.keys()
    for row in expected:
        torch.testing.assert_close(found[row], expected[row], rtol=1e-5, atol=1e-5)
    assert relative(gradients(model, found), gradients(model, expected)) < 1e-6


@pytest.mark.parametrize("micro_tokens", [1, 16, 60, 150, 400])
def test_cuts_into_micro_batches_do_not_change_the_gradient(micro_tokens: int) -> None:
    model, groups = make_model("qwen2"), make_groups(1)
    whole = gradients(model, packed_logps(model, pack(groups, 4096), 1.0))
    micros = pack(groups, micro_tokens)
    longest = max(len(g.prompt_tokens) + len(r) - 1 for g in groups for r in g.responses)
    assert all(micro.tokens.numel() <= max(micro_tokens, longest) for micro in micros)
    assert relative(gradients(model, packed_logps(model, micros, 1.0)), whole) < 1e-6


def test_order_of_groups_and_rows_does_not_change_the_gradient() -> None:
    model, groups = make_model("llama"), make_groups(2)
    turned = [PackedGroup(g.prompt_tokens, g.responses[::-1], g.rows[::-1]) for g in groups[::-1]]
    whole = gradients(model, packed_logps(model, pack(groups, 4096), 1.0))
    assert relative(gradients(model, packed_logps(model, pack(turned, 200), 1.0)), whole) < 1e-6


def test_groups_longer_than_a_line_are_cut_and_short_ones_share_one() -> None:
    long = PackedGroup(list(range(3, 13)), [[5] * 50 for _ in range(9)], range(9))
    short = [PackedGroup([3, 4], [[6, 7], [8]], [10 + 2 * i, 11 + 2 * i]) for i in range(5)]
    micros = pack([long, *short], 4096)
    lengths = [int(n) for micro in micros for n in (micro.segment >= 0).sum(1)]
    assert max(lengths) <= SHORT_LINE
    assert len(lengths) == 5 and sum(lengths) == 5 * 10 + 9 * 49 + 5 * 3
    model = make_model("qwen2")
    found, expected = packed_logps(model, micros, 1.0), plain_logps(model, [long, *short], 1.0)
    assert relative(gradients(model, found), gradients(model, expected)) < 1e-6


def test_nothing_is_packed_from_nothing() -> None:
    assert pack([], 4096) == []


def test_nan_in_the_embedding_of_padding_changes_nothing() -> None:
    model, groups = make_model("llama"), make_groups(3)
    micros = pack(groups, 4096)
    assert any((micro.segment < 0).any() for micro in micros), "no padding: the test would prove nothing"
    clean = gradients(model, packed_logps(model, micros, 1.0))
    with torch.no_grad():
        model.get_input_embeddings().weight[model.config.pad_token_id] = float("nan")
    planted = gradients(model, packed_logps(model, micros, 1.0))
    assert torch.equal(planted, clean)


def test_entropy_is_that_of_the_distribution_and_has_a_gradient_only_on_request() -> None:
    model = make_model("qwen2")
    (micro,) = pack([PackedGroup([3, 4, 5], [[6, 7], [8]], [0, 1])], 4096)
    logps = model(torch.tensor([[3, 4, 5, 6]])).logits[0, 2:].div(0.5).log_softmax(-1)
    entropy = -(logps.exp() * logps).sum(-1)
    out = token_logps(model, micro, 0.5)
    torch.testing.assert_close(out.entropy, entropy[[0, 1, 0]].detach())
    assert out.logp.requires_grad and not out.entropy.requires_grad
    found = torch.autograd.grad(token_logps(model, micro, 0.5, True).entropy.sum(), model.lm_head.weight)[0]
    expected = torch.autograd.grad(entropy[[0, 1, 0]].sum(), model.lm_head.weight)[0]
    torch.testing.assert_close(found, expected)


def test_chunks_of_logits_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, micros = make_model("llama"), pack(make_groups(4), 4096)
    whole = packed_logps(model, micros, 1.0)
    expected = gradients(model, whole)
    monkeypatch.setattr(logprobs, "CHUNK_ELEMENTS", 7 * VOCABULARY)
    cut = packed_logps(model, micros, 1.0)
    for row in whole:
        torch.testing.assert_close(cut[row], whole[row], rtol=1e-6, atol=1e-6)
    assert relative(gradients(model, cut), expected) < 1e-6


@pytest.mark.parametrize(
    "config",
    [
        Gemma2Config(
            **SHAPE, num_key_value_heads=4, head_dim=8, final_logit_softcapping=0.1, layer_types=["full_attention"] * 2
        ),
        MistralConfig(**SHAPE, num_key_value_heads=4, sliding_window=2),
    ],
    ids=["soft-capped", "sliding window"],
)
def test_architectures_that_packing_would_get_wrong_are_refused(config: LlamaConfig) -> None:
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    with pytest.raises(UserError, match=config.model_type):
        check_supported(model)


@pytest.mark.parametrize("name", CONFIGS)
def test_supported_architectures_are_accepted(name: str) -> None:
    check_supported(make_model(name))
