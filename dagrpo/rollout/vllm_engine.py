"""Sampling through vLLM: the same requests, seeds and rollouts as the embedded engine, with a copy of the weights.

The copy is renewed after each update and compared with the trainer's weights, value by value, before it samples. How
vLLM is reached, in this process or as a server, is the business of a :class:`Backend`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from transformers import PreTrainedModel

from dagrpo.errors import UserError
from dagrpo.policy.checkpoint import Policy
from dagrpo.records import Rollout
from dagrpo.rollout.endings import rollouts_of
from dagrpo.rollout.engine import Request, Sampling, budget, check_room, sample_key
from dagrpo.rollout.weights import digests, label, trained_weights


@dataclass(frozen=True, slots=True)
class Job:
    """One sample to draw: the rendered prompt, its longest response (tokens), and the seed of its generator (63 bits:
    the server takes signed numbers)."""

    prompt_tokens: tuple[int, ...]
    budget: int
    seed: int


@dataclass(frozen=True, slots=True)
class Completion:
    """One sample: its tokens, what ended it included, their log-probabilities (nats), and the label of the weights."""

    tokens: tuple[int, ...]
    logps: tuple[float, ...]
    weights: str


class Backend(Protocol):
    """A vLLM that holds a copy of the policy; ``shared`` where several processes reach the same one."""

    shared: bool
    dtype: torch.dtype
    context: int

    def load(self, model: PreTrainedModel) -> None:
        """Replace the copy by these weights, and forget every prompt computed with the old ones."""
        ...

    def digests(self) -> dict[str, str]:
        """Digest the weights that it computes with; see :func:`dagrpo.rollout.weights.digests`."""
        ...

    def label(self) -> str:
        """What its weights are called at present."""
        ...

    def set_label(self, label: str) -> None:
        """Call its weights by a name, which every sample then bears."""
        ...

    def generate(
        self, jobs: Sequence[Job], temperature: float, end: list[int], stop: Sequence[str]
    ) -> list[Completion]:
        """Draw the samples, in order, each until one of the tokens ``end`` or of the texts ``stop``. Raises
        :class:`dagrpo.errors.Interrupted` where a stop was asked for."""
        ...

    def rest(self) -> bool:
        """Give memory back until the next call, where that is possible; tell whether the weights went with it."""
        ...


class VllmEngine:
    """Samples from vLLM's copy of a policy, and refuses to where the copy is stale.

    Each sample has a generator of its own, keyed by what the sample is for. Unlike the embedded engine's, a sample may
    still depend on what else is asked for: by rounding, where that tips a draw. vLLM reports no entropies.
    """

    def __init__(self, policy: Policy, backend: Backend) -> None:
        self.policy, self.backend, self.shared = policy, backend, backend.shared
        self._pending = True
        self._verified: tuple[int, ...] | None = None
        self._label = ""

    def update(self) -> None:
        """Note that the policy has new weights; they are handed over before the next sample."""
        self._pending = True

    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Rollout]]:
        """Sample responses; see :class:`dagrpo.rollout.engine.Engine`.

        Raises:
            UserError: vLLM does not hold the policy's weights, or a prompt leaves no room for a response.
        """
        samples = [(request, request.first + number) for request in requests for number in range(request.samples)]
        if not samples:
            return [[] for _ in requests]
        jobs = [
            Job(request.prompt_tokens, budget(sampling, request), sample_key(sampling, request, index) >> 1)
            for request, index in samples
        ]
        check_room(requests, sampling, self.backend.context, "vLLM's context")
        self._synchronise()
        drawn = self.backend.generate(jobs, sampling.temperature, sorted(self.policy.end_tokens), sampling.stop)
        self._pending = self.backend.rest()
        if strange := {one.weights for one in drawn} - {self._label}:
            raise UserError(
                f"vLLM sampled from weights {strange.pop()!r} instead of {self._label!r}: something else changes them "
                "too; give this run a server of its own"
            )
        return rollouts_of(self.policy, sampling, requests, [(one.tokens, one.logps, ()) for one in drawn])

    def _synchronise(self) -> None:
        """Hand over new weights, and compare the two copies unless neither can have changed since that was done."""
        if self._pending:
            self.backend.load(self.policy.model)
            self._pending, self._verified = False, None
        versions = tuple(parameter._version for parameter in self.policy.model.parameters())  # counts writes in place
        if self._verified == versions and self.backend.label() == self._label:
            return
        ours, held = digests(trained_weights(self.policy.model), self.backend.dtype), self.backend.digests()
        different = sorted(name for name in ours.keys() | held.keys() if ours.get(name) != held.get(name))
        if different:
            raise UserError(
                f"vLLM does not hold the weights that it should sample from: {len(different)} of {len(ours)} differ, "
                f"{different[0]} first; start the run again, or set engine.kind: torch"
            )
        self._verified, self._label = versions, label(ours)
        self.backend.set_label(self._label)
