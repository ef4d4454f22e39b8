"""Pages of the site that are made from the code: command line, configuration, methods, public API."""

import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pandas as pd
import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
API = ("dagrpo.algorithm", "dagrpo.verify", "dagrpo.scorers", "dagrpo.records", "eval.ledger.book", "eval.records")
ZOO = ROOT / "results" / "reference" / "zoo" / "tables" / "working" / "main.csv"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    for path, text in {
        "reference/cli.md": command_line(),
        "reference/configuration.md": configuration(),
        "reference/methods.md": methods(),
    }.items():
        files.append(File.generated(config, path, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the API under the page on Python."""
    return f"{markdown}\n{api()}" if page.file.src_uri == "reference/python.md" else markdown


def command_line() -> str:
    """Every verb with its arguments and options."""
    from dagrpo.cli import whole_app

    group = typer.main.get_command(whole_app())
    return "\n".join(["# Command line", "", *_commands(group, "dagrpo")])


def _commands(group: Any, prefix: str) -> Iterator[str]:
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix} {name}")
            continue
        yield f"## `{prefix} {name}`\n\n{inspect.cleandoc(command.help or '')}\n"
        rows = [
            f"| `{'`, `'.join(one.opts) if isinstance(one, click.Option) else one.name}` | {_cell(_help(one))} |"
            for one in command.params
        ]
        if rows:
            yield "\n".join(["| | |", "|---|---|", *rows, ""])


def _help(parameter: Any) -> str:
    text = getattr(parameter, "help", None) or ""
    return f"{text} Required." if parameter.required else text


def configuration() -> str:
    """Every key of an experiment, by section."""
    from dagrpo.config import Experiment

    schema = Experiment.model_json_schema()
    sections = {"Experiment": schema, **schema["$defs"]}
    lines = ["# Configuration", ""]
    for name, section in sections.items():
        lines += [
            f"## {name}",
            "",
            section.get("description", ""),
            "",
            "| key | type | default | |",
            "|---|---|---|---|",
        ]
        for key, value in section.get("properties", {}).items():
            default = f"`{json.dumps(value['default'])}`" if "default" in value else ""
            lines.append(
                f"| `{key}` | {_cell(_type(value))} | {_cell(default)} | {_cell(value.get('description', ''))} |"
            )
        lines.append("")
    return "\n".join(lines)


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        name = value["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    for several in ("anyOf", "oneOf"):
        if several in value:
            return " or ".join(_type(one) for one in value[several])
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in value["enum"])
    if "const" in value:
        return f"`{value['const']}`"
    if value.get("type") == "array" and isinstance(value.get("items"), dict):
        return f"list of {_type(value['items'])}"
    return str(value.get("type", "any"))


def methods() -> str:
    """Every method: the head of its file, its options, and what it came to in the zoo."""
    from dagrpo.algorithm import find_method
    from dagrpo.algorithm import methods as names

    table = pd.read_csv(ZOO)
    scores = table[table["column"] == "in_distribution"].set_index("arm")
    lines = ["# Methods", "", "Averages in distribution are of `results/reference/zoo`: three seeds, one base.", ""]
    for name in sorted(names()):
        method = find_method(name)
        head = inspect.cleandoc(importlib.import_module(method.module).__doc__ or "")
        lines += [f"## {name}", "", "```text", head, "```", ""]
        fields = method.options.model_fields
        if fields:
            lines += ["| option | default | |", "|---|---|---|"]
            lines += [f"| `{key}` | `{one.default}` | {_cell(one.description or '')} |" for key, one in fields.items()]
            lines.append("")
        if name in scores.index:
            row = scores.loc[name]
            lines += [f"Zoo: {100 * row['mean']:.1f} [{100 * row['low']:.1f}, {100 * row['high']:.1f}].", ""]
    return "\n".join(lines)


def api() -> str:
    """Public names with signature and docstring."""
    lines: list[str] = []
    for module in map(importlib.import_module, API):
        lines += [f"## `{module.__name__}`", "", "```text", inspect.cleandoc(module.__doc__ or ""), "```", ""]
        for name, value in _public(module):
            lines += [f"### `{name}`", "", "```python", _signature(name, value), "```", ""]
            lines += ["```text", inspect.cleandoc(value.__doc__ or ""), "```", ""]
    return "\n".join(lines)


def _public(module: Any) -> Iterator[tuple[str, Any]]:
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == module.__name__
    ]
    for name in names:
        value = getattr(module, name)
        if (inspect.isclass(value) or inspect.isfunction(value)) and value.__doc__:
            yield name, value


def _signature(name: str, value: Any) -> str:
    try:
        return f"{name}{inspect.signature(value)}"
    except (TypeError, ValueError):
        return name


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
