"""One training job: put the tools together, let the loop run, write what it made."""

import json
import shutil
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import torch

from dagrpo import provenance
from dagrpo.algorithm import find_method
from dagrpo.config import TrainSpec
from dagrpo.errors import UserError
from dagrpo.files import checkpoints
from dagrpo.loggers import tracked
from dagrpo.policy.adapters import add_adapters
from dagrpo.policy.checkpoint import (
    Policy,
    fingerprint,
    load_outline,
    load_policy,
    save_policy,
    stored_fingerprint,
    stored_weights,
)
from dagrpo.policy.device import resolve_device
from dagrpo.policy.logprobs import check_supported
from dagrpo.policy.sharding import shard
from dagrpo.problems.store import read_problems
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.processes.world import ALONE, World
from dagrpo.records import Tracker
from dagrpo.rollout.make import engine_essence, make_engine, versions
from dagrpo.scorers import Tally, Tools, essence, make_scorer
from dagrpo.trainer.collect import Collector
from dagrpo.trainer.loop import FAULTS, Run
from dagrpo.trainer.snapshots import copy_snapshots
from dagrpo.trainer.watchdog import watch
from dagrpo.verify import make_verifier

CONSUMED = (
    "samples",
    "prompt_tokens",
    "response_tokens_total",
    "anchors",
    "demonstrations",
    "optimiser_steps",
    "trained_tokens",
)


def train(
    spec: TrainSpec,
    seed: int,
    base: Path,
    problems: Path,
    out: Path,
    state_root: Path,
    should_stop: ShouldStop = never,
    world: World = ALONE,
    logger: Tracker | None = None,
) -> None:
    """Train one arm with one seed from a base checkpoint, continuing from ``state_root`` where that holds a part of
    the same run, and write ``model/``, ``snapshots/``, ``metrics.jsonl``, ``timings.jsonl`` and ``run.json`` to
    ``out``.

    Args:
        world: the processes that train together, all of which call this. Their number is no part of the run's
            identity: any number may continue it.
        logger: where to tell the metrics of each step, too.

    Raises:
        UserError: the spec, the problems or a demonstration cannot be used as they are.
        Interrupted: ``should_stop`` became true; the state is sealed and a later call continues to the same bits.
    """
    torch.set_num_threads(spec.train.threads)
    method = find_method(spec.method)
    algorithm = method.algorithm(spec.options, f"arms.{spec.arm}.options")
    lora = spec.train.lora
    if lora is not None and spec.engine.kind != "torch":
        raise UserError("train.lora: vLLM is not given adapters; set engine.kind: torch, or leave train.lora out")
    device = resolve_device(spec.device)
    stored = stored_weights(base) if world.shards else None
    loaded = load_outline(base) if stored else load_policy(base, device)
    base_fingerprint = (
        world.once(lambda: stored_fingerprint(loaded.model, stored)) if stored else fingerprint(loaded.model)
    )
    identity = _identity(spec, seed, base_fingerprint, problems)
    if lora is not None:
        add_adapters(loaded.model, lora, seed)
    weights = shard(loaded, spec.train, world, device, stored)
    policy = weights.policy
    if stored:
        with weights.whole():
            check_supported(policy.model)
    reference = None
    if algorithm.needs_reference:
        frozen = load_outline(base) if stored else load_policy(base, device)
        reference = shard(frozen, spec.train, world, device, stored)
    training_problems = read_problems(problems)
    tools = Tools(policy, should_stop, world, Tally(state_root / "scorer", world.rank))
    with (
        make_verifier(spec.verifier, should_stop) as verifier,
        make_scorer(spec.scorer, tools) as scorer,
        make_engine(spec.engine, policy, spec.train.rollout_rows, policy.device, should_stop) as engine,
    ):
        collector = Collector(
            training_problems,
            policy,
            engine,
            verifier,
            scorer,
            spec.train,
            spec.prompt,
            seed,
            world,
            spec.long_demonstrations,
        )
        if algorithm.samples:
            collector.check_prompts()
        if algorithm.needs_demonstrations:
            collector.prepare_demonstrations()
        run = Run(spec.train, algorithm, weights, reference, collector, state_root, identity, should_stop)
        run.resume()
        with (
            watch(world, spec.train.stall, run.sealed) as step_done,
            tracked(logger if world.leads else None, out, run.state.step) as log,
        ):

            def done() -> None:
                step_done()
                log(run.state.metrics[-1])

            run.continue_to_end(f"{spec.arm} seed {seed}", done)

    def write(exported: Policy) -> None:
        out.mkdir(parents=True, exist_ok=True)
        save_policy(exported, out / "model")
        copy_snapshots(run.snapshots, out / "snapshots")
        if (state_root / FAULTS).exists():
            shutil.copytree(state_root / FAULTS, out / FAULTS, dirs_exist_ok=True)
        for name, lines in (("metrics.jsonl", run.state.metrics), ("timings.jsonl", run.state.timings)):
            checkpoints.write_atomically(out / name, "".join(lines).encode())
        card = {
            "arm": spec.arm,
            "method": spec.method,
            "label": algorithm.label,
            "seed": seed,
            "options": json.loads(method.resolved(spec.options).model_dump_json()),
            "spec": json.loads(spec.model_dump_json()),
            "scorer": scorer.card(),
            "base_fingerprint": base_fingerprint,
            "model_fingerprint": fingerprint(exported.model),
            "consumed": consumed(run.state.metrics),
            **({"demonstrations_left_out": collector.left_out} if collector.left_out else {}),
            "processes": world.size,
            "hashes": {
                "code": provenance.training_hash(),
                "method": provenance.source_hash(method.module),
                "problems": sha256(problems.read_bytes()).hexdigest(),
            },
            **provenance.card(device, versions(spec.engine) | ({"peft": version("peft")} if lora else {})),
        }
        checkpoints.write_atomically(out / "run.json", json.dumps(card, indent=1).encode())
        shutil.rmtree(state_root, ignore_errors=True)

    with weights.exported() as exported:
        world.once(lambda: write(exported))


def consumed(metrics: list[str]) -> dict[str, int]:
    """What the lines of a run add up to: samples, tokens, anchors, demonstrations, optimiser steps."""
    rows = [json.loads(line) for line in metrics]
    return {name: int(sum(row.get(name, 0) for row in rows)) for name in CONSUMED}


def _identity(spec: TrainSpec, seed: int, base_fingerprint: str, problems: Path) -> str:
    spec = spec.model_copy(update={"scorer": essence(spec.scorer), "engine": engine_essence(spec.engine)})
    parts = (spec.model_dump_json(), str(seed), base_fingerprint, sha256(problems.read_bytes()).hexdigest())
    return sha256("\x1f".join(parts).encode()).hexdigest()
