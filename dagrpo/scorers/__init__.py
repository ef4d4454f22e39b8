"""Fine-grained scores of responses, for methods that compare the rows of a group beyond right and wrong."""

from dagrpo.config import Scorer as ScorerSpec
from dagrpo.scorers.reference_overlap import ReferenceOverlap
from dagrpo.scorers.request import Scorer, ScoreRequest, to_ten
from dagrpo.scorers.step_checker import StepChecker

__all__ = ["ScoreRequest", "Scorer", "make_scorer", "to_ten"]


def make_scorer(spec: ScorerSpec) -> Scorer:
    """Build the scorer that a configuration names."""
    return StepChecker() if spec.kind == "step_checker" else ReferenceOverlap()
