"""The pages of documentation: they build, their commands exist, their code runs, and the README stays short."""

import ast
import os
import re
import shlex
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import click
import pytest
import typer

from dagrpo.cli import whole_app
from dagrpo.records import Problem, Verdict
from dagrpo.scorers import registry
from dagrpo.scorers.request import ScoreRequest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "config" / "README.md", *(ROOT / "docs").rglob("*.md")]
BLOCK = re.compile(r"```(?:bash)\n(.*?)```|((?:^    \S.*\n(?:^        .*\n)*)+)", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`((?:make|dagrpo) [a-z][^`]*)`")


def commands(page: Path) -> list[str]:
    """The commands of a page: lines of its blocks, and code in running text."""
    text = page.read_text()
    lines = [
        line
        for match in BLOCK.finditer(text)
        for line in "".join(filter(None, match.groups())).replace("\\\n", " ").splitlines()
    ]
    found = [line.split("#")[0].strip() for line in [*lines, *INLINE.findall(text)]]
    return [line for line in found if line.startswith(("make ", "dagrpo "))]


def verbs() -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    for name, command in getattr(typer.main.get_command(whole_app()), "commands", {}).items():
        found |= {f"{name} {sub}": it for sub, it in getattr(command, "commands", {}).items()} or {name: command}
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_exists_with_its_options(page: Path) -> None:
    known, targets = verbs(), set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in commands(page):
        words = shlex.split(line, posix=True)
        if words[0] == "make":
            assert words[1] in targets, line
            continue
        name = next((name for name in (" ".join(words[1:3]), words[1]) if name in known), None)
        assert name is not None, line
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert {word.split("=")[0] for word in words if word.startswith("--") and word != "--"} <= options, line


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="it wants Python 3.11.5")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("index.html")}
    assert {"reference/cli/index.html", "reference/methods/index.html"} <= pages
    assert "margin" in (tmp_path / "site" / "reference" / "methods" / "index.html").read_text()


def test_the_scorer_of_the_page_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    page = (ROOT / "docs" / "how-to" / "add-a-scorer.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "brevity.py", "exec"), {"__name__": "brevity"})
    kind = registry.find_kind("brevity", "scorer")
    scorer = kind.build(kind.parse({"half": 10}, "scorer.options"), registry.Tools())
    problem = Problem("one", "sums", "1+1?", "2")
    asked = [ScoreRequest(problem, text, Verdict.WRONG, True) for text in ("", "x" * 10)]
    assert scorer.score(asked) == [1.0, 0.5]


def test_the_verifier_of_the_page_grades() -> None:
    page = (ROOT / "docs" / "how-to" / "use-the-verifier.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0 and "correct" in ran.stdout.lower(), ran.stderr


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


def test_modules_import_each_other_in_one_direction() -> None:
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for package in ("dagrpo", "eval", "baselines")
        for path in (ROOT / package).rglob("*.py")
    }
    imports: dict[str, set[str]] = {}
    for module, path in files.items():
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        names = {(node.module or "", alias.name) for node in nodes for alias in node.names}
        used = {whole if (whole := f"{parent}.{name}") in files else parent for parent, name in names}
        # A module may use names of its own package, which imports the module.
        imports[module] = {one for one in used & files.keys() if not f"{module}.".startswith(f"{one}.")}
    TopologicalSorter(imports).prepare()  # raises CycleError
