"""An algorithm is a declarative record of slots; the trainer runs the slots in order and knows no method's name.

The order of the slots is the order of the data::

    rollouts -> anchors -> reward -> advantage -> scores -> weight -> objective

A *phase* is one filled record of slots (:class:`Recipe`) with a length and an optimiser; an :class:`Algorithm` is a
sequence of phases. A method is a function from its options to an :class:`Algorithm`, registered by :func:`method`.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Literal

from torch import Tensor

from dagrpo.config import Strict, nearest, parse
from dagrpo.errors import UserError
from dagrpo.objectives import token_losses
from dagrpo.objectives.aggregation import Aggregate


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one step as columns, each of shape (N,); rows of a group are adjacent.

    ``group`` counts the prompts from 0; ``anchor`` marks demonstrations; ``correct`` is the verifier's word;
    ``length`` counts response tokens; ``key`` identifies the row to :mod:`dagrpo.seeds` (int64 view of uint64);
    ``score`` is the fine-grained score on the scale 1 to 10, NaN where missing or not asked for; ``distance`` is 1
    minus the similarity to the nearest row of the group's other side, inf where there is none or it is not asked for.
    """

    group: Tensor
    anchor: Tensor
    correct: Tensor
    truncated: Tensor
    length: Tensor
    key: Tensor
    reward: Tensor
    score: Tensor
    distance: Tensor
    advantage: Tensor
    weight: Tensor


@dataclass(frozen=True, slots=True)
class Tokens:
    """The response tokens of a micro-batch as columns, each of shape (n,), in nats.

    ``coefficient`` is the row's weight times advantage (or 1 for a likelihood term), repeated for its tokens.
    ``logp`` carries the gradient; ``entropy`` does where a term declares that it needs it.
    """

    logp: Tensor
    old_logp: Tensor
    coefficient: Tensor
    entropy: Tensor
    reference_logp: Tensor | None = None


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
class Advantage:
    """Baseline and scale of the sequence advantage; see :func:`dagrpo.objectives.advantages.group_advantage`.

    ``zero_truncated`` takes the advantage from rows that the budget cut, after the baseline is computed with them;
    ``recentred`` takes the baseline anew over the rows that keep weight (:func:`dagrpo.objectives.gates.recentred`).
    """

    over: Literal["union", "policy"] = "union"
    scale: Literal["none", "std0", "std1"] = "none"
    zero_truncated: bool = False
    recentred: bool = False


@dataclass(frozen=True, slots=True)
class Term:
    """One summand of the loss: a sum over tokens of selected rows, divided by a count over the whole step.

    ``rows`` selects by source; ``count`` says which rows enter the denominator. ``weighted`` terms multiply each row
    by weight x advantage, and rows where that is zero cost nothing; the others are plain likelihood terms.
    """

    loss: Callable[[Tokens], Tensor]
    rows: Literal["policy", "anchor", "all"] = "all"
    count: Literal["selected", "all"] = "selected"
    aggregate: Aggregate = "constant"
    weighted: bool = True
    coefficient: float = 1.0
    clip: tuple[float, float] | None = None
    needs_reference: bool = False
    needs_entropy: bool = False


def policy_gradient(clip: tuple[float, float] | None = None, **where: Any) -> Term:
    """A term in the ratio of new to old policy, clipped to [1 - clip[0], 1 + clip[1]] where ``clip`` is given."""

    def loss(tokens: Tokens) -> Tensor:
        if clip is None:
            return token_losses.ratio(tokens.logp, tokens.old_logp, tokens.coefficient)
        return token_losses.ppo_clip(tokens.logp, tokens.old_logp, tokens.coefficient, *clip)

    return Term(loss, clip=clip, **where)


def shaped(gamma: float, **where: Any) -> Term:
    """LUFFY's off-policy term in pi / (pi + gamma); see :func:`dagrpo.objectives.token_losses.shaped`."""
    return Term(lambda tokens: token_losses.shaped(tokens.logp, tokens.coefficient, gamma), **where)


def weighted_likelihood(**where: Any) -> Term:
    """Weight times advantage on the log-likelihood; see :func:`dagrpo.objectives.token_losses.log_likelihood`."""
    return Term(lambda tokens: token_losses.log_likelihood(tokens.logp, tokens.coefficient), **where)


def entropy_bonus(coefficient: float, **where: Any) -> Term:
    """Minus the entropy (nats) of the policy at each token, averaged over all tokens of the selected rows."""
    return Term(
        lambda tokens: -tokens.entropy,
        aggregate="token",
        weighted=False,
        coefficient=coefficient,
        needs_entropy=True,
        **where,
    )


