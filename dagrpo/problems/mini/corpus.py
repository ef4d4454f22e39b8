"""What the base of the miniature reads: as a web corpus does, it mixes sound reasoning, slips, guesses and facts."""

from collections.abc import Iterator, Set

import numpy as np

from dagrpo.config import Corpus
from dagrpo.problems.mini.expressions import canonical, moves, parse
from dagrpo.problems.mini.families import FAMILIES, LARGEST, LEVELS, OUT_OF_DISTRIBUTION, split_of, stream
from dagrpo.records import Problem

_LONGEST_SLIP = 10  # steps; a slip may lead a procedure away from its end


def corpus_problems(corpus: Corpus, seed: int, excluded: Set[str]) -> dict[tuple[str, int], list[Problem]]:
    """Draw the questions of a corpus by family and level; none is held out, none is among ``excluded``.

    Args:
        excluded: canonical forms of questions that the corpus must not hold.
    """
    school, web = cell_shares(corpus, school=True), cell_shares(corpus, school=False)
    counts = {cell: round(corpus.problems * (school[cell] + web[cell]) / 2) for cell in web}
    return {
        (family, level): list(_distinct(family, level, counts[family, level], seed, excluded)) for family, level in web
    }


def cell_shares(corpus: Corpus, school: bool) -> dict[tuple[str, int], float]:
    """How often each family and level is read, in school or after it; the shares add up to 1."""
    levels = corpus.school_levels if school else corpus.web_levels
    apart = corpus.out_of_distribution
    families = dict.fromkeys(FAMILIES, (1 - apart) / len(FAMILIES)) | dict.fromkeys(
        OUT_OF_DISTRIBUTION, apart / len(OUT_OF_DISTRIBUTION)
    )
    return {
        (family, level): share * levels[level] / sum(levels) for family, share in families.items() for level in LEVELS
    }


def respond(problem: Problem, corpus: Corpus, school: bool, rng: np.random.Generator) -> str:
    """Answer a question: soundly in school, after it in a style drawn from the corpus's mixture."""
    assert problem.level is not None and problem.solution is not None
    if school:
        return problem.solution
    if rng.random() >= corpus.worked[problem.level]:
        return f"A{problem.answer}"
    late = corpus.slip_place == "late"
    if rng.random() >= corpus.slips * (problem.level / LEVELS[-1] if late else 1):
        return problem.solution
    steps = problem.solution.count(";")
    if not late:
        return _slip(problem, int(rng.integers(steps)), rng)
    if rng.random() < 0.5:
        return _slip(problem, steps - 1, rng)
    return f"{problem.solution.rpartition('A')[0]}A{_wrong(problem, rng)}"


def facts() -> list[tuple[str, str]]:
    """The single facts that worked solutions rest on, as (left-hand side with ``=``, result).

    Products with a factor such as 12 are not among them: they are worked out from their parts.
    """
    found = []
    for a in range(LARGEST + 1):
        for b in range(LARGEST + 1):
            table = all(factor < 10 or factor % 10 == 0 for factor in (a, b))
            results = {
                "+": a + b,
                "-": a - b,
                "*": a * b if table else -1,
                "/": a // b if b and a % b == 0 else -1,
            }
            found += [(f"{a}{name}{b}=", str(result)) for name, result in results.items() if 0 <= result <= LARGEST]
    return found


def _distinct(family: str, level: int, count: int, seed: int, excluded: Set[str]) -> Iterator[Problem]:
    """Up to ``count`` distinct questions; fewer where the family runs out of them."""
    seen = set(excluded)
    found = 0
    for tries, problem in enumerate(stream(family, level, seed, "corpus")):
        if found == count or tries > 4 * count:
            return
        content = canonical(parse(problem.prompt))
        if content not in seen and split_of(problem.prompt) == "train":
            seen.add(content)
            found += 1
            yield problem


def _wrong(problem: Problem, rng: np.random.Generator) -> str:
    """A wrong answer of the right kind: near by, or in the wrong order."""
    if problem.family == "sorting":
        values = problem.answer.split(",")
        i = int(rng.integers(len(values) - 1))
        values[i], values[i + 1] = values[i + 1], values[i]
        return ",".join(values)
    return str(_off(int(problem.answer), rng))


def _slip(problem: Problem, at: int, rng: np.random.Generator) -> str:
    """The worked solution with a wrong result in step ``at`` (from 0), carried on to the end."""
    tree = parse(problem.prompt)
    steps: list[str] = []
    value = 0
    while len(steps) < _LONGEST_SLIP and (move := next(moves(tree), None)) is not None:
        value = _off(move.result, rng) if len(steps) == at else move.result
        steps.append(f"{move.text(value)};")
        tree = move.then(value)
    answer = _wrong(problem, rng) if problem.family in OUT_OF_DISTRIBUTION else str(value)
    return f"{''.join(steps)}A{answer}"


def _off(value: int, rng: np.random.Generator) -> int:
    """A number near the right one that is not it."""
    distance = int(rng.integers(1, 6))
    return (
        value + distance
        if value < distance or (value + distance <= LARGEST and rng.random() < 0.5)
        else value - distance
    )
