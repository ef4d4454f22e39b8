"""One record a run: all that tables, figures, claims and the report need of it, and nothing else.

A record is a file of two lines of JSON, compressed with xz: the sha256 of the second, and the second. It holds no
weights, no text of a sample and no row of a benchmark: of each problem its name, eight digits of a hash, and counts.
"""

import json
import lzma
import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import Field, ValidationError, model_validator

from dagrpo.config import Name, Strict
from dagrpo.errors import UserError
from dagrpo.files.text_files import read_object
from eval.files import CARD, COUNTS, META, lacking
from eval.records import BASE, Runs

MOST = 100_000
"""Bytes of a record's file."""
_UNPACKED = 64 * 1024 * 1024
_DIGITS = 12
_TEXTS = ("problem_id", "family", "question")
_NUMBERS = ("level", "majority")


class Evaluated(Strict):
    """What a checkpoint came to on a set of problems: the columns of :func:`eval.files.read_samples`.

    ``meta`` and ``samples`` (sha256 of their file) are empty for the base's profile on training problems.
    """

    meta: dict[str, Any]
    samples: str
    problems: dict[str, list[Any]]

    @model_validator(mode="after")
    def _is_whole(self) -> "Evaluated":
        if set(self.problems) != {*_TEXTS, *_NUMBERS, *COUNTS}:
            raise ValueError("problems: not the columns of an evaluation")
        if len({len(column) for column in self.problems.values()}) != 1:
            raise ValueError("problems: columns of different lengths")
        if any(type(value) is not int or value < 0 for key in COUNTS for value in self.problems[key]):
            raise ValueError("problems: a count that is no whole number")
        if not all(isinstance(value, str) for key in _TEXTS for value in self.problems[key]):
            raise ValueError("problems: a name that is no text")
        if not all(value is None or isinstance(value, int | float) for key in _NUMBERS for value in self.problems[key]):
            raise ValueError("problems: a level or a majority that is no number")
        if self.meta and (fault := lacking(self.meta, META)):
            raise ValueError(f"meta: {fault}")
        return self

    def frame(self) -> pd.DataFrame:
        """The problems as :func:`eval.files.read_samples` gives them."""
        frame = pd.DataFrame(self.problems)
        return frame.astype(dict.fromkeys(_NUMBERS, float) | dict.fromkeys(COUNTS, int))


class Record(Strict):
    """A training run, or a base that was not trained further: then ``card`` is None and there are no steps.

    ``metrics`` and ``timings`` have a line for each step; ``conflict`` one for each group whose gradients were
    measured, None where the run kept no snapshots; ``probe`` is what ``dagrpo rate-probe`` told of the first base,
    and ``judge`` what the check of the judge said of its groups.
    ``evaluations`` are by the folder of their samples. ``seconds`` are those of a core that the jobs took, by rule.
    """

    study: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")
    base: Name
    arm: Name
    seed: int
    card: dict[str, Any] | None
    metrics: list[dict[str, Any]]
    timings: list[dict[str, Any]]
    evaluations: dict[str, Evaluated]
    conflict: list[dict[str, Any]] | None
    probe: list[dict[str, Any]] | None
    judge: str | None
    seconds: dict[str, float]

    @model_validator(mode="after")
    def _has_a_whole_card(self) -> "Record":
        if self.card is not None and (fault := lacking(self.card, CARD)):
            raise ValueError(f"card: {fault}")
        return self

    @property
    def run(self) -> tuple[str, str, int]:
        """What the record is of: base corpus, arm, seed."""
        return self.base, self.arm, self.seed

    @property
    def label(self) -> str:
        """The run in words."""
        return f"{self.arm} from {self.base}, seed {self.seed}"

    def text(self) -> str:
        """The record as JSON, in the order of its fields and of what they hold."""
        return json.dumps(self.model_dump(), separators=(",", ":"))

    def digest(self) -> str:
        """Sha256 of :meth:`text`."""
        return sha256(self.text().encode()).hexdigest()

    def path(self) -> Path:
        """Where it stands in the folder of its study; no two records have the same place."""
        return Path(self.base, self.arm, f"seed{self.seed}-{self.digest()[:_DIGITS]}.json.xz")


def record_of(runs: Runs, arm: str, seed: int) -> Record:
    """Gather what a finished run left. Raises :class:`UserError` where a part of it is missing or broken."""
    source = runs.source
    views = [view for view in (runs, runs.benchmarks) if view is not None and arm in view.seeds]
    evaluations = {
        view.kept: Evaluated(
            meta=source.meta(view.kept, arm, seed),
            samples=source.digest(view.kept, arm, seed),
            problems=_columns(source.samples(view.kept, arm, seed)),
        )
        for view in views
    }
    trained = arm != BASE
    first = not trained and seed == runs.experiment.base_seeds[0]
    if first:
        evaluations["profile"] = Evaluated(meta={}, samples="", problems=_columns(source.profile()))
    return Record(
        study=runs.experiment.name,
        base=runs.base,
        arm=arm,
        seed=seed,
        card=source.card(arm, seed) if trained else None,
        metrics=source.lines("metrics", arm, seed) if trained else [],
        timings=source.lines("timings", arm, seed) if trained else [],
        evaluations=evaluations,
        conflict=source.conflict(arm, seed) if trained else None,
        probe=source.probe() if first else None,
        judge=source.judge() if first else None,
        seconds=source.seconds(arm, seed),
    )


