"""The pairs of gold and answer that ``verify_pairs.yaml`` lists."""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml


class Pair(NamedTuple):
    """What is right of an answer, and why; ``judge`` is the only judge that sees it, where the two differ."""

    category: str
    gold: str
    answer: str
    right: bool
    why: str
    judge: str | None


@cache
def pairs() -> tuple[Pair, ...]:
    """All pairs, in the order of the file."""
    categories = yaml.safe_load(Path(__file__).with_name("verify_pairs.yaml").read_text(encoding="utf-8"))
    return tuple(
        Pair(category, gold, answer, group["verdict"] == "correct", group["why"], group.get("judge"))
        for category, groups in categories.items()
        for group in groups
        for gold, answer in group["pairs"]
    )
