"""The miniature: procedural problem families with worked solutions that a program can check."""

from dagrpo.problems.mini.checker import check_steps, extract_answer, reference_steps
from dagrpo.problems.mini.families import FAMILIES, LEVELS, OUT_OF_DISTRIBUTION, generate, split_of

__all__ = [
    "FAMILIES",
    "LEVELS",
    "OUT_OF_DISTRIBUTION",
    "check_steps",
    "extract_answer",
    "generate",
    "reference_steps",
    "split_of",
]
