"""Real problems from a local folder of JSON Lines: benchmarks/ to report on, train/ with verified traces."""

import os
import re
from pathlib import Path
from typing import Any

from dagrpo.config import HubProblems, MirrorProblems, WordProblems, nearest
from dagrpo.errors import UserError
from dagrpo.files import text_files
from dagrpo.problems.store import ProblemSets, with_choices
from dagrpo.records import Problem

ENVIRONMENT = "DAGRPO_MIRROR"
_SUFFIXES = (".jsonl", ".jsonl.gz")
_LEVEL = re.compile(r"(?:Level )?([0-9]+)(?:\.0)?")


def load(spec: MirrorProblems) -> ProblemSets:
    """Load what the spec names; a benchmark's file name is its family.

    Training takes the rows with a solution and a prompt of at most ``max_prompt_chars``, the shortest prompts first,
    and with ``drop_overlap`` none that is a question of a benchmark, be it beyond the limit. Evaluation takes the first
    ``limit`` rows of each benchmark.

    Raises:
        UserError: where the folder or a file is missing, a row is broken, or training rows are too few.
    """
    questions = read_benchmarks(spec)
    return ProblemSets(_training(spec, _folder(spec) / "train", questions), *kept(questions, spec.limit))


def read_benchmarks(spec: MirrorProblems) -> dict[str, list[Problem]]:
    """Read all rows of each benchmark that the spec names, whatever its limit. Raises ``UserError``."""
    folder = _folder(spec) / "benchmarks"
    return {family: _rows(folder, family) for family in spec.benchmarks}


def check_files(spec: MirrorProblems | HubProblems | WordProblems) -> Path:
    """Return the folder that holds all files which the problems name, unread. Raises ``UserError`` for one missing."""
    folder = _folder(spec)
    for family in spec.benchmarks:
        find_file(folder / "benchmarks", family)
    for name in training_files(spec):
        find_file(folder / "train", name)
    return folder


def training_files(spec: MirrorProblems | HubProblems | WordProblems) -> list[str]:
    """The files of train/ that problems name, without suffix."""
    if isinstance(spec, WordProblems):
        return sorted({*spec.warm, *spec.train, *spec.development})
    return [spec.train_file] if isinstance(spec, MirrorProblems) else []


def read_training(spec: WordProblems, name: str) -> list[Problem]:
    """Read all rows of a file of train/. Raises ``UserError``."""
    return _rows(_folder(spec) / "train", name)


def kept(questions: dict[str, list[Problem]], limit: int | None) -> tuple[list[Problem], dict[str, tuple[int, int]]]:
    """The first ``limit`` rows of each benchmark, and of each how many these are and how many it has."""
    evaluation = [row for rows in questions.values() for row in rows[:limit]]
    return evaluation, {family: (len(rows[:limit]), len(rows)) for family, rows in questions.items()}


def apart(training: list[Problem], questions: dict[str, list[Problem]], drop_overlap: float | None) -> list[Problem]:
    """Leave out training rows that are questions of a benchmark; none where ``drop_overlap`` is not given."""
    if drop_overlap is None:
        return training
    from dagrpo.problems.contamination import overlaps, without

    every = [row for rows in questions.values() for row in rows]
    return without(training, overlaps(training, every, threshold=drop_overlap))


def _folder(spec: MirrorProblems | HubProblems | WordProblems) -> Path:
    named = spec.mirror or os.environ.get(ENVIRONMENT)
    how = f"set problems.mirror, or {ENVIRONMENT}, to a folder that holds benchmarks/ and train/"
    if not named:
        raise UserError(f"problems: no mirror of the benchmarks is given; {how}")
    if not (folder := Path(named).expanduser()).is_dir():
        raise UserError(f"problems: the mirror {folder} is not a folder; {how}")
    return folder


def _training(spec: MirrorProblems, folder: Path, questions: dict[str, list[Problem]]) -> list[Problem]:
    rows = _rows(folder, spec.train_file)
    usable = [row for row in rows if row.solution and len(row.prompt) <= spec.max_prompt_chars]
    usable = apart(usable, questions, spec.drop_overlap)
    if len(usable) < spec.train:
        others = "" if spec.drop_overlap is None else ", and apart from the benchmarks"
        raise UserError(
            f"problems: {spec.train_file} has {len(usable)} rows with a solution and a prompt of at most "
            f"{spec.max_prompt_chars} characters{others}, {spec.train} wanted; lower problems.train or raise "
            "max_prompt_chars"
        )
    return sorted(usable, key=lambda row: (len(row.prompt), row.id))[: spec.train]


def _rows(folder: Path, name: str) -> list[Problem]:
    path = find_file(folder, name)
    problems: dict[str, Problem] = {}
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            problem = read_row(line, name, f"{path}, line {number}")
            if problem.id in problems:
                raise UserError(f"{path}, line {number}: id {problem.id!r} occurs twice; get the file again")
            problems[problem.id] = problem
    if not problems:
        raise UserError(f"{path}: holds no rows; get the file again")
    return list(problems.values())


def find_file(folder: Path, name: str) -> Path:
    """Find ``name.jsonl`` or ``name.jsonl.gz``. Raises :class:`UserError`, with the nearest name, if there is none."""
    for suffix in _SUFFIXES:
        if (path := folder / f"{name}{suffix}").is_file():
            return path
    known = sorted({path.name.split(".")[0] for path in folder.glob("*.jsonl*")})
    raise UserError(f"problems: {folder} has no file {name}.jsonl or {name}.jsonl.gz{nearest(name, known)}")


def read_text(path: Path) -> str:
    """Read a file of rows, unpacked where it is packed. Raises :class:`UserError` where it cannot be read."""
    return text_files.read_text(path, "get the file again")


def read_row(line: str, family: str, where: str) -> Problem:
    """Turn a line of the mirror into a problem. Raises :class:`UserError` that begins with ``where``."""
    row = text_files.read_object(line, where)
    try:
        choices = tuple(str(choice) for choice in row["choices"]) if row.get("choices") else None
        problem = Problem(
            id=row["id"],
            family=family,
            prompt=with_choices(row["problem"], choices),
            answer=row["answer"],
            solution=row.get("solution") or None,
            level=_level(row.get("level")),
            choices=choices,
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{where}: not a row of the mirror ({type(error).__name__}: {error}); get the file again"
        ) from None
    for name in ("id", "prompt", "answer"):
        if not isinstance(value := getattr(problem, name), str) or not value.strip():
            raise UserError(f"{where}: {name} is empty or not a string; get the file again")
    return problem


def _level(text: Any) -> int | None:
    found = _LEVEL.fullmatch(str(text)) if text is not None else None
    return int(found.group(1)) if found else None
