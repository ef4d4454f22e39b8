"""A process of a sharded run reads its own rows of a checkpoint, and has the model that a whole load would give."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import LlamaConfig, LlamaForCausalLM

from dagrpo.config import Train, parse
from dagrpo.errors import UserError
from dagrpo.files.checkpoints import Stored
from dagrpo.policy.checkpoint import (
    Policy,
    fingerprint,
    load_outline,
    load_policy,
    save_policy,
    stored_fingerprint,
    stored_weights,
)
from dagrpo.policy.sharding import held, shard
from dagrpo.problems.mini.tokenizer import build_tokenizer
from dagrpo.processes.world import World
from tests.miniature import TRAIN

CPU = torch.device("cpu")
RANK, SIZE = 3, 8


class One(World):
    """One of eight processes, of which the others are not there."""

    rank, size, shards = RANK, SIZE, True


class Counting(Stored):
    """Counts the numbers that are read."""

    read = 0

    def __getitem__(self, name: str) -> Tensor:
        tensor = super().__getitem__(name)
        self.read += tensor.numel()
        return tensor

    def rows(self, name: str, first: int, end: int) -> Tensor:
        tensor = super().rows(name, first, end)
        self.read += tensor.numel()
        return tensor


@pytest.fixture
def alone() -> Iterator[None]:
    """One of eight processes as far as torch can tell."""
    dist.init_process_group("fake", rank=RANK, world_size=SIZE, store=FakeStore())
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def checkpoint(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "intermediate_size": 100, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=61, num_hidden_layers=2, tie_word_embeddings=request.param, **sizes)
    policy = Policy(LlamaForCausalLM(config), build_tokenizer(), CPU)
    save_policy(policy, folder := tmp_path_factory.mktemp("whole") / "model")
    return folder


def test_a_process_reads_its_own_share_and_no_more(checkpoint: Path, alone: None) -> None:
    whole = dict(load_policy(checkpoint, CPU).model.named_parameters())
    stored = Counting(checkpoint, "model*.safetensors")
    weights = shard(load_outline(checkpoint), parse(Train, TRAIN, "train"), One(), CPU, stored)
    count = 0
    for name, parameter in weights.model.named_parameters():
        mine = held(parameter)
        chunks = whole[name].detach().chunk(SIZE)
        assert torch.equal(mine, chunks[RANK] if len(chunks) > RANK else mine[:0]), name
        count += mine.numel()
    total = sum(parameter.numel() for parameter in whole.values())
    assert stored.read == count < 1.2 * total / SIZE
    frequencies = [
        dict(model.named_buffers())["model.rotary_emb.inv_freq"] for model in (weights.model, weights.policy.model)
    ]
    assert all(torch.equal(one, load_policy(checkpoint, CPU).model.model.rotary_emb.inv_freq) for one in frequencies)


def test_an_outline_is_the_checkpoint_but_for_its_weights(checkpoint: Path) -> None:
    outline, whole = load_outline(checkpoint), load_policy(checkpoint, CPU)
    assert all(parameter.is_meta for parameter in outline.model.parameters())
    assert outline.end_tokens == whole.end_tokens and not outline.model.training
    assert list(dict(outline.model.named_parameters())) == list(dict(whole.model.named_parameters()))
    assert stored_fingerprint(outline.model, stored_weights(checkpoint)) == fingerprint(whole.model)


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors: tensors.pop("model.norm.weight"),
        lambda tensors: tensors.update({"model.norm.weight": torch.zeros(3)}),
    ],
    ids=["missing", "misshapen"],
)
def test_a_checkpoint_without_the_weights_of_its_model_is_refused(
    checkpoint: Path, tmp_path: Path, damage: Any
) -> None:
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"cannot be loaded \(model\.norm\.weight is missing or of another shape\)"):
        load_outline(tmp_path)


def test_a_broken_or_missing_checkpoint_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint here"):
        load_outline(tmp_path)
    for path in checkpoint.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be loaded"):
        load_outline(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        load_outline(tmp_path)
    for name in ("generation_config.json", "config.json", "tokenizer_config.json"):
        path = tmp_path / name
        path.write_text(json.dumps(json.loads(path.read_text()) | {"eos_token_id": None, "eos_token": None}))
    weights.write_bytes((checkpoint / "model.safetensors").read_bytes())
    with pytest.raises(UserError, match="end-of-sequence"):
        load_outline(tmp_path)
