"""Disk and main memory of an experiment, in bytes, by counting the copies of the weights that are held."""

from dagrpo.config import Experiment, Train
from dagrpo.plan.memory import FP32, setup_of, trained
from dagrpo.plan.shapes import Shape, shape_of

SEALED = 3
"""States of a run on disk at once: two are kept, and a third is written before the oldest goes."""


def disk_bytes(experiment: Experiment) -> float:
    """All that is on disk in the end (checkpoints of bases, runs and snapshots) and the sealed states of one run."""
    total = 0.0
    for base in experiment.bases.values():
        shape = shape_of(base)
        whole = shape.parameters * FP32
        total += whole * len(experiment.base_seeds)
        states = []
        for arm in experiment.arms:
            train = experiment.train_of(arm)
            total += whole * len(experiment.seeds_of(arm)) * (1 + len(train.snapshots))
            states.append(SEALED * _state(shape, experiment, train) + whole * len(train.snapshots))
        total += max(states) / len(experiment.bases)
    return total


def host_bytes(experiment: Experiment) -> float:
    """Main memory that the largest job takes for weights: each process of a run reads the whole base; the job of a base
    holds it twice."""
    largest = max(shape_of(base).parameters for base in experiment.bases.values())
    return largest * FP32 * max(2, experiment.processes)


def _state(shape: Shape, experiment: Experiment, train: Train) -> float:
    """A sealed state: weights, and two moments of all that learns."""
    setup = setup_of(experiment, train)
    learns = trained(shape, setup)
    return FP32 * ((shape.parameters if setup.lora is None else learns) + 2 * learns)
