"""Other prompts in place of the groups of a step that a filter does not keep."""

import math
from collections.abc import Callable, Sequence

from dagrpo import seeds
from dagrpo.algorithm import Filter, GradedGroup
from dagrpo.records import Problem


def refill(
    rule: Filter,
    graded: list[GradedGroup],
    problems: Sequence[Problem],
    prompts: int,
    valid: Callable[[Sequence[GradedGroup]], list[bool]],
    sample: Callable[[list[Problem]], list[GradedGroup]],
    seed: int,
    step: int,
) -> list[GradedGroup]:
    """Replace invalid groups by those of other problems, until enough are valid or the rounds are used up.

    Args:
        prompts: groups of a step, of which the filter wants a share valid.
        valid: says of each group whether the filter keeps it.
        sample: samples and grades groups of problems.
    """
    wanted = math.ceil(rule.share * prompts)
    used = {one.group.problem.id for one in graded}
    for round in range(1, rule.rounds):
        flags = valid(graded)
        lacking = wanted - sum(flags)
        order = seeds.permutation(len(problems), seed, "refill", step, round)
        fresh = [problems[i] for i in order if problems[i].id not in used][:lacking]
        if lacking <= 0 or not fresh:
            break
        used |= {problem.id for problem in fresh}
        more = sample(fresh)
        invalid = [one for one, flag in zip(graded, flags, strict=True) if not flag]
        graded = [one for one, flag in zip(graded, flags, strict=True) if flag] + more + invalid[len(more) :]
    return graded
