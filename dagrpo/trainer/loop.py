"""The training loop: collect, learn, record, seal; it runs a record of slots and knows no method's name."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dagrpo.algorithm import Algorithm, Interleave, Memory, Recipe
from dagrpo.config import Train
from dagrpo.errors import Interrupted, Unsound, UserError
from dagrpo.files import checkpoints
from dagrpo.policy.sharding import Weights
from dagrpo.processes.signals import ShouldStop, check, never
from dagrpo.progress import progress
from dagrpo.trainer import optimizer as optim
from dagrpo.trainer.collect import Collector, Step
from dagrpo.trainer.conflict_probe import conflict_probe
from dagrpo.trainer.credit import checked, group_any
from dagrpo.trainer.learn import learn
from dagrpo.trainer.metrics import demonstration_metrics, rollout_metrics
from dagrpo.trainer.schedule import KINDS, Kind, Place, optimizer_settings, schedule
from dagrpo.trainer.snapshots import write_groups, write_snapshot

FAULTS = "not_finite"
"""Folder of the rows of steps with a loss or gradient that is not finite, in a run's state and then in its results."""

TOLD = ("accuracy", "response_tokens", "loss", "grad_norm")
"""Figures of a step that the progress tells."""
PATIENCE = 3
"""Steps that may have tokens to learn from and no gradient."""


@dataclass(slots=True)
class State:
    """What a resumed run must have: how many steps are done, what the method remembers, and the line of metrics of each
    step. Weights and optimisers are held by the run. Samples need no state, since a draw is keyed by what it is for."""

    step: int = 0
    memory: Memory = field(default_factory=dict)
    metrics: list[str] = field(default_factory=list)
    timings: list[str] = field(default_factory=list)


