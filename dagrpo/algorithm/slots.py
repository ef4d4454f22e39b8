"""The slots of a method, as one record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from dagrpo.algorithm.rows import GroupPass, Rows
from dagrpo.algorithm.terms import RowFlags, SequenceTerm, Term
from dagrpo.objectives.advantages import Scale, group_advantage
from dagrpo.records import Group, Problem, Verdict


@dataclass(frozen=True, slots=True)
class SampleRequest:
    """A request for samples of a problem from a prompt; ``first`` is the index of the first of them, so that two
    requests of a problem in one stage never name a sample twice. ``begun`` are tokens of a response that is under way:
    they follow the prompt, count against the response budget, and are graded with what is drawn after them."""

    problem: Problem
    prompt_tokens: tuple[int, ...]
    samples: int
    first: int = 0
    begun: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class GradedGroup:
    """A group of rollouts, and the verdict on each."""

    group: Group
    verdicts: tuple[Verdict, ...]


class Sampler(Protocol):
    """What a rollout plan samples with."""

    def rows(self, problem: Problem) -> int:
        """How many rollouts the problem's group has: the group's size less its anchors."""
        ...

    def prompt(self, problem: Problem, question: str | None = None) -> tuple[int, ...]:
        """The problem as a prompt, or ``question`` in its place: token ids."""
        ...

    def text(self, tokens: Sequence[int]) -> str:
        """The text of these tokens, special ones left out."""
        ...

    def draw(self, requests: Sequence[SampleRequest], stage: str = "") -> list[GradedGroup]:
        """Sample from the policy and grade, in the order of ``requests``; ``stage`` sets apart draws of one step.

        Tokens that were ``begun`` belong to the prompt of the group that comes back, and to the text of its rollouts.
        """
        ...


Plan = Callable[[Sampler, Sequence[Problem]], list[GradedGroup]]
"""Makes the groups of a step from its problems. Whatever it draws is counted; what it returns is trained on."""


def one_group(sampler: Sampler, problems: Sequence[Problem]) -> list[GradedGroup]:
    """Sample each problem's group from its own prompt."""
    return sampler.draw(
        [SampleRequest(problem, sampler.prompt(problem), sampler.rows(problem)) for problem in problems]
    )


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Which problems an epoch has, asked when it begins: ``keep`` flags them, given all problems and, by their ids, the
    shares of right answers when each was met last. Where fewer are kept than a step needs, all are."""

    keep: Callable[[Sequence[Problem], Mapping[str, float]], Sequence[bool]]


@dataclass(frozen=True, slots=True)
class Anchors:
    """Off-policy demonstrations that join each group (LUFFY, arXiv 2504.14945; DaGRPO, arXiv 2512.06337, Eq. 11).

    ``within_group`` counts the anchor as one of the group's rows (7 + 1); otherwise it comes on top (8 + 1).
    ``drop_rejected`` removes a demonstration that the verifier rejects before the baseline is computed.
    """

    count: int = 1
    when: Literal["always", "all_wrong"] = "always"
    within_group: bool = True
    drop_rejected: bool = True


@dataclass(frozen=True, slots=True)
class Filter:
    """Which groups are worth an update: ``valid`` flags their rows (one flag a group), from verdicts and rewards.

    Prompts are drawn again, as many as are lacking, until ``share`` of a step's groups are valid, in at most ``rounds``
    rounds (DAPO's dynamic sampling, arXiv 2503.14476, 3.2). Then the others are dropped, unless ``drop`` is off.
    """

    valid: RowFlags
    drop: bool = True
    share: float = 0.0
    rounds: int = 1


@dataclass(frozen=True, slots=True)
class Advantage:
    """Baseline and scale of the sequence advantage; see :func:`dagrpo.objectives.advantages.group_advantage`.

    ``zero_truncated`` takes the advantage from rows that the budget cut, after the baseline is computed with them.
    """

    over: Literal["union", "policy"] = "union"
    scale: Scale = "none"
    zero_truncated: bool = False

    def __call__(self, rows: Rows) -> Tensor:
        included = torch.ones_like(rows.anchor) if self.over == "union" else ~rows.anchor
        advantage = group_advantage(rows.reward, rows.group, included, self.scale)
        return torch.where(rows.truncated, 0, advantage) if self.zero_truncated else advantage


@dataclass(frozen=True, slots=True)
class Interleave:
    """An update on demonstrations between those on rollouts (ReLIFT, arXiv 2506.07527).

    ``queue`` flags the rows (one flag a group) of prompts whose demonstration is put aside; when ``size`` of them have
    come together, ``recipe`` learns from them with an optimiser of its own (`train.sft`).
    """

    queue: RowFlags
    size: int
    recipe: "Recipe"


RewardFn = Callable[[Rows], Tensor]
AdvantageFn = Callable[[Rows], Tensor]
WeightFn = Callable[[Rows], Tensor]
TokenWeightFn = Callable[[GroupPass], Tensor]


def correctness(rows: Rows) -> Tensor:
    """Reward 1 for a correct final answer, else 0: shape (N,)."""
    return rows.correct.to(rows.reward.dtype)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The filled slots of one phase, in the order in which the data goes through them.

    ``data`` says what a step reads: rollouts, demonstrations alone, or both (demonstrations of other prompts beside
    the rollouts, `train.sft_rows` of them, each a group of its own).

    ``scores`` says which rows are scored: those of groups with advantages of both signs ("mixed"), for the weights; or
    those of groups that are wrong as a whole ("all_wrong"), or all wrong rows ("wrong"), before the reward, which reads
    them. ``distances`` is the length of the n-grams by which responses are compared, where a weight reads that.
    ``recentred`` takes the baseline anew over the rows that keep weight (:func:`dagrpo.objectives.gates.recentred`).

    ``token_weight`` gives each token a factor, (n,), from a pass over each group before the update. ``epochs`` is how
    often the rows of a step are learned from. ``history`` keeps each problem's last outcome for
    ``Rows.past_accuracy``.
    """

    objective: tuple[Term | SequenceTerm, ...]
    data: Literal["rollouts", "demonstrations", "both"] = "rollouts"
    curriculum: Curriculum | None = None
    history: bool = False
    plan: Plan = one_group
    anchors: Anchors | None = None
    reward: RewardFn = correctness
    filter: Filter | None = None
    scores: Literal["never", "mixed", "all_wrong", "wrong"] = "never"
    distances: int | None = None
    advantage: AdvantageFn = Advantage()
    weight: tuple[WeightFn, ...] = ()
    recentred: bool = False
    token_weight: tuple[TokenWeightFn, ...] = ()
    epochs: int = 1
    interleave: Interleave | None = None

    @property
    def samples(self) -> bool:
        """Whether a step samples from the policy."""
        return self.data != "demonstrations"

    @property
    def remembers(self) -> bool:
        """Whether the outcome of each problem is kept."""
        return self.history or self.curriculum is not None

    @property
    def needs_demonstrations(self) -> bool:
        return self.anchors is not None or self.interleave is not None or self.data != "rollouts"

    @property
    def needs_reference(self) -> bool:
        inner = self.interleave is not None and self.interleave.recipe.needs_reference
        return inner or any(term.needs_reference for term in self.objective)

    @property
    def needs_scores(self) -> bool:
        inner = self.interleave is not None and self.interleave.recipe.needs_scores
        return inner or self.scores != "never"


@dataclass(frozen=True, slots=True)
class Phase:
    """A recipe, and the optimiser settings that it uses. By them goes its length: ``share`` of `train.steps` ("rl") or
    of `train.sft_steps` ("sft")."""

    recipe: Recipe
    kind: Literal["rl", "sft"] = "rl"
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A named sequence of phases. ``samples``, ``needs_demonstrations`` and ``needs_reference`` tell the loop what to
    prepare."""

    label: str
    phases: tuple[Phase, ...]

    @property
    def samples(self) -> bool:
        return any(phase.recipe.samples for phase in self.phases)

    @property
    def needs_demonstrations(self) -> bool:
        return any(phase.recipe.needs_demonstrations for phase in self.phases)

    @property
    def needs_reference(self) -> bool:
        return any(phase.recipe.needs_reference for phase in self.phases)

    @property
    def needs_scores(self) -> bool:
        return any(phase.recipe.needs_scores for phase in self.phases)
