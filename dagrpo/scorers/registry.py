"""Scorers by name. A new one is a file in this folder: its options, and a class under :func:`scorer`."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, TypeVar

import dagrpo.scorers
from dagrpo.config import Strict, nearest, parse
from dagrpo.errors import UserError
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.processes.world import ALONE, World
from dagrpo.scorers.request import Scorer
from dagrpo.scorers.tally import Tally

if TYPE_CHECKING:  # a configuration is checked without torch
    from dagrpo.policy.checkpoint import Policy


@dataclass(frozen=True, slots=True)
class Tools:
    """What a run lends to its scorer: the policy as it is at each step, the flag that ends the run, the processes that
    share the work, and what is counted over all of them and all starts."""

    policy: "Policy | None" = None
    should_stop: ShouldStop = never
    world: World = ALONE
    tally: Tally = field(default_factory=lambda: Tally(None))


class NoOptions(Strict):
    """For scorers without parameters."""


Build = Callable[[Any, Tools], Scorer]
Builds = TypeVar("Builds", bound=Build)


@dataclass(frozen=True, slots=True)
class Kind:
    """A registered scorer: its options' type, and what builds it from options and tools.

    ``transport`` names the options that change no score, so that a run may go on after a change of them.
    """

    name: str
    options: type[Strict]
    build: Build
    transport: frozenset[str]

    def parse(self, options: Mapping[str, Any], where: str) -> Strict:
        """Check the options and fill in their defaults. Raises :class:`UserError`."""
        return parse(self.options, options, where)


_KINDS: dict[str, Kind] = {}


def scorer(
    name: str, options: type[Strict] = NoOptions, transport: frozenset[str] = frozenset()
) -> Callable[[Builds], Builds]:
    """Register a class, or a function, that makes a scorer from its options and :class:`Tools`; see :class:`Kind`."""

    def register(build: Builds) -> Builds:
        _KINDS[name] = Kind(name, options, build, transport)
        return build

    return register


def kinds() -> dict[str, Kind]:
    """Import the modules of this folder, and those named in the entry point group ``dagrpo.scorers``; list all."""
    for module in pkgutil.iter_modules(dagrpo.scorers.__path__):
        importlib.import_module(f"dagrpo.scorers.{module.name}")
    for entry in entry_points(group="dagrpo.scorers"):
        entry.load()
    return dict(sorted(_KINDS.items()))


def find_kind(name: str, where: str) -> Kind:
    """Look a scorer up. Raises :class:`UserError`, with the nearest name, if there is none."""
    known = kinds()
    if name not in known:
        raise UserError(f"{where}.kind: no scorer is named {name!r}{nearest(name, list(known))}")
    return known[name]
