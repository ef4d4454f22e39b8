"""What an engine is asked for, and what it promises."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dagrpo import seeds
from dagrpo.errors import UserError
from dagrpo.records import Rollout


@dataclass(frozen=True, slots=True)
class Request:
    """Samples ``first`` to ``first + samples - 1`` of one problem; ``prompt_tokens`` is the rendered prompt.

    ``budget`` is how many tokens each may have, where that is fewer than the sampling allows.
    """

    problem_id: str
    prompt_tokens: tuple[int, ...]
    samples: int
    first: int = 0
    budget: int | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. ``seed``, ``purpose`` and ``step``, with a problem's id and a sample's index, decide each draw.

    ``temperature`` 0 is greedy; the log-probabilities and entropies reported are then those of temperature 1. A sample
    ends with the token that completes one of the texts ``stop``, and its own text in front of that.

    Raises:
        UserError: a text in ``stop`` is empty.
    """

    temperature: float
    max_new_tokens: int
    seed: int
    purpose: str
    step: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if "" in self.stop:
            raise UserError("a text that ends samples is empty; leave it out")


def budget(sampling: Sampling, request: Request) -> int:
    """How many tokens each sample of a request may have."""
    return sampling.max_new_tokens if request.budget is None else min(request.budget, sampling.max_new_tokens)


def check_room(requests: Sequence[Request], sampling: Sampling, window: int | None, what: str) -> None:
    """Raise :class:`UserError` where a prompt and its budget exceed ``window`` tokens, which are ``what``."""
    longest = max(requests, key=lambda request: len(request.prompt_tokens) + budget(sampling, request))
    prompt, room = len(longest.prompt_tokens), budget(sampling, longest)
    if window is not None and prompt + room > window:
        raise UserError(
            f"{longest.problem_id!r}: a prompt of {prompt} tokens and a response of {room} exceed the {window} tokens "
            f"of {what}; lower max_new_tokens, or leave out long prompts"
        )


def sample_key(sampling: Sampling, request: Request, index: int) -> int:
    """What the draws of one sample are keyed by: 64 bits that hang on what the sample is for alone."""
    return seeds.key(sampling.seed, sampling.purpose, sampling.step, request.problem_id, index)


class Engine(Protocol):
    """Samples responses from the current weights of one policy.

    Of several processes that train together each has an engine for its share of the samples; one that is ``shared`` is
    the same for all, and the leading process asks it for every sample.
    """

    shared: bool

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Rollout]]:
        """Return the rollouts of each request, in order. What else is asked for does not change a sample.

        Raises:
            Interrupted: a stop was asked for; checked between decoding steps.
        """
        ...

    def update(self) -> None:
        """Take note that the policy's weights have changed; an engine with a copy of them renews it."""
        ...
