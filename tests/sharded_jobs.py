"""Train jobs on two processes: ``train_sharded`` writes them to a file and has torchrun start this file with it."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from dagrpo.config import TrainSpec, parse
from dagrpo.errors import Interrupted, UserError
from dagrpo.files.checkpoints import step_folder
from dagrpo.processes.world import World, leave, open_world
from dagrpo.trainer import learn
from dagrpo.trainer.job import train
from tests.poison import poisoned

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "false"}


def torchrun(*words: str | Path) -> list[str]:
    """The command that starts a program as two processes."""
    module = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*module, *map(str, words)]


def train_sharded(jobs: list[dict[str, Any]], file: Path) -> None:
    """Train jobs, each the arguments of :func:`run`, one after the other in one start of torchrun."""
    file.write_text(json.dumps(jobs))
    command = torchrun(Path(__file__), file)
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run(job: dict[str, Any], world: World) -> None:
    """Train one job.

    ``stop_at`` names the step after which the leading process, and it alone, is asked to stop; ``poison`` the process
    and the updates that have a loss which is no number.
    """
    base, problems, out, state = (Path(job[name]) for name in ("base", "problems", "out", "state"))

    def should_stop() -> bool:
        return job["stop_at"] is not None and world.leads and step_folder(state, job["stop_at"]).exists()

    accumulate = learn._accumulate
    if (poison := job.get("poison")) and poison["rank"] == world.rank:
        learn._accumulate = poisoned(math.nan, "loss", poison["updates"])
    try:
        train(parse(TrainSpec, job["spec"], "spec"), 0, base, problems, out, state, should_stop, world)
    except (Interrupted, UserError) as error:
        said = Path(job["said"]) / f"{out.name}.{world.rank}"
        said.write_text(f"{type(error).__name__}: {error}")
    finally:
        learn._accumulate = accumulate


if __name__ == "__main__":
    with open_world(sharded=True) as world:
        for job in json.loads(Path(sys.argv[1]).read_text()):
            run(job, world)
    leave(0)
