"""Grade rows of a file that somebody else's model has answered."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from dagrpo.config import Verifier as VerifierSpec
from dagrpo.errors import UserError
from dagrpo.files.checkpoints import flush
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.progress import progress
from dagrpo.records import Problem, Response
from dagrpo.verify import Graded, Verifier, make_verifier

BATCH = 256
"""Rows that are judged together, unless told otherwise."""


def grade_file(
    path: Path, out: Path, spec: VerifierSpec, batch: int = BATCH, should_stop: ShouldStop = never
) -> Counter[str]:
    """Grade a file of JSON Lines, and write each row back with what was found.

    A row holds ``gold`` and either ``response`` (the answer is looked for in it) or ``answer`` (a bare one), and may
    hold ``choices`` (a list of options; then ``gold`` is a letter), ``finish`` (``length`` where the token budget cut
    the response) and ``opening`` (what the prompt held of the response already, such as ``<think>``). Other keys are
    kept. Added are ``verdict``, ``extracted``, ``rule``, ``judges`` and ``seconds``: the wall time of the row's batch
    divided by its rows, so that of the row itself for a batch of one.

    Returns:
        how many rows have each verdict, and under ``disagreement`` how many the two judges see differently.

    Raises:
        UserError: naming file and line, where a row is not of that form; or where the file cannot be read.
        Interrupted: a stop was asked for; nothing is written.
    """
    counts: Counter[str] = Counter()
    rows = _rows(path)
    total = sum(1 for _ in _rows(path))
    if not total:
        raise UserError(f"{path}: holds no row; write one JSON object a line")
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = out.with_name(f".{out.name}.writing")
    with (
        make_verifier(spec, should_stop) as verifier,
        progress(f"grade {path.name}", total) as report,
        aside.open("w", encoding="utf-8") as stream,
    ):
        done = 0
        report(done)
        while chunk := list(islice(rows, batch)):
            started = time.perf_counter()
            graded = _grade([row for _, row in chunk], verifier)
            seconds = (time.perf_counter() - started) / len(chunk)
            for (_, row), one in zip(chunk, graded, strict=True):
                stream.write(_line({**row, **found(one), "seconds": round(seconds, 6)}))
                counts[one.verdict.value] += 1
                counts["disagreement"] += len(set(one.judges.values())) > 1
            done += len(chunk)
            report(done)
    flush(aside)
    aside.replace(out)
    return counts


def _grade(rows: list[dict[str, Any]], verifier: Verifier) -> list[Graded]:
    problems = [
        Problem(str(number), "grade", "", row["gold"], choices=tuple(row["choices"]) if row.get("choices") else None)
        for number, row in enumerate(rows)
    ]
    bare = [place for place, row in enumerate(rows) if "answer" in row]
    whole = [place for place, row in enumerate(rows) if "answer" not in row]
    of_bare = verifier.grade_answers([problems[place] for place in bare], [rows[place]["answer"] for place in bare])
    responses = [
        Response(rows[place]["response"], rows[place].get("finish", "stop"), rows[place].get("opening", ""))
        for place in whole
    ]
    graded = dict(zip(whole, verifier.grade([problems[place] for place in whole], responses), strict=True))
    graded |= zip(bare, of_bare, strict=True)
    return [graded[place] for place in range(len(rows))]


def explain_file(
    path: Path, spec: VerifierSpec, only: int | None = None, should_stop: ShouldStop = never
) -> Iterator[str]:
    """Say for each row of a file, or for one, what was extracted by which rule, and why it is right or wrong.

    Args:
        only: number of the only line to explain, from 1 on.

    Raises:
        UserError: as :func:`grade_file`; or where the file has no such row.
    """
    from dagrpo.verify.explain import explain

    rows = [row for row in _rows(path) if only in (None, row[0])]
    if not rows:
        where = "" if only is None else f" on line {only}"
        raise UserError(f"{path}: holds no row{where}; write one JSON object a line, or name another line")
    with make_verifier(spec, should_stop) as verifier:
        for number, row in rows:
            (graded,) = _grade([row], verifier)
            yield f"line {number}: {graded.verdict.value}"
            yield f"  rule {graded.rule}: {graded.extracted if graded.extracted is not None else 'no answer found'}"
            if graded.extracted is not None and not row.get("choices"):
                yield from (f"  {line}" for line in explain(row["gold"], graded.extracted, spec.seconds))


def _line(row: dict[str, Any]) -> str:
    """A row as a line of JSON; half of a surrogate pair, which UTF-8 cannot hold, as an escape."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:
        line = json.dumps(row)
    return line + "\n"


def found(graded: Graded) -> dict[str, Any]:
    """What a record says of how it was graded."""
    return {
        "verdict": graded.verdict.value,
        "extracted": graded.extracted,
        "rule": graded.rule,
        "judges": graded.judges,
    }


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        # Half of a surrogate pair, which some tools write, is kept; so is a line that ends in the way of Windows.
        with path.open(encoding="utf-8", errors="surrogatepass", newline="\n") as stream:
            for number, line in enumerate(stream, start=1):
                if line := line.strip().lstrip("\ufeff").lstrip():
                    yield number, _row(line, f"{path}, line {number}")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a file of JSON Lines") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8 text; write it as JSON Lines in UTF-8") from None


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        said = getattr(error, "msg", None) or error
        raise UserError(f"{where}: not valid JSON ({said}); repair or delete the line") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected a JSON object, found {type(row).__name__}; write one object a line")
    if ("response" in row) == ("answer" in row):
        raise UserError(f"{where}: give either 'response' (a whole response) or 'answer' (a bare one)")
    for key in ("gold", "answer" if "answer" in row else "response"):
        if not isinstance(row.get(key), str):
            raise UserError(f"{where}: {key!r} must be a string, found {json.dumps(row.get(key))[:60]}; correct it")
    if not row["gold"].strip():
        raise UserError(f"{where}: 'gold' is empty; fill it in or delete the line")
    choices = row.get("choices")
    if choices is not None and not (isinstance(choices, list) and all(isinstance(choice, str) for choice in choices)):
        raise UserError(f"{where}: 'choices' must be a list of strings; correct it")
    if choices and row["gold"] not in tuple(ascii_uppercase[: len(choices)]):
        raise UserError(f"{where}: 'gold' must be the letter of one of the {len(choices)} choices; correct it")
    if not isinstance(row.get("opening", ""), str):
        raise UserError(f"{where}: 'opening' must be a string; correct it or leave it out")
    if row.get("finish", "stop") not in ("stop", "length"):
        raise UserError(f"{where}: 'finish' must be stop or length; correct it or leave it out")
    return row
