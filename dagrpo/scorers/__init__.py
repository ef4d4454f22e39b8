"""Fine-grained scores of responses, for methods that compare the rows of a group beyond right and wrong."""

from dagrpo.scorers.configured import ConfiguredScorer, check_scorer, essence, make_scorer
from dagrpo.scorers.registry import Tools, scorer
from dagrpo.scorers.request import Missing, Scorer, ScoreRequest, to_ten
from dagrpo.scorers.tally import Tally

__all__ = [
    "ConfiguredScorer",
    "Missing",
    "ScoreRequest",
    "Scorer",
    "Tally",
    "Tools",
    "check_scorer",
    "essence",
    "make_scorer",
    "scorer",
    "to_ten",
]
