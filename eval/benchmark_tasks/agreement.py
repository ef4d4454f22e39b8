"""Whether our engine and lm-eval's own command saw the same questions and came to the same verdicts, row by row."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dagrpo.errors import UserError
from eval.files import read_lines

EQUAL = ("prompts", "golds", "responses", "verdicts")


def agreement(ours: Path, logged: Path) -> pd.DataFrame:
    """Count equal rows of each benchmark: one row a benchmark, and the verdicts that our engine's samples have.

    Of questions with several samples, the first is compared. A verdict counts as equal only where the same answer was
    extracted. A gold is equal where the whole problem is.

    Args:
        ours: samples of a checkpoint, as ``dagrpo benchmark`` wrote them.
        logged: what ``lm_eval --log_samples --output_path`` wrote.

    Raises:
        UserError: a file cannot be read, nothing was logged, or a logged question is not among ours.
    """
    try:
        mine = {(row["family"], row["problem_id"]): row for row in read_lines(ours) if row["sample"] == 0}
        frame = pd.DataFrame([_pair(mine, ours, family, theirs) for family, theirs in _logged(logged)])
    except (KeyError, IndexError, TypeError, ValueError, SyntaxError) as error:
        raise UserError(
            f"{ours} or {logged}: not samples of a benchmark ({error!r}); give what `dagrpo benchmark` and `lm_eval "
            "--log_samples` wrote"
        ) from None
    counts = frame.groupby("benchmark", sort=False)[["rows", *EQUAL]].sum()
    kinds = frame.groupby("benchmark", sort=False)["verdict"].agg(
        lambda found: ", ".join(f"{count} {name}" for name, count in found.value_counts().items())
    )
    return counts.assign(verdict=kinds).reset_index()


def _pair(
    mine: Mapping[tuple[str, str], dict[str, Any]], ours: Path, family: str, theirs: dict[str, Any]
) -> dict[str, Any]:
    row = mine.get((family, theirs["doc"]["id"]))
    if row is None:
        raise UserError(f"{ours}: question {theirs['doc']['id']!r} of {family} is missing; ask both the same")
    graded = theirs["filtered_resps"][0]
    graded = ast.literal_eval(graded) if isinstance(graded, str) else graded
    sample = graded["samples"][0]
    return {
        "benchmark": family,
        "rows": 1,
        "prompts": row["prompt_hash"] == theirs["prompt_hash"],
        "golds": row["problem_hash"] == graded["problem_hash"],
        "responses": row["text"] == theirs["resps"][0][0],
        "verdicts": (row["verdict"], row["extracted"]) == (sample["verdict"], sample["extracted"]),
        "verdict": row["verdict"],
    }


def _logged(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    files = sorted(folder.rglob("samples_dagrpo_*.jsonl"))
    if not files:
        raise UserError(f"{folder}: holds no samples_dagrpo_*.jsonl; run lm_eval with --log_samples --output_path")
    for path in files:
        family = path.name.removeprefix("samples_dagrpo_").rpartition("_")[0]
        for row in read_lines(path):
            yield family, row
