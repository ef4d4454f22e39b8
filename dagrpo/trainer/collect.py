"""From problems to the rows of one step: rollouts, anchors, verdicts, advantages, scores, weights."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dagrpo.algorithm import Filter, GradedGroup, Memory, Recipe, Rows, SampleRequest
from dagrpo.config import LongDemonstrations, PromptSpec, Train
from dagrpo.errors import UserError
from dagrpo.objectives.similarity import distances
from dagrpo.policy.checkpoint import Policy, window_of
from dagrpo.processes.world import ALONE, World
from dagrpo.records import Group, Problem, Response, Rollout, Verdict
from dagrpo.rollout.engine import Engine, Request, Sampling
from dagrpo.scorers import ConfiguredScorer
from dagrpo.trainer.anchors import is_usable, join_anchors
from dagrpo.trainer.columns import domains_of, rows_of_groups
from dagrpo.trainer.credit import assign_credit, checked, group_any
from dagrpo.trainer.curriculum import problems_of_curriculum, problems_of_step, remember_outcomes
from dagrpo.trainer.encoding import Encoding
from dagrpo.trainer.refill import refill
from dagrpo.trainer.scoring import score_rows
from dagrpo.verify import Verifier

BLOCK = 1024
"""Demonstrations that are verified at a time."""


@dataclass(slots=True)
class Consumption:
    """What was sampled in a step, trained on or not; ``correct`` counts right answers, ``seconds`` are the engine's."""

    samples: int = 0
    prompt_tokens: int = 0
    response_tokens: int = 0
    correct: int = 0
    rounds: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """What one step trains on. ``rejected`` counts demonstrations that the verifier refused; seconds by phase."""

    groups: tuple[Group, ...]
    verdicts: tuple[Verdict, ...]
    rows: Rows
    consumed: Consumption
    rejected: int
    rollout_seconds: float
    score_seconds: float


