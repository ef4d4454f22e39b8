"""Where problems come from: procedural families, a local mirror of real rows, the hub, and files of any."""

from collections import Counter
from pathlib import Path

from dagrpo.config import HubProblems, MiniProblems, MirrorProblems, WordProblems
from dagrpo.problems import hub, mini, mirror, store, words
from dagrpo.problems.store import ProblemSets, read_problems, write_problems

__all__ = ["ProblemSets", "build", "read_problems", "write_problem_sets", "write_problems"]


def build(spec: MiniProblems | MirrorProblems | HubProblems | WordProblems) -> ProblemSets:
    """Make or load the problems of an experiment. Raises ``UserError`` where the spec cannot be met."""
    if isinstance(spec, MirrorProblems):
        return mirror.load(spec)
    if isinstance(spec, HubProblems):
        return hub.load(spec)
    if isinstance(spec, WordProblems):
        return words.load(spec)
    sets = mini.generate(spec)
    sizes = Counter(problem.family for problem in sets[spec.split])
    return ProblemSets(sets["train"], sets[spec.split], {family: (size, size) for family, size in sizes.items()})


def write_problem_sets(spec: MiniProblems | MirrorProblems | HubProblems | WordProblems, folder: Path) -> None:
    """Build the problems of an experiment and write them to a folder: see :func:`store.write_problem_sets`."""
    store.write_problem_sets(build(spec), folder)
