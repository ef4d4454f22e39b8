"""The conflict probe of a step: the figures of a plain gradient, projected or not, on one process or several."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from dagrpo.algorithm import Recipe
from dagrpo.diagnostics.conflict import conflict_index
from dagrpo.diagnostics.gradients import flat, gram
from dagrpo.policy.checkpoint import Policy
from dagrpo.problems.mini.tokenizer import build_tokenizer
from dagrpo.processes.signals import never
from dagrpo.processes.world import ALONE, World
from dagrpo.records import Group, Problem, Rollout
from dagrpo.trainer import conflict_probe as module
from dagrpo.trainer.collect import Consumption, Step
from dagrpo.trainer.conflict_probe import conflict_probe
from tests.method_rows import make_rows, run_slots
from tests.method_rows import recipe as recipe_of

PROMPT = (3, 4, 5, 6)
RESPONSES = ((5, 6, 7), (5, 6, 8), (9, 10), (5, 11, 12, 13, 2), (5, 6, 7, 8, 9, 10))
CORRECT = (True, False, False, True, False)
WEIGHT = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])
TEMPERATURE = 0.7


class Shares(World):
    """What three processes make together, computed by one."""

    size = 3

    def spread(self, work: Callable[[Sequence[Any]], Sequence[Any]], items: Sequence[Any]) -> list[Any]:
        merged: list[Any] = [None] * len(items)
        for rank in range(self.size):
            merged[rank :: self.size] = work(items[rank :: self.size])
        return merged


@pytest.fixture(scope="module")
def policy() -> Policy:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = LlamaConfig(vocab_size=50, num_hidden_layers=3, tie_word_embeddings=False, initializer_range=0.3, **sizes)
    return Policy(LlamaForCausalLM(config).eval(), build_tokenizer(), torch.device("cpu"))


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return recipe_of("grpo")


@pytest.fixture(scope="module")
def step(recipe: Recipe) -> Step:
    """One mixed group, of which the weights leave three rows."""
    rollouts = tuple(Rollout(i, tokens, "", "stop") for i, tokens in enumerate(RESPONSES))
    rows = replace(run_slots(recipe, make_rows(CORRECT)), weight=WEIGHT)
    return Step((Group(Problem("p", "sums", "?", "1"), PROMPT, rollouts),), (), rows, Consumption(), 0, 0.0, 0.0)


def _look(policy: Policy, step: Step, recipe: Recipe, world: World = ALONE) -> dict[str, float]:
    return conflict_probe(policy, step, recipe, TEMPERATURE, 0, 0, never, world)


def test_the_figures_are_those_of_a_plain_gradient_of_the_last_layer(
    policy: Policy, step: Step, recipe: Recipe
) -> None:
    model = policy.model
    last = [*model.model.layers[-1].parameters(), *model.model.norm.parameters(), *model.lm_head.parameters()]
    gradients = []
    for response in RESPONSES:
        logits = model(torch.tensor([PROMPT + response])).logits[0, len(PROMPT) - 1 : -1] / TEMPERATURE
        chosen = F.log_softmax(logits, -1).gather(1, torch.tensor(response)[:, None])
        gradients.append(flat(torch.autograd.grad(chosen.mean(), last)))
    coefficients = torch.stack([step.rows.advantage, WEIGHT * step.rows.advantage])
    before, after = conflict_index(gram(torch.stack(gradients)), coefficients).tolist()
    assert 0 < after != before > 0
    assert _look(policy, step, recipe) == pytest.approx({"conflict/before": before, "conflict/after": after}, rel=1e-5)


@pytest.mark.parametrize("small", [0, module.SMALL], ids=["projected", "whole"])
def test_several_processes_see_what_one_sees(
    policy: Policy, step: Step, recipe: Recipe, small: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALL", small)
    assert _look(policy, step, recipe, Shares()) == _look(policy, step, recipe)


def test_a_projection_is_close(policy: Policy, step: Step, recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = _look(policy, step, recipe)
    monkeypatch.setattr(module, "SMALL", 0)
    assert _look(policy, step, recipe) == pytest.approx(exact, abs=4 / module.PROJECTION**0.5)
