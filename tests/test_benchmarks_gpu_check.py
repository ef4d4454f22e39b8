"""The GPU check runs through on a CPU and would notice what is wrong."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_check
from dagrpo.config import MiniProblems, Verifier
from dagrpo.problems import mini
from dagrpo.records import Rollout
from dagrpo.rollout.torch_engine import TorchEngine
from dagrpo.verify import make_verifier

CPU = torch.device("cpu")


@pytest.mark.slow
def test_it_runs_and_writes_its_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    words = ["gpu_check", "--device", "cpu", "--size", "tiny", "--out", str(tmp_path / "out" / "cpu.json")]
    monkeypatch.setattr(sys, "argv", words)
    gpu_check.main()
    figures = json.loads((tmp_path / "out" / "cpu.json").read_text())
    assert figures["correct"]["objectives"]["methods"] > 5
    assert figures["correct"]["resume"]["stopped"] > 0
    assert all(figures["speed"][name]["steps_per_s"] > 0 for name in ("grpo", "dagrpo"))
    assert figures["machine"]["torch"] == torch.__version__


def test_an_engine_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter([0.0, 0.01])
    original = TorchEngine.sample

    def off(self: TorchEngine, *given: object) -> list[list[Rollout]]:
        by = next(calls)
        groups = original(self, *given)  # type: ignore[arg-type]
        return [[replace(one, logps=tuple(value + by for value in one.logps)) for one in group] for group in groups]

    monkeypatch.setattr(TorchEngine, "sample", off)
    assert not gpu_check.engine_agrees(CPU, mini.generate(MiniProblems(train=40))["train"])["right"]


@pytest.mark.parametrize("check", [gpu_check.objectives_agree, gpu_check.sharded_agrees])
def test_an_update_that_is_off_is_noticed(monkeypatch: pytest.MonkeyPatch, check: Callable[..., Any]) -> None:
    factors = iter([1.0, 1.01] * 100)
    original = gpu_check.learn
    monkeypatch.setattr(
        gpu_check, "learn", lambda *given: {name: next(factors) * v for name, v in original(*given).items()}
    )
    monkeypatch.setattr(gpu_check, "methods", lambda: ["grpo"])
    problems = mini.generate(MiniProblems(train=40))["train"]
    with make_verifier(Verifier(kind="exact")) as grader:
        found = check(CPU, problems, grader)
    assert not found["right"]
