"""Score a response by how likely the policy finds the right answer after it: needs no reference solution."""

import math
from collections.abc import Sequence

from pydantic import Field

from dagrpo.config import Strict
from dagrpo.errors import UserError
from dagrpo.processes.signals import check
from dagrpo.scorers.registry import Tools, scorer
from dagrpo.scorers.request import Missing, Scorer, ScoreRequest

MICRO_TOKENS = 4096
"""Tokens in a forward pass."""


class Options(Strict):
    cue: str = Field("\\boxed{", min_length=1, description="What an answer begins with; the last one ends the working.")


@scorer("answer_likelihood", Options)
class AnswerLikelihood(Scorer):
    """Geometric mean of the probabilities of the reference answer's tokens, given the prompt, the working and a cue."""

    def __init__(self, options: Options, tools: Tools) -> None:
        if tools.policy is None:
            raise UserError("scorer answer_likelihood runs a policy; give a checkpoint (--policy)")
        self.policy, self.cue, self.should_stop = tools.policy, options.cue, tools.should_stop

    def score(self, requests: Sequence[ScoreRequest]) -> list[float | Missing]:
        """Score each request in [0, 1] with the policy as it is now."""
        import torch

        from dagrpo.policy.logprobs import token_logps
        from dagrpo.policy.packing import PackedGroup, pack

        encode = self.policy.tokenizer.encode
        groups = []
        for row, request in enumerate(requests):
            working = encode(working_before(request.response, self.cue) + self.cue, add_special_tokens=False)
            answer = encode(request.problem.answer, add_special_tokens=False)
            groups.append(PackedGroup([*request.prompt_tokens, *working], [answer], [row]))
        logps: list[list[float]] = [[] for _ in requests]
        with torch.no_grad():
            for micro in pack(groups, MICRO_TOKENS):
                check(self.should_stop)
                out = token_logps(self.policy.model, micro, temperature=1.0)
                for row, logp in zip(out.row.tolist(), out.logp.tolist(), strict=True):
                    logps[row].append(logp)
        return [mean_probability(own) for own in logps]


def working_before(response: str, cue: str) -> str:
    """Cut a response where its last answer begins; one without an answer is working as a whole."""
    working, found, _ = response.rpartition(cue)
    return working if found else response


def mean_probability(logps: Sequence[float]) -> float:
    """The geometric mean of probabilities: exp of the mean of ``logps`` (nats, not empty)."""
    return math.exp(math.fsum(logps) / len(logps))