class Collector:
    """Makes the rows of a step with the tools of a run: engine, verifier and, where a recipe asks for it, scorer.

    Where several processes train together, each samples, grades and scores its share, and all have all rows: these are
    small beside weights, and every process needs them for baselines and denominators. All else is done by each for
    itself, with the same result.
    """

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
        world: World = ALONE,
        long_demonstrations: LongDemonstrations = "refused",
    ) -> None:
        self.problems = list(problems)
        self.demonstrated = [problem for problem in problems if problem.solution is not None]
        self.policy, self.engine, self.verifier, self.scorer = policy, engine, verifier, scorer
        self.train, self.prompt, self.seed, self.world = train, prompt, seed, world
        self.encoding = Encoding(self.problems, policy.tokenizer, prompt)
        self.anchor_verdicts: dict[str, Verdict] = {}
        self.accepted: list[Problem] = []
        self.long_demonstrations, self.left_out = long_demonstrations, 0
        self.domains = domains_of(self.problems)

    def prepare_demonstrations(self) -> None:
        """Encode and verify every demonstration once. With ``long_demonstrations: left_out``, leave out and count
        (``left_out``) those that exceed the budget; their problems then have no demonstration.

        Raises:
            UserError: there is no demonstration that the verifier accepts, one exceeds the budget and must not, or one
                exceeds the model's window with its prompt.
        """
        if self.long_demonstrations == "left_out":
            fitting = [
                problem for problem in self.demonstrated if self.encoding.fits(problem, self.train.max_new_tokens)
            ]
            self.left_out, self.demonstrated = len(self.demonstrated) - len(fitting), fitting
            if self.left_out and self.world.leads:
                print(
                    f"{self.left_out} demonstrations of more than {self.train.max_new_tokens} tokens are left out, "
                    f"{len(fitting)} are there",
                    file=sys.stderr,
                    flush=True,
                )
        for start in range(0, len(self.demonstrated), BLOCK):
            block = self.demonstrated[start : start + BLOCK]
            verdicts = self.grade([Group(problem, (), (self._anchor(problem),)) for problem in block])
            self.anchor_verdicts |= zip((problem.id for problem in block), verdicts, strict=True)
        self.accepted = [
            problem for problem in self.demonstrated if self.anchor_verdicts[problem.id] is Verdict.CORRECT
        ]
        if not self.accepted:
            raise UserError(
                "this method needs demonstrations, and no training problem has one that the verifier accepts; "
                "choose another train file"
            )
        for problem in self.accepted:
            self._check_window(problem, len(self._anchor(problem).tokens), "demonstration")

    def check_prompts(self) -> None:
        """Render every prompt before anything is sampled.

        Raises:
            UserError: one cannot be rendered, or exceeds the model's window with the response that it may get.
        """
        for problem in self.problems:
            self._check_window(problem, self.train.max_new_tokens, "response")

    def _check_window(self, problem: Problem, tokens: int, what: str) -> None:
        window, length = window_of(self.policy.model), len(self.prompt_of(problem)) + tokens
        if window is not None and length > window:
            raise UserError(
                f"problem {problem.id!r}: its prompt and {what} have {length} tokens, the model's window {window}; "
                "lower problems.max_prompt_chars or leave the problem out"
            )

    def demonstrations(self, step: int) -> Step:
        """Rows of an SFT step: accepted demonstrations only, each its own group."""
        started = time.monotonic()
        groups = self._demonstrated(self._stream(step))
        return self._demonstration_step(groups, step, time.monotonic() - started)

    def demonstrations_of(self, ids: Sequence[str], step: int) -> Step:
        """Rows of an SFT step on the demonstrations of these problems, by id."""
        started = time.monotonic()
        of = {problem.id: problem for problem in self.accepted}
        groups = self._demonstrated([of[name] for name in ids])
        return self._demonstration_step(groups, step, time.monotonic() - started)

    def rollouts(self, recipe: Recipe, step: int, memory: Memory) -> Step:
        """Rows of a reinforcement step, with reward, advantage, score and weight filled in.

        Args:
            step: number of the rollout step, from 0, over all phases.
            memory: read and written where the recipe keeps a history or has a curriculum.
        """
        started = time.monotonic()
        sampler = StepSampler(self, recipe, step)
        graded = sampler.another_round(self._chosen(recipe, step, memory))
        if (rule := recipe.filter) is not None:
            graded = refill(
                rule,
                graded,
                self.problems,
                self.train.prompts,
                lambda groups: self._valid(recipe, rule, groups, step),
                sampler.another_round,
                self.seed,
                step,
            )
        met = graded
        if recipe.filter is not None and recipe.filter.drop:
            graded = [
                one
                for one, valid in zip(graded, self._valid(recipe, recipe.filter, graded, step), strict=True)
                if valid
            ]
        rejected = 0
        if recipe.anchors is not None:
            graded, rejected = join_anchors(graded, recipe.anchors, self.anchor_verdicts, self._anchor)
        if recipe.data == "both":
            graded += [GradedGroup(group, (Verdict.CORRECT,)) for group in self._demonstrated(self._stream(step))]
        groups = [one.group for one in graded]
        verdicts = [verdict for one in graded for verdict in one.verdicts]
        rows = assign_credit(
            recipe,
            self._rows(groups, verdicts, step, memory.get("outcomes", {})),
            lambda asked: score_rows(self.scorer, groups, verdicts, asked),
            lambda rows, n: distances(
                [rollout.tokens for group in groups for rollout in group.rollouts], rows.advantage, rows.group, n
            ),
        )
        if recipe.remembers:
            remember_outcomes(met, memory)
        seconds = sampler.consumed.seconds, time.monotonic() - started - sampler.consumed.seconds
        return Step(tuple(groups), tuple(verdicts), rows, sampler.consumed, rejected, *seconds)

    def _chosen(self, recipe: Recipe, step: int, memory: Memory) -> list[Problem]:
        count = self.train.prompts
        if recipe.curriculum is None:
            return problems_of_step(self.problems, count, step, self.seed)
        return problems_of_curriculum(recipe.curriculum, self.problems, count, self.seed, memory)

    def _rows(
        self, groups: Sequence[Group], verdicts: Sequence[Verdict], step: int, past_accuracy: Mapping[str, float]
    ) -> Rows:
        budget = self.train.max_new_tokens
        return rows_of_groups(groups, verdicts, self.domains, past_accuracy, budget, self.seed, step)

    def _valid(self, recipe: Recipe, rule: Filter, graded: Sequence[GradedGroup], step: int) -> list[bool]:
        verdicts = [verdict for one in graded for verdict in one.verdicts]
        rows = self._rows([one.group for one in graded], verdicts, step, {})
        rows = replace(rows, reward=checked("reward", recipe.reward(rows), rows))
        return group_any(checked("filter", rule.valid(rows), rows, torch.bool), rows.group).tolist()

    def on_policy_rows(self, recipe: Recipe, problem: Problem) -> int:
        """The group's rows less its anchors; a prompt without a usable one gets ordinary rollouts in their place."""
        anchors = recipe.anchors
        joins = (
            anchors is not None and anchors.within_group and is_usable(anchors, self.anchor_verdicts.get(problem.id))
        )
        return self.train.group_size - (anchors.count if anchors and joins else 0)

    def _stream(self, step: int) -> list[Problem]:
        return problems_of_step(self.accepted, min(self.train.sft_rows, len(self.accepted)), step, self.seed)

    def _demonstrated(self, problems: Sequence[Problem]) -> list[Group]:
        return [Group(problem, self.prompt_of(problem), (self._anchor(problem),)) for problem in problems]

    def _demonstration_step(self, groups: Sequence[Group], step: int, seconds: float) -> Step:
        verdicts = (Verdict.CORRECT,) * len(groups)
        rows = self._rows(groups, verdicts, step, {})
        return Step(tuple(groups), verdicts, rows, Consumption(), 0, seconds, 0.0)

    def grade(self, groups: Sequence[Group]) -> list[Verdict]:
        """The verdict on each rollout, group after group."""
        pairs = [(group.problem, rollout) for group in groups for rollout in group.rollouts]
        return self.world.spread(self._verdicts, pairs)

    def _verdicts(self, pairs: Sequence[tuple[Problem, Rollout]]) -> list[Verdict]:
        opening = self.encoding.opening() if pairs else ""
        graded = self.verifier.grade(
            [problem for problem, _ in pairs],
            [Response(rollout.text, rollout.finish, opening) for _, rollout in pairs],
        )
        return [outcome.verdict for outcome in graded]

    def prompt_of(self, problem: Problem, question: str | None = None) -> tuple[int, ...]:
        """The problem as a prompt, or ``question`` in its place: token ids."""
        if question is not None:
            return self.encoding.prompt_of_question(problem, question)
        return self.encoding.prompt(problem)

    def _anchor(self, problem: Problem) -> Rollout:
        return self.encoding.anchor(problem, self.train.max_new_tokens)


