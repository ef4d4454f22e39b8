"""From graded groups to the fine-grained scores of their rows."""

from collections.abc import Sequence

import torch
from torch import Tensor

from dagrpo.records import Group, Verdict
from dagrpo.scorers import ConfiguredScorer, ScoreRequest, to_ten


def score_rows(scorer: ConfiguredScorer, groups: Sequence[Group], verdicts: Sequence[Verdict], asked: Tensor) -> Tensor:
    """The scores of the rows of groups, on the scale 1 to 10, NaN for rows that are not asked for. Shape (N,).

    Args:
        verdicts: one a row, in the order of the groups.
        asked: which rows to score; shape (N,), bool.
    """
    pairs = [(group, rollout) for group in groups for rollout in group.rollouts]
    chosen = asked.nonzero().flatten().tolist()
    requests = [
        ScoreRequest(
            group.problem, rollout.text, verdicts[i], rollout.finish == "stop", group.prompt_tokens, rollout.tokens
        )
        for i in chosen
        for group, rollout in [pairs[i]]
    ]
    scores = torch.full((len(pairs),), float("nan"))
    scores[chosen] = torch.tensor([to_ten(score) for score in scorer.score(requests)])
    return scores
