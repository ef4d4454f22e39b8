"""The true vLLM in this process, against our own forward pass."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from benchmarks.engines import Endless
from dagrpo.config import VllmColocated
from dagrpo.errors import Interrupted, UserError
from dagrpo.policy.checkpoint import Policy
from dagrpo.rollout.engine import Engine, Request, Sampling
from dagrpo.rollout.make import make_engine
from tests.engine_checks import check_end_tokens, check_stop_texts
from tests.miniature import stop_after
from tests.vllm_policies import BUDGET, CONFIGS, largest_gap, make_policy, make_requests, needs_vllm

pytestmark = [pytest.mark.vllm, needs_vllm]
CPU = torch.device("cpu")
OPTIONS = VllmColocated(memory=0.01, eager=True)
SAMPLED = Sampling(1.0, BUDGET, 0, "test", 3)


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request: pytest.FixtureRequest) -> Iterator[tuple[Policy, Engine]]:
    policy = make_policy(request.param)
    with make_engine(OPTIONS, policy, 16, CPU) as engine:
        yield policy, engine


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_logps_equal_those_of_a_plain_forward(pair: tuple[Policy, Engine], temperature: float) -> None:
    policy, engine = pair
    requests = make_requests()
    sampled = engine.sample(requests, replace(SAMPLED, temperature=temperature))
    assert largest_gap(policy, requests, sampled, temperature or 1.0) < 1e-4
    rollouts = [rollout for row in sampled for rollout in row]
    assert temperature < 1 or {rollout.finish for rollout in rollouts} == {"stop", "length"}
    for rollout in rollouts:
        ends = [token in policy.end_tokens for token in rollout.tokens]
        assert not any(ends[:-1]) and ends[-1] == (rollout.finish == "stop")
        assert ends[-1] or len(rollout.tokens) == BUDGET
        assert rollout.text == policy.tokenizer.decode(rollout.tokens, skip_special_tokens=True)
    if temperature == 0:
        assert all(len({rollout.tokens for rollout in row}) == 1 for row in sampled)
    else:
        assert len({rollout.tokens for rollout in rollouts}) > len(requests)


def test_a_sample_is_decided_by_what_it_is(pair: tuple[Policy, Engine]) -> None:
    _, engine = pair
    requests = make_requests(6)
    both = engine.sample(requests, SAMPLED)
    again = engine.sample(requests[::-1], SAMPLED)[::-1]
    assert [[r.tokens for r in row] for row in again] == [[r.tokens for r in row] for row in both]
    last = requests[3]
    (later,) = engine.sample([Request(last.problem_id, last.prompt_tokens, 4, first=2)], SAMPLED)
    assert [(r.index, r.tokens) for r in later] == [(r.index, r.tokens) for r in both[3][2:]]
    (short,) = engine.sample([replace(last, budget=3)], SAMPLED)
    assert [r.tokens for r in short] == [r.tokens[:3] for r in both[3]]
    for other in (replace(SAMPLED, seed=1), replace(SAMPLED, purpose="tes"), replace(SAMPLED, step=4)):
        assert [r.tokens for r in engine.sample([last], other)[0]] != [r.tokens for r in both[3]]


def test_prompts_that_do_not_fit_into_one_batch_together_are_sampled(pair: tuple[Policy, Engine]) -> None:
    policy, engine = pair
    requests = [Request(f"p{i}", tuple(5 + (i + k) % 40 for k in range(220)), 1) for i in range(60)]
    sampled = engine.sample(requests, replace(SAMPLED, max_new_tokens=4))
    assert [len(row) for row in sampled] == [1] * len(requests)
    assert largest_gap(policy, requests[::10], sampled[::10], 1.0) < 1e-4


def test_new_weights_arrive_and_a_stale_copy_is_refused(pair: tuple[Policy, Engine]) -> None:
    policy, engine = pair
    requests = make_requests()
    before = engine.sample(requests, SAMPLED)
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-2)
    ids = torch.tensor([requests[-1].prompt_tokens])
    policy.model(ids, labels=ids).loss.backward()
    optimizer.step()
    with pytest.raises(UserError, match="does not hold the weights"):
        engine.sample(requests, SAMPLED)
    engine.update()
    after = engine.sample(requests, SAMPLED)
    assert largest_gap(policy, requests, after, 1.0) < 1e-4, "prompts or weights of before the update were used"
    assert largest_gap(policy, requests, before, 1.0) > 1e-2, "the update changed too little to prove anything"


@pytest.mark.parametrize("name", ["embed_tokens.weight", "k_proj.weight", "down_proj.weight", "norm.weight"])
def test_one_wrong_number_is_seen(pair: tuple[Policy, Engine], name: str) -> None:
    policy, engine = pair
    engine.update()
    engine.sample(make_requests(1, 1), SAMPLED)
    changed = [parameter for full, parameter in policy.model.named_parameters() if full.endswith(name)][-1]
    with torch.no_grad():
        changed.view(-1)[-1:] *= 1 + 1e-6
    with pytest.raises(UserError, match=rf"{name.split('.')[0]}|lm_head"):
        engine.sample(make_requests(1, 1), SAMPLED)
    engine.update()
    engine.sample(make_requests(1, 1), SAMPLED)


def test_a_text_ends_samples(pair: tuple[Policy, Engine]) -> None:
    policy, engine = pair
    engine.update()
    check_stop_texts(engine, policy, make_requests(), SAMPLED)


def test_a_prompt_without_room_is_refused(pair: tuple[Policy, Engine]) -> None:
    _, engine = pair
    with pytest.raises(UserError, match="250 tokens and a response of 24 exceed the 256 tokens"):
        engine.sample([Request("long", (5,) * 250, 1)], SAMPLED)
    assert engine.sample([], SAMPLED) == [] and engine.sample([Request("p", (5,), 0)], SAMPLED) == [[]]


def test_what_ends_a_response_is_the_policys_word() -> None:
    policy = make_policy()
    endless = Endless(policy.model, policy.tokenizer, policy.device)
    with make_engine(OPTIONS, endless, 8, CPU) as engine:
        check_end_tokens(engine, make_requests(), SAMPLED)


def test_a_stop_is_obeyed_and_leaves_nothing_behind() -> None:
    policy = make_policy()
    asked = stop_after(5)
    with make_engine(OPTIONS, policy, 8, CPU, asked) as engine:
        with pytest.raises(Interrupted):
            engine.sample(make_requests(), SAMPLED)
        engine.update()
        with pytest.raises(Interrupted):  # and not: a request is still running
            engine.sample(make_requests(), SAMPLED)


def test_bfloat16_is_compared_as_such() -> None:
    policy = make_policy()
    threads = torch.get_num_threads()
    with make_engine(OPTIONS.model_copy(update={"dtype": "bfloat16"}), policy, 8, CPU) as engine:
        gap = largest_gap(policy, make_requests(), engine.sample(make_requests(), SAMPLED), 1.0)
    assert 1e-4 < gap < 1.0
    torch.set_num_threads(threads + 1)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)


def test_what_vllm_cannot_start_with_is_said() -> None:
    little = OPTIONS.model_copy(update={"memory": 1e-7})
    with pytest.raises(UserError, match="vLLM cannot run this model here"), make_engine(little, make_policy(), 8, CPU):
        pass
