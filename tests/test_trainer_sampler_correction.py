"""A sampler that is not quite the policy: with the correction, the expected gradient is the policy's own.

Expectations are sums over every group that can be drawn: two responses of one token each from six words. (Of longer
responses each token is corrected by its own ratio alone, the beginning that it stands on by none, as in the original.)
Paper: Yao et al., Your Efficient RL Framework Secretly Brings You Off-Policy RL Training, 2025 (truncated importance
sampling).
"""

from itertools import product

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from dagrpo.algorithm import Recipe
from dagrpo.config import Train, parse
from dagrpo.policy.checkpoint import Policy
from dagrpo.policy.sharding import Weights
from dagrpo.problems.mini.tokenizer import build_tokenizer
from dagrpo.processes.signals import never
from dagrpo.records import Group, Problem, Rollout, Verdict
from dagrpo.trainer.collect import Consumption, Step
from dagrpo.trainer.learn import learn
from tests.method_rows import make_rows, recipe, run_slots
from tests.miniature import TRAIN

WORDS = 6
PROMPT = (3, 1, 4)
RIGHT = {1, 4}
BASELINE = 1 / 2
"""What is left of the gradient with a baseline over a group of two: (n - 1) / n."""


@pytest.fixture(scope="module")
def policy() -> Policy:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return Policy(model, build_tokenizer(), torch.device("cpu"))


def log_policy(policy: Policy) -> Tensor:
    return policy.model(torch.tensor([PROMPT])).logits[0, -1].log_softmax(-1)


def log_sampler(policy: Policy) -> Tensor:
    """A sampler of flatter taste that also prefers other words."""
    with torch.no_grad():
        return (0.6 * log_policy(policy) + torch.tensor([-0.6, 0.7, 0.5, 0.3, -0.7, 0.1])).log_softmax(-1)


def gradient(policy: Policy) -> Tensor:
    return torch.cat(
        [parameter.grad.flatten() for parameter in policy.model.parameters() if parameter.grad is not None]
    )


def of_expected_reward(policy: Policy) -> Tensor:
    policy.model.zero_grad()
    log_policy(policy)[sorted(RIGHT)].exp().sum().backward()
    return gradient(policy)


def of_group(policy: Policy, how: Recipe, words: tuple[int, int], sampled: Tensor, bound: float | None) -> Tensor:
    """The gradient that the trainer makes of one group."""
    correct = [word in RIGHT for word in words]
    rows = run_slots(how, make_rows(correct, length=[1, 1], budget=[1, 1], dtype=torch.float32))
    rollouts = tuple(
        Rollout(i, (word,), str(word), "stop", logps=(float(sampled[word]),)) for i, word in enumerate(words)
    )
    verdicts = tuple(Verdict.CORRECT if flag else Verdict.WRONG for flag in correct)
    group = Group(Problem("p", "f", "?", "!"), PROMPT, rollouts)
    train = parse(
        Train,
        {**TRAIN, "prompts": 1, "group_size": 2, "max_new_tokens": 1, "sampler_correction": bound}
        | {"rl": {"lr": 1e-3, "clip": 1e9}},
        "train",
    )
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=0.0, weight_decay=0.0)
    step = Step((group,), verdicts, rows, Consumption(), 0, 0.0, 0.0)
    learn(Weights(policy), None, optimizer, how, step, train, train.rl, 0.0, {}, never)
    if len(set(correct)) == 1:
        return torch.zeros(sum(parameter.numel() for parameter in policy.model.parameters()))
    return gradient(policy)


def expected(policy: Policy, drawn_from: Tensor, bound: float | None) -> Tensor:
    """The expected gradient of Dr. GRPO over all groups from a sampler, turned into one of ascent."""
    how = recipe("dr_grpo")
    total = torch.zeros(sum(parameter.numel() for parameter in policy.model.parameters()))
    for first, second in product(range(WORDS), repeat=2):
        chance = float((drawn_from[first] + drawn_from[second]).exp())
        total -= chance * of_group(policy, how, (first, second), drawn_from, bound)
    return total


def distance(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


def test_on_the_policy_the_enumeration_gives_the_gradient_of_expected_reward(policy: Policy) -> None:
    wanted = BASELINE * of_expected_reward(policy)
    own = log_policy(policy).detach()
    assert distance(expected(policy, own, None), wanted) < 1e-5
    assert distance(expected(policy, own, 2.0), wanted) < 1e-5


def test_with_the_correction_another_sampler_gives_that_gradient_too(policy: Policy) -> None:
    wanted = BASELINE * of_expected_reward(policy)
    sampler = log_sampler(policy)
    ratios = (log_policy(policy).detach() - sampler).exp()
    assert ratios.min() < 0.8 and ratios.max() > 1.5, "the two are too much alike to prove anything"
    assert distance(expected(policy, sampler, 100.0), wanted) < 1e-5
    assert distance(expected(policy, sampler, float(ratios.max()) * 1.01), wanted) < 1e-5
    assert distance(expected(policy, sampler, None), wanted) > 0.05


def test_a_bound_below_the_largest_ratio_cuts_exactly_there(policy: Policy) -> None:
    sampler = log_sampler(policy)
    own = log_policy(policy)
    weights = (own.detach() - sampler).exp().clamp(max=1.2)
    # Both members of a group are corrected by their own ratio, and each is the other's baseline.
    chance = sampler.exp()
    reward = torch.tensor([float(word in RIGHT) for word in range(WORDS)])
    policy.model.zero_grad()
    (chance * weights * BASELINE * (reward - (chance * reward).sum()) * own).sum().backward()
    wanted = gradient(policy)
    assert distance(expected(policy, sampler, 1.2), wanted) < 1e-5
    assert distance(expected(policy, sampler, 100.0), wanted) > 0.01
