"""Gradients of single rollouts: exact ones against a plain forward pass, cheaper ones against the exact ones."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from dagrpo import seeds
from dagrpo.diagnostics.conflict import signed_cosines
from dagrpo.diagnostics.gradients import Part, Sketch, _uniforms, flat, gram, rollout_gradients
from dagrpo.errors import Interrupted, UserError
from tests.miniature import stop_after

PROMPT = (1, 2, 3, 4)
RESPONSES = ((5, 6, 7), (5, 6, 8), (9, 10), (5, 11, 12, 13, 2), (5, 6, 7, 8, 9, 10))


def _model(tied: bool, layers: int = 2) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(
        vocab_size=20, num_hidden_layers=layers, tie_word_embeddings=tied, initializer_range=0.3, **sizes
    )
    return LlamaForCausalLM(config).eval()


def _plain(model: LlamaForCausalLM, response: tuple[int, ...], temperature: float) -> Tensor:
    logits = model(torch.tensor([PROMPT + response])).logits[0, len(PROMPT) - 1 : -1] / temperature
    chosen = F.log_softmax(logits, -1).gather(1, torch.tensor(response)[:, None])
    return flat(torch.autograd.grad(chosen.mean(), list(model.parameters())))


@pytest.mark.parametrize("tied", [False, True])
def test_exact_gradients_are_those_of_a_plain_forward_pass(tied: bool) -> None:
    model = _model(tied)
    rows = rollout_gradients(model, PROMPT, RESPONSES, 0.7)
    assert rows.shape == (len(RESPONSES), sum(parameter.numel() for parameter in model.parameters()))
    for row, response in zip(rows, RESPONSES, strict=True):
        assert torch.allclose(row, _plain(model, response, 0.7), rtol=1e-4, atol=1e-6)


def test_the_last_layer_is_a_part_of_the_exact_gradient() -> None:
    model = _model(tied=False)
    names = [name for name, _ in model.named_parameters()]
    sizes = [parameter.numel() for parameter in model.parameters()]
    exact = rollout_gradients(model, PROMPT, RESPONSES, 1.0).split(sizes, dim=1)
    last = [
        part
        for name, part in zip(names, exact, strict=True)
        if name.startswith(("model.layers.1.", "model.norm.", "lm_head."))
    ]
    only = rollout_gradients(model, PROMPT, RESPONSES, 1.0, part="last_layer")
    assert torch.allclose(only, torch.cat(last, dim=1), rtol=1e-4, atol=1e-6)
    assert torch.equal(rollout_gradients(model, PROMPT, RESPONSES, 1.0), torch.cat(exact, dim=1))  # the cut is undone


@pytest.mark.parametrize("tied", [False, True])
def test_in_front_of_the_last_layer_nothing_is_kept_for_a_gradient(tied: bool) -> None:
    kept: list[int] = []

    def count(tensor: Tensor) -> Tensor:
        kept[-1] += tensor.numel()
        return tensor

    for layers in (2, 5):
        kept.append(0)
        model = _model(tied, layers)
        learning = [parameter.requires_grad for parameter in model.parameters()]
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            rollout_gradients(model, PROMPT, RESPONSES[:1], 1.0, part="last_layer")
        assert [parameter.requires_grad for parameter in model.parameters()] == learning
    assert kept[0] == kept[1] > 0


def test_numbers_made_on_a_device_are_those_of_the_seeds() -> None:
    for key in (0, seeds.key("sketch", 3), 2**64 - 1):
        ours = _uniforms(key, 12_345, 1000, torch.device("cpu")).numpy()
        theirs = seeds.uniforms(np.array([key], dtype=np.uint64), np.arange(12_345, 13_345, dtype=np.uint64))
        assert np.array_equal(ours, theirs)


def test_shared_weights_count_as_output_layer_alone() -> None:
    """The last layer of a model with tied weights is that of the same model with an output layer of its own."""
    tied, apart = _model(tied=True), _model(tied=False)
    apart.load_state_dict({**tied.state_dict(), "lm_head.weight": tied.get_input_embeddings().weight.detach().clone()})
    one, other = (rollout_gradients(model, PROMPT, RESPONSES, 1.0, part="last_layer") for model in (tied, apart))
    assert torch.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_the_last_layer_of_an_unknown_architecture_is_refused() -> None:
    model = _model(tied=False)
    del model.model.norm
    with pytest.raises(UserError, match="where its last layer begins is not known"):
        rollout_gradients(model, PROMPT, RESPONSES, 1.0, part="last_layer")


@pytest.mark.parametrize("part", ["all", "last_layer", "last_block"])
def test_a_sketch_keeps_cosines_within_its_bound(part: Part) -> None:
    model, size, keys = _model(tied=True), 512, 24
    exact = rollout_gradients(model, PROMPT, RESPONSES, 1.0, part=part)
    signs = torch.tensor([1.0, -1, 1, -1, 1], dtype=torch.float64)
    truth = signed_cosines(gram(exact), signs)
    errors = []
    for key in range(keys):
        read = Sketch(size, key)
        sketched = rollout_gradients(model, PROMPT, RESPONSES, 1.0, read, part)
        assert sketched.shape == (len(RESPONSES), size)
        errors.append(signed_cosines(gram(sketched), signs) - truth)
    spread = torch.stack(errors).square().mean(0).sqrt()
    bound = ((1 + truth.square()) / size).sqrt()
    assert bool((spread <= 1.5 * bound).all())
    assert bool((torch.stack(errors).mean(0).abs() <= 4 * bound / keys**0.5).all())


def test_a_larger_sketch_is_closer() -> None:
    model = _model(tied=True)
    truth = gram(rollout_gradients(model, PROMPT, RESPONSES, 1.0))
    errors = []
    for size in (32, 512, 8192):
        found = [gram(rollout_gradients(model, PROMPT, RESPONSES, 1.0, Sketch(size, key))) for key in range(8)]
        errors.append(float((torch.stack(found) - truth).square().mean().sqrt() / truth.diagonal().mean()))
    assert all(small < 0.5 * large for large, small in pairwise(errors))


def test_a_sketch_is_keyed_and_knows_no_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = [torch.randn(30), torch.randn(4, 5)]
    once = Sketch(16, 1)(gradients)
    assert torch.equal(once, Sketch(16, 1)(gradients))
    assert not torch.equal(once, Sketch(16, 2)(gradients))
    monkeypatch.setattr("dagrpo.diagnostics.gradients.CHUNK", 7)
    assert torch.allclose(once, Sketch(16, 1)(gradients))
    assert torch.allclose(once, Sketch(16, 1)([flat(gradients)]))


def test_a_stop_ends_it_between_two_responses() -> None:
    with pytest.raises(Interrupted):
        rollout_gradients(_model(tied=True), PROMPT, RESPONSES, 1.0, should_stop=stop_after(2))
