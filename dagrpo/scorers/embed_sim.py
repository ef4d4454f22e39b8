"""Score a response by how near its hidden states lie to those of the reference: an ablation of the judge."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dagrpo.errors import UserError
from dagrpo.processes.signals import check
from dagrpo.scorers.registry import NoOptions, Tools, scorer
from dagrpo.scorers.request import Missing, Scorer, ScoreRequest

if TYPE_CHECKING:
    from torch import Tensor

MICRO_TOKENS = 4096
"""Tokens in a forward pass, padding included."""


@scorer("embed_sim")
class EmbedSim(Scorer):
    """(1 + cosine) / 2 of the policy's last hidden states, averaged over the tokens of response and of reference."""

    def __init__(self, options: NoOptions, tools: Tools) -> None:
        if tools.policy is None:
            raise UserError("scorer embed_sim runs a policy; give a checkpoint (--policy)")
        self.policy, self.should_stop = tools.policy, tools.should_stop

    def score(self, requests: Sequence[ScoreRequest]) -> list[float | Missing]:
        """Score each request in [0, 1] with the policy as it is now; missing where there is no reference."""
        from torch.nn.functional import cosine_similarity

        texts: dict[tuple[tuple[int, ...], tuple[int, ...]], int] = {}  # (prompt, text) -> its place, each run once
        places: list[tuple[int, int] | None] = []
        for request in requests:
            if request.problem.solution:
                own = (request.prompt_tokens, request.response_tokens)
                reference = (request.prompt_tokens, self._encode(request.problem.solution))
                places.append((texts.setdefault(own, len(texts)), texts.setdefault(reference, len(texts))))
            else:
                places.append(None)
        if not texts:
            return [_NO_REFERENCE for _ in requests]
        pooled = self._pooled(list(texts))
        return [
            _NO_REFERENCE
            if place is None
            else similarity(float(cosine_similarity(pooled[place[0]], pooled[place[1]], dim=0)))
            for place in places
        ]

    def _encode(self, solution: str) -> tuple[int, ...]:
        tokenizer = self.policy.tokenizer
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        return (*tokenizer.encode(solution, add_special_tokens=False), *end)

    def _pooled(self, texts: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> "Tensor":
        """Average the last hidden states over the tokens of each text, after its prompt: (texts, width), fp32."""
        import torch

        model, device = self.policy.model, self.policy.device
        order = sorted(range(len(texts)), key=lambda i: sum(map(len, texts[i])))
        pooled: dict[int, Tensor] = {}
        with torch.no_grad():
            while order:
                longest = sum(map(len, texts[order[-1]]))
                batch = [order.pop() for _ in range(min(len(order), max(1, MICRO_TOKENS // longest)))]
                tokens, seen, mine = (torch.zeros(len(batch), longest, dtype=torch.long) for _ in range(3))
                for line, index in enumerate(batch):
                    prompt, text = texts[index]
                    end = len(prompt) + len(text)
                    # Padding repeats a token of the line, for a padding token's own embedding may hold anything.
                    tokens[line] = torch.tensor([*prompt, *text, *[text[-1]] * (longest - end)])
                    seen[line, :end] = 1
                    mine[line, len(prompt) : end] = 1
                check(self.should_stop)
                hidden = model.base_model(
                    input_ids=tokens.to(device), attention_mask=seen.to(device), use_cache=False
                ).last_hidden_state.float()  # (lines, longest, width)
                weight = (mine / mine.sum(1, keepdim=True)).to(device)
                means = torch.einsum("blw,bl->bw", hidden, weight).cpu()
                pooled.update(zip(batch, means, strict=True))
        return torch.stack([pooled[index] for index in range(len(texts))])


_NO_REFERENCE = Missing("no reference solution", "Choose problems with worked solutions, or a scorer that needs none")


def similarity(cosine: float) -> float:
    """Map a cosine to [0, 1]; rounding may leave it just outside [-1, 1]."""
    return min(1.0, max(0.0, (1 + cosine) / 2))