class Run:
    """One training run in progress."""

    def __init__(
        self,
        settings: Train,
        algorithm: Algorithm,
        weights: Weights,
        reference: Weights | None,
        collector: Collector,
        root: Path,
        identity: str,
        should_stop: ShouldStop,
    ) -> None:
        self.settings, self.algorithm, self.weights, self.reference = settings, algorithm, weights, reference
        self.collector, self.root, self.identity, self.world = collector, root, identity, weights.world
        self.stops_here, self.should_stop = should_stop, self.world.agreed(should_stop)
        self.snapshots = root / "snapshots"
        self.state = State()
        self.schedule = list(schedule(algorithm, settings))
        self.optimizers: dict[str, torch.optim.AdamW] = {}
        self._sealed: int | None = None
        self._pushless = self._faulty = 0

    def sealed(self) -> int:
        """How many steps the newest sealed state holds."""
        return self._sealed or 0

    def continue_to_end(self, title: str, step_done: Callable[[], None] = lambda: None) -> None:
        """Run the steps that are left, sealing the state every ``checkpoint_every`` steps and when asked to stop.

        Args:
            step_done: called after each step, sealing included.
        """
        with progress(title, len(self.schedule)) if self.world.leads else nullcontext(_unseen) as report:
            report(self.state.step)
            try:
                while self.state.step < len(self.schedule):
                    figures = self._step(self.schedule[self.state.step])
                    report(self.state.step, **{name: figures[name] for name in TOLD if name in figures})
                    if self.state.step % self.settings.checkpoint_every == 0:
                        self.seal()
                    step_done()
                    check(self.should_stop)
            except Unsound:
                raise
            except (Interrupted, UserError):  # the judge of a long run may fail at any step
                if self.world.meets():
                    self.seal()
                raise

    def _step(self, place: Place) -> dict[str, Any]:
        recipe, kind = place.phase.recipe, place.phase.kind
        # A copy, committed with the step, so that a broken step leaves no trace; by way of JSON, so that a resumed run
        # remembers nothing else than one that went through.
        memory: Memory = json.loads(json.dumps(self.state.memory, sort_keys=True))
        if place.step == 0:
            self.optimizers = {}
            memory.pop("epoch", None)
        number = place.number
        data, probed = self._collect(recipe, number, memory)
        started = time.monotonic()
        learned = self._learn(recipe, kind, data, memory, place.step, place.steps)
        added = self._interleave(recipe.interleave, data, memory, number) if recipe.interleave is not None else {}
        seconds = {"rollout": data.rollout_seconds, "score": data.score_seconds, "update": time.monotonic() - started}
        described = rollout_metrics(data, recipe) if recipe.samples else demonstration_metrics(data)
        figures = {"step": self.state.step, "phase": kind, **described, **probed, **learned, **added}
        for name in learned.keys() & added.keys():
            figures[name] = learned[name] + added[name]
        self.state.metrics.append(json.dumps(figures) + "\n")
        self.state.timings.append(json.dumps({"step": self.state.step, "phase": kind, **seconds}) + "\n")
        self.state.memory = memory
        self.state.step += 1
        self._look_for_a_push(kind, learned)
        self._look_for_a_fault(number, data, figures)
        return figures

    def _collect(self, recipe: Recipe, number: int, memory: Memory) -> tuple[Step, dict[str, float]]:
        """The rows of a step, and the figures of the conflict probe where one is due."""
        if not recipe.samples:
            return self.collector.demonstrations(number), {}
        every = self.settings.conflict_every
        with self.weights.whole():
            data = self.collector.rollouts(recipe, number, memory)
            probed = self._conflict_probe(data, recipe, number) if every and number % every == 0 else {}
        if number in self.settings.snapshots:
            with self.weights.exported() as exported:
                folder = self.snapshots / f"step{number}"
                self.world.once(lambda: write_snapshot(folder, exported, data))
        return data, probed

    def _look_for_a_push(self, kind: Kind, learned: Mapping[str, float]) -> None:
        """Refuse an objective whose gradient is exactly zero time and again: it ignores what it is given."""
        pushless = kind == "rl" and learned["trained_tokens"] > 0 and learned.get("grad_norm") == 0
        self._pushless = self._pushless + 1 if pushless else 0
        if self._pushless == PATIENCE:
            raise UserError(
                f"the slot `objective`: {PATIENCE} steps in a row had tokens to learn from and a gradient of exactly "
                "zero; a term cancels itself, or does not read `logp`"
            )

    def _look_for_a_fault(self, number: int, data: Step, figures: Mapping[str, Any]) -> None:
        """Keep the rows of a step with a loss or gradient that is not finite; end the run, without sealing its state,
        where such steps follow each other, or where what samples is not the policy that learns."""
        skipped = figures.get("skipped_updates", 0)
        self._faulty = self._faulty + 1 if skipped else 0
        if skipped:
            file = self.root / FAULTS / f"step{number}.jsonl"
            self.world.once(lambda: write_groups(file, data))
            said = (
                f"step {number}: a loss or gradient is not finite; {skipped} updates are skipped, their rows in {file}"
            )
            if self.world.leads:
                print(said, file=sys.stderr, flush=True)
            if self._faulty >= self.settings.max_skipped:
                raise Unsound(
                    f"{said}. It was so in {self._faulty} steps in a row (train.max_skipped), so the run ends; the "
                    "newest sealed state is from before. Look at these rows, lower the rate, or compute in fp32"
                )
        gap = figures.get("logp_gap", 0.0)
        if gap > self.settings.max_logp_gap:
            raise Unsound(
                f"step {number}: sampled log-probabilities are {gap:.3g} nats from those of the policy in the mean, "
                f"and train.max_logp_gap allows {self.settings.max_logp_gap:g}: what samples is not what learns. Look "
                "at the engine's dtype and weights; the newest sealed state is from before this step"
            )

    def _learn(
        self, recipe: Recipe, kind: Kind, data: Step, memory: Memory, step: int, steps: int, stoppable: bool = True
    ) -> dict[str, float]:
        settings = optimizer_settings(kind, self.settings)
        if kind not in self.optimizers:
            self.optimizers[kind] = optim.build(self.weights.model, settings)
        learned = learn(
            self.weights,
            self.reference if recipe.needs_reference else None,
            self.optimizers[kind],
            recipe,
            data,
            self.settings,
            settings,
            optim.learning_rate(settings, step, steps),
            memory,
            self.should_stop if stoppable else never,
            step,
            steps,
        )
        self.optimizers[kind].zero_grad(set_to_none=True)  # the next rollouts may have the memory of gradients
        self.collector.engine.update()
        return learned

    def _interleave(self, interleave: Interleave, data: Step, memory: Memory, number: int) -> dict[str, float]:
        """Put demonstrations of this step's prompts aside, and learn from them once enough have come together.

        Returns figures of the queue and of that update; tokens and optimiser steps are to be added to the step's own.
        """
        flags = group_any(
            checked("interleave.queue", interleave.queue(data.rows), data.rows, torch.bool), data.rows.group
        )
        usable = {problem.id for problem in self.collector.accepted}
        names = [group.problem.id for group, flag in zip(data.groups, flags.tolist(), strict=True) if flag]
        waiting = [*memory.get("queue", []), *(name for name in names if name in usable)]
        figures: dict[str, float] = {"interleave/queue": len(waiting)}
        if len(waiting) >= interleave.size:
            asked, waiting = waiting[: interleave.size], waiting[interleave.size :]
            step = self.collector.demonstrations_of(asked, number)
            learned = self._learn(interleave.recipe, "sft", step, memory, 0, 1, stoppable=False)
            figures |= {f"interleave/{name}": learned[name] for name in ("loss", "grad_norm") if name in learned}
            counts = ("trained_tokens", "optimiser_steps", "skipped_updates")
            figures |= {name: learned[name] for name in counts if name in learned}
            figures |= demonstration_metrics(step)
        memory["queue"] = waiting
        return figures

    def _conflict_probe(self, data: Step, recipe: Recipe, step: int) -> dict[str, float]:
        temperature, seed = self.settings.temperature, self.collector.seed
        policy, stop = self.weights.policy, self.stops_here
        return conflict_probe(policy, data, recipe, temperature, seed, step, stop, self.world)

    def seal(self) -> None:
        """Write the state as a checkpoint, unless that very step is sealed already."""
        if self._sealed == self.state.step:
            return
        files = {
            "metrics.jsonl": "".join(self.state.metrics).encode(),
            "timings.jsonl": "".join(self.state.timings).encode(),
        }
        tensors = optim.state_tensors(self.weights.model, self.optimizers, self.world.leads)
        checkpoints.save(
            checkpoints.step_folder(self.root, self.state.step),
            tensors,
            {"step": self.state.step, "identity": self.identity, "memory": self.state.memory},
            files,
            self.world,
        )
        self.world.once(lambda: checkpoints.prune(self.root))
        self._sealed = self.state.step

    def resume(self) -> None:
        """Take the newest intact checkpoint of this very run; state of another configuration is deleted."""
        folder = self.world.once(self._found)
        if folder is None:
            return
        tensors, data = checkpoints.Stored(folder), checkpoints.data_of(folder)
        self.state = State(
            data["step"],
            data["memory"],
            (folder / "metrics.jsonl").read_text().splitlines(keepends=True),
            (folder / "timings.jsonl").read_text().splitlines(keepends=True),
        )
        self._sealed = self.state.step
        optim.restore_model(self.weights.model, tensors)
        for kind in KINDS:
            if any(name.startswith(f"{kind}/") for name in tensors):
                settings = optimizer_settings(kind, self.settings)
                self.optimizers[kind] = optim.build(self.weights.model, settings)
                optim.restore_optimizer(self.weights.model, kind, self.optimizers[kind], tensors)

    def _found(self) -> Path | None:
        """The newest intact checkpoint of this very run."""
        folder = checkpoints.latest(self.root)
        if folder is None:
            shutil.rmtree(self.snapshots, ignore_errors=True)  # they may be of another configuration
            return None
        data = checkpoints.data_of(folder)
        if data["identity"] != self.identity:
            print(f"{self.root}: state of another configuration or base; starting afresh", file=sys.stderr)
            shutil.rmtree(self.root)
            return None
        print(f"continuing after step {data['step']} of {len(self.schedule)}", file=sys.stderr, flush=True)
        return folder


def _unseen(done: int, **figures: float) -> None:
    """The report of a process that does not lead."""
