"""The steps of a run, phase after phase."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from dagrpo.algorithm import Algorithm, Phase
from dagrpo.config import Optimizer, Train

Kind = Literal["rl", "sft"]
KINDS: tuple[Kind, ...] = ("rl", "sft")


@dataclass(frozen=True, slots=True)
class Place:
    """A step of a run: its phase, which step of the phase it is and of how many, and ``number``, counted from 0 over
    all phases of that kind, which keys its draws."""

    phase: Phase
    step: int
    steps: int
    number: int


def schedule(algorithm: Algorithm, settings: Train) -> Iterator[Place]:
    """The steps of a run in order; phases of a kind share its steps out among them."""
    whole = {"rl": settings.steps, "sft": settings.sft_steps}
    share, done = {"rl": 0.0, "sft": 0.0}, {"rl": 0, "sft": 0}
    for phase in algorithm.phases:
        share[phase.kind] += phase.share
        steps = round(share[phase.kind] * whole[phase.kind]) - done[phase.kind]
        for step in range(steps):
            yield Place(phase, step, steps, done[phase.kind] + step)
        done[phase.kind] += steps


def optimizer_settings(kind: Kind, settings: Train) -> Optimizer:
    """Optimiser settings of a kind of phase."""
    return settings.rl if kind == "rl" else settings.sft
