"""Evaluation keeps every sample, continues where it was stopped, and writes the same bytes either way."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from dagrpo.config import EvaluationSpec, PromptSpec, Verifier
from dagrpo.errors import Interrupted
from dagrpo.problems.store import read_problems
from eval.sampling import ROUNDS, batches, evaluate, meta_path
from tests.miniature import stop_after

SECOND_BATCH = 30 * ROUNDS
"""Decoding steps after which the first batch of these tests is kept and the last one is not."""
KEYS = [
    "problem_id", "family", "level", "problem_hash", "prompt_hash", "sample", "seed", "opening", "text", "tokens",
    "finish", "verdict", "extracted", "rule", "judges",
]  # fmt: skip


def _spec(**changes: Any) -> EvaluationSpec:
    settings: dict[str, Any] = {
        "samples": 2,
        "samples_by_family": {},
        "temperature": 0.6,
        "max_new_tokens": 20,
        "rollout_rows": 4,
        "threads": 1,
        "prompt": PromptSpec(),
        "verifier": Verifier(kind="exact"),
        "device": "cpu",
    }
    return EvaluationSpec(**{**settings, **changes})


def test_every_sample_is_kept(base: Path, evaluation_problems: Path, tmp_path: Path) -> None:
    family = read_problems(evaluation_problems)[0].family
    evaluate(
        _spec(samples_by_family={family: 5}), base, evaluation_problems, 3, tmp_path / "s.jsonl", tmp_path / "state"
    )
    records = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    expected = [(p.id, i) for p in read_problems(evaluation_problems) for i in range(5 if p.family == family else 2)]
    assert [(record["problem_id"], record["sample"]) for record in records] == expected
    assert all(list(record) == KEYS and record["seed"] == 3 for record in records)
    meta = json.loads(meta_path(tmp_path / "s.jsonl").read_text())
    assert meta["spec"]["samples"] == 2 and meta["limited"] == {}
    assert not (tmp_path / "state").exists()


def test_stopped_anywhere_it_continues_to_the_same_bytes(base: Path, evaluation_problems: Path, tmp_path: Path) -> None:
    evaluate(_spec(), base, evaluation_problems, 0, tmp_path / "whole.jsonl", tmp_path / "a")
    moments, stops = random.Random(0), 0
    while True:
        try:
            evaluate(
                _spec(),
                base,
                evaluation_problems,
                0,
                tmp_path / "parts.jsonl",
                tmp_path / "b",
                stop_after(ROUNDS * moments.randrange(8, 30)),
            )
        except Interrupted:
            stops += 1
            assert not (tmp_path / "parts.jsonl").exists()
        else:
            break
    assert stops >= 2
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_a_torn_last_batch_is_sampled_again(base: Path, evaluation_problems: Path, tmp_path: Path) -> None:
    """What a crash between writing records and logging them leaves behind."""
    evaluate(_spec(), base, evaluation_problems, 0, tmp_path / "whole.jsonl", tmp_path / "a")
    with pytest.raises(Interrupted):
        evaluate(
            _spec(), base, evaluation_problems, 0, tmp_path / "parts.jsonl", tmp_path / "b", stop_after(SECOND_BATCH)
        )
    with (tmp_path / "b" / "records.jsonl").open("a") as stream:
        stream.write('{"problem_id": "half a reco')
    evaluate(_spec(), base, evaluation_problems, 0, tmp_path / "parts.jsonl", tmp_path / "b")
    assert (tmp_path / "parts.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_samples_of_another_setting_are_not_continued(base: Path, evaluation_problems: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        evaluate(
            _spec(), base, evaluation_problems, 0, tmp_path / "s.jsonl", tmp_path / "state", stop_after(SECOND_BATCH)
        )
    evaluate(_spec(temperature=0.0), base, evaluation_problems, 0, tmp_path / "s.jsonl", tmp_path / "state")
    evaluate(_spec(temperature=0.0), base, evaluation_problems, 0, tmp_path / "t.jsonl", tmp_path / "other")
    assert (tmp_path / "s.jsonl").read_bytes() == (tmp_path / "t.jsonl").read_bytes()


def test_a_batch_is_several_times_what_is_decoded_together() -> None:
    counts = [3, 3, ROUNDS * 4 - 6, 1, ROUNDS * 9, 2]
    assert batches("abcdef", counts, 4) == [["a", "b", "c"], ["d"], ["e"], ["f"]]
    assert ROUNDS > 1, "no waiting sample would ever take the place of a finished one"


def test_the_decoding_batch_does_not_change_a_sample(base: Path, evaluation_problems: Path, tmp_path: Path) -> None:
    evaluate(_spec(), base, evaluation_problems, 0, tmp_path / "s.jsonl", tmp_path / "state")
    evaluate(_spec(rollout_rows=64), base, evaluation_problems, 0, tmp_path / "t.jsonl", tmp_path / "state")
    assert (tmp_path / "s.jsonl").read_bytes() == (tmp_path / "t.jsonl").read_bytes()
