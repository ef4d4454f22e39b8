"""What the Slurm profile submits, through a stand-in for Slurm that notes each submission and runs it at once."""

import json
import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from dagrpo.processes.gpu_slot import FOLDER, VISIBLE
from tests.test_project_workflow import ROOT, Workspace

APART = ROOT / ".venv-slurm" / "bin" / "snakemake"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not APART.exists() and find_spec("snakemake_executor_plugin_slurm") is None,
        reason="the Slurm executor is not installed: make setup-slurm",
    ),
]

SBATCH = """#!{python}
import json, os, subprocess, sys
from pathlib import Path
words = sys.argv[1:]
(script,) = [word.removeprefix("--wrap=") for word in words if word.startswith("--wrap=")]
folder = Path({folder!r})
number = 1 + len(list(folder.glob("*.json")))
log = words[words.index("--output") + 1].replace("%j", str(number))
Path(log).parent.mkdir(parents=True, exist_ok=True)
environment = os.environ | {{"SLURM_JOB_ID": str(number)}}
with open(log, "w") as out:
    code = subprocess.run(["sh", "-c", script], env=environment, stdout=out, stderr=out).returncode
name = words[words.index("--job-name") + 1]
state = "COMPLETED" if code == 0 else "FAILED"
(folder / f"{{number}}.json").write_text(json.dumps({{"name": name, "state": state, "words": words}}))
print(number)
"""
SQUEUE = """#!{python}
import json
from pathlib import Path
for path in Path({folder!r}).glob("*.json"):
    print(f"{{path.stem}}|{{json.loads(path.read_text())['state']}}")
"""
SRUN = """#!{python}
import json, os, sys
from pathlib import Path
words = sys.argv[1:]
options = words[:next(index for index, word in enumerate(words) if not word.startswith("-"))]
with Path({folder!r}, "steps").open("a") as steps:
    steps.write(json.dumps(options) + "\\n")
os.execvp(words[len(options)], words[len(options):])
"""
SCONTROL = """#!/bin/sh
echo "MinJobAge = 600 sec"
"""
SINFO = """#!/bin/sh
echo "main*"
"""


class Cluster(Workspace):
    """A workspace with Slurm's commands."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.jobs = folder / "jobs"
        self.jobs.mkdir()
        filled = {"python": sys.executable, "folder": str(self.jobs)}
        commands = {"sbatch": SBATCH.format(**filled), "squeue": SQUEUE.format(**filled)}
        commands |= {"srun": SRUN.format(**filled), "scontrol": SCONTROL, "sinfo": SINFO, "sacct": "#!/bin/sh\n"}
        for name, text in commands.items():
            path = folder / "bin" / name
            path.write_text(text)
            path.chmod(0o755)

    def submit(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {"PATH": path, "PYTHONPATH": str(ROOT), VISIBLE: "0,1,2,3", FOLDER: str(self.folder / "locks")}
        program: list[str | Path] = [APART] if APART.exists() else [sys.executable, "-m", "snakemake"]
        quick = ["--slurm-init-seconds-before-status-checks", "1", "--slurm-status-command", "squeue"]
        profile: list[str | Path] = ["--workflow-profile", ROOT / "profiles" / "slurm", *quick, "--latency-wait", "5"]
        return subprocess.run(
            [*program, "--snakefile", ROOT / "Snakefile", *profile, *words],
            cwd=self.folder,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    def steps(self) -> list[list[str]]:
        """The options of srun for each step of a job."""
        return [json.loads(line) for line in (self.jobs / "steps").read_text().splitlines()]

    def submitted(self, rule: str) -> list[list[str]]:
        """The words of sbatch for each submission of a rule, in order, without the job's own command."""
        jobs = [json.loads(path.read_text()) for path in sorted(self.jobs.glob("*.json"), key=lambda p: int(p.stem))]
        mine = [job["words"] for job in jobs if f"rule_{rule}" in job["words"][job["words"].index("--comment") + 1]]
        return [[word for word in words if not word.startswith("--wrap=")] for words in mine]


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


TARGET = "results/small/runs/mini/dagrpo/seed0/run.json"


def test_a_dry_run_needs_no_cluster(cluster: Cluster) -> None:
    done = cluster.submit(TARGET, "-n", "--configfile", cluster.experiment(device="cuda"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train dagrpo from mini, seed 0" in done.stdout + done.stderr
    assert list(cluster.jobs.iterdir()) == []


def test_a_training_is_submitted_with_its_needs_and_again_when_interrupted(cluster: Cluster) -> None:
    (cluster.folder / "interrupt").write_text("train/mini.dagrpo")
    done = cluster.submit(TARGET, "--configfile", cluster.experiment(device="cuda"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert (cluster.folder / TARGET).exists()
    assert cluster.called().count("train dagrpo 0") == 2
    first, second = cluster.submitted("train")
    assert first[first.index("--mem") + 1] == "192000" and first[first.index("-t") + 1] == "1440"
    assert {"--requeue", "--gpus=1", "--nodes=1", "--signal=TERM@300"} <= set(first)
    assert shlex.join(first) == shlex.join(second)
    (check,) = cluster.submitted("check")
    assert check[check.index("--mem") + 1] == "8000" and not [word for word in check if word.startswith("--gpus")]


def test_processes_that_share_a_run_are_one_task_with_their_gpus_on_one_node(cluster: Cluster) -> None:
    """The step is started alike: each runs the job's program once, and that starts the others."""
    threads = 3
    settings = yaml.safe_load(cluster.experiment().read_text())
    config = cluster.experiment(device="cuda", processes=4, train=settings["train"] | {"threads": threads})
    done = cluster.submit(TARGET, "--configfile", config)
    assert done.returncode == 0, done.stdout + done.stderr
    (train,) = cluster.submitted("train")
    assert {"--gpus=4", "--nodes=1", f"--cpus-per-task={4 * threads}"} <= set(train)
    assert not [word for word in train if word.startswith("--ntasks")]
    (step,) = [words for words in cluster.steps() if "--gpus=4" in words]
    assert {"-n1", "--nodes=1"} <= set(step)
    calls = [json.loads(line) for line in (cluster.folder / "calls.jsonl").read_text().splitlines()]
    assert [options["--processes"] for verb, options in calls if verb == "train"] == ["4"]
    held = [json.loads(line) for line in (cluster.folder / "gpus.jsonl").read_text().splitlines()]
    assert [device for verb, device, *_ in held if verb == "train"] == ["0,1,2,3"]
