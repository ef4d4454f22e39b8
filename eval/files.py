"""The files that the runs on one base corpus left: graded samples, metrics, run cards. Checked while they are read."""

import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from dagrpo.errors import UserError
from dagrpo.files import text_files
from dagrpo.records import Verdict

VERDICTS = tuple(verdict.value for verdict in Verdict)
COUNTS = (*VERDICTS, "tokens", "judged", "apart")
"""Columns of whole numbers of :func:`read_samples`."""
_KEYS = ("problem_id", "family", "level", "problem_hash", "prompt_hash", "sample", "tokens", "verdict")
_QUESTION = ["family", "level", "problem_hash", "prompt_hash"]
_DIGITS = 8

AGAIN = "run the experiment to its end; where the file is there, delete it first"
"""What to do about a file of results that cannot be used."""

CARD: dict[str, type] = {
    **dict.fromkeys(("arm", "method", "label", "base_fingerprint", "model_fingerprint", "code_hash"), str),
    **dict.fromkeys(("options", "consumed", "spec", "versions", "hardware"), dict),
}
"""What is read of a run's card, and its kind."""

META: dict[str, type] = {"spec": dict, "model_fingerprint": str, "limited": dict}
"""The keys that are read of the metadata of samples, and their types."""

_KINDS: dict[type, str] = {str: "text", dict: "JSON object"}


class Files:
    """What the runs on one base corpus left in a results folder. Nothing is read before it is asked for, nor twice."""

    def __init__(self, results: Path, base: str) -> None:
        self.results, self.base = results, base
        self._read: dict[Path, Any] = {}

    def samples(self, kept: str, arm: str, seed: int) -> pd.DataFrame:
        """What a checkpoint came to on each problem: :func:`read_samples`; ``kept`` is the folder of the samples."""
        return self._once(self._samples(kept, arm, seed), read_samples)

    def meta(self, kept: str, arm: str, seed: int) -> dict[str, Any]:
        """Settings of an evaluation, and the fingerprint of the weights."""
        return self._once(self._samples(kept, arm, seed).with_suffix(".meta.json"), read_meta)

    def digest(self, kept: str, arm: str, seed: int) -> str:
        """Sha256 of the file of samples."""
        return sha256(self._samples(kept, arm, seed).read_bytes()).hexdigest()

    def profile(self) -> pd.DataFrame:
        """What the first base came to on problems of the training mixture."""
        return self._once(self.results / "samples" / self.base / "profile.jsonl", read_samples)

    def card(self, arm: str, seed: int) -> dict[str, Any]:
        """The run card."""
        return self._once(self._run(arm, seed) / "run.json", read_card)

    def lines(self, name: str, arm: str, seed: int) -> list[dict[str, Any]]:
        """The lines of ``metrics`` or ``timings``, one a step."""
        return self._once(self._run(arm, seed) / f"{name}.jsonl", lambda path: list(read_lines(path)))

    def conflict(self, arm: str, seed: int) -> list[dict[str, Any]] | None:
        """The groups whose gradients were measured; ``None`` where the run kept no snapshots."""
        path = self.results / "conflict" / self.base / arm / f"seed{seed}.jsonl"
        return self._once(path, lambda path: list(read_lines(path))) if path.exists() else None

    def probe(self) -> list[dict[str, Any]] | None:
        """The lines of ``dagrpo rate-probe``; ``None`` where the base was not probed."""
        path = self.results / "probe" / f"{self.base}.jsonl"
        return self._once(path, lambda path: list(read_lines(path))) if path.exists() else None

    def judge(self) -> str | None:
        """What the check of the judge on the base's own groups said; ``None`` where no judge was asked."""
        path = self.results / "judge" / f"{self.base}.txt"
        return path.read_text(encoding="utf-8") if path.exists() else None

    def seconds(self, arm: str, seed: int) -> dict[str, float]:
        """Seconds of a core that the jobs for this checkpoint took, by rule; without those that no log tells."""
        names = dict.fromkeys(("train", "evaluate", "benchmarks", "conflict"), f"{self.base}.{arm}.seed{seed}")
        names["bases"] = f"{self.base}.seed{seed}"
        logs = {rule: self.results / "logs" / rule / f"{name}.log" for rule, name in names.items()}
        read = {rule: path.read_text(errors="replace") for rule, path in logs.items() if path.exists()}
        told = {rule: re.findall(r"([\d.]+) s of a core", text) for rule, text in read.items()}
        return {
            rule: float(found[-1]) for rule, found in told.items() if found and (rule == "bases") == (arm == "base")
        }

    def _samples(self, kept: str, arm: str, seed: int) -> Path:
        return self.results / kept / self.base / arm / f"seed{seed}.jsonl"

    def _run(self, arm: str, seed: int) -> Path:
        return self.results / "runs" / self.base / arm / f"seed{seed}"

    def _once(self, path: Path, read: Any) -> Any:
        if path not in self._read:
            self._read[path] = read(path)
        return self._read[path]


