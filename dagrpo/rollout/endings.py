"""How samples end, and what becomes of their tokens then."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from dagrpo.policy.checkpoint import Policy
from dagrpo.records import Rollout
from dagrpo.rollout.engine import Request, Sampling

TokenColumns = tuple[Sequence[int], Sequence[float], Sequence[float]]
"""Of one sample, a number for each token: its id, its log-probability and the entropy of its distribution (nats); no
entropies where the engine tells none."""


def rollouts_of(
    policy: Policy, sampling: Sampling, requests: Sequence[Request], drawn: Sequence[TokenColumns]
) -> list[list[Rollout]]:
    """Make rollouts of what was drawn for each sample of each request, in order."""
    texts = policy.tokenizer.batch_decode(
        [tokens for tokens, _, _ in drawn], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    indices = (request.first + number for request in requests for number in range(request.samples))
    rollouts = (_rollout(policy, sampling, *one) for one in zip(indices, texts, drawn, strict=True))
    return [list(islice(rollouts, request.samples)) for request in requests]


def _rollout(policy: Policy, sampling: Sampling, index: int, text: str, drawn: TokenColumns) -> Rollout:
    tokens, logps, entropies = drawn
    places = [text.find(stop) for stop in sampling.stop if stop in text]
    return Rollout(
        index=index,
        tokens=tuple(tokens),
        text=text[: min(places)] if places else text,
        finish="stop" if places or tokens[-1] in policy.end_tokens else "length",
        logps=tuple(logps),
        entropies=tuple(entropies),
    )


class StopTexts:
    """Tells of growing samples which have come upon a text that ends them.

    Only the end of a sample is read after each token: as many tokens as the longest of these texts has bytes, and a few
    more, since a tokenizer may write the first token of what it is given differently.
    """

    def __init__(self, tokenizer: Any, stop: Iterable[str]) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(stop)
        self.window = max(len(text.encode()) for text in self.stop) + 4
        self._ends: dict[int, list[int]] = {}

    def met(self, samples: np.ndarray, tokens: Sequence[int]) -> np.ndarray:
        """Which of these samples, (n,), have met one with the token that each just got: bool, (n,)."""
        for sample, token in zip(samples.tolist(), tokens, strict=True):
            end = self._ends.setdefault(sample, [])
            end.append(token)
            del end[: -self.window]
        texts = self.tokenizer.batch_decode(
            [self._ends[sample] for sample in samples.tolist()],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        return np.array([any(stop in text for stop in self.stop) for text in texts])
