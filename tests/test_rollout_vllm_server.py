"""The true vLLM as a server of its own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import torch

from benchmarks.engines import Endless
from dagrpo.config import VllmServer
from dagrpo.errors import Interrupted, UserError
from dagrpo.policy.checkpoint import Policy, save_policy
from dagrpo.rollout.engine import Engine, Sampling
from dagrpo.rollout.make import make_engine
from tests.engine_checks import check_end_tokens, check_stop_texts
from tests.miniature import stop_after
from tests.vllm_policies import BUDGET, largest_gap, make_policy, make_requests, needs_vllm
from tests.vllm_process import TRAINED, serve

pytestmark = [pytest.mark.vllm, pytest.mark.slow, needs_vllm]
CPU = torch.device("cpu")
SAMPLED = Sampling(1.0, BUDGET, 0, "test", 3)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    save_policy(make_policy(), folder / "model")
    with serve(folder / "model", folder / "log", *TRAINED, VLLM_SERVER_DEV_MODE="1") as address:
        yield address


@pytest.fixture
def pair(url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Policy, Engine]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    policy = make_policy()
    with make_engine(VllmServer(url=url), policy, 16, CPU) as engine:
        yield policy, engine


@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_logps_equal_those_of_a_plain_forward(pair: tuple[Policy, Engine], temperature: float) -> None:
    policy, engine = pair
    sampled = engine.sample(make_requests(), replace(SAMPLED, temperature=temperature))
    assert largest_gap(policy, make_requests(), sampled, temperature or 1.0) < 1e-4
    for rollout in (rollout for row in sampled for rollout in row):
        assert (rollout.tokens[-1] in policy.end_tokens) == (rollout.finish == "stop")
        assert rollout.finish == "stop" or len(rollout.tokens) == BUDGET
    again = engine.sample(make_requests()[::-1], replace(SAMPLED, temperature=temperature))[::-1]
    assert [[r.tokens for r in row] for row in again] == [[r.tokens for r in row] for row in sampled]


def test_new_weights_arrive_and_a_stale_copy_is_refused(pair: tuple[Policy, Engine]) -> None:
    policy, engine = pair
    requests_ = make_requests()
    engine.sample(requests_, SAMPLED)
    with torch.no_grad():
        policy.model.get_input_embeddings().weight[7].add_(0.5)
        policy.model.base_model.layers[1].mlp.down_proj.weight.mul_(-1)
    with pytest.raises(UserError, match="3 of 27 differ"):  # the embedding is the head, too
        engine.sample(requests_, SAMPLED)
    engine.update()
    assert largest_gap(policy, requests_, engine.sample(requests_, SAMPLED), 1.0) < 1e-4


def test_a_server_that_another_run_uses_is_refused(url: str, pair: tuple[Policy, Engine]) -> None:
    _, engine = pair
    engine.sample(make_requests(), SAMPLED)
    other = make_policy()
    with torch.no_grad():
        other.model.get_input_embeddings().weight.mul_(1.1)
    with make_engine(VllmServer(url=url), other, 16, CPU) as second:
        second.sample(make_requests(), SAMPLED)
    with pytest.raises(UserError, match="does not hold the weights"):
        engine.sample(make_requests(), SAMPLED)


def test_a_text_ends_samples(pair: tuple[Policy, Engine]) -> None:
    policy, engine = pair
    check_stop_texts(engine, policy, make_requests(), SAMPLED)


def test_what_ends_a_response_is_the_policys_word(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    policy = make_policy()
    endless = Endless(policy.model, policy.tokenizer, policy.device)
    with make_engine(VllmServer(url=url), endless, 8, CPU) as engine:
        check_end_tokens(engine, make_requests(), SAMPLED)


def test_a_stop_is_obeyed_and_leaves_the_server_free(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    policy = make_policy()
    with (
        make_engine(VllmServer(url=url), policy, 16, CPU, stop_after(0)) as stopped,
        pytest.raises(Interrupted),
    ):
        stopped.sample(make_requests(40), SAMPLED)
    with make_engine(VllmServer(url=url), policy, 16, CPU) as engine:
        assert largest_gap(policy, make_requests(), engine.sample(make_requests(), SAMPLED), 1.0) < 1e-4


def test_a_server_that_does_not_answer_is_named() -> None:
    options = VllmServer(url="http://127.0.0.1:9")
    with (
        pytest.raises(UserError, match=r"no reply from http://127.0.0.1:9 .*VLLM_SERVER_DEV_MODE=1 python -m vllm"),
        make_engine(options, make_policy(), 16, CPU),
    ):
        pass


def test_the_weights_do_not_stay_on_disk(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with make_engine(VllmServer(url=url, exchange=tmp_path), make_policy(), 16, CPU) as engine:
        engine.sample(make_requests(1, 1), SAMPLED)
    assert not list(tmp_path.iterdir())
    assert requests.get(f"{url}/weight_info", timeout=5).json()["weight_version"] != "default"
