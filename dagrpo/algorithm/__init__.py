"""An algorithm is a declarative record of slots; the trainer runs the slots in order and knows no method's name.

The order of the slots is the order of the data::

    curriculum -> plan -> anchors -> reward -> filter -> advantage -> scores -> weight -> token weight -> objective

A *phase* is one filled record of slots (:class:`Recipe`) with a length and an optimiser; an :class:`Algorithm` is a
sequence of phases. A method is a function from its options to an :class:`Algorithm`, registered by :func:`method`.
"""

from dagrpo.algorithm.registry import Method, NoOptions, find_method, method, methods
from dagrpo.algorithm.rewards import aspects, mixed_verdicts, signed_correctness
from dagrpo.algorithm.rows import GroupPass, Memory, Rows, Sequences, Tokens, UpdateContext, rows_of, select
from dagrpo.algorithm.slots import (
    Advantage,
    Algorithm,
    Anchors,
    Curriculum,
    Filter,
    GradedGroup,
    Interleave,
    Phase,
    Plan,
    Recipe,
    RewardFn,
    Sampler,
    SampleRequest,
    WeightFn,
    correctness,
    one_group,
)
from dagrpo.algorithm.terms import (
    SequenceTerm,
    Term,
    capped_weight,
    contrasted,
    entropy_bonus,
    kl_to_reference,
    likelihood,
    margins,
    policy_gradient,
    shaped,
    weighted_likelihood,
)
from dagrpo.algorithm.tree import tree_search

__all__ = [
    "Advantage",
    "Algorithm",
    "Anchors",
    "Curriculum",
    "Filter",
    "GradedGroup",
    "GroupPass",
    "Interleave",
    "Memory",
    "Method",
    "NoOptions",
    "Phase",
    "Plan",
    "Recipe",
    "RewardFn",
    "Rows",
    "SampleRequest",
    "Sampler",
    "SequenceTerm",
    "Sequences",
    "Term",
    "Tokens",
    "UpdateContext",
    "WeightFn",
    "aspects",
    "capped_weight",
    "contrasted",
    "correctness",
    "entropy_bonus",
    "find_method",
    "kl_to_reference",
    "likelihood",
    "margins",
    "method",
    "methods",
    "mixed_verdicts",
    "one_group",
    "policy_gradient",
    "rows_of",
    "select",
    "shaped",
    "signed_correctness",
    "tree_search",
    "weighted_likelihood",
]
