"""Methods by name: a method is a function from its options to an :class:`Algorithm`, registered by :func:`method`."""

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import entry_points
from typing import Any

from dagrpo.algorithm import slots, terms
from dagrpo.algorithm.slots import Algorithm
from dagrpo.config import Strict, nearest, parse
from dagrpo.errors import UserError


class NoOptions(Strict):
    """For methods without parameters."""


@dataclass(frozen=True, slots=True)
class Method:
    """A registered method: its options' type, and the function that builds the algorithm from them."""

    name: str
    options: type[Strict]
    build: Callable[[Any], Algorithm]
    module: str

    def algorithm(self, options: Mapping[str, Any], where: str) -> Algorithm:
        """Check the options and build. Raises :class:`UserError` for unknown or impossible options, or slots."""
        checked = parse(self.options, options, where)
        try:
            return self.build(checked)
        except TypeError as error:
            message = _unknown_slot(str(error))
            if message is None:
                raise
            raise UserError(f"method {self.name!r} ({self.module}): {message}") from error

    def resolved(self, options: Mapping[str, Any]) -> Strict:
        """The options with every default filled in."""
        return parse(self.options, options, f"options of {self.name}")


def _unknown_slot(message: str) -> str | None:
    """What to say of a record that was given a field which it does not have; ``None`` for any other mistake."""
    found = re.match(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", message)
    if not found:
        return None
    record, slot = found.groups()
    known = [field.name for module in (slots, terms) for field in _fields(getattr(module, record, None))]
    return f"{record} has no slot `{slot}`{nearest(slot, known)}" if known else None


def _fields(record: object) -> tuple[Any, ...]:
    return fields(record) if isinstance(record, type) and is_dataclass(record) else ()


_METHODS: dict[str, Method] = {}


def method(
    name: str, options: type[Strict] = NoOptions
) -> Callable[[Callable[[Any], Algorithm]], Callable[[Any], Algorithm]]:
    """Register a function from options to :class:`Algorithm` under a name."""

    def register(build: Callable[[Any], Algorithm]) -> Callable[[Any], Algorithm]:
        if name in _METHODS and _METHODS[name].module != build.__module__:
            raise UserError(
                f"method {name!r} is registered by {_METHODS[name].module} and by {build.__module__}; rename one"
            )
        _METHODS[name] = Method(name, options, build, build.__module__)
        return build

    return register


def methods() -> dict[str, Method]:
    """Import every module or package named in the entry point group ``dagrpo.methods``; return all methods."""
    for entry in entry_points(group="dagrpo.methods"):
        module = entry.load()
        for child in pkgutil.iter_modules(getattr(module, "__path__", [])):
            importlib.import_module(f"{module.__name__}.{child.name}")
    return dict(sorted(_METHODS.items()))


def find_method(name: str) -> Method:
    """Look a method up. Raises :class:`UserError`, with the nearest name, if there is none."""
    known = methods()
    if name not in known:
        raise UserError(f"no method is named {name!r}{nearest(name, list(known))}")
    return known[name]
