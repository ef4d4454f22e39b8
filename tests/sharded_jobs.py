"""Train the jobs of a file on the processes that torchrun started: `torchrun ... tests/sharded_jobs.py jobs.json`."""

import json
import sys
from pathlib import Path
from typing import Any

from dagrpo.checkpoints import step_folder
from dagrpo.config import TrainSpec, parse
from dagrpo.errors import Interrupted, UserError
from dagrpo.trainer.loop import train
from dagrpo.world import World, open_world


def run(job: dict[str, Any], world: World) -> None:
    """Train one job; ``stop_at`` names the step after which the leading process, and it alone, is asked to stop."""
    base, problems, out, state = (Path(job[name]) for name in ("base", "problems", "out", "state"))

    def should_stop() -> bool:
        return job["stop_at"] is not None and world.leads and step_folder(state, job["stop_at"]).exists()

    try:
        train(parse(TrainSpec, job["spec"], "spec"), 0, base, problems, out, state, should_stop, world)
    except (Interrupted, UserError) as error:
        said = Path(job["said"]) / f"{out.name}.{world.rank}"
        said.write_text(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    with open_world(sharded=True) as world:
        for job in json.loads(Path(sys.argv[1]).read_text()):
            run(job, world)
