"""Saving and loading a policy, its fingerprint, and the device it lives on."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config

from dagrpo.errors import UserError
from dagrpo.policy.checkpoint import Policy, fingerprint, load_outline, load_policy, save_policy
from dagrpo.policy.device import resolve_device

CPU = torch.device("cpu")


def make_policy(seed: int = 0) -> Policy:
    words = {word: number for number, word in enumerate(["<pad>", "<unk>", "<end>", *"abcdefghijklm"])}
    rules = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    rules.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rules, pad_token="<pad>", eos_token="<end>", unk_token="<unk>")
    torch.manual_seed(seed)
    shape = {
        "vocab_size": 16,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
    }
    config = Qwen2Config(
        **shape, num_key_value_heads=1, tie_word_embeddings=True, bos_token_id=None, eos_token_id=2, pad_token_id=0
    )
    return Policy(AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval(), tokenizer, CPU)


def test_a_saved_policy_is_an_ordinary_checkpoint_and_comes_back_bit_for_bit(tmp_path: Path) -> None:
    policy = make_policy()
    save_policy(policy, tmp_path / "model")
    again = load_policy(tmp_path / "model", CPU)
    assert fingerprint(again.model) == fingerprint(policy.model)
    assert not again.model.training and all(parameter.requires_grad for parameter in again.model.parameters())
    assert again.end_tokens == {2}
    assert again.tokenizer("a b m").input_ids == policy.tokenizer("a b m").input_ids
    AutoModelForCausalLM.from_pretrained(tmp_path / "model", local_files_only=True)
    AutoTokenizer.from_pretrained(tmp_path / "model", local_files_only=True)
    assert not list((tmp_path / "model").glob("*.bin"))


def test_saving_replaces_what_was_there_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    save_policy(make_policy(0), tmp_path / "model")
    other = make_policy(1)
    save_policy(other, tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert fingerprint(load_policy(tmp_path / "model", CPU).model) == fingerprint(other.model)


def test_equal_policies_are_saved_as_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_policy(make_policy(), tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_the_fingerprint_sees_one_bit_and_the_type() -> None:
    model = make_policy().model
    before = fingerprint(model)
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight[3, 4] = torch.nextafter(weight[3, 4], torch.tensor(9.0))
    assert fingerprint(model) != before
    assert fingerprint(model.to(torch.bfloat16)) != before


def test_all_end_tokens_count(tmp_path: Path) -> None:
    policy = make_policy()
    policy.model.generation_config.eos_token_id = [5, 6]
    assert policy.end_tokens == {2, 5, 6}
    save_policy(policy, tmp_path / "model")
    assert load_policy(tmp_path / "model", CPU).end_tokens == {2, 5, 6}


def test_a_missing_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere"):
        load_policy(tmp_path / "nowhere", CPU)


def test_a_truncated_checkpoint_is_named(tmp_path: Path) -> None:
    save_policy(make_policy(), tmp_path / "model")
    weights = tmp_path / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_policy(tmp_path / "model", CPU)


def _change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


FAULTS: dict[str, Callable[[Path], Any]] = {
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:30]),
    "no object": lambda path: path.write_text("[1]"),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe{}"),
    "a byte-order mark": lambda path: path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes()),
    "half a character": lambda path: _change(path, more="\ud83d"),
}


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_of_a_checkpoint_that_is_broken_is_named(tmp_path: Path, name: str, fault: str) -> None:
    """transformers itself takes a broken generation_config.json for none, and so other end tokens."""
    save_policy(make_policy(), tmp_path)
    FAULTS[fault](tmp_path / name)
    for load in (lambda: load_policy(tmp_path, CPU), lambda: load_outline(tmp_path)):
        with pytest.raises(UserError, match=rf"{name}: .*; (make|write)"):
            load()


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("config.json", {"num_attention_heads": "two"}),
        ("config.json", {"model_type": "unheard"}),
        ("config.json", {"vocab_size": -3}),
        ("tokenizer.json", {"model": 3}),
        ("tokenizer_config.json", {"eos_token": 3}),
        ("generation_config.json", {"eos_token_id": "x"}),
    ],
)
def test_settings_of_a_checkpoint_that_cannot_be_end_in_a_sentence(
    tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    save_policy(make_policy(), tmp_path)
    _change(tmp_path / name, **changes)
    with pytest.raises(UserError):
        load_policy(tmp_path, CPU)


def test_weights_that_only_pickle_can_read_are_refused(tmp_path: Path) -> None:
    policy = make_policy()
    save_policy(policy, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    torch.save(policy.model.state_dict(), tmp_path / "model" / "pytorch_model.bin")
    with pytest.raises(UserError, match="cannot be loaded"):
        load_policy(tmp_path / "model", CPU)


def test_a_checkpoint_without_an_end_token_is_refused(tmp_path: Path) -> None:
    policy = make_policy()
    save_policy(policy, tmp_path / "model")
    for name, key in (
        ("generation_config.json", "eos_token_id"),
        ("config.json", "eos_token_id"),
        ("tokenizer_config.json", "eos_token"),
    ):
        path = tmp_path / "model" / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {key: None}))
    with pytest.raises(UserError, match="end-of-sequence"):
        load_policy(tmp_path / "model", CPU)


def test_devices() -> None:
    assert resolve_device("cpu") == CPU
    assert resolve_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="cuda"):
            resolve_device("cuda")
