"""The file of a new method, and its test, from a working example."""

import keyword
import re
from pathlib import Path

from dagrpo.algorithm import methods
from dagrpo.errors import UserError


def new_baseline(name: str, root: Path) -> tuple[Path, Path]:
    """Write ``baselines/<name>.py`` and ``tests/test_methods_<name>.py`` below the root of a checkout.

    Returns:
        the two files.

    Raises:
        UserError: the name is no name or taken, or the root is no checkout of this project.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(f"{name!r} is no name for a method; take small letters, digits and underscores: my_method")
    file, test = root / "baselines" / f"{name}.py", root / "tests" / f"test_methods_{name}.py"
    if not (root / "baselines" / "__init__.py").is_file():
        raise UserError(f"{root.resolve()} holds no `baselines`; run this in the folder of a clone")
    if name in methods():
        raise UserError(f"a method named {name!r} is registered already; choose another name")
    for path in (file, test):
        if path.exists():
            raise UserError(f"{path} is there already; choose another name, or move the file")
    loader = PackageLoader("dagrpo", "scaffold")
    templates = Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True)
    words = {"name": name, "title": name.replace("_", " ").capitalize()}
    file.write_text(templates.get_template("baseline.py.j2").render(words), encoding="utf-8")
    test.write_text(templates.get_template("test_baseline.py.j2").render(words), encoding="utf-8")
    return file, test
