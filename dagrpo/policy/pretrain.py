"""Train the base model of the miniature from scratch, to a model that knows facts, can reason, and mostly guesses."""

import math
import shutil
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from dagrpo import seeds
from dagrpo.config import MiniBase, MiniProblems, PromptSpec
from dagrpo.errors import Interrupted
from dagrpo.files import checkpoints
from dagrpo.policy.checkpoint import Policy, save_policy
from dagrpo.policy.logprobs import token_logps
from dagrpo.policy.packing import PackedGroup, pack
from dagrpo.problems import mini
from dagrpo.problems.mini.corpus import cell_shares, corpus_problems, facts, respond
from dagrpo.problems.mini.expressions import canonical, parse
from dagrpo.problems.mini.tokenizer import build_tokenizer
from dagrpo.problems.prompts import render
from dagrpo.processes.signals import ShouldStop, check, never
from dagrpo.progress import progress

WARMUP_STEPS = 40
DECAY_SHARE = 0.4  # the rate falls linearly to zero over this last share of the steps
CLIP = 1.0
SEAL_EVERY = 200


def pretrain(
    spec: MiniBase, seed: int, problems: MiniProblems, out: Path, state: Path, should_stop: ShouldStop = never
) -> None:
    """Train a base and write it to ``out`` as an ordinary checkpoint, continuing from ``state`` where that fits.

    Matrices are updated by Muon (Jordan et al., 2024), embeddings and norms by AdamW. The result depends on the specs
    and the seed alone (and on the machine's arithmetic). No problem of the experiment is among what the base reads.

    Raises:
        Interrupted: ``should_stop`` became true; the state is sealed and a later call continues to the same bits.
    """
    torch.set_num_threads(spec.threads)
    tokenizer = build_tokenizer()
    model = build_model(spec, seed, tokenizer)
    optimizers = build_optimizers(model, spec)
    identity = sha256(f"{spec.model_dump_json()}{seed}{problems.model_dump_json()}".encode()).hexdigest()
    done = _resume(model, optimizers, state, identity)
    reading = Reading(spec, seed, problems, tokenizer)
    with progress("base", spec.steps) as report:
        report(done)
        try:
            while done < spec.steps:
                check(should_stop)
                loss = train_step(model, optimizers, reading.batch(done), learning_rate(done, spec.steps))
                done += 1
                report(done, loss=loss)
                if done % SEAL_EVERY == 0:
                    _seal(model, optimizers, state, done, identity)
        except Interrupted:
            _seal(model, optimizers, state, done, identity)
            raise
    save_policy(Policy(model.eval(), tokenizer, torch.device("cpu")), out)
    shutil.rmtree(state, ignore_errors=True)


def build_model(spec: MiniBase, seed: int, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    """A randomly initialised Llama with tied embeddings and seeded weights.

    Not Qwen2: for that model type AutoTokenizer insists on its own class, and would cut our numbers into digits.
    """
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=spec.width,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.heads,
        intermediate_size=spec.feedforward,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds.key(seed, "weights") % 2**63)
        return LlamaForCausalLM(config)


def build_optimizers(model: nn.Module, spec: MiniBase) -> dict[str, Optimizer]:
    """Muon (Jordan et al., 2024) for the matrices inside, AdamW for embeddings and norms."""
    inner = [parameter for name, parameter in model.named_parameters() if parameter.ndim == 2 and "embed" not in name]
    outer = [parameter for name, parameter in model.named_parameters() if parameter.ndim != 2 or "embed" in name]
    return {
        "muon": Muon([{"params": inner, "full_lr": spec.muon_lr}], weight_decay=0.0),
        "adamw": AdamW([{"params": outer, "full_lr": spec.lr}], weight_decay=0.0, betas=(0.9, 0.95)),
    }