def read_samples(path: Path) -> pd.DataFrame:
    """Read one file of samples, a row a problem, in the order of the file; the texts stay on disk.

    Returns:
        Columns problem_id, family, level (NaN where unknown), question (eight hexadecimal digits that stand for its
        text and its prompt), a count of samples for each verdict, tokens (of all samples), judged (samples of which two
        judges spoke), apart (those they disagree on) and majority (NaN where nobody counted).

    Raises:
        UserError: it is missing; a line is broken; a sample stands twice; a problem is not one question; problems of
            one family have unequal counts.
    """
    frame = pd.DataFrame(_picked(path), columns=[*_KEYS, "judged", "apart", "majority"])
    if frame.empty:
        raise UserError(f"{path}: holds no sample; evaluate again")
    twice = frame.duplicated(["problem_id", "sample"])
    if twice.any():
        first = frame[twice].iloc[0]
        raise UserError(
            f"{path}: sample {first['sample']} of problem {first['problem_id']!r} stands twice; evaluate again"
        )
    grouped = frame.groupby("problem_id", sort=False)
    several = grouped[_QUESTION].nunique(dropna=False).max(axis=1) > 1
    if several.any():
        raise UserError(f"{path}: problem {several.index[several][0]!r} is not one question; evaluate again")
    problems = grouped[[*_QUESTION, "majority"]].first()
    names = frame["problem_id"]
    counts = {name: (frame["verdict"] == name).groupby(names, sort=False).sum() for name in VERDICTS}
    counts |= {key: grouped[key].sum() for key in ("tokens", "judged", "apart")}
    uneven = grouped.size().groupby(problems["family"]).nunique()
    if (uneven > 1).any():
        family = uneven.index[uneven > 1][0]
        raise UserError(f"{path}: problems of {family!r} have different numbers of samples; evaluate again")
    hashes = zip(problems["problem_hash"], problems["prompt_hash"], strict=True)
    found = problems.assign(
        level=problems["level"].astype(float),
        question=[sha256(f"{text} {prompt}".encode()).hexdigest()[:_DIGITS] for text, prompt in hashes],
        **{key: count.astype(int) for key, count in counts.items()},
        majority=problems["majority"].astype(float),
    )
    return found.reset_index()[["problem_id", "family", "level", "question", *COUNTS, "majority"]]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file. Raises :class:`UserError` where there is none, or it is broken."""
    return text_files.read_json(path, AGAIN)


def read_card(path: Path) -> dict[str, Any]:
    """Read the card of a run. Raises :class:`UserError` where it is broken or lacks what is read of it."""
    return complete(read_json(path), CARD, str(path))


def read_meta(path: Path) -> dict[str, Any]:
    """Read the metadata of samples. Raises :class:`UserError` where it is broken or lacks a key of ``META``."""
    return complete(read_json(path), META, str(path))


def complete(found: dict[str, Any], wanted: Mapping[str, type], where: str) -> dict[str, Any]:
    """What was read, with all that is wanted of it. Raises :class:`UserError`."""
    if fault := lacking(found, wanted):
        raise UserError(f"{where}: {fault}; {AGAIN}")
    return found


def lacking(found: Mapping[str, Any], wanted: Mapping[str, type]) -> str:
    """What is wrong with the first key that is missing or of another kind, in words; empty where all are there."""
    for key, kind in wanted.items():
        if not isinstance(found.get(key), kind):
            return f"key {key!r} is missing" if key not in found else f"{key!r} is no {_KINDS[kind]}"
    return ""


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """Read JSON Lines one by one. Raises :class:`UserError` naming file and line."""
    return (row for _, row in text_files.read_rows(path, AGAIN))


def _picked(path: Path) -> Iterator[list[Any]]:
    for number, row in enumerate(read_lines(path), start=1):
        lacking = [key for key in (*_KEYS, "judges") if key not in row]
        if lacking:
            raise UserError(f"{path}, line {number}: key {lacking[0]!r} is missing; evaluate again")
        if row["verdict"] not in VERDICTS:
            raise UserError(f"{path}, line {number}: unknown verdict {row['verdict']!r}; evaluate again")
        said = row["judges"].values()
        judged = len(said) > 1
        yield [*(row[key] for key in _KEYS), judged, judged and len(set(said)) > 1, row.get("majority")]
