"""A gold with one slip is never correct."""

import random
from pathlib import Path

from benchmarks.mutants import MUTATIONS, mirror_golds, mutants, search
from tests.verify_pairs import pairs

GOLDS = sorted({pair.gold for pair in pairs() if pair.right and pair.gold.isascii()})


def test_every_mutation_finds_something_to_slip_on() -> None:
    draw = random.Random(0)
    made = {name for gold in GOLDS for name, _ in mutants(gold, draw, 4)}
    assert made == {mutation.__name__ for mutation in MUTATIONS}


def test_no_mutant_of_our_own_golds_is_accepted() -> None:
    tried, found = search(GOLDS, 1, seed=0)
    assert found == []
    assert tried.total() > 500


def test_no_mutant_of_real_golds_is_accepted(mirror: Path) -> None:
    golds = random.Random(0).sample(list(mirror_golds(mirror)), 300)
    tried, found = search(golds, 1, seed=2)
    assert found == []
    assert tried.total() > 600
