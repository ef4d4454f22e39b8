"""Scorers that run the policy: against a plain forward pass, and independent of what else is scored."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cosine_similarity, log_softmax

from dagrpo.config import PromptSpec
from dagrpo.config import Scorer as ScorerSpec
from dagrpo.errors import Interrupted
from dagrpo.policy.checkpoint import Policy, load_policy
from dagrpo.problems.prompts import render
from dagrpo.problems.store import read_problems
from dagrpo.records import Verdict
from dagrpo.scorers import ScoreRequest, Tools, embed_sim, make_scorer

KINDS: list[tuple[str, dict[str, Any]]] = [("answer_likelihood", {"cue": "A"}), ("embed_sim", {})]


@pytest.fixture(scope="module")
def policy(base: Path) -> Policy:
    return load_policy(base, torch.device("cpu"))


@pytest.fixture(scope="module")
def requests(policy: Policy, problems: Path) -> list[ScoreRequest]:
    texts = ("3*4=12;A17", "A1", "1+1=2;1+2=3;A3", "5=5;")
    return [
        ScoreRequest(
            problem,
            text,
            Verdict.WRONG,
            True,
            render(problem, policy.tokenizer, PromptSpec()).tokens,
            (*policy.tokenizer.encode(text, add_special_tokens=False), policy.tokenizer.eos_token_id),
        )
        for problem in read_problems(problems)[:3]
        for text in (*texts, problem.solution or "")
    ]


def scores(policy: Policy, kind: str, options: dict[str, Any], requests: list[ScoreRequest]) -> list[float]:
    return make_scorer(ScorerSpec(kind=kind, options=options), Tools(policy)).score(requests)


@torch.no_grad()
def test_answer_likelihood_is_that_of_a_forward_pass(policy: Policy, requests: list[ScoreRequest]) -> None:
    found = scores(policy, "answer_likelihood", {"cue": "A"}, requests)
    encode = policy.tokenizer.encode
    for request, score in zip(requests, found, strict=True):
        working = request.response.rpartition("A")[0] if "A" in request.response else request.response
        context = [*request.prompt_tokens, *encode(working + "A", add_special_tokens=False)]
        answer = encode(request.problem.answer, add_special_tokens=False)
        logits = policy.model(torch.tensor([context + answer])).logits[0].double()
        logps = log_softmax(logits, -1)[range(len(context) - 1, len(context) + len(answer) - 1), answer]
        assert score == pytest.approx(float(logps.mean().exp()), rel=1e-4)


@torch.no_grad()
def test_embed_sim_is_that_of_a_forward_pass(policy: Policy, requests: list[ScoreRequest]) -> None:
    found = scores(policy, "embed_sim", {}, requests)

    def pooled(prompt: tuple[int, ...], text: tuple[int, ...]) -> torch.Tensor:
        hidden = policy.model.base_model(torch.tensor([[*prompt, *text]])).last_hidden_state[0]
        return hidden[len(prompt) :].mean(0)

    for request, score in zip(requests, found, strict=True):
        reference = (*policy.tokenizer.encode(request.problem.solution), policy.tokenizer.eos_token_id)
        own, other = (pooled(request.prompt_tokens, text) for text in (request.response_tokens, reference))
        assert score == pytest.approx((1 + float(cosine_similarity(own, other, dim=0))) / 2, abs=1e-5)
    assert found[4::5] == pytest.approx([1.0] * 3, abs=1e-6)  # the reference itself


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_scores_are_shares_repeatable_and_do_not_depend_on_company(
    policy: Policy, requests: list[ScoreRequest], monkeypatch: pytest.MonkeyPatch, kind: str, options: dict[str, Any]
) -> None:
    together = scores(policy, kind, options, requests)
    assert all(0 <= score <= 1 for score in together) and len(set(together)) > 3
    assert scores(policy, kind, options, requests) == together
    monkeypatch.setattr(embed_sim, "MICRO_TOKENS", 60)
    alone = [scores(policy, kind, options, [request])[0] for request in requests]
    assert alone == pytest.approx(together, abs=1e-5)
    assert not any(parameter.grad is not None for parameter in policy.model.parameters())
    assert scores(policy, kind, options, []) == []


def test_embed_sim_without_a_reference_is_missing(policy: Policy, requests: list[ScoreRequest]) -> None:
    bare = [replace(request, problem=replace(request.problem, solution=None)) for request in requests[:2]]
    spec = ScorerSpec(kind="embed_sim", max_missing=1.0)
    scored = make_scorer(spec, Tools(policy)).score([*bare, requests[0]])
    assert [score == score for score in scored] == [False, False, True]
    assert [score == score for score in make_scorer(spec, Tools(policy)).score(bare)] == [False, False]


@pytest.mark.parametrize(("kind", "options"), KINDS)
def test_a_stop_is_honoured(policy: Policy, requests: list[ScoreRequest], kind: str, options: dict[str, Any]) -> None:
    with pytest.raises(Interrupted):
        make_scorer(ScorerSpec(kind=kind, options=options), Tools(policy, lambda: True)).score(requests)
