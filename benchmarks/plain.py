"""The other sides: the same rollouts through `generate`, the same gradient through padded batches."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList

from dagrpo.policy.checkpoint import Policy
from dagrpo.policy.packing import PackedGroup
from dagrpo.records import Rollout
from dagrpo.rollout.engine import Request


class Replay(LogitsProcessor):
    """Makes `generate` draw given tokens, so that both sides decode the very same responses."""

    def __init__(self, tokens: Tensor, start: int) -> None:
        self.tokens, self.start, self.rows = tokens, start, torch.arange(len(tokens))

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forced = torch.full_like(scores, -torch.inf)
        forced[self.rows, self.tokens[:, input_ids.shape[1] - self.start]] = 0.0
        return forced


def replayed(
    policy: Policy, requests: Sequence[Request], sampled: Sequence[Sequence[Rollout]], budget: int
) -> Callable[[], object]:
    """`generate` on one left-padded batch of all rows, sampling the tokens that are given."""
    prompts = [list(request.prompt_tokens) for request in requests for _ in range(request.samples)]
    ids, seen = pad(prompts, left=True)
    tokens, _ = pad([list(rollout.tokens) for rollouts in sampled for rollout in rollouts], left=False, length=budget)

    def run() -> None:
        output = policy.model.generate(
            ids,
            attention_mask=seen,
            max_new_tokens=budget,
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            pad_token_id=0,
            logits_processor=LogitsProcessorList([Replay(tokens, ids.shape[1])]),
        )
        assert torch.equal(output[:, ids.shape[1] :], tokens[:, : output.shape[1] - ids.shape[1]])

    return run


def padded_update(
    policy: Policy, groups: Sequence[PackedGroup], coefficients: Tensor, budget: int, micro_tokens: int
) -> None:
    """Accumulate the gradient of -sum(coefficient * ratio) / (rows * budget) over padded batches of rows.

    Prompts are padded on the left, responses on the right, and logits are computed for the response's columns only.

    Args:
        micro_tokens: bound on the tokens of a batch, padding included.
    """
    rows = [(list(group.prompt_tokens), list(response)) for group in groups for response in group.responses]
    prompts, prompts_seen = pad([prompt for prompt, _ in rows], left=True)
    responses, responses_seen = pad([response for _, response in rows], left=False)
    ids, seen = torch.cat([prompts, responses], 1), torch.cat([prompts_seen, responses_seen], 1)
    for part in torch.arange(len(rows)).split(rows_at_once(len(ids), ids.shape[1], micro_tokens)):
        output = policy.model(
            input_ids=ids[part], attention_mask=seen[part], logits_to_keep=responses.shape[1] + 1, use_cache=False
        )
        logps = output.logits[:, :-1].log_softmax(-1).gather(-1, responses[part][..., None])[..., 0]
        ratio = (logps - logps.detach()).exp() * responses_seen[part]
        loss = -(coefficients[part][:, None] * ratio).sum() / (len(rows) * budget)
        loss.backward()


def rows_at_once(rows: int, width: int, micro_tokens: int) -> int:
    """Into batches of how many rows, all alike, to cut ``rows`` padded ones of ``width`` tokens: a divisor of ``rows``,
    the largest within ``micro_tokens``, or 1."""
    return max(
        count for count in range(1, rows + 1) if rows % count == 0 and (count * width <= micro_tokens or count == 1)
    )


def pad(rows: Sequence[list[int]], left: bool, length: int = 0) -> tuple[Tensor, Tensor]:
    """Token ids with zeros as padding, and a mask of the same shape that is 1 on tokens."""
    width = max(length, *map(len, rows))
    gaps = [[0] * (width - len(row)) for row in rows]
    ids = torch.tensor([gap + row if left else row + gap for row, gap in zip(rows, gaps, strict=True)])
    ones = [[1] * len(row) for row in rows]
    return ids, torch.tensor([gap + one if left else one + gap for one, gap in zip(ones, gaps, strict=True)])
