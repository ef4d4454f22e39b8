"""A run that hangs ends, says where, and one that waits on purpose does not."""

import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from dagrpo.processes.world import ALONE, LONGEST_WAIT, Ranks, open_world
from dagrpo.trainer.watchdog import watch
from tests.sharded_jobs import ENVIRONMENT, torchrun

HANGS = """
import sys, time
from dagrpo.processes.heartbeat import beat
from dagrpo.trainer.watchdog import watch
from dagrpo.processes.world import open_world

def waits_for_a_judge():
    for _ in range(40):
        time.sleep(0.05)
        beat()

def hangs_for_ever():
    time.sleep(120)

with open_world(sharded=False) as world:
    with watch(world, 5.0, lambda: 7, least=0.8, first=30.0, poll=0.1) as step_done:
        for _ in range(3):
            time.sleep(0.02)
            step_done()
        if world.rank == world.size - 1:
            waits_for_a_judge()
        if world.size > 1:
            world.gather(None)  # the others wait here, and are not ended while one is alive
        print("waited", flush=True)
        hangs_for_ever()
"""


def test_a_hanging_process_says_what_it_was_doing_and_ends(tmp_path: Path) -> None:
    file = tmp_path / "hangs.py"
    file.write_text(HANGS)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, file], env=ENVIRONMENT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 75 and time.monotonic() - started < 60
    assert done.stdout == "waited\n"
    assert "process 1 of 1 hangs" in done.stderr and "holds 7 steps" in done.stderr
    assert "in hangs_for_ever" in done.stderr


@pytest.mark.slow
def test_none_of_several_is_ended_while_another_is_alive(tmp_path: Path) -> None:
    file = tmp_path / "hangs.py"
    file.write_text(HANGS)
    done = subprocess.run(torchrun(file), env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.count("waited") == 2
    assert "of 2 hangs" in done.stderr and "in hangs_for_ever" in done.stderr


def test_processes_wait_for_each_other_for_hours_and_not_for_days() -> None:
    """In every group of theirs: the ones of FSDP's collectives, and the one that they talk in."""
    import torch.distributed as dist

    with open_world(sharded=True) as world:
        assert isinstance(world, Ranks)
        groups = [dist.distributed_c10d._get_default_group(), world._group]
        waits = [group._get_backend(torch.device("cpu")).options._timeout for group in groups]
    assert waits == [LONGEST_WAIT] * 2 and timedelta(hours=1) < LONGEST_WAIT < timedelta(days=1)


def test_a_quick_run_is_left_alone() -> None:
    with watch(ALONE, 2.0, lambda: 0, least=0.3, first=0.3, poll=0.02) as step_done:
        for _ in range(20):
            time.sleep(0.01)
            step_done()
