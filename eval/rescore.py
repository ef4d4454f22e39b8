"""Grade stored samples again: after a change of the verifier, or to show that a verdict follows from its sample."""

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dagrpo.config import Verifier as VerifierSpec
from dagrpo.errors import UserError
from dagrpo.files.checkpoints import write_atomically
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.records import Problem, Response
from dagrpo.verify import Graded, Verifier, make_verifier
from eval.benchmark_tasks.grade import found
from eval.benchmark_tasks.majority import majority
from eval.files import read_lines


def rescore(
    samples: Path, problems: Sequence[Problem], spec: VerifierSpec, out: Path, should_stop: ShouldStop = never
) -> int:
    """Write the records of a sample file with their verdicts as they are now; all else, and the order, is kept.

    With the verifier that graded them, the bytes are the same, whatever its number of workers.

    Args:
        problems: those that the samples answer, whole; others may be among them.

    Returns:
        how many samples have another verdict than before.

    Raises:
        UserError: a problem is missing, or is not the one that was asked.
        Interrupted: a stop was asked for; nothing is written.
    """
    records = list(read_lines(samples))
    known = {(problem.family, problem.id): problem for problem in problems}
    asked = [_problem(record, known, samples) for record in records]
    if any("opening" not in record for record in records):
        raise UserError(f"{samples}: a record does not say what its prompt opened ('opening'); evaluate again")
    responses = [Response(record["text"], record["finish"], record["opening"]) for record in records]
    with make_verifier(spec, should_stop) as verifier:
        graded = verifier.grade(asked, responses)
        agreed = _majorities(records, asked, graded, verifier) if "majority" in records[0] else {}
    changed = sum(record["verdict"] != one.verdict.value for record, one in zip(records, graded, strict=True))
    lines = [
        json.dumps({**record, **found(one), **({"majority": agreed[_key(record)]} if agreed else {})}) + "\n"
        for record, one in zip(records, graded, strict=True)
    ]
    write_atomically(out, "".join(lines).encode())
    return changed


def _key(record: dict[str, Any]) -> tuple[str, str]:
    return record["family"], record["problem_id"]


def _problem(record: dict[str, Any], known: dict[tuple[str, str], Problem], samples: Path) -> Problem:
    problem = known.get(_key(record))
    if problem is None:
        raise UserError(f"{samples}: problem {record['problem_id']!r} of {record['family']} is not given; give it")
    if problem.digest() != record["problem_hash"]:
        raise UserError(f"{samples}: problem {problem.id!r} is not the one that was asked (its hash differs)")
    return problem


def _majorities(
    records: Sequence[dict[str, Any]], asked: Sequence[Problem], graded: Sequence[Graded], verifier: Verifier
) -> dict[tuple[str, str], float]:
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, record in enumerate(records):
        places[_key(record)].append(place)
    problems = [asked[own[0]] for own in places.values()]
    groups = [[graded[place] for place in own] for own in places.values()]
    return dict(zip(places, majority(problems, groups, verifier), strict=True))
