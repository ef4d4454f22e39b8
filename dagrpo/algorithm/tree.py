"""A rollout plan that searches: responses branch at the ends of steps, where they promise most."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache

from dagrpo.algorithm.slots import GradedGroup, Plan, Sampler, SampleRequest
from dagrpo.objectives.search import branch_value, choice_score
from dagrpo.records import Group, Problem, Rollout, Verdict

EndsStep = Callable[[int], bool]
"""Whether a step ends with this token."""


@dataclass(slots=True)
class Node:
    """A step, and the steps that were tried after it.

    ``rollout`` holds the tokens of the step alone, and ``verdict`` is that on the first response which took it.
    ``ended`` says that the response ends with the step; ``value`` is Q, the share of right answers beyond it.
    """

    rollout: Rollout
    verdict: Verdict
    ended: bool
    visits: int = 0
    value: float = 0.0
    outcomes: list[bool] = field(default_factory=list)
    children: list["Node"] = field(default_factory=list)

    @property
    def prior(self) -> float:
        """The geometric mean of the probabilities of the step's tokens, so that long steps have a chance too."""
        return math.exp(sum(self.rollout.logps) / max(1, len(self.rollout.logps)))

    def settle(self) -> None:
        """Renew the value from what lies beyond: Q = r + V, r being the verdict where the response ends."""
        if self.children:
            self.value = branch_value([one.visits for one in self.children], [one.value for one in self.children])
        elif self.outcomes:
            self.value = sum(self.outcomes) / len(self.outcomes)


@dataclass(slots=True)
class Tree:
    """The search for one problem: ``left`` rollouts may still be drawn; ``path`` is where the last visit went."""

    problem: Problem
    prompt: tuple[int, ...]
    left: int
    drawn: int = 0
    root: Node = field(default_factory=lambda: Node(Rollout(-1, (), "", "stop"), Verdict.NO_ANSWER, False))
    path: list[Node] = field(default_factory=list)

    def descend(self, exploration: float) -> None:
        """Follow the best branches to a leaf."""
        self.path = [self.root]
        while children := self.path[-1].children:
            above = self.path[-1].visits
            self.path.append(
                max(children, key=lambda one: choice_score(one.value, one.prior, above, one.visits, exploration))
            )

    def visit(self, count: int = 1) -> None:
        """Count visits along the path, and pass values up."""
        for node in reversed(self.path):
            node.visits += count
            node.settle()

    def ask(self, samples: int, exploration: float) -> SampleRequest:
        """Choose where to draw: at a leaf, or beside it where the response ends with it."""
        self.descend(exploration)
        if self.path[-1].ended:
            self.path.pop()
        return SampleRequest(self.problem, self.prompt, min(samples, self.left), self.drawn, prefix_of(self.path))

    def grow(self, graded: GradedGroup, depth: int, ends_step: EndsStep) -> None:
        """Add what was drawn below the path."""
        for rollout, verdict in zip(graded.group.rollouts, graded.verdicts, strict=True):
            insert(self.path[-1], rollout, verdict, depth - len(self.path) + 1, ends_step)
        self.drawn, self.left = self.drawn + len(graded.verdicts), self.left - len(graded.verdicts)
        self.visit(len(graded.verdicts))

    def groups(self) -> list[GradedGroup]:
        """The steps that were tried at each place as a group, whose prompt ends there; the first place is the root.

        Places where only one step was tried are left out, but for the root.
        """
        found: list[GradedGroup] = []
        number = 0
        places: list[list[Node]] = [[self.root]]
        while places:
            path = places.pop()
            children = path[-1].children
            places += [[*path, child] for child in reversed(children)]
            if len(children) > 1 or len(path) == 1:
                rows = [
                    replace(child.rollout, index=number + i, value=child.value, visits=child.visits)
                    for i, child in enumerate(children)
                ]
                number += len(rows)
                group = Group(self.problem, self.prompt + prefix_of(path), tuple(rows))
                found.append(GradedGroup(group, tuple(child.verdict for child in children)))
        return found


def prefix_of(path: Sequence[Node]) -> tuple[int, ...]:
    """The tokens of the steps of a path, one after another."""
    return tuple(token for node in path for token in node.rollout.tokens)


def insert(node: Node, rollout: Rollout, verdict: Verdict, depth: int, ends_step: EndsStep) -> None:
    """Add a response below a node: its first step becomes a branch, unless that is there; ``depth`` levels are left.

    The last level takes all that is left of a response.
    """
    size = next((i + 1 for i, token in enumerate(rollout.tokens) if ends_step(token)), len(rollout.tokens))
    size = len(rollout.tokens) if depth <= 1 else size
    step, rest = _cut(rollout, 0, size), _cut(rollout, size, None)
    child = next((one for one in node.children if one.rollout.tokens == step.tokens), None)
    if child is None:
        ended = not rest.tokens
        child = Node(step if ended else replace(step, finish="stop"), verdict, ended)
        node.children.append(child)
    child.visits += 1
    child.outcomes.append(verdict is Verdict.CORRECT)
    if child.children:
        insert(child, rest, verdict, depth - 1, ends_step)
    child.settle()


def _cut(rollout: Rollout, start: int, stop: int | None) -> Rollout:
    cut = slice(start, stop)
    return replace(rollout, tokens=rollout.tokens[cut], logps=rollout.logps[cut], entropies=rollout.entropies[cut])


def tree_search(actions: int, depth: int, iterations: int, exploration: float, separators: str) -> Plan:
    """Spend each problem's rollouts on a tree of its first ``depth`` steps, ``actions`` at a time (arXiv 2405.00451).

    A rollout is drawn to its end, and the verifier's verdict is the value of the step that it starts with. As many
    rollouts are drawn as an ordinary group has; the ``iterations`` beyond that visit what is there, so that the visits
    tell the better branches from the worse. A step ends with a token whose text holds one of ``separators``; the last
    of ``depth`` takes the rest of the response. Groups are the branches at each place (:meth:`Tree.groups`).
    """

    def plan(sampler: Sampler, problems: Sequence[Problem]) -> list[GradedGroup]:
        @cache
        def ends_step(token: int) -> bool:
            return any(mark in sampler.text((token,)) for mark in separators)

        trees = [Tree(problem, sampler.prompt(problem), sampler.rows(problem)) for problem in problems]
        rounds = 0
        while waiting := [tree for tree in trees if tree.left]:
            graded = sampler.draw([tree.ask(actions, exploration) for tree in waiting])
            for tree, one in zip(waiting, graded, strict=True):
                tree.grow(one, depth, ends_step)
            rounds += 1
        for tree in trees:
            for _ in range(iterations - rounds):
                tree.descend(exploration)
                tree.visit()
        return [group for tree in trees for group in tree.groups()]

    return plan
