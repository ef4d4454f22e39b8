"""Hostile answers: each is stopped by a limit, none delays the others, and the worker that dies is replaced."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.stopwatch import children, stopwatch
from dagrpo.errors import Interrupted
from dagrpo.processes.signals import never
from dagrpo.verify.settle import Judgement
from dagrpo.verify.workers import Task, Workers, try_twice
from tests.stopwatch import NEEDS_PROC


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    pool = Workers(count=2, seconds=2.0, should_stop=never)
    yield pool
    pool.close()


FOREIGN = r"\max(12,x)"
ENDLESS = rf"\max({'^'.join('x' * 60)},x)"
"""Our reader has no such command, and math-verify does not come to an end."""


def task(answer: str, gold: str = "x+1", judge: str = "sympy") -> Task:
    return judge, gold, answer


# ---------------------------------------------------------------- the rule, with a clock that is counted


class Bench:
    """Stands for workers: a task is its cost in seconds; notes what was tried with what allowance."""

    def __init__(self) -> None:
        self.tried: list[tuple[float, int]] = []
        self.lost = 0.0

    def __call__(self, tasks: Sequence[Task], cpu: float) -> list[Judgement | None]:
        self.tried.append((cpu, len(tasks)))
        outcomes = [Judgement.EQUAL if float(cost) <= cpu else None for _, _, cost in tasks]
        self.lost += cpu * outcomes.count(None)
        return outcomes


def tried(costs: Sequence[float], seconds: float = 2.0) -> tuple[Bench, list[bool]]:
    bench = Bench()
    outcomes = try_twice([("", "", str(cost)) for cost in costs], bench, seconds)
    return bench, [outcome is not None for outcome in outcomes]


def test_ordinary_tasks_are_tried_once() -> None:
    bench, ended = tried([0.01] * 1000)
    assert all(ended)
    assert bench.tried == [(0.02, 1000)]
    assert tried([])[1] == []


def test_slow_tasks_are_all_judged() -> None:
    assert all(tried([0.01, 0.4, 0.1] * 200)[1])


def test_a_slow_task_is_judged_beside_an_endless_one() -> None:
    bench, ended = tried([99.0, 0.01, 0.4, 0.4])
    assert ended == [False, True, True, True]
    assert bench.tried == [(0.02, 4), (0.5, 2), (0.5, 1)]


@pytest.mark.parametrize("count", [1, 2, 10, 64])
def test_endless_tasks_cost_a_call_no_more_than_promised(count: int) -> None:
    bench, ended = tried([99.0] * count)
    assert not any(ended)
    assert bench.lost <= 2.0 * (count / 100 + 0.6) + 1e-9


def test_endless_tasks_do_not_take_ordinary_ones_with_them() -> None:
    _, ended = tried([99.0] * 64 + [0.01] * 64)
    assert ended == [False] * 64 + [True] * 64


# ---------------------------------------------------------------- real processes


def test_results_stand_in_order(workers: Workers) -> None:
    answers = ["1+x", "x-1", "x+1", "2x"] * 100
    expected = [Judgement.of(answer in ("1+x", "x+1")) for answer in answers]
    assert workers.judge([task(answer) for answer in answers]) == expected
    assert workers.judge([]) == []


def test_both_judges_serve(workers: Workers) -> None:
    for judge in ("math_verify", "sympy"):
        assert workers.judge([task("1+x", judge=judge)]) == [Judgement.EQUAL]
        assert workers.judge([task("9^{9^{9}}", judge=judge)]) == [Judgement.REFUSED]


@NEEDS_PROC
def test_killed_worker_is_replaced(workers: Workers) -> None:
    workers.judge([task("x")])
    pool = workers._process.pid
    before = children(pool)
    assert len(before) == 2
    os.kill(min(before), signal.SIGKILL)
    assert workers.judge([task("1+x")] * 40) == [Judgement.EQUAL] * 40
    assert len(children(pool)) == 2
    assert children(pool) != before


@NEEDS_PROC
def test_a_worker_that_gets_no_processor_for_longer_than_the_limit_still_judges() -> None:
    with closing(Workers(count=1, seconds=0.3, should_stop=never)) as pool:
        pool.judge([task("x")])
        (worker,) = children(pool._process.pid)
        os.kill(worker, signal.SIGSTOP)
        threading.Timer(0.8, os.kill, (worker, signal.SIGCONT)).start()
        assert pool.judge([task("1+x")]) == [Judgement.EQUAL]
        assert children(pool._process.pid) == {worker}


@NEEDS_PROC
def test_interruption_is_prompt_leaves_nothing_behind_and_is_not_final(workers: Workers) -> None:
    workers.judge([task("x")])
    pids = {workers._process.pid, *children(workers._process.pid)}
    asked_at = time.monotonic() + 0.2
    workers.should_stop = lambda: time.monotonic() > asked_at
    with pytest.raises(Interrupted):
        workers.judge([task(ENDLESS, gold=FOREIGN, judge="math_verify")] * 4)
    assert time.monotonic() - asked_at < 1.0
    wait_for(lambda: not any(map(is_running, pids)))
    workers.should_stop = never
    assert workers.judge([task("1+x")]) == [Judgement.EQUAL]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.slow
@NEEDS_PROC
def test_64_endless_tasks_on_two_workers_take_less_than_the_limit_and_a_second(workers: Workers) -> None:
    ordinary = [task("1+x", judge="math_verify")] * 64
    workers.judge(ordinary)
    endless = [task(f"{ENDLESS}+{n}", gold=FOREIGN, judge="math_verify") for n in range(64)]
    with stopwatch(workers) as watch:
        outcomes = workers.judge(endless + ordinary)
    assert 0.5 < watch.seconds < workers.seconds + 1
    assert outcomes == [None] * 64 + [Judgement.EQUAL] * 64
