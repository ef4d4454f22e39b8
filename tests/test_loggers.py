"""Trackers of metrics: told each step, kept on this machine, and never a reason for a run to end."""

import json
import socket
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from dagrpo import loggers
from dagrpo.cli import app
from dagrpo.errors import UserError
from dagrpo.trainer.job import train
from tests.miniature import spec

MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb", "trackio": "trackio"}


class Fake(ModuleType):
    """Stands for the package of a tracker: notes what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.told: list[tuple[int, dict[str, float]]] = []
        self.opened: dict[str, Any] = {}
        self.closed = 0
        self.broken = False

    def init(self, **settings: Any) -> "Fake":
        self.opened = settings
        return self

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def SummaryWriter(self, folder: str, purge_step: int) -> "Fake":
        self.opened = {"folder": folder, "purge_step": purge_step}
        return self

    def add_scalar(self, name: str, value: float, step: int) -> None:
        self.log({name: value}, step)

    def log(self, figures: dict[str, float], step: int) -> None:
        if self.broken:
            raise ConnectionError("no network")
        self.told.append((step, figures))

    def flush(self) -> None: ...

    def finish(self) -> None:
        self.closed += 1

    close = finish


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No environment of the user's, and no network."""
    for name in loggers._OFFLINE:
        monkeypatch.delenv(name, raising=False)

    def refused(*words: Any) -> None:
        raise AssertionError("a tracker reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refused)


@pytest.fixture
def fake(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake(MODULES[request.param])
    monkeypatch.setitem(sys.modules, MODULES[request.param], made)
    monkeypatch.setitem(sys.modules, request.param, made)
    return made


@pytest.mark.parametrize(("fake", "tracker"), [(name, name) for name in MODULES], indirect=["fake"])
def test_a_run_tells_its_tracker_each_step(
    fake: Fake, tracker: loggers.Tracker, made: tuple[Path, Path], tmp_path: Path
) -> None:
    base, problems = made
    train(spec("grpo", steps=2), 0, base, problems, tmp_path / "out", tmp_path / "state", logger=tracker)
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    told: dict[int, dict[str, float]] = {}
    for step, figures in fake.told:
        told.setdefault(step, {}).update(figures)
    assert told == {line["step"]: {k: v for k, v in line.items() if k not in ("step", "phase")} for line in lines}
    assert fake.closed == 1 and str(tmp_path / "out") in str(fake.opened)
    if tracker == "tensorboard":
        assert fake.opened["purge_step"] == 0, "a resumed run takes back what it told of steps that it does again"
    else:
        assert fake.opened["project"] == "dagrpo" and fake.opened["resume"] == "allow"


@pytest.mark.parametrize("fake", ["wandb"], indirect=True)
def test_a_tracker_that_fails_ends_no_run(
    fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.broken = True
    with loggers.tracked("wandb", tmp_path, 0) as log:
        assert loggers.os.environ["WANDB_MODE"] == "offline"
        log('{"step": 0, "loss": 1.0}')
        log('{"step": 1, "loss": 1.0}')
    said = capsys.readouterr().err
    assert said.count("wandb failed (ConnectionError('no network')); the run goes on without it") == 1
    monkeypatch.setenv("WANDB_MODE", "online")
    with loggers.tracked("wandb", tmp_path, 0):
        assert loggers.os.environ["WANDB_MODE"] == "online", "the user's own word counts"


@pytest.mark.parametrize("tracker", MODULES)
def test_a_missing_package_is_one_sentence(tracker: loggers.Tracker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    said = rf"^logger: {tracker} is not installed; run: pip install -e '.\[{tracker}\]'$"
    with pytest.raises(UserError, match=said):
        loggers.check_tracker(tracker)
    words = ["--spec", "spec.json", "--seed", "0", "--base", ".", "--problems", "p", "--out", "o", "--state", "s"]
    outcome = CliRunner().invoke(app, ["train", *words, "--logger", tracker])
    assert isinstance(outcome.exception, UserError), "which the command line ends with exit code 2"


def test_nobody_is_told_by_default(tmp_path: Path) -> None:
    loggers.check_tracker(None)
    with loggers.tracked(None, tmp_path, 0) as log:
        log("{}")
    assert list(tmp_path.iterdir()) == []
