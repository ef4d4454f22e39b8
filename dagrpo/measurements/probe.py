"""The paper's own picture, as numbers: gradients of the groups that a base samples, before any training.

A problem's rollouts are sampled and graded. Where a group holds right and wrong rows, each row is differentiated by
itself, and what is kept are the inner products of all pairs: cosines, conflict and the picture of a prompt follow from
them. Scores and the mask come after, so that several scorers read the same gradients.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dagrpo import provenance, seeds
from dagrpo.algorithm import find_method
from dagrpo.config import ProbeSpec, Probing, RatingSpec
from dagrpo.diagnostics.gradients import Part, Read, Sketch, flat, gram, rollout_gradients
from dagrpo.errors import UserError
from dagrpo.files.checkpoints import write_atomically
from dagrpo.files.partial import Partial
from dagrpo.files.text_files import read_rows
from dagrpo.measurements.conflict import credit_of, describe, scores_of
from dagrpo.objectives.similarity import jaccard, ngrams
from dagrpo.policy.checkpoint import Policy, fingerprint, load_policy
from dagrpo.policy.device import resolve_device
from dagrpo.problems.prompts import render
from dagrpo.problems.store import read_problems
from dagrpo.processes.signals import ShouldStop, check, never
from dagrpo.progress import progress
from dagrpo.records import Problem, Response, Rollout, Verdict
from dagrpo.rollout.engine import Engine, Request, Sampling
from dagrpo.rollout.make import make_engine
from dagrpo.scorers import Tools, make_scorer
from dagrpo.trainer.snapshots import StoredGroup, StoredRow, read_groups, stored_group
from dagrpo.verify import Verifier, make_verifier

NGRAM = 2


def probe(
    spec: ProbeSpec, model: Path, problems: Path, out: Path, state: Path, should_stop: ShouldStop = never
) -> None:
    """Write ``groups.jsonl``, ``products.jsonl`` (a line for each mixed group) and ``meta.json`` to a folder.

    A stopped or killed call loses at most one batch of rollouts or one group's gradients.

    Raises:
        UserError: the checkpoint or the problems cannot be used.
        Interrupted: ``should_stop`` became true.
    """
    asked = spec.probe
    torch.set_num_threads(asked.threads)
    device = resolve_device(spec.device)
    policy = load_policy(model, device, torch.bfloat16 if asked.precision == "bf16" else torch.float32)
    chosen = drawn(read_problems(problems), asked.problems)
    meta = {
        "spec": spec.model_dump(mode="json"),
        "model_fingerprint": fingerprint(policy.model),
        "problems": [problem.digest() for problem in chosen],
        **provenance.card(device),
    }
    identity = sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
    sampled = Partial(state / "groups", identity)
    with (
        make_verifier(spec.verifier, should_stop) as verifier,
        make_engine(spec.engine, policy, asked.rollout_rows, device, should_stop) as engine,
        progress(f"rollouts of {out.name}", len(chosen)) as report,
    ):
        together = max(1, asked.rollout_rows // asked.group_size)
        batches = [chosen[first : first + together] for first in range(0, len(chosen), together)]
        report(min(len(chosen), sampled.batches * together))
        for batch in batches[sampled.batches :]:
            groups = sample_groups(batch, policy, engine, verifier, spec)
            sampled.append([asdict(group) for group in groups])
            report(min(len(chosen), sampled.batches * together))
    mixed = mixed_groups([stored_group(plain, str(out)) for plain in sampled.read()])
    differentiated = Partial(state / "products", identity)
    _differentiate(asked, policy, mixed, differentiated, out.name, should_stop)
    write_atomically(out / "groups.jsonl", sampled.content())
    write_atomically(out / "products.jsonl", differentiated.content())
    write_atomically(out / "meta.json", json.dumps(meta, indent=1).encode())
    shutil.rmtree(state, ignore_errors=True)


def rate(spec: RatingSpec, probed: Path, model: Path, out: Path, should_stop: ShouldStop = never) -> None:
    """Write a line for each mixed group of a probe: what its scores, gradients and masks are. Lines hold no text.

    Raises:
        UserError: the probe, the checkpoint or a scorer cannot be used.
        Interrupted: ``should_stop`` became true.
    """
    torch.set_num_threads(spec.threads)
    groups = read_groups(probed / "groups.jsonl")
    mixed = mixed_groups(groups)
    products = [line for _, line in read_rows(probed / "products.jsonl", "probe the base again")]
    tools = Tools(load_policy(model, resolve_device(spec.device)), should_stop)
    scored = {}
    for name, asked in spec.rating.scorers.items():
        with make_scorer(asked, tools) as scorer:
            scored[name] = scores_of(mixed, scorer)
    lines = [
        described(group, products[number], {name: scores[number] for name, scores in scored.items()}, spec.rating.delta)
        for number, group in enumerate(mixed)
    ]
    for line, whole in zip(lines, products[len(mixed) :], strict=False):
        line["whole_gram"] = whole["gram"]
    about = {"groups": len(groups), "rows": _tally(groups)}
    write_atomically(out, "".join(json.dumps(line) + "\n" for line in [about, *lines]).encode())


def mixed_groups(groups: Sequence[StoredGroup]) -> list[StoredGroup]:
    """The groups that hold right and wrong rows."""
    return [group for group in groups if len({row.reward for row in group.rows}) > 1]


def drawn(problems: Sequence[Problem], count: int) -> list[Problem]:
    """Problems by a keyed draw, in the order of the draw.

    Raises:
        UserError: there are fewer.
    """
    if count > len(problems):
        raise UserError(f"probe.problems: {count} are asked for and {len(problems)} are there; ask for fewer")
    return [problems[place] for place in seeds.permutation(len(problems), "probe")[:count]]


def sample_groups(
    batch: Sequence[Problem], policy: Policy, engine: Engine, verifier: Verifier, spec: ProbeSpec
) -> list[StoredGroup]:
    """Sample and grade the groups of some problems; advantages are rewards less their mean."""
    asked = spec.probe
    prompts = [render(problem, policy.tokenizer, spec.prompt) for problem in batch]
    requests = [
        Request(problem.id, prompt.tokens, asked.group_size) for problem, prompt in zip(batch, prompts, strict=True)
    ]
    rollouts = engine.sample(requests, Sampling(asked.temperature, asked.max_new_tokens, 0, "probe"))
    rows = [
        (problem, Response(rollout.text, rollout.finish, prompt.opening))
        for problem, prompt, group in zip(batch, prompts, rollouts, strict=True)
        for rollout in group
    ]
    graded = verifier.grade([problem for problem, _ in rows], [response for _, response in rows])
    verdicts = iter(outcome.verdict for outcome in graded)
    return [
        _group(problem, request.prompt_tokens, group, [next(verdicts) for _ in group])
        for problem, request, group in zip(batch, requests, rollouts, strict=True)
    ]


def _group(
    problem: Problem, prompt_tokens: tuple[int, ...], rollouts: Sequence[Rollout], verdicts: Sequence[Verdict]
) -> StoredGroup:
    rewards = [float(verdict is Verdict.CORRECT) for verdict in verdicts]
    mean = sum(rewards) / len(rewards)
    rows = tuple(
        StoredRow(
            rollout.index,
            rollout.tokens,
            rollout.text,
            rollout.finish,
            "policy",
            verdict,
            reward,
            None,
            reward - mean,
            1.0,
        )
        for rollout, verdict, reward in zip(rollouts, verdicts, rewards, strict=True)
    )
    return StoredGroup(problem, prompt_tokens, rows)


def _differentiate(
    asked: Probing, policy: Policy, mixed: Sequence[StoredGroup], done: Partial, name: str, should_stop: ShouldStop
) -> None:
    """Append the inner products of each mixed group's gradients, (N, N), then those of some groups' whole gradients.

    These come last and in fp32, for which the policy's weights are changed.
    """

    def append(group: StoredGroup, part: Part, read: Read) -> None:
        check(should_stop)
        rows = [row.tokens for row in group.rows]
        found = gram(
            rollout_gradients(policy.model, group.prompt_tokens, rows, asked.temperature, read, part, should_stop)
        )
        done.append([{"gram": found.tolist()}])

    with progress(f"gradients of {name}", len(mixed) + asked.whole) as report:
        report(done.batches)
        for group in mixed[done.batches :]:
            append(group, asked.part, flat)
            report(done.batches)
        policy.model.float()
        for group in mixed[done.batches - len(mixed) : asked.whole]:
            append(group, "all", Sketch(asked.projection))
            report(done.batches)


def described(
    group: StoredGroup, products: Mapping[str, Any], scores: Mapping[str, Tensor], delta: float
) -> dict[str, Any]:
    """One group as a line: verdicts, lengths, scores, overlaps and inner products of its rows, and what each scorer's
    mask would do (:func:`dagrpo.measurements.conflict.describe`)."""
    recipe = find_method("dr_grpo").algorithm({}, "probe").phases[0].recipe
    grams = [ngrams(row.tokens, NGRAM) for row in group.rows]
    found = torch.tensor(products["gram"], dtype=torch.float64)
    return {
        "problem": group.problem.id,
        "family": group.problem.family,
        "level": group.problem.level,
        "verdicts": [row.verdict.value for row in group.rows],
        "lengths": [len(row.tokens) for row in group.rows],
        "scores": {name: [round(float(score), 6) for score in column] for name, column in scores.items()},
        "overlaps": [[round(jaccard(one, other), 6) for other in grams] for one in grams],
        **products,
        "masks": {
            name: describe(group, credit_of(recipe, group, column, delta), found, seeds.key("probe", name))
            for name, column in scores.items()
        },
    }


def _tally(groups: Sequence[StoredGroup]) -> dict[str, int]:
    """How many rows have which verdict."""
    return dict(Counter(row.verdict.value for group in groups for row in group.rows))
