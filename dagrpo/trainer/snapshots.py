"""Snapshots: the weights of a run before the update of a step, and the groups that the update read.

They are kept in the state folder until the run ends. A resumed run may come by a step again; it has the same weights
and groups then, and so writes the same bytes.
"""

import json
import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from dagrpo.errors import UserError
from dagrpo.files.checkpoints import flush, write_atomically
from dagrpo.files.text_files import read_rows
from dagrpo.policy.checkpoint import Policy, save_policy
from dagrpo.records import Finish, Problem, Source, Verdict
from dagrpo.trainer.collect import Step

GROUPS = "groups.jsonl"
MODEL = "model"


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A row as its update read it; ``score`` (1 to 10) is ``None`` where it was missing or not asked for."""

    index: int
    tokens: tuple[int, ...]
    text: str
    finish: Finish
    source: Source
    verdict: Verdict
    reward: float
    score: float | None
    advantage: float
    weight: float


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """All rows that shared a prompt in one step."""

    problem: Problem
    prompt_tokens: tuple[int, ...]
    rows: tuple[StoredRow, ...]


_STORED = TypeAdapter(StoredGroup)

_AGAIN = "give the groups.jsonl of a snapshot, or train again to have it made"


def write_snapshot(folder: Path, policy: Policy, step: Step) -> None:
    """Write ``model/`` (an ordinary checkpoint) and ``groups.jsonl`` aside, and rename the folder into place."""
    aside = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)
    save_policy(policy, aside / MODEL)
    write_groups(aside / GROUPS, step)
    flush(aside)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    flush(folder.parent)


def write_groups(path: Path, step: Step) -> None:
    """Write the groups of a step as its update read them: JSON Lines, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(group, ensure_ascii=False) + "\n" for group in _plain(step))
    write_atomically(path, "".join(lines).encode())


def copy_snapshots(kept: Path, out: Path) -> None:
    """Copy what a run has kept to its results; ``out`` is there afterwards even where nothing was kept."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for folder in sorted(kept.glob("step*")):
        shutil.copytree(folder, out / folder.name)


def snapshot_steps(folder: Path) -> dict[int, Path]:
    """The snapshots below a folder: step -> its folder, in rising order."""
    found = {int(path.name.removeprefix("step")): path for path in folder.glob("step*")}
    return dict(sorted(found.items()))


def read_groups(path: Path) -> list[StoredGroup]:
    """Read the groups of a snapshot.

    Raises:
        UserError: the file cannot be read, or a line is not what :func:`write_snapshot` writes.
    """
    return [stored_group(row, where) for where, row in read_rows(path, _AGAIN)]


def _plain(step: Step) -> list[dict[str, Any]]:
    columns = (step.rows.reward, step.rows.score, step.rows.advantage, step.rows.weight)
    values = zip(step.verdicts, *(column.tolist() for column in columns), strict=True)
    groups = []
    for group in step.groups:
        rows = []
        for rollout in group.rollouts:
            verdict, reward, score, advantage, weight = next(values)
            row = {
                "index": rollout.index,
                "tokens": rollout.tokens,
                "text": rollout.text,
                "finish": rollout.finish,
                "source": rollout.source,
                "verdict": verdict,
                "reward": reward,
                "score": None if math.isnan(score) else score,
                "advantage": advantage,
                "weight": weight,
            }
            rows.append(row)
        groups.append({"problem": group.problem.to_json(), "prompt_tokens": group.prompt_tokens, "rows": rows})
    return groups


def stored_group(plain: dict[str, Any], where: str) -> StoredGroup:
    """A group from its stored form. Raises :class:`UserError`, beginning with ``where``, where it is none."""
    try:
        return _STORED.validate_python(plain)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: not a group of a snapshot ({place}: {first['msg']}); {_AGAIN}") from None
