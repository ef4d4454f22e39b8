"""Demonstrations of a whole data set are verified once and held in few bytes."""

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from dagrpo.config import PromptSpec, Scorer, Train, Verifier, parse
from dagrpo.policy.checkpoint import load_policy
from dagrpo.problems.store import read_problems
from dagrpo.records import Problem
from dagrpo.scorers import make_scorer
from dagrpo.trainer import collect
from dagrpo.trainer.collect import Collector
from dagrpo.verify import make_verifier
from tests.miniature import TRAIN

LENGTH = 3000


@pytest.fixture
def collector(base: Path, problems: Path) -> Collector:
    """Has long demonstrations, every second of which is wrong."""
    made = read_problems(problems)
    long = "+".join(["57"] * (LENGTH // 2))
    rows: list[Problem] = [
        replace(row, solution=f"{long}\nA{row.answer if number % 2 else 'none'}") for number, row in enumerate(made)
    ]
    train = parse(Train, TRAIN | {"max_new_tokens": 3 * LENGTH}, "train")
    policy = load_policy(base, torch.device("cpu"))
    scorer, verifier = make_scorer(Scorer(kind="step_checker")), make_verifier(Verifier(kind="exact"))
    return Collector(rows, policy, cast(Any, None), verifier, scorer, train, PromptSpec(), seed=0)


def test_they_take_few_bytes_a_token(collector: Collector) -> None:
    tracemalloc.start()
    try:
        collector.prepare_demonstrations()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    tokens = sum(
        len(collector.demonstrations_of([row.id], 0).groups[0].rollouts[0].tokens) for row in collector.accepted
    )
    assert tokens > LENGTH * len(collector.accepted)
    assert held < 5 * 2 * tokens  # the rejected ones are held too


def test_they_are_verified_in_blocks_with_the_same_result(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.prepare_demonstrations()
    whole = [row.id for row in collector.accepted]
    assert whole == [row.id for row in collector.problems[1::2]]
    monkeypatch.setattr(collect, "BLOCK", 7)
    collector.prepare_demonstrations()
    assert [row.id for row in collector.accepted] == whole
