"""The judges that an experiment asks."""

from dagrpo.algorithm import find_method
from dagrpo.config import Experiment
from dagrpo.scorers.judge import JudgeOptions
from dagrpo.scorers.registry import find_kind


def judges(experiment: Experiment) -> dict[str, JudgeOptions]:
    """The judge of each arm whose method asks for scores, where its scorer is one. Raises :class:`UserError`."""
    found = {}
    for name, arm in experiment.arms.items():
        spec = arm.scorer or experiment.scorer
        options = find_kind(spec.kind, "scorer").parse(spec.options, "scorer.options")
        algorithm = find_method(arm.method).algorithm(arm.options, f"arms.{name}.options")
        if algorithm.needs_scores and isinstance(options, JudgeOptions):
            found[name] = options
    return found
