"""The embedded engine: plain torch, on CPU or one GPU, with the very weights that are being trained."""

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from dagrpo import seeds
from dagrpo.policy.checkpoint import Policy, window_of
from dagrpo.processes.signals import ShouldStop, check, never
from dagrpo.records import Rollout
from dagrpo.rollout.cache import SlotCache
from dagrpo.rollout.decoder import make_decoder
from dagrpo.rollout.endings import StopTexts, TokenColumns, rollouts_of
from dagrpo.rollout.engine import Request, Sampling, budget, check_room, sample_key

REFILL = 0.25
"""Share of the slots that must be free before waiting prompts enter."""


class TorchEngine:
    """Decodes up to ``rows`` samples together.

    A prompt is computed once for all its samples. A finished row leaves at once, and waiting ones take its place, so
    that no step is spent on padding.
    """

    shared = False

    def __init__(self, policy: Policy, rows: int, should_stop: ShouldStop = never) -> None:
        self.policy, self.rows, self.should_stop = policy, rows, should_stop
        self._end = torch.tensor(sorted(policy.end_tokens), device=policy.device)

    @torch.inference_mode()
    def sample(self, requests: Sequence[Request], sampling: Sampling) -> list[list[Rollout]]:
        """Sample responses; see :class:`dagrpo.rollout.engine.Engine`."""
        samples = [(request, request.first + number) for request in requests for number in range(request.samples)]
        if not samples:
            return [[] for _ in requests]
        model, device = self.policy.model, self.policy.device
        keys = np.array([sample_key(sampling, request, index) for request, index in samples], dtype=np.uint64)
        prompt_lengths = np.array([len(request.prompt_tokens) for request, _ in samples])
        budgets = np.array([budget(sampling, request) for request, _ in samples])
        check_room(requests, sampling, window_of(model), "the model's window")
        slots = min(self.rows, len(samples))
        length = int((prompt_lengths + budgets).max())
        cache = SlotCache(model.config.get_text_config(), slots, length, model.get_input_embeddings().weight)
        decode = make_decoder(model, length)
        waiting = deque(_cut(requests, slots))
        entered = 0  # samples enter in order
        live = drawn = np.empty(0, dtype=np.int64)  # (n,): sample of each live row, and how many tokens it has
        tokens = torch.empty(0, dtype=torch.long, device=device)  # (n,): the last of these
        history: list[tuple[np.ndarray, Tensor, Tensor, Tensor]] = []
        stops = StopTexts(self.policy.tokenizer, sampling.stop) if sampling.stop else None
        while waiting or len(live):
            check(self.should_stop)
            logits = []
            if len(live):
                places = prompt_lengths[live] + drawn - 1
                positions = torch.from_numpy(places).to(device)
                mask = cache.start(positions, int(places.max()) + 1)
                logits.append(decode(tokens, positions, mask, cache))
            if entering := _next(waiting, slots - len(live), slots):
                logits.append(self._prefill(entering, cache, len(live)))
                new = np.arange(entered, entered + len(logits[-1]))
                live, drawn, entered = np.append(live, new), np.append(drawn, 0 * new), entered + len(new)
            uniforms = torch.from_numpy(seeds.uniforms(keys[live], drawn)).to(device)
            tokens, logps, entropies = draw(torch.cat(logits), sampling.temperature, uniforms)
            history.append((live, tokens, logps, entropies))
            drawn = drawn + 1
            done = torch.isin(tokens, self._end).cpu().numpy() | (drawn == budgets[live])
            if stops is not None:
                done |= stops.met(live, tokens.tolist())
            if done.any():
                order = _closed_up(done)
                moved = np.flatnonzero(order != np.arange(len(order)))
                if len(moved):
                    longest = int((prompt_lengths[live] + drawn).max())
                    cache.move(torch.from_numpy(order[moved]).to(device), torch.from_numpy(moved).to(device), longest)
                live, drawn, tokens = live[order], drawn[order], tokens[torch.from_numpy(order).to(device)]
        return rollouts_of(self.policy, sampling, requests, _by_sample(history))

    def update(self) -> None:
        """Do nothing: these are the policy's own weights."""

    def _prefill(self, entering: Sequence[Request], cache: SlotCache, first: int) -> Tensor:
        """Compute each prompt once and give its keys and values to its samples, from slot ``first`` on.

        Returns:
            logits of the samples' first tokens, (samples of all requests, vocabulary).
        """
        model, device = self.policy.model, self.policy.device
        prompts = [request.prompt_tokens for request in entering]
        longest = max(map(len, prompts))
        # Padding stands on the right, where causal attention keeps it out of sight.
        padded = torch.tensor([(*prompt, *prompt[-1:] * (longest - len(prompt))) for prompt in prompts], device=device)
        output = model.base_model(input_ids=padded, use_cache=True)
        store = torch.stack([torch.cat((layer.keys, layer.values), 1) for layer in output.past_key_values.layers])
        counts = torch.tensor([request.samples for request in entering], device=device)
        of = torch.arange(len(entering), device=device).repeat_interleave(counts)
        cache.fill(first, store, of)
        last = torch.tensor([len(prompt) - 1 for prompt in prompts], device=device)
        return model.get_output_embeddings()(
            output.last_hidden_state[torch.arange(len(entering), device=device), last]
        )[of]


