"""A function of a method in words: its name, and what its docstring or its one line says."""

import ast
import inspect
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from eval.methods.head import plain


@dataclass(frozen=True, slots=True)
class Named:
    """The name of a function, or its expression where that is all it has, a sentence, and what it was made with."""

    code: str
    sentence: str = ""
    settings: str = ""


def describe(function: Callable[..., Any], build: Callable[..., Any]) -> Named:
    """Name a function that fills a slot.

    A closure without words of its own goes by those of the primitive that made it; one without either by its
    expression, where that is all it has.

    Args:
        function: what fills the slot.
        build: the method's own function, which is no primitive.
    """
    if not hasattr(function, "__qualname__"):  # an object that can be called
        return Named(type(function).__name__, sentence(type(function)))
    outer = getattr(sys.modules.get(function.__module__), function.__qualname__.split(".")[0], function)
    made = outer is not function and outer is not build
    if sentence(function) or not made:
        expression = "" if sentence(function) else _expression(function)
        name = expression or function.__name__.lstrip("_")
        return Named(name, sentence(function) or ("" if expression else "see the formula"))
    usual = inspect.signature(outer).parameters
    kept = [
        f"{name} = {shown(value)}"
        for name, value in _settings(function).items()
        if name not in usual or usual[name].default != value
    ]
    return Named(outer.__name__.lstrip("_"), sentence(outer), ", ".join(kept))


def sentence(thing: Any) -> str:
    """The first sentence of a docstring, without shapes; nothing where there is none of its own."""
    text = thing.__doc__ or ""
    first = plain(inspect.cleandoc(text).split("\n\n")[0])
    made = isinstance(thing, type) and text.startswith(f"{thing.__name__}(")
    return "" if made else re.split(r"\. |; see |: (?:shape|bool)\b", first)[0].rstrip(".:")


def shown(value: Any) -> str:
    """A setting as a configuration would have it."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return value if value.isprintable() else repr(value)
    return json.dumps(value)


def _settings(function: Callable[..., Any]) -> dict[str, Any]:
    """Numbers and words that a closure keeps, and those that the functions it calls keep."""
    names = function.__code__.co_freevars
    cells = function.__closure__ or ()
    found: dict[str, Any] = {}
    for name, value in sorted((name, cell.cell_contents) for name, cell in zip(names, cells, strict=True)):
        if isinstance(value, bool | int | float | str | tuple):
            found[name] = value
        elif inspect.isfunction(value):
            found |= _settings(value)
    return found


def _expression(function: Callable[..., Any]) -> str:
    """The expression that a lambda, or a function of one line, returns."""
    try:
        source = inspect.getsource(sys.modules[function.__module__])
    except (OSError, TypeError):  # a method that was typed in has no file
        return ""
    code = function.__code__
    places = {(line, column) for line, _, column, _ in code.co_positions()}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Lambda) and function.__name__ == "<lambda>":
            if node.lineno == code.co_firstlineno and (node.body.lineno, node.body.col_offset) in places:
                return ast.unparse(node.body)
        elif isinstance(node, ast.FunctionDef) and (node.name, node.lineno) == (function.__name__, code.co_firstlineno):
            only = node.body[0] if len(node.body) == 1 else None
            return ast.unparse(only.value) if isinstance(only, ast.Return) and only.value else ""
    return ""