class Reading:
    """The corpus as batches, each decided by its step."""

    def __init__(self, spec: MiniBase, seed: int, problems: MiniProblems, tokenizer: PreTrainedTokenizerBase) -> None:
        self.spec, self.seed, self.tokenizer = spec, seed, tokenizer
        experiment = {
            canonical(parse(problem.prompt)) for split in mini.generate(problems).values() for problem in split
        }
        self.cells = corpus_problems(spec.corpus, seed, experiment)
        problems_read = [problem for cell in self.cells.values() for problem in cell]
        self.prompts = {problem.id: render(problem, tokenizer, PromptSpec()).tokens for problem in problems_read}
        self.facts = [(self._ids(f"<|assistant|>{left}"), self._ids(result)) for left, result in facts()]

    def batch(self, step: int) -> list[PackedGroup]:
        """Questions with responses, and facts, of about ``spec.step_tokens`` tokens together."""
        corpus, rng = self.spec.corpus, seeds.generator(self.seed, "batch", step)
        school = step < corpus.school * self.spec.steps
        facts_room = self.spec.step_tokens * corpus.facts[0 if school else 1]
        groups: list[PackedGroup] = []
        room = facts_room
        while room > 0:
            left, result = self.facts[rng.integers(len(self.facts))]
            groups.append(PackedGroup(left, [result], [len(groups)]))
            room -= len(left)
        room += self.spec.step_tokens - facts_room
        shares = {cell: share for cell, share in cell_shares(corpus, school).items() if self.cells[cell]}
        cells, cumulated = list(shares), np.cumsum(list(shares.values()))
        while room > 0:
            cell = self.cells[cells[np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right")]]
            problem = cell[rng.integers(len(cell))]
            response = [*self._ids(respond(problem, corpus, school, rng)), self.tokenizer.eos_token_id]
            groups.append(PackedGroup(self.prompts[problem.id], [response], [len(groups)]))
            room -= len(groups[-1].prompt_tokens) + len(response) - 1
        return groups

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids


def train_step(
    model: LlamaForCausalLM, optimizers: Mapping[str, Optimizer], batch: list[PackedGroup], rate: float
) -> float:
    """One step on the mean negative log-likelihood of the response tokens, at ``rate`` times the full learning rate.

    Returns:
        the loss before the step (nats a token).
    """
    micros = pack(batch, micro_tokens=4096)
    count = sum(len(micro.target) for micro in micros)
    total = 0.0
    for micro in micros:
        loss = -token_logps(model, micro, 1.0).logp.sum() / count
        torch.autograd.backward(loss)
        total += loss.item()
    nn.utils.clip_grad_norm_(model.parameters(), CLIP)
    for optimizer in optimizers.values():
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * rate
        optimizer.step()
        optimizer.zero_grad()
    return total


def learning_rate(step: int, steps: int) -> float:
    """Share of the full rate at a step (from 0): linear warm-up, constant, linear decay towards zero."""
    return min(1.0, (step + 1) / min(WARMUP_STEPS, math.ceil(steps / 4)), (steps - step) / (DECAY_SHARE * steps))


def _seal(model: nn.Module, optimizers: Mapping[str, Optimizer], root: Path, step: int, identity: str) -> None:
    names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
    tensors = {f"model/{name}": parameter.data for parameter, name in names.items()}
    for optimizer in optimizers.values():
        for parameter, parts in optimizer.state.items():
            tensors |= {f"state/{part}/{names[parameter]}": value for part, value in parts.items()}
    checkpoints.save(checkpoints.step_folder(root, step), tensors, {"step": step, "identity": identity})
    checkpoints.prune(root)


def _resume(model: nn.Module, optimizers: Mapping[str, Optimizer], root: Path, identity: str) -> int:
    """Take up the newest sealed state of this very base; returns the steps that are done."""
    folder = checkpoints.latest(root)
    if folder is None:
        return 0
    tensors, data = checkpoints.load(folder)
    if data["identity"] != identity:
        print(f"{root}: state of another base; starting afresh", file=sys.stderr)
        shutil.rmtree(root)
        return 0
    names = dict(model.named_parameters())
    owner = {
        parameter: optimizer
        for optimizer in optimizers.values()
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    for key, value in tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "model":
            names[rest].data.copy_(value)
        else:
            part, _, name = rest.partition("/")
            _state(owner, names[name])[part] = value
    step: int = data["step"]
    print(f"continuing after step {step}", file=sys.stderr, flush=True)
    return step


def _state(owner: Mapping[Tensor, Optimizer], parameter: Tensor) -> dict[str, Any]:
    state: dict[str, Any] = owner[parameter].state[parameter]
    return state
