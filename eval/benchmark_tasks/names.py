"""Names of the benchmarks and of groups of them: all that a workflow reads of them to be planned, without torch."""

from typing import Literal

from dagrpo.config import nearest
from dagrpo.errors import UserError

Domain = Literal["math", "ood", "extra"]

DOMAINS: dict[str, Domain] = {
    **dict.fromkeys(("aime2024", "aime2025", "amc_val83", "math500", "minerva_math", "olympiadbench"), "math"),
    **dict.fromkeys(("arc_challenge", "gpqa_diamond", "mmlu_pro"), "ood"),
    "gsm8k_test": "extra",
}
"""The domain of each benchmark, in the order of the papers' tables; extra are those that the papers do not have."""

GROUPS: dict[str, tuple[Domain, ...]] = {
    "nine": ("math", "ood"),
    "math": ("math",),
    "ood": ("ood",),
    "all": ("math", "ood", "extra"),
}


def known(name: str) -> str:
    """A benchmark's name. Raises ``UserError`` where there is none such."""
    if name not in DOMAINS:
        raise UserError(f"benchmarks: there is no {name!r}{nearest(name, list(DOMAINS))}")
    return name


def choose(words: str) -> tuple[str, ...]:
    """Turn names and groups (nine, math, ood, all), separated by commas, into names in table order.

    Raises:
        UserError: there is no such benchmark.
    """
    chosen: set[str] = set()
    for word in filter(None, words.replace(" ", "").split(",")):
        name = word.removeprefix("dagrpo_")
        members = {one for one, domain in DOMAINS.items() if domain in GROUPS.get(name, ())}
        chosen |= members or {known(name)}
    return tuple(name for name in DOMAINS if name in chosen)
