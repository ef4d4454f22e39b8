"""Scorers inside a training run: whom they are asked about, and what a judge that fails costs."""

import json
import threading
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from dagrpo.config import Scorer, TrainSpec
from dagrpo.errors import Interrupted, UserError
from dagrpo.files import checkpoints
from dagrpo.records import Verdict
from dagrpo.scorers import ConfiguredScorer, ScoreRequest
from dagrpo.trainer.job import train
from tests.judge_server import JudgeServer, Visit, judge_server
from tests.miniature import spec


def job(scorer: Scorer, **changes: object) -> TrainSpec:
    return spec("dagrpo", {"delta": 1.0}, **changes).model_copy(update={"scorer": scorer})


def judged(url: str, cache: Path, **options: object) -> TrainSpec:
    options |= {"base_url": url, "model": "m", "cache": str(cache), "retries": 0, "concurrency": 2, "outage_hours": 0.0}
    return job(Scorer(kind="llm_judge", options=options), steps=6, checkpoint_every=100)


def grade(visit: Visit) -> None:
    """Grades that differ from question to question, and are the same for the same."""
    mark = int(sha256(unmarked(visit).encode()).hexdigest(), 16)
    visit.say(
        json.dumps(
            {name: 1 + (mark >> shift) % 10 for shift, name in enumerate(("answer", "validity", "completeness"))}
        )
    )


def unmarked(visit: Visit) -> str:
    """What a judge is asked, without the secret of the run."""
    return visit.question.replace(visit.question.split("<problem ")[1].split(">")[0], "")


def _bits(out: Path) -> dict[str, str]:
    files = [*sorted((out / "model").iterdir()), out / "metrics.jsonl"]
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in files}


def _distinct(server: JudgeServer) -> int:
    return len({unmarked(visit) for visit in server.visits})


@pytest.mark.parametrize("kind", ["step_checker", "embed_sim", "answer_likelihood"])
def test_only_rows_of_groups_with_both_signs_are_asked_about(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    steps: list[Sequence[ScoreRequest]] = []
    score = ConfiguredScorer.score

    def remember(self: ConfiguredScorer, requests: Sequence[ScoreRequest]) -> list[float]:
        steps.append(requests)
        return score(self, requests)

    monkeypatch.setattr(ConfiguredScorer, "score", remember)
    train(job(Scorer(kind=kind)), 0, *made, tmp_path / "out", tmp_path / "state")
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == len(rows) == 4
    for requests, row in zip(steps, rows, strict=True):
        by_problem: dict[str, list[ScoreRequest]] = {}
        for request in requests:
            by_problem.setdefault(request.problem.id, []).append(request)
            assert request.prompt_tokens and request.response_tokens
        assert all(len(group) == 4 for group in by_problem.values())
        assert all(len({request.verdict is Verdict.CORRECT for request in group}) == 2 for group in by_problem.values())
        assert len(by_problem) == round(row["mixed_groups"] * 4)
    assert any(steps)
    card = json.loads((tmp_path / "out" / "run.json").read_text())
    assert card["scorer"] == {"kind": kind} and card["spec"]["verifier"]["thought"] == "optional"


def test_a_run_whose_judge_fails_stops_sealed_and_goes_on_to_the_same_bits(
    made: tuple[Path, Path], tmp_path: Path
) -> None:
    fails_from = [10**9]

    def play(visit: Visit) -> None:
        visit.send(503) if visit.number >= fails_from[0] else grade(visit)

    with judge_server(play) as server:
        train(judged(server.url, tmp_path / "a"), 0, *made, tmp_path / "whole", tmp_path / "whole-state")
        needed = server.asked
        assert needed == _distinct(server) >= 4
        fails_from[0] = server.asked + needed // 2
        with pytest.raises(UserError, match=r"has answered nothing .*HTTP 503.*run this again"):
            train(judged(server.url, tmp_path / "b"), 0, *made, tmp_path / "parts", tmp_path / "state")
        folder = checkpoints.latest(tmp_path / "state")
        assert folder is not None and not (tmp_path / "parts").exists()
        assert 0 < int(folder.name.split("-")[-1]) < 6  # although the next seal was far away

        good, fails_from[0] = fails_from[0] - needed, 10**9
        server.visits.clear()
        # Another way to the same judge is no other run.
        other = judged(server.url, tmp_path / "b", timeout=30.0, max_calls=500)
        train(other, 0, *made, tmp_path / "parts", tmp_path / "state")
        assert server.asked == needed - good
    assert _bits(tmp_path / "parts") == _bits(tmp_path / "whole")
    card = json.loads((tmp_path / "parts" / "run.json").read_text())
    assert card["scorer"]["rubric"] == "holistic.v1" and len(card["scorer"]["rubric_sha256"]) == 64


def test_a_repeated_run_asks_nothing(made: tuple[Path, Path], tmp_path: Path) -> None:
    with judge_server(grade) as server:
        for name in ("first", "second"):
            train(judged(server.url, tmp_path / "cache"), 0, *made, tmp_path / name, tmp_path / f"{name}-state")
        assert server.asked == _distinct(server)
    assert _bits(tmp_path / "first") == _bits(tmp_path / "second")


def test_a_stop_during_a_slow_judge_seals(made: tuple[Path, Path], tmp_path: Path) -> None:
    stop, ready = threading.Event(), threading.Event()

    def play(visit: Visit) -> None:
        stop.set()
        ready.wait(20)

    with judge_server(play) as server:
        with pytest.raises(Interrupted):
            train(judged(server.url, tmp_path / "cache"), 0, *made, tmp_path / "out", tmp_path / "state", stop.is_set)
        assert not ready.is_set()
        ready.set()
    assert checkpoints.latest(tmp_path / "state") is not None
