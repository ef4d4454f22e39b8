"""Sample a checkpoint on problems, grade every sample, and keep every sample."""

import json
import shutil
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar

import torch

from dagrpo import provenance
from dagrpo.config import EngineOptions, EvaluationSpec
from dagrpo.files.checkpoints import write_atomically
from dagrpo.files.partial import Partial
from dagrpo.files.text_files import read_json
from dagrpo.policy.checkpoint import Policy, fingerprint, load_policy
from dagrpo.policy.device import resolve_device
from dagrpo.problems.prompts import render
from dagrpo.problems.store import read_problems
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.progress import progress
from dagrpo.records import Problem, Response
from dagrpo.rollout.engine import Engine, Request, Sampling
from dagrpo.rollout.make import engine_essence, make_engine, versions
from dagrpo.verify import Verifier, make_verifier

ROUNDS = 4
"""Samples that a batch may hold, as a multiple of the rows that are decoded together.

Waiting samples take the place of finished ones, so a batch waits for its longest rows once and not once a round. More
rounds would lose more with a killed call, and slow the torch engine down where few samples are far longer than most: it
computes attention over the longest live row for all (measured: four rounds 0.93, eight 0.84 times as fast as one).
"""

Item = TypeVar("Item")


def evaluate(
    spec: EvaluationSpec,
    model: Path,
    problems: Path,
    seed: int,
    out: Path,
    state: Path,
    should_stop: ShouldStop = never,
) -> None:
    """Write one record for each sample of each problem to ``out``, and ``<out stem>.meta.json`` beside it.

    A stopped or killed call loses at most one batch, ``ROUNDS`` times ``rollout_rows`` samples: the next one continues
    after the last whole batch.

    Raises:
        UserError: the checkpoint or the problem file cannot be used.
        Interrupted: ``should_stop`` became true.
    """
    torch.set_num_threads(spec.threads)
    device = resolve_device(spec.device)
    policy = load_policy(model, policy_device(spec.engine, device))
    rows = read_problems(problems)
    meta = {
        "spec": spec.model_dump(mode="json"),
        "seed": seed,
        "model_fingerprint": fingerprint(policy.model),
        "problems_sha256": sha256(problems.read_bytes()).hexdigest(),
        "limited": _limited(problems),
        **provenance.card(device, versions(spec.engine)),
    }
    asked = spec.model_copy(update={"engine": engine_essence(spec.engine)}).model_dump(mode="json")
    identity = {**meta, "spec": asked, "rounds": ROUNDS}
    partial = Partial(state, sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest())
    todo = batches(rows, [_samples(problem, spec) for problem in rows], spec.rollout_rows)
    with (
        make_verifier(spec.verifier, should_stop) as verifier,
        make_engine(spec.engine, policy, spec.rollout_rows, device, should_stop) as engine,
        progress(f"evaluate {out.parent.name} {out.stem}", len(rows)) as report,
    ):
        done = sum(len(batch) for batch in todo[: partial.batches])
        report(done)
        for batch in todo[partial.batches :]:
            partial.append(sampled(batch, policy, engine, verifier, spec, seed))
            done += len(batch)
            report(done)
    write_atomically(out, partial.content())
    write_atomically(meta_path(out), json.dumps(meta, indent=1).encode())
    shutil.rmtree(state, ignore_errors=True)


def meta_path(samples: Path) -> Path:
    """Where the settings of a sample file stand."""
    return samples.with_suffix(".meta.json")


def batches(asked: Iterable[Item], samples: Iterable[int], rows: int) -> list[list[Item]]:
    """Cut what is asked for into batches, in order.

    Args:
        samples: of each thing that is asked for; its samples stay together.
        rows: samples decoded together; a batch holds at most ``ROUNDS`` times as many, or one thing alone.
    """
    found: list[list[Item]] = [[]]
    held = 0
    for one, count in zip(asked, samples, strict=True):
        if found[-1] and held + count > ROUNDS * rows:
            found.append([])
            held = 0
        found[-1].append(one)
        held += count
    return found


def policy_device(engine: EngineOptions, device: torch.device) -> torch.device:
    """Where to put a policy that is only sampled from, on ``device``: an engine with a copy of the weights needs them
    once, and all the memory that it can get."""
    return device if engine.kind == "torch" else torch.device("cpu")


def _samples(problem: Problem, spec: EvaluationSpec) -> int:
    return spec.samples_by_family.get(problem.family, spec.samples)


def sampled(
    batch: list[Problem], policy: Policy, engine: Engine, verifier: Verifier, spec: EvaluationSpec, seed: int
) -> list[dict[str, Any]]:
    """Sample each problem of a batch and grade it: one record for each sample, in order."""
    prompts = [render(problem, policy.tokenizer, spec.prompt) for problem in batch]
    requests = [
        Request(problem.id, prompt.tokens, _samples(problem, spec))
        for problem, prompt in zip(batch, prompts, strict=True)
    ]
    groups = engine.sample(requests, Sampling(spec.temperature, spec.max_new_tokens, seed, "evaluate", 0))
    rows = [
        (problem, prompt, rollout)
        for problem, prompt, rollouts in zip(batch, prompts, groups, strict=True)
        for rollout in rollouts
    ]
    responses = [Response(rollout.text, rollout.finish, prompt.opening) for _, prompt, rollout in rows]
    graded = verifier.grade([problem for problem, _, _ in rows], responses)
    return [
        {
            "problem_id": problem.id,
            "family": problem.family,
            "level": problem.level,
            "problem_hash": problem.digest(),
            "prompt_hash": sha256(json.dumps(prompt.tokens).encode()).hexdigest(),
            "sample": rollout.index,
            "seed": seed,
            "opening": prompt.opening,
            "text": rollout.text,
            "tokens": len(rollout.tokens),
            "finish": rollout.finish,
            "verdict": outcome.verdict.value,
            "extracted": outcome.extracted,
            "rule": outcome.rule,
            "judges": outcome.judges,
        }
        for (problem, prompt, rollout), outcome in zip(rows, graded, strict=True)
    ]


def _limited(problems: Path) -> dict[str, list[int]]:
    """Families of which only the first rows are evaluated: name -> [evaluated, of]."""
    about = problems.with_name("about.json")
    if not about.exists():
        return {}
    families = read_json(about, "make the problems again").get("families", {})
    return {name: rows for name, rows in families.items() if rows[0] < rows[1]}