class StepSampler:
    """Samples and grades for one step, and counts what it does (a :class:`dagrpo.algorithm.Sampler`)."""

    def __init__(self, collector: Collector, recipe: Recipe, step: int) -> None:
        self.collector, self.recipe, self.step = collector, recipe, step
        self.consumed = Consumption()

    def another_round(self, problems: list[Problem]) -> list[GradedGroup]:
        """Sample and grade the groups of these problems as the recipe plans them, and count a round."""
        graded = self.recipe.plan(self, problems)
        self.consumed.rounds += 1
        return graded

    def rows(self, problem: Problem) -> int:
        """How many rollouts the problem's group has: the group's size less its anchors."""
        return self.collector.on_policy_rows(self.recipe, problem)

    def prompt(self, problem: Problem, question: str | None = None) -> tuple[int, ...]:
        """The problem as a prompt, or ``question`` in its place: token ids."""
        return self.collector.prompt_of(problem, question)

    def text(self, tokens: Sequence[int]) -> str:
        """The text of these tokens, special ones left out."""
        decoded = self.collector.policy.tokenizer.decode(
            list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        assert isinstance(decoded, str)
        return decoded

    def _whole(self, request: SampleRequest, rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
        if not request.begun:
            return rollouts
        return [replace(rollout, text=self.text(request.begun + rollout.tokens)) for rollout in rollouts]

    def draw(self, requests: Sequence[SampleRequest], stage: str = "") -> list[GradedGroup]:
        """Sample from the policy and grade, in the order of ``requests``; ``stage`` sets apart draws of one step."""
        train = self.collector.train
        engine_requests = [
            Request(
                one.problem.id,
                one.prompt_tokens + one.begun,
                one.samples,
                one.first,
                train.max_new_tokens - len(one.begun),
            )
            for one in requests
        ]
        assert all(request.budget for request in engine_requests), "a response is asked for whose budget is used up"
        purpose = f"train/{stage}" if stage else "train"
        sampling = Sampling(train.temperature, train.max_new_tokens, self.collector.seed, purpose, self.step)
        started = time.monotonic()
        world, engine = self.collector.world, self.collector.engine
        if engine.shared:
            sampled = world.once(lambda: engine.sample(engine_requests, sampling))
        else:
            sampled = world.spread(lambda share: engine.sample(share, sampling), engine_requests)
        self.consumed.seconds += time.monotonic() - started
        groups = [
            Group(one.problem, one.prompt_tokens + one.begun, tuple(self._whole(one, rollouts)))
            for one, rollouts in zip(requests, sampled, strict=True)
        ]
        verdicts = self.collector.grade(groups)
        self.consumed.samples += len(verdicts)
        self.consumed.prompt_tokens += sum(len(group.prompt_tokens) for group in groups)
        self.consumed.response_tokens += sum(len(rollout.tokens) for group in groups for rollout in group.rollouts)
        self.consumed.correct += sum(verdict is Verdict.CORRECT for verdict in verdicts)
        ends = np.cumsum([len(group.rollouts) for group in groups])
        return [
            GradedGroup(group, tuple(verdicts[end - len(group.rollouts) : end]))
            for end, group in zip(ends, groups, strict=True)
        ]
