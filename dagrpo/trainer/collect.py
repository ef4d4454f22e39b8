"""From problems to the rows of one step: rollouts, anchors, verdicts, advantages, scores, weights."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dagrpo import seeds
from dagrpo.algorithm import Anchors, Recipe, Rows
from dagrpo.config import PromptSpec, Train
from dagrpo.errors import UserError
from dagrpo.objectives.similarity import distances
from dagrpo.policy.checkpoint import Policy
from dagrpo.problems.prompts import encode_anchor, render
from dagrpo.records import Group, Problem, Rollout, Verdict
from dagrpo.rollout.engine import Engine, Request, Sampling
from dagrpo.scorers import ConfiguredScorer, ScoreRequest, to_ten
from dagrpo.trainer.credit import assign_credit
from dagrpo.verify import Verifier


@dataclass(frozen=True, slots=True)
class Step:
    """What one step trains on. ``rejected`` counts demonstrations that the verifier refused; seconds by phase."""

    groups: tuple[Group, ...]
    verdicts: tuple[Verdict, ...]
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
        raise UserError(
            f"{len(problems)} training problems are fewer than the {count} of one step; lower train.prompts"
        )
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
        scorer: ConfiguredScorer,
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
        self._anchor_verdicts: dict[str, Verdict] = {}
        self.accepted: list[Problem] = []

    def prepare_demonstrations(self) -> None:
        """Encode and verify every demonstration once, for none is trusted.

        Raises:
            UserError: there is no demonstration that the verifier accepts, or one exceeds the budget.
        """
        groups = [Group(problem, (), (self._anchor(problem),)) for problem in self.demonstrated]
        self._anchor_verdicts = dict(
            zip((problem.id for problem in self.demonstrated), self._grade(groups), strict=True)
        )
        self.accepted = [
            problem for problem in self.demonstrated if self._anchor_verdicts[problem.id] is Verdict.CORRECT
        ]
        if not self.accepted:
            raise UserError(
                "this method needs demonstrations, and no training problem has one that the verifier accepts; "
                "choose another train file"
            )

    def demonstrations(self, step: int) -> Step:
        """Rows of an SFT step: accepted demonstrations only, each its own group."""
        started = time.monotonic()
        chosen = problems_of_step(self.accepted, min(self.train.sft_rows, len(self.accepted)), step, self.seed)
        groups = [Group(problem, self._prompt(problem), (self._anchor(problem),)) for problem in chosen]
        verdicts = (Verdict.CORRECT,) * len(groups)
        rows = _columns(groups, verdicts, self.seed, step)
        return Step(tuple(groups), verdicts, rows, 0, time.monotonic() - started, 0.0)

    def rollouts(self, recipe: Recipe, step: int) -> Step:
        """Rows of a reinforcement step, with reward, advantage, score and weight filled in."""
        started = time.monotonic()
        chosen = problems_of_step(self.problems, self.train.prompts, step, self.seed)
        requests = [
            Request(problem.id, self._prompt(problem), self._on_policy_rows(recipe, problem)) for problem in chosen
        ]
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
        rows = assign_credit(
            recipe,
            rows,
            lambda asked: self._scores(groups, verdicts, asked),
            lambda advantage, n: distances(
                [rollout.tokens for group in groups for rollout in group.rollouts], advantage, rows.group, n
            ),
        )
        seconds = rolled_out - started, time.monotonic() - rolled_out
        return Step(tuple(groups), tuple(verdicts), rows, rejected, *seconds)

    def _on_policy_rows(self, recipe: Recipe, problem: Problem) -> int:
        """The group's rows less its anchors; a prompt without a usable one gets ordinary rollouts in their place."""
        anchors = recipe.anchors
        joins = anchors is not None and anchors.within_group and self._usable(anchors, problem)
        return self.train.group_size - (anchors.count if anchors and joins else 0)

    def _usable(self, anchors: Anchors, problem: Problem) -> bool:
        verdict = self._anchor_verdicts.get(problem.id)
        return verdict is Verdict.CORRECT or (verdict is not None and not anchors.drop_rejected)

    def _with_anchors(
        self, groups: list[Group], verdicts: list[Verdict], recipe: Recipe
    ) -> tuple[list[Group], list[Verdict], int]:
        anchors = recipe.anchors
        assert anchors is not None
        joined: list[Group] = []
        joined_verdicts: list[Verdict] = []
        rejected = 0
        for group, own in zip(groups, _split(verdicts, groups), strict=True):
            verdict = self._anchor_verdicts.get(group.problem.id)
            wanted = verdict is not None and (anchors.when == "always" or Verdict.CORRECT not in own)
            copies = anchors.count if wanted and self._usable(anchors, group.problem) else 0
            extra = (self._anchor(group.problem),) * copies if copies else ()
            joined.append(replace(group, rollouts=(*group.rollouts, *extra)))
            joined_verdicts += [*own, *([verdict] * copies if verdict else [])]
            rejected += wanted and verdict is not Verdict.CORRECT
        return joined, joined_verdicts, rejected

    def _grade(self, groups: Sequence[Group]) -> list[Verdict]:
        pairs = [(group.problem, rollout) for group in groups for rollout in group.rollouts]
        graded = self.verifier.grade(
            [problem for problem, _ in pairs],
            [rollout.text for _, rollout in pairs],
            [rollout.finish for _, rollout in pairs],
        )
        return [outcome.verdict for outcome in graded]

    def _scores(self, groups: Sequence[Group], verdicts: Sequence[Verdict], asked: Tensor) -> Tensor:
        pairs = [(group, rollout) for group in groups for rollout in group.rollouts]
        chosen = asked.nonzero().flatten().tolist()
        requests = [
            ScoreRequest(
                group.problem,
                rollout.text,
                verdicts[i],
                rollout.finish == "stop",
                group.prompt_tokens,
                rollout.tokens,
            )
            for i in chosen
            for group, rollout in [pairs[i]]
        ]
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
            logps = problem.solution_logps or (0.0,) * len(tokens)
            if len(logps) != len(tokens):
                raise UserError(
                    f"problem {problem.id!r}: {len(logps)} solution_logps for a demonstration of {len(tokens)} tokens; "
                    "they must come from a model with this tokenizer, and hold one for the end of the text"
                )
            self._anchors[problem.id] = Rollout(-1, tokens, problem.solution, "stop", "anchor", logps)
        return self._anchors[problem.id]


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
        distance=torch.full((count,), float("inf")),
        advantage=torch.zeros(count),
        weight=torch.ones(count),
    )
