"""From problems to the rows of one step: rollouts, anchors, verdicts, advantages, scores, weights."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dagrpo import seeds
from dagrpo.algorithm import Recipe, Rows
from dagrpo.config import PromptSpec, Train
from dagrpo.errors import UserError
from dagrpo.objectives.advantages import group_advantage
from dagrpo.policy.checkpoint import Policy
from dagrpo.problems.prompts import encode_anchor, render
from dagrpo.records import Group, Problem, Rollout, Verdict
from dagrpo.rollout.engine import Engine, Request, Sampling
from dagrpo.scorers import Scorer, ScoreRequest, to_ten
from dagrpo.verify import Verifier


@dataclass(frozen=True, slots=True)
class Step:
    """What one step trains on. ``rejected`` counts demonstrations that the verifier refused; seconds by phase."""

    groups: tuple[Group, ...]
    rows: Rows
    rejected: int
    rollout_seconds: float
    score_seconds: float


def problems_of_step(problems: Sequence[Problem], count: int, step: int, seed: int) -> list[Problem]:
    """The problems of a step: epochs of a keyed permutation, without replacement and without state.

    Raises:
        UserError: there are fewer problems than a step needs.
    """
    steps_in_epoch = len(problems) // count
    if steps_in_epoch == 0:
        raise UserError(f"{len(problems)} training problems are fewer than the {count} of one step; lower train.prompts")
    epoch, index = divmod(step, steps_in_epoch)
    order = seeds.permutation(len(problems), seed, "order", epoch)
    return [problems[i] for i in order[index * count : (index + 1) * count]]


class Collector:
    """Makes the rows of a step with the tools of a run: engine, verifier and, where a recipe asks for it, scorer."""

    def __init__(
        self,
        problems: Sequence[Problem],
        policy: Policy,
        engine: Engine,
        verifier: Verifier,
        scorer: Scorer,
        train: Train,
        prompt: PromptSpec,
        seed: int,
    ) -> None:
        self.problems = list(problems)
        self.demonstrated = [problem for problem in problems if problem.solution is not None]
        self.policy, self.engine, self.verifier, self.scorer = policy, engine, verifier, scorer
        self.train, self.prompt, self.seed = train, prompt, seed
        self._prompts: dict[str, tuple[int, ...]] = {}
        self._anchors: dict[str, Rollout] = {}

    def check_demonstrations(self) -> None:
        """Encode every demonstration once. Raises :class:`UserError` if there is none, or one exceeds the budget."""
        if not self.demonstrated:
            raise UserError("this method needs demonstrations, and no training problem has a solution; choose another train file")
        for problem in self.demonstrated:
            self._anchor(problem)

    def demonstrations(self, step: int) -> Step:
        """Rows of an SFT step: demonstrations only, each its own group."""
        started = time.monotonic()
        chosen = problems_of_step(self.demonstrated, min(self.train.sft_rows, len(self.demonstrated)), step, self.seed)
        groups = [Group(problem, self._prompt(problem), (self._anchor(problem),)) for problem in chosen]
        rows = _columns(groups, [Verdict.CORRECT] * len(groups), self.seed, step)
        return Step(tuple(groups), rows, 0, time.monotonic() - started, 0.0)

    def rollouts(self, recipe: Recipe, step: int) -> Step:
        """Rows of a reinforcement step, with reward, advantage, score and weight filled in."""
        started = time.monotonic()
        chosen = problems_of_step(self.problems, self.train.prompts, step, self.seed)
        requests = [Request(problem.id, self._prompt(problem), self._on_policy_rows(recipe, problem)) for problem in chosen]
        sampling = Sampling(self.train.temperature, self.train.max_new_tokens, self.seed, "train", step)
        sampled = self.engine.sample(requests, sampling)
        rolled_out = time.monotonic()

        groups = [
            Group(problem, request.prompt_tokens, tuple(rollouts))
            for problem, request, rollouts in zip(chosen, requests, sampled, strict=True)
        ]
        verdicts = self._grade(groups)
        rejected = 0
        if recipe.anchors is not None:
            groups, verdicts, rejected = self._with_anchors(groups, verdicts, recipe)
        rows = _columns(groups, verdicts, self.seed, step)
        rows = replace(rows, reward=recipe.reward(rows))
        included = torch.ones_like(rows.anchor) if recipe.advantage.over == "union" else ~rows.anchor
        rows = replace(rows, advantage=group_advantage(rows.reward, rows.group, included, recipe.advantage.scale))
        if recipe.scores == "mixed":
            rows = replace(rows, score=self._scores(groups, verdicts, mixed_rows(rows)))
        for weight in recipe.weight:
            rows = replace(rows, weight=rows.weight * weight(rows))
        return Step(tuple(groups), rows, rejected, rolled_out - started, time.monotonic() - rolled_out)

    def _on_policy_rows(self, recipe: Recipe, problem: Problem) -> int:
        shared = recipe.anchors is not None and recipe.anchors.within_group and problem.solution is not None
        return self.train.group_size - (recipe.anchors.count if shared and recipe.anchors else 0)

    def _with_anchors(
        self, groups: list[Group], verdicts: list[Verdict], recipe: Recipe
    ) -> tuple[list[Group], list[Verdict], int]:
        assert recipe.anchors is not None
        wanted = [
            group.problem.solution is not None
            and (recipe.anchors.when == "always" or Verdict.CORRECT not in own)
            for group, own in zip(groups, _split(verdicts, groups), strict=True)
        ]
        anchored = [
            Group(group.problem, group.prompt_tokens, (self._anchor(group.problem),)) for group, want in zip(groups, wanted, strict=True) if want
        ]
        verdict_of = dict(zip((group.problem.id for group in anchored), self._grade(anchored), strict=True))
        rejected = sum(verdict is not Verdict.CORRECT for verdict in verdict_of.values())
        joined: list[Group] = []
        joined_verdicts: list[Verdict] = []
        for group, own, want in zip(groups, _split(verdicts, groups), wanted, strict=True):
            copies = recipe.anchors.count if want else 0
            if want and recipe.anchors.drop_rejected and verdict_of[group.problem.id] is not Verdict.CORRECT:
                copies = 0
            extra = (self._anchor(group.problem),) * copies if copies else ()
            joined.append(replace(group, rollouts=(*group.rollouts, *extra)))
            joined_verdicts += [*own, *[verdict_of[group.problem.id]] * copies] if copies else own
        return joined, joined_verdicts, rejected

    def _grade(self, groups: Sequence[Group]) -> list[Verdict]:
        pairs = [(group.problem, rollout) for group in groups for rollout in group.rollouts]
        graded = self.verifier.grade(
            [problem for problem, _ in pairs], [rollout.text for _, rollout in pairs], [rollout.finish for _, rollout in pairs]
        )
        return [outcome.verdict for outcome in graded]

    def _scores(self, groups: Sequence[Group], verdicts: Sequence[Verdict], asked: Tensor) -> Tensor:
        pairs = [(group.problem, rollout) for group in groups for rollout in group.rollouts]
        chosen = asked.nonzero().flatten().tolist()
        requests = [ScoreRequest(pairs[i][0], pairs[i][1].text, verdicts[i], pairs[i][1].finish == "stop") for i in chosen]
        scores = torch.full((len(pairs),), float("nan"))
        scores[chosen] = torch.tensor([to_ten(score) for score in self.scorer.score(requests)])
        return scores

    def _prompt(self, problem: Problem) -> tuple[int, ...]:
        if problem.id not in self._prompts:
            self._prompts[problem.id] = render(problem, self.policy.tokenizer, self.prompt)
        return self._prompts[problem.id]

    def _anchor(self, problem: Problem) -> Rollout:
        if problem.id not in self._anchors:
            assert problem.solution is not None
            tokens = encode_anchor(problem, self.policy.tokenizer, self.train.max_new_tokens)
            self._anchors[problem.id] = Rollout(-1, tokens, problem.solution, "stop", "anchor")
        return self._anchors[problem.id]


def mixed_rows(rows: Rows) -> Tensor:
    """Rows of groups that hold advantages of both signs: bool, shape (N,). Only these can be compared by score."""
    groups = int(rows.group.max()) + 1 if len(rows.group) else 0
    positive = torch.zeros(groups, dtype=torch.bool).index_put_((rows.group[rows.advantage > 0],), torch.tensor(True))
    negative = torch.zeros(groups, dtype=torch.bool).index_put_((rows.group[rows.advantage < 0],), torch.tensor(True))
    return (positive & negative)[rows.group]


def _split(values: list[Verdict], groups: Sequence[Group]) -> list[list[Verdict]]:
    ends = np.cumsum([len(group.rollouts) for group in groups])
    return [values[end - len(group.rollouts) : end] for end, group in zip(ends, groups, strict=True)]


def _columns(groups: Sequence[Group], verdicts: Sequence[Verdict], seed: int, step: int) -> Rows:
    pairs = [(number, group.problem, rollout) for number, group in enumerate(groups) for rollout in group.rollouts]
    count = len(pairs)
    keys = [seeds.key(seed, "row", step, problem.id, rollout.index) for _, problem, rollout in pairs]
    return Rows(
        group=torch.tensor([number for number, _, _ in pairs], dtype=torch.long),
        anchor=torch.tensor([rollout.source == "anchor" for _, _, rollout in pairs], dtype=torch.bool),
        correct=torch.tensor([verdict is Verdict.CORRECT for verdict in verdicts], dtype=torch.bool),
        truncated=torch.tensor([rollout.finish == "length" for _, _, rollout in pairs], dtype=torch.bool),
        length=torch.tensor([len(rollout.tokens) for _, _, rollout in pairs], dtype=torch.long),
        key=torch.from_numpy(np.array(keys, dtype=np.uint64).view(np.int64)),
        reward=torch.zeros(count),
        score=torch.full((count,), float("nan")),
        advantage=torch.zeros(count),
        weight=torch.ones(count),
    )
