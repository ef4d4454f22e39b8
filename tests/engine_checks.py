"""What every engine must do, checked alike."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from dagrpo.policy.checkpoint import Policy
from dagrpo.rollout.engine import Engine, Request, Sampling


def check_stop_texts(engine: Engine, policy: Policy, requests: Sequence[Request], sampling: Sampling) -> None:
    """A sample ends with the token that completes one of the texts, and reads as far as that text; nothing else of it
    changes."""
    whole = [rollout for row in engine.sample(requests, sampling) for rollout in row]
    longest = sorted({rollout.text for rollout in whole}, key=len)[-2:]
    stop = tuple(text[len(text) // 2 :][:3] for text in longest)
    found = [rollout for row in engine.sample(requests, replace(sampling, stop=stop)) for rollout in row]
    ended = 0
    for before, after in zip(whole, found, strict=True):
        lengths = range(1, len(before.tokens) + 1)
        texts = [policy.tokenizer.decode(before.tokens[:length], skip_special_tokens=True) for length in lengths]
        met = [length for length, text in zip(lengths, texts, strict=True) if any(one in text for one in stop)]
        kept = met[0] if met else len(before.tokens)
        assert after.tokens == before.tokens[:kept]
        assert after.logps == pytest.approx(before.logps[:kept], abs=1e-4)
        assert after.text == min((texts[kept - 1].split(one)[0] for one in stop), key=len)
        assert after.finish == ("stop" if met else before.finish)
        ended += kept < len(before.tokens)
    assert 0 < ended < len(whole), "all or none: this proves little"


def check_end_tokens(engine: Engine, requests: Sequence[Request], sampling: Sampling) -> None:
    """An engine of a policy without end tokens lets no token end a response, whatever the tokenizer says of it."""
    rollouts = [rollout for row in engine.sample(requests, sampling) for rollout in row]
    assert {(len(rollout.tokens), rollout.finish) for rollout in rollouts} == {(sampling.max_new_tokens, "length")}
