"""The torch engine against transformers' own generation and forward pass."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from benchmarks.engines import Endless
from dagrpo.errors import Interrupted, UserError
from dagrpo.policy.checkpoint import Policy
from dagrpo.records import Rollout
from dagrpo.rollout import torch_engine
from dagrpo.rollout.engine import Request, Sampling
from dagrpo.rollout.torch_engine import TorchEngine, draw
from tests.engine_checks import check_end_tokens, check_stop_texts

VOCABULARY, END, BUDGET = 40, 2, 24
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
SHAPE |= {"bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 100.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
CONFIGS = {
    "qwen2": Qwen2Config(**SHAPE, num_key_value_heads=4, tie_word_embeddings=True),
    "llama, grouped heads": LlamaConfig(**SHAPE, num_key_value_heads=2, tie_word_embeddings=False),
    "llama, scaled positions": LlamaConfig(
        **SHAPE, num_key_value_heads=1, rope_parameters=LLAMA3 | {"original_max_position_embeddings": 16}
    ),
    "qwen3, through transformers": Qwen3Config(**SHAPE, num_key_value_heads=2, head_dim=16),
}
GREEDY = Sampling(0.0, BUDGET, 0, "test")
SAMPLED = Sampling(1.0, BUDGET, 0, "test", 3)


def make_policy(config: PreTrainedConfig) -> Policy:
    words = {"<pad>": 0, "<unk>": 1, "<end>": END} | {f"w{number}": number for number in range(3, VOCABULARY)}
    rules = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    rules.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rules, pad_token="<pad>", eos_token="<end>", unk_token="<unk>")
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, mean="norm" in name, std=0.2)
    with torch.no_grad():  # a spread of lengths: some contexts end at once, some never
        model.get_output_embeddings().weight[END] *= 2
    return Policy(model, tokenizer, torch.device("cpu"))


def make_requests(samples: int = 5, count: int = 9) -> list[Request]:
    draws = np.random.default_rng(0)
    return [
        Request(
            f"p{number}", tuple(draws.integers(3, VOCABULARY, size=1 + 3 * (number % 4)).tolist()), samples + number % 2
        )
        for number in range(count)
    ]


def flat(rollouts: list[list[Rollout]]) -> list[Rollout]:
    return [rollout for row in rollouts for rollout in row]


def test_a_text_ends_samples() -> None:
    policy = make_policy(CONFIGS["qwen2"])
    check_stop_texts(TorchEngine(policy, rows=7), policy, make_requests(), SAMPLED)
    with pytest.raises(UserError, match="empty"):
        replace(SAMPLED, stop=("",))


def test_what_ends_a_response_is_the_policys_word() -> None:
    policy = make_policy(CONFIGS["qwen2"])
    endless = Endless(policy.model, policy.tokenizer, policy.device)
    check_end_tokens(TorchEngine(endless, rows=7), make_requests(), SAMPLED)


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_equals_generate_token_for_token(name: str) -> None:
    policy, requests = make_policy(CONFIGS[name]), make_requests(1, 24)
    sampled = TorchEngine(policy, rows=6).sample(requests, GREEDY)
    finishes = set()
    for request, (first, *others) in zip(requests, sampled, strict=True):
        ids = torch.tensor([request.prompt_tokens])
        expected = policy.model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=BUDGET
        )
        assert first.tokens == tuple(expected[0, ids.shape[1] :].tolist())
        assert all(other.tokens == first.tokens for other in others)
        assert first.finish == ("stop" if first.tokens[-1] == END else "length")
        finishes.add(first.finish)
    assert finishes == {"stop", "length"}, "the requests no longer show both ways to finish"


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logps_and_entropies_equal_a_plain_forward(name: str, temperature: float) -> None:
    policy, requests = make_policy(CONFIGS[name]), make_requests(3)
    sampled = TorchEngine(policy, rows=16).sample(requests, Sampling(temperature, BUDGET, 1, "test"))
    for request, rollouts in zip(requests, sampled, strict=True):
        for rollout in rollouts:
            ids = torch.tensor([[*request.prompt_tokens, *rollout.tokens]])
            with torch.no_grad():
                logits = policy.model(ids).logits[0, len(request.prompt_tokens) - 1 : -1]
            logps = (logits / temperature).log_softmax(-1)
            picked = logps[range(len(rollout.tokens)), list(rollout.tokens)]
            torch.testing.assert_close(torch.tensor(rollout.logps), picked, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(
                torch.tensor(rollout.entropies), -(logps.exp() * logps).sum(-1), rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("rows", [1, 4, 7, 1000])
def test_batch_size_and_order_do_not_change_a_sample(rows: int) -> None:
    policy, requests = make_policy(CONFIGS["llama, grouped heads"]), make_requests()
    expected = TorchEngine(policy, rows=16).sample(requests, SAMPLED)
    found = TorchEngine(policy, rows=rows).sample(requests[::-1], SAMPLED)[::-1]
    assert [(r.index, r.tokens, r.text, r.finish) for r in flat(found)] == [
        (r.index, r.tokens, r.text, r.finish) for r in flat(expected)
    ]
    for one, other in zip(flat(found), flat(expected), strict=True):
        np.testing.assert_allclose(one.logps, other.logps, rtol=1e-5, atol=1e-5)
    assert len({rollout.tokens for rollout in flat(expected)}) > len(requests)


def test_a_sample_is_decided_by_what_it_is() -> None:
    policy = make_policy(CONFIGS["qwen2"])
    engine = TorchEngine(policy, rows=8)
    request = make_requests()[3]
    both = engine.sample([Request(request.problem_id, request.prompt_tokens, 6)], SAMPLED)[0]
    later = engine.sample([Request(request.problem_id, request.prompt_tokens, 4, first=2)], SAMPLED)[0]
    assert [r.tokens for r in later] == [r.tokens for r in both[2:]]
    assert [r.index for r in later] == [2, 3, 4, 5]
    for other in (
        Sampling(1.0, BUDGET, 1, "test", 3),
        Sampling(1.0, BUDGET, 0, "tes", 3),
        Sampling(1.0, BUDGET, 0, "test", 4),
    ):
        assert [r.tokens for r in engine.sample([Request(request.problem_id, request.prompt_tokens, 6)], other)[0]] != [
            r.tokens for r in both
        ]


def test_the_engine_samples_from_the_weights_of_now() -> None:
    policy, requests = make_policy(CONFIGS["qwen2"]), make_requests()
    engine = TorchEngine(policy, rows=8)
    before = engine.sample(requests, SAMPLED)
    with torch.no_grad():
        policy.model.model.layers[0].self_attn.q_proj.weight.mul_(-1)
    assert engine.sample(requests, SAMPLED) != before


def test_text_is_decoded_without_special_tokens() -> None:
    policy = make_policy(CONFIGS["qwen2"])
    for rollout in flat(TorchEngine(policy, rows=8).sample(make_requests(), SAMPLED)):
        assert rollout.text == " ".join(f"w{token}" for token in rollout.tokens if token > END) or 1 in rollout.tokens
        assert (rollout.finish == "stop") == (rollout.tokens[-1] == END)
        assert END not in rollout.tokens[:-1] and len(rollout.tokens) <= BUDGET


def test_any_of_several_end_tokens_ends() -> None:
    policy = make_policy(CONFIGS["qwen2"])
    policy.model.generation_config.eos_token_id = [END, 7, 8, 9, 10]
    rollouts = flat(TorchEngine(policy, rows=8).sample(make_requests(), SAMPLED))
    ends = {rollout.tokens[-1] for rollout in rollouts if rollout.finish == "stop"}
    assert len(ends) > 1 and not any(
        token in {END, 7, 8, 9, 10} for rollout in rollouts for token in rollout.tokens[:-1]
    )


def test_a_budget_of_one_token_and_empty_requests() -> None:
    policy = make_policy(CONFIGS["qwen2"])
    requests = make_requests()
    short = TorchEngine(policy, rows=8).sample(requests, Sampling(1.0, 1, 0, "test", 3))
    long = TorchEngine(policy, rows=8).sample(requests, SAMPLED)
    assert [r.tokens for r in flat(short)] == [r.tokens[:1] for r in flat(long)]
    assert TorchEngine(policy, rows=8).sample([], SAMPLED) == []
    assert TorchEngine(policy, rows=8).sample([Request("p", (3,), 0)], SAMPLED) == [[]]


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_stop_is_obeyed_between_decoding_steps(steps: int) -> None:
    asked: list[None] = []

    def should_stop() -> bool:
        asked.append(None)
        return len(asked) > steps

    engine = TorchEngine(make_policy(CONFIGS["qwen2"]), rows=8, should_stop=should_stop)
    with pytest.raises(Interrupted):
        engine.sample(make_requests(), SAMPLED)
    assert len(asked) == steps + 1


def test_each_prompt_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, requests = make_policy(CONFIGS["qwen2"]), make_requests()
    prompts: list[torch.Tensor] = []
    forward: Callable[..., object] = policy.model.model.forward

    def spy(**arguments: torch.Tensor) -> object:
        prompts.append(arguments["input_ids"])
        return forward(**arguments)

    monkeypatch.setattr(policy.model.model, "forward", spy)
    TorchEngine(policy, rows=13).sample(requests, SAMPLED)
    assert len(prompts) > 1, "nothing waited: the test would prove nothing"
    assert sum(len(batch) for batch in prompts) == len(requests)


def test_draws_follow_the_distribution_and_never_take_the_impossible() -> None:
    logits = torch.tensor([0.0, -float("inf"), 1.0, 2.0, -float("inf")]).expand(20_000, -1)
    uniforms = torch.arange(20_000, dtype=torch.float64) / 20_000
    tokens, logps, entropies = draw(logits.nan_to_num(neginf=-1e4), 2.0, uniforms)
    expected = (logits[0] / 2).softmax(-1)
    torch.testing.assert_close(tokens.bincount(minlength=5) / 20_000, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(logps, expected.log()[tokens])
    torch.testing.assert_close(entropies, torch.distributions.Categorical(expected).entropy().expand(20_000))
    last, _, _ = draw(logits[:1].nan_to_num(neginf=-1e4), 2.0, torch.tensor([1 - 2.0**-53], dtype=torch.float64))
    assert last.tolist() == [3]


def test_gaps_are_closed_from_the_end() -> None:
    done = np.array([True, False, False, True, False, True, False])
    assert torch_engine._closed_up(done).tolist() == [4, 1, 2, 6]
    assert torch_engine._closed_up(np.ones(3, dtype=bool)).tolist() == []


def test_a_prompt_beyond_the_models_window_is_named() -> None:
    policy = make_policy(CONFIGS["qwen2"])
    policy.model.config.max_position_embeddings = 5 + BUDGET
    engine = TorchEngine(policy, rows=2)
    assert engine.sample([Request("fits", (3,) * 5, 1)], SAMPLED)
    with pytest.raises(
        UserError, match=f"'long': a prompt of 6 tokens and a response of {BUDGET} exceed the 29 tokens"
    ):
        engine.sample([Request("fits", (3,) * 5, 1), Request("long", (3,) * 6, 1)], SAMPLED)
