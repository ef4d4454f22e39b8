"""What holds for any vLLM, however it is reached: seeds, hand-over of weights, refusals. vLLM itself is not needed."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from transformers import PreTrainedModel

from dagrpo.config import VllmColocated, VllmServer
from dagrpo.errors import UserError
from dagrpo.rollout.engine import Request, Sampling
from dagrpo.rollout.make import engine_essence, make_engine
from dagrpo.rollout.vllm_engine import Completion, Job, VllmEngine
from dagrpo.rollout.weights import digests, trained_weights
from tests.vllm_policies import make_policy, make_requests

SAMPLED = Sampling(1.0, 8, 0, "test", 3)


class Copy:
    """A backend that holds a copy of the weights and answers each job by the last digits of its seed."""

    dtype, context, shared = torch.float32, 64, False

    def __init__(self, forgets: bool = False) -> None:
        self.forgets = forgets
        self.held: dict[str, str] = {}
        self.name = "default"
        self.loads = self.compared = 0
        self.jobs: list[Job] = []
        self.end: list[int] = []

    def load(self, model: PreTrainedModel) -> None:
        self.loads += 1
        self.held = digests(trained_weights(model), self.dtype)

    def digests(self) -> dict[str, str]:
        self.compared += 1
        return self.held

    def label(self) -> str:
        return self.name

    def set_label(self, label: str) -> None:
        self.name = label

    def generate(
        self, jobs: Sequence[Job], temperature: float, end: list[int], stop: Sequence[str]
    ) -> list[Completion]:
        self.jobs, self.end = list(jobs), end
        return [
            Completion((5 + job.seed % 30, *([end[0]] if job.seed % 2 else [])), (-1.0, -2.0), self.name)
            for job in jobs
        ]

    def rest(self) -> bool:
        if self.forgets:
            self.held = {}
        return self.forgets


def test_rollouts_are_those_of_the_jobs() -> None:
    policy, backend = make_policy(), Copy()
    sampled = VllmEngine(policy, backend).sample(make_requests(3, 2), SAMPLED)
    assert [[rollout.index for rollout in row] for row in sampled] == [[0, 1, 2], [0, 1, 2]]
    assert backend.end == sorted(policy.end_tokens)
    assert {job.budget for job in backend.jobs} == {8}
    assert [job.prompt_tokens for job in backend.jobs] == [
        r.prompt_tokens for r in make_requests(3, 2) for _ in range(3)
    ]
    rollouts = [rollout for row in sampled for rollout in row]
    for job, rollout in zip(backend.jobs, rollouts, strict=True):
        assert rollout.tokens[0] == 5 + job.seed % 30 and rollout.logps == (-1.0, -2.0) and rollout.entropies == ()
        assert rollout.finish == ("stop" if job.seed % 2 else "length")
        assert rollout.text == policy.tokenizer.decode(rollout.tokens[:1])
    assert {rollout.finish for rollout in rollouts} == {"stop", "length"}


def test_a_seed_is_that_of_the_sample_alone() -> None:
    backend = Copy()
    engine = VllmEngine(make_policy(), backend)

    def seeds_of(requests: Sequence[Request], sampling: Sampling = SAMPLED) -> list[int]:
        engine.sample(requests, sampling)
        return [job.seed for job in backend.jobs]

    all_seeds = seeds_of(make_requests(4, 3))
    assert len(set(all_seeds)) == 12 and all(0 <= seed < 2**63 for seed in all_seeds)
    assert seeds_of(make_requests(4, 3)[1:2]) == all_seeds[4:8]
    assert seeds_of([replace(make_requests(2, 3)[1], first=2)]) == all_seeds[6:8]
    assert seeds_of([replace(make_requests(4, 3)[1], prompt_tokens=(9,))]) == all_seeds[4:8]
    for other in (replace(SAMPLED, seed=1), replace(SAMPLED, purpose="x"), replace(SAMPLED, step=4)):
        assert not set(seeds_of(make_requests(4, 3), other)) & set(all_seeds)


def test_weights_are_handed_over_once_an_update_and_compared_once() -> None:
    policy, backend = make_policy(), Copy()
    engine = VllmEngine(policy, backend)
    for _ in range(3):
        engine.sample(make_requests(), SAMPLED)
    assert (backend.loads, backend.compared) == (1, 1)
    first = backend.name
    with torch.no_grad():
        policy.model.get_input_embeddings().weight[0, 0] += 1
    engine.update()
    engine.sample(make_requests(), SAMPLED)
    assert (backend.loads, backend.compared) == (2, 2) and backend.name != first


def test_a_backend_that_forgets_its_weights_gets_them_each_time() -> None:
    backend = Copy(forgets=True)
    engine = VllmEngine(make_policy(), backend)
    for _ in range(3):
        engine.sample(make_requests(), SAMPLED)
    assert backend.loads == 3


def test_a_stale_copy_is_refused() -> None:
    policy, backend = make_policy(), Copy()
    engine = VllmEngine(policy, backend)
    engine.sample(make_requests(), SAMPLED)
    with torch.no_grad():
        policy.model.base_model.norm.weight[0] += 1e-6
    with pytest.raises(UserError, match=r"1 of 27 differ, model.norm.weight first; start the run again"):
        engine.sample(make_requests(), SAMPLED)


def test_a_backend_that_was_started_anew_is_compared_anew() -> None:
    backend = Copy()
    engine = VllmEngine(make_policy(), backend)
    engine.sample(make_requests(), SAMPLED)
    backend.name, backend.held = "default", {}
    with pytest.raises(UserError, match="27 of 27 differ"):
        engine.sample(make_requests(), SAMPLED)


def test_weights_that_change_while_it_samples_are_refused() -> None:
    class Shared(Copy):
        def generate(
            self, jobs: Sequence[Job], temperature: float, end: list[int], stop: Sequence[str]
        ) -> list[Completion]:
            self.name = "another run's"
            return super().generate(jobs, temperature, end, stop)

    with pytest.raises(UserError, match='sampled from weights "another run\'s"'):
        VllmEngine(make_policy(), Shared()).sample(make_requests(), SAMPLED)


def test_a_response_must_fit_into_the_context() -> None:
    engine = VllmEngine(make_policy(), Copy())
    engine.sample([Request("p", (5,) * 56, 1), Request("q", (5,) * 60, 1, budget=4)], SAMPLED)
    with pytest.raises(UserError, match="a prompt of 57 tokens and a response of 8 exceed the 64 tokens"):
        engine.sample([Request("p", (5,) * 57, 1)], SAMPLED)


def test_digests_see_every_name_and_the_numbers_after_the_cast() -> None:
    policy = make_policy()
    full = digests(trained_weights(policy.model), torch.float32)
    assert full["lm_head.weight"] == full["model.embed_tokens.weight"] and len(full) == 27
    rounded = digests(trained_weights(policy.model), torch.bfloat16)
    with torch.no_grad():
        policy.model.base_model.norm.weight[0] *= 1 + 1e-6
    assert digests(trained_weights(policy.model), torch.bfloat16) == rounded
    assert digests(trained_weights(policy.model), torch.float32) != full


def test_where_a_server_is_changes_nothing_that_is_sampled() -> None:
    here, there = VllmServer(url="http://a:1"), VllmServer(url="http://b:2")
    assert engine_essence(here) == engine_essence(there)
    assert engine_essence(VllmColocated(eager=True)) != engine_essence(VllmColocated())


def test_without_vllm_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dagrpo.rollout.vllm_colocated.find_spec", lambda name: None)
    with (
        pytest.raises(UserError, match="make setup-vllm"),
        make_engine(VllmColocated(), make_policy(), 8, torch.device("cpu")),
    ):
        pass
