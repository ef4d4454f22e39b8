"""What sharding is made of, in one process: shares of micro-batches, parts of checkpoints, a copy without weights."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from dagrpo.errors import Interrupted, UserError
from dagrpo.files.checkpoints import Stored
from dagrpo.policy.logprobs import token_logps
from dagrpo.policy.packing import MicroBatch, PackedGroup, pack
from dagrpo.policy.sharding import _hollow, recompute_layers
from dagrpo.processes.world import ALONE, World


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, **shape, **heads, tie_word_embeddings=True)).eval()


def groups(count: int) -> list[PackedGroup]:
    draw = torch.Generator().manual_seed(1)

    def words(length: int) -> list[int]:
        return torch.randint(50, (length,), generator=draw).tolist()

    return [PackedGroup(words(5 + g), [words(3 + g), words(9)], [2 * g, 2 * g + 1]) for g in range(count)]


def gradients(model: LlamaForCausalLM, micros: list[MicroBatch]) -> list[Tensor]:
    """Of the sum of squared log-probabilities."""
    model.zero_grad()
    for micro in micros:
        loss = (token_logps(model, micro, 1.0).logp ** 2).sum()
        torch.autograd.backward(loss)
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("of", [2, 3, 7])
def test_shares_of_micro_batches_keep_step_and_add_up(model: LlamaForCausalLM, of: int) -> None:
    work = groups(5)
    shares = [pack(work, 64, (number, of)) for number in range(of)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(row for share in shares for micro in share for row in micro.row.unique().tolist()) == list(range(10))
    whole = gradients(model, pack(work, 64))
    parts = [gradients(model, share) for share in shares]
    for expected, *found in zip(whole, *parts, strict=True):
        torch.testing.assert_close(sum(found), expected)


def test_a_share_without_a_response_has_a_gradient_of_zero(model: LlamaForCausalLM) -> None:
    (empty,) = pack(groups(1), 64, (1, 2))
    assert not len(empty.row) and not len(empty.target)
    found = gradients(model, [empty])
    assert len(found) == len(list(model.parameters()))
    assert not any(bool(gradient.any()) for gradient in found)


def test_recomputing_changes_no_gradient_and_no_name(model: LlamaForCausalLM) -> None:
    micros, names = pack(groups(3), 4096), [name for name, _ in model.named_parameters()]
    plain = gradients(model, micros)
    recompute_layers(model)
    assert [name for name, _ in model.named_parameters()] == names
    assert all(torch.equal(one, other) for one, other in zip(plain, gradients(model, micros), strict=True))


def test_a_hollow_copy_has_no_weights_and_shares_what_was_shared(model: LlamaForCausalLM) -> None:
    hollow = _hollow(model, torch.device("cpu"))
    assert [name for name, _ in hollow.named_parameters()] == [name for name, _ in model.named_parameters()]
    assert all(not parameter.numel() for parameter in hollow.parameters())
    assert hollow.lm_head.weight is hollow.model.embed_tokens.weight
    for mine, whole in zip(hollow.parameters(), model.parameters(), strict=True):
        mine.data = whole.data
    tokens = torch.tensor([[1, 2, 3]])
    assert torch.equal(hollow(tokens).logits, model(tokens).logits)


def test_a_stored_tensor_is_its_parts_in_order(tmp_path: Path) -> None:
    whole = torch.arange(21.0).view(7, 3)
    for number, part in enumerate((whole[:3], whole[3:6], whole[6:])):
        alone = {"step": torch.tensor(4.0)} if number == 0 else {}
        save_file({"w": part.contiguous(), **alone}, tmp_path / f"tensors-{number + 1:05d}-of-00003.safetensors")
    stored = Stored(tmp_path)
    assert set(stored) == {"w", "step"}
    assert torch.equal(stored["w"], whole) and stored["step"].item() == 4.0
    for first in range(7):
        for end in range(first + 1, 8):
            assert torch.equal(stored.rows("w", first, end), whole[first:end])


class Pair(World):
    """The second of two processes; what the first gives is known beforehand."""

    rank, size = 1, 2

    def __init__(self, first: Any) -> None:
        self.first = first

    def gather(self, value: Any) -> list[Any]:
        return [copy.deepcopy(self.first), value]


def test_work_is_spread_and_comes_back_in_order() -> None:
    assert ALONE.spread(lambda share: [2 * item for item in share], [1, 2, 3]) == [2, 4, 6]
    assert Pair(([2, 6], None)).spread(lambda share: [2 * item for item in share], [1, 2, 3]) == [2, 4, 6]
    assert Pair(("done", None)).once(lambda: pytest.fail("only the first works")) == "done"


@pytest.mark.parametrize("ending", [UserError("no; do"), Interrupted(), OSError(28, "full", "here")])
def test_what_one_raises_all_raise(ending: Exception) -> None:
    with pytest.raises(type(ending)) as raised:
        Pair((None, ending)).each(lambda: 1)
    assert raised.value.args == ending.args

    def fail() -> None:
        raise ending

    with pytest.raises(type(ending)):
        Pair((None, None)).each(fail)
    with pytest.raises(type(ending)):
        ALONE.each(fail)
