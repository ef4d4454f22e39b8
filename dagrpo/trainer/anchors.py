"""Demonstrations that join the groups of a step as anchors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from dagrpo.algorithm import Anchors, GradedGroup
from dagrpo.records import Problem, Rollout, Verdict


def is_usable(anchors: Anchors, verdict: Verdict | None) -> bool:
    """Whether a demonstration with this verdict may be an anchor; None where the problem has no demonstration."""
    return verdict is Verdict.CORRECT or (verdict is not None and not anchors.drop_rejected)


def join_anchors(
    graded: Sequence[GradedGroup],
    anchors: Anchors,
    verdicts: Mapping[str, Verdict],
    encode: Callable[[Problem], Rollout],
) -> tuple[list[GradedGroup], int]:
    """Append the anchors of each group to its rollouts.

    Args:
        verdicts: of the demonstrations, by problem id.
        encode: makes a rollout of a problem's demonstration.

    Returns:
        the groups, and how many wanted a demonstration that the verifier rejects.
    """
    joined: list[GradedGroup] = []
    rejected = 0
    for one in graded:
        verdict = verdicts.get(one.group.problem.id)
        wanted = verdict is not None and (anchors.when == "always" or Verdict.CORRECT not in one.verdicts)
        copies = anchors.count if wanted and is_usable(anchors, verdict) else 0
        extra = (encode(one.group.problem),) * copies if copies else ()
        group = replace(one.group, rollouts=(*one.group.rollouts, *extra))
        joined.append(GradedGroup(group, (*one.verdicts, *([verdict] * copies if verdict else []))))
        rejected += wanted and verdict is not Verdict.CORRECT
    return joined, rejected
