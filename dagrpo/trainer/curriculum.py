"""Which problems a step samples, and the outcomes of past steps that a curriculum reads."""

from collections.abc import Sequence

from dagrpo import seeds
from dagrpo.algorithm import Curriculum, GradedGroup, Memory
from dagrpo.errors import UserError
from dagrpo.records import Problem, Verdict


def problems_of_step(problems: Sequence[Problem], count: int, step: int, seed: int) -> list[Problem]:
    """The problems of a step: epochs of a keyed permutation, without replacement and without state.

    Raises:
        UserError: there are fewer problems than a step needs.
    """
    steps_in_epoch = len(problems) // count
    if steps_in_epoch == 0:
        raise UserError(
            f"{len(problems)} training problems are fewer than the {count} of one step; lower train.prompts"
        )
    epoch, index = divmod(step, steps_in_epoch)
    order = seeds.permutation(len(problems), seed, "order", epoch)
    return [problems[i] for i in order[index * count : (index + 1) * count]]


def problems_of_curriculum(
    curriculum: Curriculum, problems: Sequence[Problem], count: int, seed: int, memory: Memory
) -> list[Problem]:
    """The next problems of an epoch; when an epoch ends, the next one is made of the problems that the rule keeps.

    Args:
        count: problems of a step.
        memory: ``outcomes`` is read; ``epoch`` is read and written.

    Raises:
        UserError: there are fewer problems than a step needs.
    """
    epoch = memory.get("epoch", {"number": -1, "order": [], "at": 0})
    if epoch["at"] + count > len(epoch["order"]):
        flags = curriculum.keep(problems, memory.get("outcomes", {}))
        kept = [i for i, flag in zip(range(len(problems)), flags, strict=True) if flag]
        kept = kept if len(kept) >= count else list(range(len(problems)))
        problems_of_step(problems, count, 0, seed)  # raises where even all are too few
        order = seeds.permutation(len(kept), seed, "order", epoch["number"] + 1)
        epoch = {"number": epoch["number"] + 1, "order": [kept[i] for i in order], "at": 0}
    chosen = epoch["order"][epoch["at"] : epoch["at"] + count]
    memory["epoch"] = epoch | {"at": epoch["at"] + count}
    return [problems[i] for i in chosen]


def remember_outcomes(graded: Sequence[GradedGroup], memory: Memory) -> None:
    """Write the share of correct rollouts of each problem to ``memory["outcomes"]``."""
    outcomes = memory.setdefault("outcomes", {})
    right: dict[str, list[bool]] = {}
    for one in graded:
        right.setdefault(one.group.problem.id, []).extend(verdict is Verdict.CORRECT for verdict in one.verdicts)
    outcomes |= {name: sum(flags) / len(flags) for name, flags in right.items()}
