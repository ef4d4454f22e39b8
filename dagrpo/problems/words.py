"""Word problems in arithmetic: rows drawn for training, for warming a base and for tuning, and benchmarks apart."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from random import Random

from dagrpo.config import MirrorProblems, WordProblems
from dagrpo.errors import UserError
from dagrpo.problems import mirror
from dagrpo.problems.formulas import Operation, equations, written
from dagrpo.problems.store import ProblemSets
from dagrpo.records import Problem


def load(spec: WordProblems) -> ProblemSets:
    """Draw the rows that the spec asks for, in the order warm, train, development: none of them, nor a question of a
    benchmark, overlaps with a row of another purpose. A row keeps its source as its family.

    Raises:
        UserError: the folder or a file is missing, a row is broken, or a source has too few rows.
    """
    from dagrpo.problems.contamination import overlaps, without

    questions = mirror.read_benchmarks(MirrorProblems(mirror=spec.mirror, benchmarks=spec.benchmarks))
    taken = [row for rows in questions.values() for row in rows]
    sources, counts = {}, {}
    for name in sorted({*spec.warm, *spec.train, *spec.development}):
        rows = mirror.read_training(spec, name)
        worked = [one for row in rows if len(row.prompt) <= spec.max_prompt_chars and (one := demonstrated(row, spec))]
        apart = without(worked, overlaps(worked, taken, threshold=spec.drop_overlap))
        sources[name] = apart
        counts[name] = {"rows": len(rows), "worked": len(worked), "in_benchmarks": len(worked) - len(apart)}
    drawn: dict[str, list[Problem]] = {}
    for purpose, wanted in (("warm", spec.warm), ("train", spec.train), ("development", spec.development)):
        drawn[purpose] = []
        for name, count in wanted.items():
            drawn[purpose] += _take(sources[name], count, spec.seed, f"problems.{purpose}.{name}")
        for name, rows in sources.items():
            chosen = {row.id for row in drawn[purpose]}
            left = [row for row in rows if row.id not in chosen]
            sources[name] = without(left, overlaps(left, drawn[purpose], threshold=spec.drop_overlap))
            counts[name][f"drawn_{purpose}"] = len([row for row in drawn[purpose] if row.family == name])
            counts[name][f"like_{purpose}"] = len(left) - len(sources[name])
    if spec.split == "development":
        families = Counter(row.family for row in drawn["development"])
        kept, sizes = drawn["development"], {name: (size, size) for name, size in families.items()}
    else:
        kept, sizes = mirror.kept(questions, spec.limit)
    return ProblemSets(drawn["train"], kept, sizes, drawn["warm"], counts)


def demonstrated(row: Problem, spec: WordProblems) -> Problem | None:
    """A row whose solution is its source's own formulas, worked out one operation a line, and its answer in a box.

    Its level is its source's, or the number of operations where that has none. None where the formulas are not plain
    arithmetic, hold a mistake, do not come to the row's answer, or have too many operations.
    """
    found = equations(_formulas(row.solution or ""))
    steps = [step for one in found for step in one.operations]
    if not 1 <= len(steps) <= spec.max_operations or not all(one.right for one in found):
        return None
    lines = [_line(step) for step in steps]
    if None in lines or written(steps[-1].value) is None or _number(row.answer) != steps[-1].value:
        return None
    box = f"\\boxed{{{written(steps[-1].value)}}}"
    return replace(
        row,
        solution="\n".join([*(line for line in lines if line), box]),
        level=len(steps) if row.level is None else row.level,
    )


def stratified(rows: Sequence[Problem], seed: int) -> list[Problem]:
    """Shuffle rows so that each beginning of the list holds the levels in the shares of the whole."""
    strata: dict[int | None, list[Problem]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.id):
        strata[row.level].append(row)
    random = Random(seed)
    placed = []
    for level in sorted(strata, key=str):
        random.shuffle(members := strata[level])
        placed += [((place + 0.5) / len(members), str(level), row) for place, row in enumerate(members)]
    return [row for *_, row in sorted(placed, key=lambda one: one[:2])]


def _take(rows: Sequence[Problem], count: int, seed: int, where: str) -> list[Problem]:
    if len(rows) < count:
        raise UserError(
            f"{where}: {count} rows wanted, {len(rows)} are left that are worked out in few operations and apart from "
            "the others; lower it, or raise problems.max_operations or problems.max_prompt_chars"
        )
    return stratified(rows, seed)[:count]


def _formulas(solution: str) -> str:
    """The formulas of a solution: what GSM8K writes between << and >>, or its lines before the box."""
    marked = [part.partition(">>")[0] for part in solution.split("<<")[1:]]
    return "\n".join(marked or [line for line in solution.split("\n") if "\\boxed" not in line])


def _line(step: Operation) -> str | None:
    left, right, value = written(step.left), written(step.right), written(step.value)
    return None if left is None or right is None or value is None else f"{left} {step.sign} {right} = {value}"


def _number(text: str) -> Fraction | None:
    try:
        return Fraction(text.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return None