def _by_sample(history: Sequence[tuple[np.ndarray, Tensor, Tensor, Tensor]]) -> list[TokenColumns]:
    """Sort what was drawn, step by step, by sample."""
    live, *drawn = zip(*history, strict=True)
    owner = np.concatenate(live)
    order = np.argsort(owner, kind="stable")
    ends = np.bincount(owner).cumsum()[:-1]
    columns = (torch.cat(column).cpu().numpy()[order] for column in drawn)
    return list(zip(*([part.tolist() for part in np.split(column, ends)] for column in columns), strict=True))


def draw(logits: Tensor, temperature: float, uniforms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Draw one token from each distribution by inverting its cumulative distribution function.

    Args:
        logits: (n, vocabulary).
        temperature: 0 takes the most likely token and ignores ``uniforms``.
        uniforms: in [0, 1), float64, (n,).

    Returns:
        tokens, their log-probabilities and the entropies of the distributions (nats), each (n,).
    """
    logps = F.log_softmax(logits.float() / (temperature or 1.0), -1)
    probabilities = logps.exp()
    if temperature == 0:
        tokens = logits.argmax(-1, keepdim=True)
    else:
        # In float64, for the rounding of a long fp32 sum would shift draws among rare tokens.
        mass = probabilities.cumsum(-1, dtype=torch.float64)
        tokens = torch.searchsorted(mass, uniforms[:, None] * mass[:, -1:], right=True).clamp_(max=logits.shape[-1] - 1)
    return tokens[:, 0], logps.gather(1, tokens)[:, 0], -(probabilities * logps).sum(-1)


def _cut(requests: Sequence[Request], slots: int) -> list[Request]:
    """Cut requests for more samples than there are slots; the parts repeat the prompt."""
    return [
        replace(request, samples=min(slots, request.samples - done), first=request.first + done)
        for request in requests
        for done in range(0, request.samples, slots)
    ]


def _next(waiting: deque[Request], free: int, slots: int) -> list[Request]:
    """Take the requests that enter now. A prefill costs about a decoding step, so a few free slots wait for more."""
    entering: list[Request] = []
    if free >= REFILL * slots:
        while waiting and waiting[0].samples <= free:
            entering.append(waiting.popleft())
            free -= entering[-1].samples
    return entering


def _closed_up(done: np.ndarray) -> np.ndarray:
    """Which row each of the remaining slots holds after rows from the end have moved into the gaps: (remaining,)."""
    remaining = int((~done).sum())
    order = np.arange(remaining)
    order[done[:remaining]] = remaining + np.flatnonzero(~done[remaining:])
    return order
