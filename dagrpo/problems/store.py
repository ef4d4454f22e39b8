"""Problem files: one JSON object a line, checked when read and replaced whole when written."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from dagrpo.errors import UserError
from dagrpo.files.checkpoints import write_atomically
from dagrpo.files.text_files import read_object, read_text
from dagrpo.records import Problem


@dataclass(frozen=True, slots=True)
class ProblemSets:
    """What an experiment trains on and reports on.

    ``families`` maps each evaluated family, in table order, to (problems kept, problems in its source). ``warm`` are
    rows for warming a base, apart from all others; ``counts`` says what became of the rows of each source.
    """

    train: list[Problem]
    evaluation: list[Problem]
    families: dict[str, tuple[int, int]]
    warm: list[Problem] = field(default_factory=list)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


def write_problem_sets(sets: ProblemSets, folder: Path) -> None:
    """Write ``train.jsonl``, ``evaluation.jsonl`` and ``about.json`` (which families were cut short, and what became
    of the source's rows where that is counted) to a folder."""
    write_problems(folder / "train.jsonl", sets.train)
    write_problems(folder / "evaluation.jsonl", sets.evaluation)
    about = {"families": sets.families} | ({"counts": sets.counts} if sets.counts else {})
    write_atomically(folder / "about.json", json.dumps(about, indent=1).encode())


def write_problems(path: Path, problems: Iterable[Problem]) -> None:
    """Write problems as JSON Lines; the file appears whole or not at all."""
    lines = (json.dumps(problem.to_json(), ensure_ascii=False) + "\n" for problem in problems)
    write_atomically(path, "".join(lines).encode())


def read_problems(path: Path) -> list[Problem]:
    """Read a problem file.

    Raises:
        UserError: naming file and line, where a line is broken, a key missing, unknown or of the wrong type, an
            answer empty, or an id used twice; and where the file cannot be read or holds nothing.
    """
    text = read_text(path, "give the path of a problem file")
    problems: list[Problem] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        problem = _problem(line, where)
        if problem.id in lines:
            raise UserError(
                f"{where}: id {problem.id!r} is already used on line {lines[problem.id]}; give each its own"
            )
        lines[problem.id] = number
        problems.append(problem)
    if not problems:
        raise UserError(f"{path}: holds no problem; write one JSON object a line")
    return problems


def _problem(line: str, where: str) -> Problem:
    row = read_object(line, where)
    if unknown := sorted(row.keys() - {field.name for field in fields(Problem)}):
        raise UserError(f"{where}: unknown key {unknown[0]!r}; remove it")
    for name in ("id", "family", "prompt", "answer"):
        if name not in row:
            raise UserError(f"{where}: key {name!r} is missing; add it")
        _check(row[name], isinstance(row[name], str), name, "a string", where)
        if not row[name].strip():
            raise UserError(f"{where}: {name} is empty; fill it in or delete the line")
    solution, level, choices = row.get("solution"), row.get("level"), row.get("choices")
    _check(solution, solution is None or isinstance(solution, str), "solution", "a string or null", where)
    _check(level, level is None or type(level) is int, "level", "a whole number or null", where)
    listed = isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)
    _check(choices, choices is None or listed, "choices", "a list of strings or null", where)
    logps = row.get("solution_logps")
    numbers = isinstance(logps, list) and all(type(logp) in (int, float) and logp <= 0 for logp in logps)
    _check(logps, logps is None or numbers, "solution_logps", "a list of numbers not above 0, or null", where)
    lists = {
        name: None if value is None else tuple(value)
        for name, value in (("choices", choices), ("solution_logps", logps))
    }
    return Problem(**{**row, **lists})


def _check(value: Any, sound: bool, name: str, wanted: str, where: str) -> None:
    if not sound:
        raise UserError(f"{where}: {name} must be {wanted}, found {json.dumps(value)[:60]}; correct it")


def with_choices(question: str, choices: tuple[str, ...] | None) -> str:
    """Put the options, lettered, below the question."""
    options = [f"{chr(ord('A') + i)}. {choice}" for i, choice in enumerate(choices or ())]
    return "\n".join([question, *options])
