"""Samples for browsing: problems drawn by a seed, with what each arm answered, up to a size that a page can hold."""

import json
from collections.abc import Iterator, Mapping
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from dagrpo import seeds
from eval.excerpts import SAMPLES
from eval.files import read_lines
from eval.records import Runs, labels

BYTES = 2_000_000
"""Of all that the page shows of samples."""
CHARACTERS = 2000
"""Of a sample; the middle of a longer one is left out."""


def samples(corpora: Mapping[str, Runs], limit: int = BYTES) -> list[dict[str, Any]]:
    """What the page's browser of samples shows: an entry for each base corpus, and one more for its benchmarks.

    Each has base, kind (``problems`` or ``benchmarks``), arms (name, label, seed), beside (the two arms to begin with),
    of (problems there are) and problems: id, family, level, prompt and answer (empty where they are not kept), and
    rows, for each arm the samples of its first seed: text, verdict, what was extracted, and whether judges disagree.

    Args:
        limit: bytes of all entries together; problems are drawn until it is reached, families in turn.
    """
    asked = [
        (one, kind)
        for runs in corpora.values()
        for one, kind in ((runs, "problems"), (runs.benchmarks, "benchmarks"))
        if one is not None
    ]
    return [_entry(runs, kind, limit // len(asked)) for runs, kind in asked]


def drawn(families: Mapping[str, list[str]], *key: int | str) -> Iterator[str]:
    """The problems of each family in an order drawn by a seed, families in turn."""
    orders = [
        [names[place] for place in seeds.permutation(len(names), "browse", *key, family)]
        for family, names in families.items()
    ]
    return (name for name in chain.from_iterable(zip_longest(*orders)) if name is not None)


def shortened(text: str) -> str:
    """A text as the page shows it: whole, or without its middle."""
    half = CHARACTERS // 2
    cut = len(text) - 2 * half
    return text if cut <= 0 else f"{text[:half]}\n[… {cut} characters …]\n{text[-half:]}"


def _entry(runs: Runs, kind: str, limit: int) -> dict[str, Any]:
    names = labels(runs)
    answers = {arm: _answers(runs.samples(arm, of_arm[0])) for arm, of_arm in runs.seeds.items()}
    asked = _asked(runs.results / "problems" / "evaluation.jsonl") if kind == "problems" else {}
    common = [name for name in next(iter(answers.values())) if all(name in rows for rows in answers.values())]
    families: dict[str, list[str]] = {}
    for name in common:
        families.setdefault(next(iter(answers.values()))[name][0]["family"], []).append(name)
    problems: list[dict[str, Any]] = []
    for name in drawn(families, runs.base, kind):
        first, told = next(iter(answers.values()))[name][0], asked.get(name, {})
        problem = {
            "id": name,
            "family": first["family"],
            "level": first["level"],
            "prompt": shortened(told.get("prompt", "")),
            "answer": told.get("answer", ""),
            "rows": {arm: [_sample(row) for row in rows[name]] for arm, rows in answers.items()},
        }
        limit -= len(json.dumps(problem, ensure_ascii=False).encode())
        if limit < 0:
            break
        problems.append(problem)
    arms = [[arm, names[arm], of_arm[0]] for arm, of_arm in runs.seeds.items()]
    shown = {"base": runs.base, "kind": kind, "arms": arms, "of": len(common), "problems": problems}
    return {**shown, "beside": [runs.subject or arms[-1][0], runs.experiment.evaluation.reference]}


def _sample(row: Mapping[str, Any]) -> list[Any]:
    said = row["judges"].values()
    return [shortened(row["text"]), row["verdict"], str(row["extracted"] or "")[:200], len(set(said)) > 1]


def _answers(path: Path) -> dict[str, list[dict[str, Any]]]:
    """The first samples of each problem, in the order of the file."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in read_lines(path):
        rows = found.setdefault(row["problem_id"], [])
        if len(rows) < SAMPLES:
            rows.append(row)
    return found


def _asked(path: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in read_lines(path)} if path.is_file() else {}
