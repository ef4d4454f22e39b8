"""Weights of single tokens, from what the policy says of a group before the update."""

from collections.abc import Sequence
from itertools import accumulate

import torch

from dagrpo.algorithm import GroupPass, Rows, select
from dagrpo.algorithm.slots import TokenWeightFn
from dagrpo.config import Train
from dagrpo.errors import UserError
from dagrpo.policy.checkpoint import Policy
from dagrpo.policy.logprobs import token_states
from dagrpo.policy.packing import PackedGroup, pack
from dagrpo.policy.sharding import Weights
from dagrpo.records import Group


@torch.no_grad()
def token_weights(
    weights: Weights,
    functions: Sequence[TokenWeightFn],
    groups: Sequence[Group],
    rows: Rows,
    active: Sequence[bool],
    train: Train,
) -> list[list[float]]:
    """The product of the slot's functions for every token of every row; 1 in groups without an active row.

    ``weights`` are whole. One group at a time goes through the policy, with the log-probabilities of its whole
    vocabulary: a group of n tokens holds n times the vocabulary numbers (fp32) while it is looked at.

    Raises:
        UserError: a function gave something else than a finite number for each token.
    """
    ends = list(accumulate(len(group.rollouts) for group in groups))

    def of_group(group: Group, end: int) -> list[list[float]]:
        index = torch.arange(end - len(group.rollouts), end)
        lengths = [len(rollout.tokens) for rollout in group.rollouts]
        if not any(active[i] for i in index.tolist()) or not sum(lengths):
            return [[1.0] * length for length in lengths]
        seen = _group_pass(weights.policy, group, select(rows, index), train)
        product = torch.ones(len(seen.row))
        for number, function in enumerate(functions):
            value = function(seen)
            if value.shape != product.shape or not bool(value.isfinite().all()):
                raise UserError(
                    f"the slot `token_weight[{number}]` must give a finite number for each of the group's "
                    f"{len(product)} tokens, shape ({len(product)},); it gave shape {tuple(value.shape)}, or NaN"
                )
            product = product * value.float().cpu()
        return [part.tolist() for part in product.split(lengths)]

    found = weights.world.spread(lambda share: [of_group(*one) for one in share], list(zip(groups, ends, strict=True)))
    return [of_row for of_group in found for of_row in of_group]


def _group_pass(policy: Policy, group: Group, rows: Rows, train: Train) -> GroupPass:
    filled = [i for i, rollout in enumerate(group.rollouts) if rollout.tokens]
    packed = PackedGroup(group.prompt_tokens, [group.rollouts[i].tokens for i in filled], filled)
    parts = [token_states(policy.model, micro, train.temperature) for micro in pack([packed], train.micro_tokens)]
    row, token, hidden, logps = (torch.cat(column) for column in zip(*parts, strict=True))
    order = row.argsort(stable=True)
    row = row[order]
    position = torch.cat([torch.arange(int(count)) for count in row.bincount(minlength=len(group.rollouts))])
    return GroupPass(rows, row, position.to(row), token[order], logps[order], hidden[order])
