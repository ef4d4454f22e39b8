"""The way to a method of one's own: what the page says is typed, and a package from outside is found."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from dagrpo.errors import UserError
from dagrpo.scaffold import new_baseline

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "how-to" / "add-a-method.md").read_text()
COPIED = (
    *("baselines", "benchmarks", "config", "dagrpo", "docs", "eval", "profiles", "tests", "workflows"),
    *("Makefile", "README.md", "Snakefile", "constraints.txt", "pyproject.toml"),
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, its miniature smaller still, with an environment that `make` takes for its own."""
    folder = tmp_path_factory.mktemp("clone")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / name)
    (folder / "results").mkdir()
    shutil.copy2(ROOT / "results" / "published.csv", folder / "results")
    mini = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text())
    mini["bases"]["mini"] |= {"steps": 4, "width": 16, "heads": 2, "layers": 1, "threads": 1}
    mini["problems"] |= {"train": 20, "evaluation": 2}
    mini["train"] |= {"steps": 2, "prompts": 2, "group_size": 4}
    mini["evaluation"] |= {"profile_problems": 4, "profile_samples": 2, "bootstrap": 100}
    mini["seeds"] = [0]
    for arm in mini["arms"].values():
        arm.pop("train", None)  # snapshots of steps that do not come
    (folder / "config" / "mini.yaml").write_text(yaml.safe_dump(mini))
    (folder / "venv").mkdir()
    (folder / "venv" / "bin").symlink_to(Path(sys.prefix) / "bin")
    (folder / "venv" / ".installed").touch()
    return folder


def type_in(folder: Path, line: str) -> str:
    path = os.pathsep.join([str(Path(sys.prefix) / "bin"), os.environ["PATH"]])
    words = {"PYTHONPATH": str(folder), "VENV": str(folder / "venv"), "PATH": path, "CORES": "2"}
    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=os.environ | words, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
def test_the_commands_of_the_page_work(clone: Path) -> None:
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    assert [line.split()[0] for line in lines] == ["dagrpo", "make", "make"]
    type_in(clone, lines[0])
    assert (clone / "baselines" / "rloo.py").read_text() == blocks("python")[0], "the page shows what is written"
    tested = type_in(clone, lines[1])
    assert " passed" in tested and "failed" not in tested
    type_in(clone, lines[2])
    report = (clone / "results" / "mini" / "report.html").read_text()
    assert "Rloo compares each answer with the mean of the other answers" in report
    assert sorted(path.name for path in (clone / "results" / "mini" / "runs" / "mini").iterdir()) == ["grpo", "rloo"]


@pytest.mark.slow
def test_a_package_from_outside_is_found_by_its_entry_point(tmp_path: Path) -> None:
    package, site = tmp_path / "package", tmp_path / "site"
    package.mkdir()
    (package / "pyproject.toml").write_text(blocks("toml")[0])
    (package / "my_methods.py").write_text(blocks("python")[0].replace("rloo", "of_my_own"))
    words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*words, "--target", str(site), str(package)], check=True, capture_output=True, timeout=300)
    found = subprocess.run(
        [sys.executable, "-m", "dagrpo.cli", "methods"],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{site}"}, capture_output=True, text=True,
        check=True, timeout=300,
    )  # fmt: skip
    assert re.search(r"^of_my_own  \(my_methods\)  scale=1.0$", found.stdout, re.MULTILINE)
    assert re.search(r"^grpo  ", found.stdout, re.MULTILINE)


def test_every_method_that_the_page_names_is_there() -> None:
    from dagrpo.algorithm import methods

    users = re.findall(r"^\|.*\| ([^|]*) \|$", PAGE, re.MULTILINE)
    named = {name for cell in users for name in re.findall(r"`(\w+)`", cell)}
    assert len(named) > 10 and named <= methods().keys()


@pytest.mark.parametrize("name", ["My-Method", "2nd", "class", "", "../grpo"])
def test_what_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="is no name for a method"):
        new_baseline(name, tmp_path)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="run this in the folder of a clone"):
        new_baseline("mine", tmp_path)
    (tmp_path / "baselines").mkdir()
    (tmp_path / "tests").mkdir()
    (tmp_path / "baselines" / "__init__.py").touch()
    with pytest.raises(UserError, match="registered already"):
        new_baseline("grpo", tmp_path)
    file, _ = new_baseline("mine", tmp_path)
    assert '@method("mine", Options)' in file.read_text()
    with pytest.raises(UserError, match=r"mine\.py is there already"):
        new_baseline("mine", tmp_path)
