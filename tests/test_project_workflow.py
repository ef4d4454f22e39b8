"""The workflow: what runs, what runs again, and what it says when something is wrong. Jobs are played by a fake."""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagrpo.config import Experiment, judged_arms

ROOT = Path(__file__).parent.parent
ACCEPTED_LINTS = {  # the reasons are in CONTRIBUTING.md
    "Specify a conda environment or container for each rule.",
    "No log directive defined",
    "Environment variable PATH used but not asserted with envvars directive",
    "Shell command directly uses variable GPU_SLOT from outside of the rule",
    "Shell command directly uses variable SLOT from outside of the rule",
    "Shell command directly uses variable TRAIN from outside of the rule",
}


class Workspace:
    """An empty folder in which the repository's workflow runs with fake jobs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "bin").mkdir()
        fake = folder / "bin" / "dagrpo"
        fake.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{ROOT / "tests" / "fake_dagrpo.py"}" "$@"\n')
        fake.chmod(0o755)

    def snakemake(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        inherited = {key: value for key, value in os.environ.items() if key != "DAGRPO_MIRROR"}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--cores", "2", *words],
            cwd=self.folder,
            env={**inherited, "PATH": path, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def run(self, *words: str | Path) -> list[str]:
        """Run to the end; return what was called, such as "train grpo 0"."""
        calls = self.folder / "calls.jsonl"
        calls.unlink(missing_ok=True)
        done = self.snakemake(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return self.called()

    def called(self) -> list[str]:
        calls = self.folder / "calls.jsonl"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return sorted(" ".join([verb, *_subject(verb, options)]) for verb, options in map(json.loads, lines))

    def experiment(self, **changes: Any) -> Path:
        """Write a small experiment: two arms of mini with one seed, under some changes."""
        settings = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text())
        settings |= {
            "name": "small",
            "seeds": [0],
            "arms": {"grpo": {"method": "grpo"}, "dagrpo": {"method": "dagrpo"}},
        }
        path = self.folder / "small.yaml"
        path.write_text(yaml.safe_dump(settings | changes))
        return path

    def spec(self, name: str) -> dict[str, Any]:
        spec: dict[str, Any] = yaml.safe_load(
            (self.folder / "results" / "small" / "specs" / f"{name}.json").read_text()
        )
        return spec


def _subject(verb: str, options: dict[str, str]) -> list[str]:
    """The arm and seed that a call is about, where there are any."""
    found = re.search(r"(?:bases|trial|(?:runs|samples|conflict)/\w+)/(\w+)(?:/seed(\d+))?", options.get("--out", ""))
    return [part for part in found.groups() if part] if found else []


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def rules() -> dict[str, str]:
    """The text of each rule, by its name."""
    files = "".join(path.read_text() for path in (ROOT / "workflows" / "rules").glob("*.smk"))
    return dict(text.split(":", 1) for text in re.split(r"^rule ", files, flags=re.MULTILINE)[1:])


def planned(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    """How many jobs of each rule a dry run announces."""
    return {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, re.MULTILINE)}


EVERYTHING = [
    "base mini 0",
    "check",
    "evaluate base 0",
    "evaluate dagrpo 0",
    "evaluate grpo 0",
    "evaluate profile",
    "excerpts",
    "figures",
    "problems",
    "report",
    "tables",
    "train dagrpo 0",
    "train grpo 0",
    "trial mini",
]


def test_each_thing_is_done_once_and_only_what_changed_is_done_again(workspace: Workspace) -> None:
    config = workspace.experiment()
    assert workspace.run("--configfile", config) == EVERYTHING
    assert workspace.run("--configfile", config) == []
    assert workspace.spec("arms/dagrpo")["options"] == {}

    arms = {
        "grpo": {"method": "grpo"},
        "dagrpo": {"method": "dagrpo", "options": {"delta": -float("inf"), "anchors": "it's"}},
    }
    again = workspace.run("--configfile", workspace.experiment(arms=arms))
    assert again == ["check", "evaluate dagrpo 0", "excerpts", "figures", "report", "tables", "train dagrpo 0"]
    options = workspace.spec("arms/dagrpo")["options"]
    assert float(options["delta"]) == -float("inf")
    assert options["anchors"] == "it's"

    again = workspace.run("--configfile", config, "--config", "methods=luffy")
    assert again == ["check", "evaluate luffy 0", "excerpts", "figures", "report", "tables", "train luffy 0"]
    assert list(workspace.spec("report")["arms"]) == ["grpo", "luffy"]


def test_no_arm_is_trained_before_the_base_was_tried_and_another_trial_trains_nothing_again(
    workspace: Workspace,
) -> None:
    config = workspace.experiment()
    workspace.run("--configfile", config)
    order = [json.loads(line)[0] for line in (workspace.folder / "calls.jsonl").read_text().splitlines()]
    verbs = ("base", "trial", "evaluate", "train")
    assert sorted(verbs, key=order.index) == list(verbs), "a base is evaluated whole before anything is trained"

    settings = yaml.safe_load(config.read_text())["evaluation"]
    changed = workspace.experiment(evaluation=settings | {"max_new_tokens": 61})
    again = workspace.run("--configfile", changed)
    assert "trial mini" in again and "evaluate grpo 0" in again
    assert not [call for call in again if call.startswith(("train", "base"))]


@pytest.mark.parametrize("verb", ["trial", "evaluate"])
def test_a_base_that_cannot_be_evaluated_costs_no_training(workspace: Workspace, verb: str) -> None:
    (workspace.folder / "fail").write_text(verb)
    assert workspace.snakemake("--configfile", workspace.experiment()).returncode != 0
    called = workspace.called()
    assert "trial mini" in called and "base mini 0" in called
    assert not [call for call in called if call.startswith("train")]


def test_an_interrupted_job_keeps_its_state_and_the_next_call_goes_on(workspace: Workspace) -> None:
    config = workspace.experiment()
    (workspace.folder / "interrupt").write_text("train/mini.dagrpo")
    stopped = workspace.snakemake("--configfile", config)
    assert stopped.returncode != 0
    assert "run the same command again" in stopped.stdout
    assert "evaluate grpo 0" in workspace.called()  # the others go on
    state = workspace.folder / "results" / "small" / "state" / "train" / "mini.dagrpo.seed0"
    assert (state / "step1").exists()
    (workspace.folder / "interrupt").unlink()
    assert workspace.run("--configfile", config) == [
        "evaluate dagrpo 0",
        "excerpts",
        "figures",
        "report",
        "tables",
        "train dagrpo 0",
    ]


def test_jobs_speak_the_language_of_the_command_line(workspace: Workspace) -> None:
    from typer.main import get_command

    from dagrpo.cli import app
    from eval.cli import app as evaluation

    known: dict[str, Any] = {}
    for each in (app, evaluation):
        command = get_command(each)
        known |= getattr(command, "commands", {command.name: command})
    settings = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text())
    called = workspace.run("--configfile", workspace.experiment(train=settings["train"] | {"snapshots": [0]}))
    assert {call.split()[0] for call in called} == {call.split()[0] for call in EVERYTHING} | {"conflict"}
    for verb, options in map(json.loads, (workspace.folder / "calls.jsonl").read_text().splitlines()):
        assert verb in known
        parameters = known[verb].params
        assert set(options) <= {name for parameter in parameters for name in parameter.opts}, verb
        required = {parameter.opts[0] for parameter in parameters if parameter.required}
        assert required <= set(options), verb


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """Variables that hide what the environment of the Slurm executor lacks."""
    hidden = ("torch", "transformers", "lm_eval")
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({hidden}))\n")
    return {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
def test_each_experiment_has_a_plan(workspace: Workspace, bare: dict[str, str], path: Path) -> None:
    experiment = Experiment.model_validate(yaml.safe_load(path.read_text()))
    done = workspace.snakemake("-n", "--config", f"experiment={path.stem}", **bare)
    assert done.returncode == 0, done.stderr
    runs = len(experiment.bases) * sum(len(experiment.seeds_of(arm)) for arm in experiment.arms)
    bases = len(experiment.bases) * len(experiment.base_seeds)
    plan = planned(done)
    assert (plan["train"], plan["base"], plan["evaluate"]) == (runs, bases, runs + bases)
    assert plan["trial"] == len(experiment.bases)
    assert plan.get("trial_benchmarks", 0) == len(experiment.bases) * (experiment.benchmarks is not None)
    assert plan.get("judge_check", 0) == len(experiment.bases) * bool(judged_arms(experiment))
    assert not (workspace.folder / "results").exists()


def test_the_judge_is_tried_before_an_arm_that_may_ask_one_is_trained(workspace: Workspace) -> None:
    judged = {"kind": "llm_judge", "options": {"base_url": "http://127.0.0.1:9/v1", "model": "m"}}
    config = workspace.experiment(arms={"grpo": {"method": "grpo"}, "dagrpo": {"method": "dagrpo", "scorer": judged}})
    (workspace.folder / "fail").write_text("judge-base")
    assert workspace.snakemake("--configfile", config, "--keep-going").returncode != 0
    called = workspace.called()
    assert "train grpo 0" in called and "judge-base" in called and "train dagrpo 0" not in called


def test_a_served_judge_is_planned_without_torch(workspace: Workspace, bare: dict[str, str]) -> None:
    words = ("--configfile", ROOT / "config" / "judges" / "open.yaml", "--config", "experiment=qwen2.5-math-7b")
    done = workspace.snakemake("-n", *words, **bare)
    assert done.returncode == 0, done.stderr


def test_a_mirror_is_one_setting_however_it_is_spelled(workspace: Workspace) -> None:
    (workspace.folder / "rows").mkdir()
    target = "results/smollm2/specs/problems.json"
    spec = workspace.folder / target
    ways = [(["mirror=rows"], {}), ([f"mirror={workspace.folder}/rows/"], {}), ([], {"DAGRPO_MIRROR": "bin/../rows"})]
    for words, environment in ways:
        done = workspace.snakemake(target, "--config", "experiment=smollm2", *words, **environment)
        assert done.returncode == 0, done.stderr
        assert json.loads(spec.read_text())["problems"]["mirror"] == str((workspace.folder / "rows").resolve())


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["experiment=minni"], "there is no config/minni.yaml; did you mean 'mini'?"),
        (["trian={'steps': 3}"], "unknown key 'trian'; did you mean 'train'?"),
        (["train={'group_sise': 8}"], "unknown key 'train.group_sise'; did you mean 'group_size'?"),
        (["train={'group_size': 1}"], "train.group_size: Input should be greater than or equal to 2"),
        (["evaluation={'reference': 'gpro'}"], "evaluation.reference: no arm is named 'gpro'"),
        (["methods=dagrop"], "no method is named 'dagrop'; did you mean 'dagrpo'?"),
        (["mirror=rows"], "experiment 'mini' makes its problems itself"),
        pytest.param(
            ["logger=wandb"],
            "logger: wandb is not installed",
            marks=pytest.mark.skipif(find_spec("wandb") is not None, reason="wandb is installed"),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_mistake_ends_with_its_sentence(workspace: Workspace, words: list[str], sentence: str) -> None:
    refused = workspace.snakemake("--config", *words)
    assert refused.returncode != 0
    assert "error: " in refused.stderr and sentence in refused.stderr
    assert "Traceback" not in refused.stderr and 'File "' not in refused.stderr
    assert not (workspace.folder / "results").exists()


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        ({"device": "cpu"}, "exec env GPUS=0 dagrpo train --spec"),
        ({"device": "cpu", "processes": 2}, "exec env GPUS=0 dagrpo train --processes 2 --spec"),
        ({"device": "cuda", "processes": 4}, "exec dagrpo gpu-slot --count 4 -- dagrpo train --processes 4 --spec"),
    ],
    ids=["one", "two on cpu", "four gpus"],
)
def test_an_experiment_says_how_many_processes_share_a_run(
    workspace: Workspace, changes: dict[str, Any], command: str
) -> None:
    config = workspace.experiment(**changes)
    target = "results/small/runs/mini/grpo/seed0/run.json"
    done = workspace.snakemake("-n", "-p", target, "--configfile", config, "--resources", "gpu=4")
    assert done.returncode == 0, done.stderr
    assert command in done.stdout + done.stderr
    assert "processes" not in Experiment.model_validate(yaml.safe_load(config.read_text())).model_dump()


def test_every_job_leaves_a_log() -> None:
    logged = {rule for rule, text in rules().items() if '"<logs>/' in text}
    assert len(logged) > 10 and logged == rules().keys() - {"spec"}  # which prints a string


def test_lint_finds_only_what_is_accepted(workspace: Workspace) -> None:
    findings = re.findall(r"^ +\* (.+?)(?: in line \d+\.)?:$", workspace.snakemake("--lint").stderr, re.MULTILINE)
    assert set(findings) == ACCEPTED_LINTS


def test_arms_start_from_each_base_and_take_its_seeds_in_turn(workspace: Workspace) -> None:
    bases = {name: {"kind": "mini"} for name in ("one", "two")}
    arms = {"grpo": {"method": "grpo"}, "dagrpo": {"method": "dagrpo", "seeds": [1, 3]}}
    config = workspace.experiment(bases=bases, base_seeds=[5, 7], seeds=[0, 1, 2, 3], arms=arms)
    done = workspace.snakemake("-n", "--configfile", config)
    assert done.returncode == 0, done.stderr
    plan = planned(done)
    assert (plan["base"], plan["train"], plan["evaluate"]) == (4, 12, 16)
    target = "results/small/runs/two/dagrpo/seed3/run.json"
    assert workspace.snakemake(target, "--configfile", config).returncode == 0
    calls = [json.loads(line) for line in (workspace.folder / "calls.jsonl").read_text().splitlines()]
    (trained,) = [options for verb, options in calls if verb == "train"]
    assert trained["--base"] == "results/small/bases/two/seed7"
    assert workspace.spec("bases/two.seed7")["seed"] == 7