def packed(record: Record) -> bytes:
    """The bytes of a record's file. Raises :class:`UserError` if they are more than a record may have."""
    text = record.text()
    head = json.dumps({"sha256": sha256(text.encode()).hexdigest()})
    content = lzma.compress(f"{head}\n{text}\n".encode(), preset=9 | lzma.PRESET_EXTREME)
    if len(content) > MOST:
        raise UserError(
            f"{record.label}: its record has {len(content):,} bytes, more than the {MOST:,} that one may have; keep "
            "fewer snapshots, or evaluate on fewer problems"
        )
    return content


def read_record(path: Path) -> Record:
    """Read a record, and hold it against its seal and its place.

    Raises:
        UserError: it cannot be read, is cut off, or is not what was sealed.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    unpack = lzma.LZMADecompressor()
    try:
        head, _, text = unpack.decompress(content, _UNPACKED).decode().removesuffix("\n").partition("\n")
    except (lzma.LZMAError, UnicodeDecodeError):
        raise UserError(f"{path}: damaged: this is no record's file; take it from where it was made") from None
    if not unpack.eof or len(content) > MOST:
        raise UserError(f"{path}: cut off, or larger than a record may be; take it from where it was made")
    try:
        sealed = read_object(head, str(path))["sha256"]
        record = Record.model_validate(read_object(text, str(path)))
    except (UserError, KeyError, ValidationError):
        raise UserError(f"{path}: damaged: it does not have the form of a record") from None
    if sha256(text.encode()).hexdigest() != sealed:
        raise UserError(f"{path}: changed after it was made: its content is not what its seal says")
    if path.parts[-3:] != record.path().parts:
        raise UserError(f"{path}: stands in the wrong place: it is the record {record.path()}")
    return record


class Records:
    """The records of the runs on one base corpus, in the form of :class:`eval.files.Files`."""

    def __init__(self, records: Mapping[tuple[str, int], Record]) -> None:
        self.records = records
        self._frames: dict[tuple[str, str, int], pd.DataFrame] = {}

    def samples(self, kept: str, arm: str, seed: int) -> pd.DataFrame:
        if (kept, arm, seed) not in self._frames:
            self._frames[kept, arm, seed] = self._evaluated(kept, arm, seed).frame()
        return self._frames[kept, arm, seed]

    def meta(self, kept: str, arm: str, seed: int) -> dict[str, Any]:
        return self._evaluated(kept, arm, seed).meta

    def digest(self, kept: str, arm: str, seed: int) -> str:
        return self._evaluated(kept, arm, seed).samples

    def profile(self) -> pd.DataFrame:
        return self.samples("profile", *self._first_base())

    def probe(self) -> list[dict[str, Any]] | None:
        return self._record(*self._first_base()).probe

    def card(self, arm: str, seed: int) -> dict[str, Any]:
        card = self._record(arm, seed).card
        assert card is not None
        return card

    def lines(self, name: str, arm: str, seed: int) -> list[dict[str, Any]]:
        record = self._record(arm, seed)
        return record.metrics if name == "metrics" else record.timings

    def conflict(self, arm: str, seed: int) -> list[dict[str, Any]] | None:
        return self._record(arm, seed).conflict

    def seconds(self, arm: str, seed: int) -> dict[str, float]:
        return self._record(arm, seed).seconds

    def judge(self) -> str | None:
        return self._record(*self._first_base()).judge

    def _first_base(self) -> tuple[str, int]:
        """The base whose record also tells of what is done with the first base alone."""
        told = [run for run, record in self.records.items() if "profile" in record.evaluations]
        return told[0] if told else (BASE, 0)

    def _record(self, arm: str, seed: int) -> Record:
        if (arm, seed) not in self.records:
            raise UserError(
                f"the ledger has no record of {arm}, seed {seed}; `dagrpo ledger list` says what is missing"
            )
        return self.records[arm, seed]

    def _evaluated(self, kept: str, arm: str, seed: int) -> Evaluated:
        record = self._record(arm, seed)
        if kept not in record.evaluations:
            raise UserError(f"the record of {record.label} holds no {kept}; evaluate that run and add it again")
        return record.evaluations[kept]


def _columns(frame: pd.DataFrame) -> dict[str, list[Any]]:
    found = {str(name): frame[name].tolist() for name in frame.columns}
    return found | {name: [None if math.isnan(value) else value for value in found[name]] for name in _NUMBERS}
