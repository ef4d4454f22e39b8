"""Demonstrations of a whole data set are verified once and held in few bytes."""

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from dagrpo.algorithm import Anchors
from dagrpo.config import PromptSpec, Scorer, Train, Verifier, parse
from dagrpo.errors import UserError
from dagrpo.policy.checkpoint import load_policy
from dagrpo.problems.store import read_problems
from dagrpo.records import Problem
from dagrpo.scorers import make_scorer
from dagrpo.trainer import collect
from dagrpo.trainer.anchors import is_usable
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
    policy.model.config.max_position_embeddings = 4 * LENGTH
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


def test_a_long_one_is_refused_or_left_out_as_the_problems_say(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    short, long = collector.problems[1], collector.problems[3]
    collector.demonstrated = [replace(short, solution=f"A{short.answer}"), long]
    collector.train = collector.train.model_copy(update={"max_new_tokens": LENGTH // 2})
    with pytest.raises(UserError, match=rf"{long.id!r} has .*long_demonstrations: left_out"):
        collector.prepare_demonstrations()
    collector.long_demonstrations = "left_out"
    collector.prepare_demonstrations()
    assert [row.id for row in collector.accepted] == [short.id] and collector.left_out == 1
    assert f"1 demonstrations of more than {LENGTH // 2} tokens are left out, 1 are there" in capsys.readouterr().err
    assert long.id not in collector.anchor_verdicts
    assert not is_usable(Anchors(), None) and not is_usable(Anchors(drop_rejected=False), None)


def test_what_does_not_fit_the_window_with_its_prompt_is_named_before_anything_is_sampled(collector: Collector) -> None:
    """The engine is None here: whoever asked it would fail."""
    collector.check_prompts()
    collector.policy.model.config.max_position_embeddings = LENGTH
    with pytest.raises(UserError, match=r"its prompt and demonstration have \d+ tokens, the model's window 3000"):
        collector.prepare_demonstrations()
    with pytest.raises(UserError, match=r"its prompt and response have \d+ tokens, the model's window 3000"):
        collector.check_prompts()


def test_what_the_template_opens_is_taken_off(collector: Collector) -> None:
    row = collector.problems[1]
    template = collector.policy.tokenizer.chat_template
    collector.policy.tokenizer.chat_template = f"{template}{{{{ '<think>\n' }}}}"
    plain, begun = (replace(row, id=name, solution=f"{tag}so\nA1") for name, tag in (("a", ""), ("b", "<think>\n")))
    assert collector._anchor(begun) == collector._anchor(plain)


def test_they_are_verified_in_blocks_with_the_same_result(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.prepare_demonstrations()
    whole = [row.id for row in collector.accepted]
    assert whole == [row.id for row in collector.problems[1::2]]
    monkeypatch.setattr(collect, "BLOCK", 7)
    collector.prepare_demonstrations()
    assert [row.id for row in collector.accepted] == whole
