"""Train the first steps of a recorded run again, and hold what they measure against the record."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dagrpo import provenance
from dagrpo.algorithm import find_method
from dagrpo.config import TrainSpec, parse
from dagrpo.errors import Interrupted, UserError
from dagrpo.files import checkpoints
from dagrpo.policy.checkpoint import fingerprint, load_policy
from dagrpo.policy.device import resolve_device
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.rollout.make import versions
from dagrpo.trainer.job import train
from eval.ledger.record import Record

TOLERANCE, LEAST = 1e-3, 1e-5
"""What another kind of machine may bring, whose sums round otherwise: a relative difference of a metric, or an absolute
one where the metric is near zero. Where rounding makes one token of a rollout fall differently, counts of tokens differ
by more, and only the same kind of machine can tell."""
_KIND = ("device", "processor", "instructions")


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of it: steps compared, whether the machine is of the record's kind, how far the worst metric is off
    (0 where every bit agrees), and what differs by more than it may, as (step, metric, recorded, found)."""

    steps: int
    alike: bool
    worst: float
    differing: tuple[tuple[int, str, Any, Any], ...]


def replay(record: Record, results: Path, steps: int, should_stop: ShouldStop = never) -> Replayed:
    """Train the first ``steps`` steps of a record's run from the base and the problems of a results folder.

    Raises:
        UserError: the record is of a base; the base or the problems are missing or are others.
    """
    card = record.card
    if card is None:
        raise UserError(f"{record.label}: a base has no steps to replay; give the record of a training run")
    problems = results / "problems" / "train.jsonl"
    if not problems.is_file() or sha256(problems.read_bytes()).hexdigest() != card["hashes"]["problems"]:
        raise UserError(
            f"{problems}: not the training problems of {record.label}; make them as docs/how-to/contribute-runs.md says"
        )
    spec = parse(TrainSpec, card["spec"], "the record's settings")
    spec = spec.model_copy(update={"train": spec.train.model_copy(update={"checkpoint_every": 1})})
    with TemporaryDirectory() as folder:
        state, out = Path(folder, "state"), Path(folder, "out")

        def enough() -> bool:
            return should_stop() or checkpoints.step_folder(state, steps).exists()

        try:
            train(spec, record.seed, _base(record, card, results), problems, out, state, enough)
        except Interrupted:
            if should_stop():
                raise
            out = checkpoints.step_folder(state, steps)
        found = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    here = provenance.card(resolve_device(spec.device), versions(spec.engine))
    kinds = [[of["versions"], *(of["hardware"].get(key) for key in _KIND)] for of in (here, card)]
    return compare(record.metrics[:steps], found[:steps], alike=kinds[0] == kinds[1])


def other_code(record: Record) -> str | None:
    """Say that this code does not train as the record's did; ``None`` where it is the same."""
    hashes = (record.card or {})["hashes"]
    method = find_method((record.card or {})["method"])
    same = (provenance.training_hash(), provenance.source_hash(method.module)) == (hashes["code"], hashes["method"])
    return None if same else "the code here is not that of the record, which may be why"


def compare(recorded: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], alike: bool) -> Replayed:
    """Compare lines of metrics: to the bit where the machines are alike, else within :data:`TOLERANCE`."""
    allowed = 0.0 if alike else TOLERANCE
    apart = [
        (step, key, one.get(key), other.get(key), _apart(one.get(key), other.get(key)))
        for step, (one, other) in enumerate(zip(recorded, found, strict=True))
        for key in dict.fromkeys([*one, *other])
    ]
    differing = tuple((step, key, one, other) for step, key, one, other, by in apart if by > allowed)
    return Replayed(len(recorded), alike, max((by for *_, by in apart), default=0.0), differing)


def _apart(one: Any, other: Any) -> float:
    """How far two values are apart: the absolute difference of numbers, over the larger of them or, of numbers near
    zero, over what makes :data:`LEAST` count as :data:`TOLERANCE`; infinite where they are no numbers and differ."""
    if one == other or (one != one and other != other):  # NaN is itself alone
        return 0.0
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in (one, other)):
        return math.inf
    return abs(one - other) / max(abs(one), abs(other), LEAST / TOLERANCE)


def _base(record: Record, card: Mapping[str, Any], results: Path) -> Path:
    folder = results / "bases" / record.base
    for path in sorted(folder.glob("seed*")):
        if fingerprint(load_policy(path, resolve_device("cpu")).model) == card["base_fingerprint"]:
            return path
    raise UserError(
        f"{folder}: no base here has the weights that {record.label} started from; make it as "
        "docs/how-to/contribute-runs.md says, on "
        "a machine of the record's kind, or copy it"
    )
