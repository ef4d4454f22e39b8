"""What a user meets at the command line: one sentence and an exit code for each mistake, and nothing lost."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dagrpo import cli, help_panels
from dagrpo.config import Benchmarks, Experiment, TrainSpec, load
from dagrpo.files import checkpoints
from dagrpo.trainer.loop import Run
from tests.miniature import spec

ROOT = Path(__file__).parent.parent


def call(*words: str | Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the command line in this process; return its exit code."""
    monkeypatch.setattr(sys, "argv", ["dagrpo", *map(str, words)])
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0


def train_words(job: TrainSpec, base: Path, problems: Path, root: Path) -> list[str | Path]:
    path = root / "arm.json"
    path.write_text(job.model_dump_json())
    return [
        "train", "--spec", path, "--seed", "0", "--base", base, "--problems", problems,
        "--out", root / "out", "--state", root / "state",
    ]  # fmt: skip


def test_a_job_runs_from_its_words(base: Path, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert call(*train_words(spec("random_reward"), base, problems, tmp_path), monkeypatch=monkeypatch) == 0
    assert (tmp_path / "out" / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"trian": {}}, "unknown key 'trian'; did you mean 'train'?"),
        ({"train": {"group_size": 1}}, "train.group_size: Input should be greater than or equal to 2 (found 1)"),
        ({"train": {"temperature": 0}}, "train.temperature: Input should be greater than 0"),
        ({"train": {"updates": 3}}, "updates (3) must divide prompts (4)"),
        ({"train": {"zzz": 0.1}}, "unknown key 'train.zzz'; known: checkpoint_every, "),
        ({"method": "dagrop"}, "no method is named 'dagrop'; did you mean 'dagrpo'?"),
        ({"method": "dagrpo", "options": {"dleta": 3}}, "unknown key 'dleta'; did you mean 'delta'?"),
        ({"options": {"probability": 2.0}}, "probability: Input should be less than 1 (found 2.0)"),
    ],
)
def test_a_mistake_in_the_settings_is_one_sentence(
    base: Path,
    problems: Path,
    tmp_path: Path,
    change: dict[str, Any],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = train_words(spec("random_reward"), base, problems, tmp_path)
    settings = json.loads((tmp_path / "arm.json").read_text())
    for key, value in change.items():
        settings[key] = {**settings[key], **value} if isinstance(settings.get(key), dict) else value
    (tmp_path / "arm.json").write_text(json.dumps(settings))
    assert call(*words, monkeypatch=monkeypatch) == 2
    errors = capsys.readouterr().err
    assert sentence in errors and "Traceback" not in errors and errors.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_benchmarks_need_lm_eval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = load(Experiment, ROOT / "config" / "mini.yaml").model_copy(update={"benchmarks": Benchmarks()})
    (tmp_path / "spec.json").write_text(experiment.model_dump_json())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert call("check", "--spec", tmp_path / "spec.json", monkeypatch=monkeypatch) == 2
    assert "lm-eval is not installed; run: pip install" in capsys.readouterr().err


def test_a_missing_checkpoint_is_named(
    problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = train_words(spec("grpo"), tmp_path / "nowhere", problems, tmp_path)
    assert call(*words, monkeypatch=monkeypatch) == 2
    assert "nowhere: no checkpoint here" in capsys.readouterr().err


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_disk_that_fails_loses_nothing(
    base: Path,
    problems: Path,
    tmp_path: Path,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The disk fails while the second checkpoint is written; the first one stands, and a later call goes on from it."""
    words = train_words(spec("random_reward"), base, problems, tmp_path)
    write = checkpoints.save_file

    def fail(tensors: Any, path: Path) -> None:
        if "step-00000004" in str(path):
            raise OSError(code, os.strerror(code), str(path))
        write(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", fail)
    assert call(*words, monkeypatch=monkeypatch) == 2
    errors = capsys.readouterr().err
    assert "nothing is lost" in errors and "Traceback" not in errors
    assert checkpoints.latest(tmp_path / "state") == tmp_path / "state" / "step-00000002"
    monkeypatch.setattr(checkpoints, "save_file", write)
    assert call(*words, monkeypatch=monkeypatch) == 0
    assert "continuing after step 2" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a full and a read-only file system")
@pytest.mark.parametrize(("options", "what"), [("size=64k", "no space is left"), ("ro", "read-only")])
def test_a_real_full_or_read_only_folder(
    base: Path,
    problems: Path,
    tmp_path: Path,
    options: str,
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", options, "tmpfs", results], check=False).returncode:
        pytest.skip("file systems cannot be mounted here")
    try:
        words = train_words(spec("random_reward"), base, problems, tmp_path)
        words = [results / Path(word).name if str(word).endswith(("/out", "/state")) else word for word in words]
        assert call(*words, monkeypatch=monkeypatch) == 2
        errors = capsys.readouterr().err
        assert what in errors and "Traceback" not in errors
    finally:
        subprocess.run(["umount", results], check=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_with_sealed_state_and_its_own_code(
    base: Path,
    problems: Path,
    tmp_path: Path,
    number: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = train_words(spec("random_reward", checkpoint_every=100), base, problems, tmp_path)
    step = Run._step

    def step_then_signal(run: Run, *arguments: Any) -> dict[str, Any]:
        figures = step(run, *arguments)
        if run.state.step == 3:
            os.kill(os.getpid(), number)
        return figures

    monkeypatch.setattr(Run, "_step", step_then_signal)
    assert call(*words, monkeypatch=monkeypatch) == 75
    assert "run the same command again" in capsys.readouterr().err
    assert checkpoints.latest(tmp_path / "state") == tmp_path / "state" / "step-00000003"


def test_help_groups_every_command_by_what_a_user_wants() -> None:
    environment = os.environ | {"COLUMNS": "200", "TERMINAL_WIDTH": "200"}
    shown = subprocess.run(
        [sys.executable, "-m", "dagrpo", "--help"], env=environment, capture_output=True, text=True, check=True
    ).stdout
    groups: dict[str, set[str]] = {}
    for line in shown.splitlines():
        if heading := re.match(r"╭─ (.+?) ─", line):
            commands = groups.setdefault(heading[1], set())
        elif command := re.match(r"│ ([a-z-]+) ", line):
            commands.add(command[1])
    assert list(groups) == ["Options", *help_panels.PANELS]
    assert groups[help_panels.METHODS] == {"methods", "new-baseline"}
    assert {"doctor", "plan", "check"} <= groups[help_panels.PREPARE]
    assert {"watch", "ledger"} <= groups[help_panels.FOLLOW]
    assert {"train", "evaluate", "report"} <= groups[help_panels.JOBS]