def likelihood(**where: Any) -> Term:
    """Negative log-likelihood of the selected rows, averaged over all their tokens (the global token mean)."""
    return Term(lambda tokens: -tokens.logp, aggregate="token", weighted=False, **where)


def kl_to_reference(beta: float, **where: Any) -> Term:
    """The k3 estimate of the divergence from the reference model (the initial policy), times ``beta``."""

    def loss(tokens: Tokens) -> Tensor:
        assert tokens.reference_logp is not None
        return token_losses.k3(tokens.logp, tokens.reference_logp)

    return Term(loss, weighted=False, coefficient=beta, needs_reference=True, **where)


RewardFn = Callable[[Rows], Tensor]
WeightFn = Callable[[Rows], Tensor]


def correctness(rows: Rows) -> Tensor:
    """Reward 1 for a correct final answer, else 0: shape (N,)."""
    return rows.correct.to(rows.reward.dtype)


@dataclass(frozen=True, slots=True)
class Recipe:
    """The filled slots of one phase. ``rollouts`` is off for phases that only read demonstrations.

    ``scores`` says which rows are scored: those of groups with advantages of both signs ("mixed"), for the weights; or
    those of groups that are wrong as a whole ("all_wrong"), or all wrong rows ("wrong"), before the reward, which reads
    them. ``distances`` is the length of the n-grams by which responses are compared, where a weight reads that.
    """

    objective: tuple[Term, ...]
    rollouts: bool = True
    anchors: Anchors | None = None
    reward: RewardFn = correctness
    scores: Literal["never", "mixed", "all_wrong", "wrong"] = "never"
    distances: int | None = None
    advantage: Advantage = Advantage()
    weight: tuple[WeightFn, ...] = ()

    @property
    def needs_reference(self) -> bool:
        return any(term.needs_reference for term in self.objective)


@dataclass(frozen=True, slots=True)
class Phase:
    """A recipe, the optimiser settings that it uses and (by them) its length: `train.steps` or `train.sft_steps`."""

    recipe: Recipe
    kind: Literal["rl", "sft"] = "rl"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A named sequence of phases. ``needs_demonstrations`` and ``needs_reference`` tell the loop what to prepare."""

    label: str
    phases: tuple[Phase, ...]

    @property
    def needs_demonstrations(self) -> bool:
        return any(phase.recipe.anchors or not phase.recipe.rollouts for phase in self.phases)

    @property
    def needs_reference(self) -> bool:
        return any(phase.recipe.needs_reference for phase in self.phases)


class NoOptions(Strict):
    """For methods without parameters."""


@dataclass(frozen=True, slots=True)
class Method:
    """A registered method: its options' type, and the function that builds the algorithm from them."""

    name: str
    options: type[Strict]
    build: Callable[[Any], Algorithm]
    module: str

    def algorithm(self, options: Mapping[str, Any], where: str) -> Algorithm:
        """Check the options and build. Raises :class:`UserError` for unknown or impossible options."""
        return self.build(parse(self.options, options, where))

    def resolved(self, options: Mapping[str, Any]) -> Strict:
        """The options with every default filled in."""
        return parse(self.options, options, f"options of {self.name}")


_METHODS: dict[str, Method] = {}


def method(
    name: str, options: type[Strict] = NoOptions
) -> Callable[[Callable[[Any], Algorithm]], Callable[[Any], Algorithm]]:
    """Register a function from options to :class:`Algorithm` under a name."""

    def register(build: Callable[[Any], Algorithm]) -> Callable[[Any], Algorithm]:
        if name in _METHODS and _METHODS[name].module != build.__module__:
            raise UserError(
                f"method {name!r} is registered by {_METHODS[name].module} and by {build.__module__}; rename one"
            )
        _METHODS[name] = Method(name, options, build, build.__module__)
        return build

    return register


def methods() -> dict[str, Method]:
    """Import every module or package named in the entry point group ``dagrpo.methods``; return all methods."""
    for entry in entry_points(group="dagrpo.methods"):
        module = entry.load()
        for child in pkgutil.iter_modules(getattr(module, "__path__", [])):
            importlib.import_module(f"{module.__name__}.{child.name}")
    return dict(sorted(_METHODS.items()))


def find_method(name: str) -> Method:
    """Look a method up. Raises :class:`UserError`, with the nearest name, if there is none."""
    known = methods()
    if name not in known:
        raise UserError(f"no method is named {name!r}{nearest(name, list(known))}")
    return known[name]
