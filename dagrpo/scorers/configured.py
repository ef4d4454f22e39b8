"""The scorer that a configuration describes, and the limit on what may be missing."""

import math
import sys
from collections import Counter
from collections.abc import Sequence

from dagrpo.config import Scorer as ScorerSpec
from dagrpo.errors import UserError
from dagrpo.scorers.length_aware import LengthAware
from dagrpo.scorers.registry import Tools, find_kind
from dagrpo.scorers.request import Missing, Scorer, ScoreRequest


def check_scorer(spec: ScorerSpec, where: str = "scorer") -> None:
    """Check a scorer's name and options without building it. Raises :class:`UserError`."""
    find_kind(spec.kind, where).parse(spec.options, f"{where}.options")


def essence(spec: ScorerSpec) -> ScorerSpec:
    """Leave out what changes no score: the limit on missing ones, and the way to a judge. Runs are told apart by it."""
    transport = find_kind(spec.kind, "scorer").transport
    options = {name: value for name, value in spec.options.items() if name not in transport}
    return ScorerSpec(kind=spec.kind, options=options, length_aware=spec.length_aware)


def make_scorer(spec: ScorerSpec, tools: Tools | None = None) -> "ConfiguredScorer":
    """Build the scorer that a configuration describes. Raises :class:`UserError` like :func:`check_scorer`."""
    kind, tools = find_kind(spec.kind, "scorer"), tools or Tools()
    inner = kind.build(kind.parse(spec.options, "scorer.options"), tools)
    return ConfiguredScorer(LengthAware(inner) if spec.length_aware else inner, spec, tools)


class ConfiguredScorer:
    """A scorer whose missing scores are NaN, and counted over the whole run; close it, or use it in a ``with``."""

    def __init__(self, inner: Scorer, spec: ScorerSpec, tools: Tools) -> None:
        self.inner, self.kind, self.max_missing = inner, spec.kind, spec.max_missing
        self.world, self.tally = tools.world, tools.tally

    def score(self, requests: Sequence[ScoreRequest]) -> list[float]:
        """Score the rows of one step in [0, 1], in order; NaN where a score is missing.

        Raises:
            UserError: of all scores of the run so far a larger share than ``max_missing`` is missing, or all of a step.
        """
        scores = self.world.spread(self.inner.score, requests)
        missing = [score for score in scores if isinstance(score, Missing)]
        if missing:
            self._report(missing, len(scores))
        if self.world.leads:
            self.tally.add("scored", len(scores))
            self.tally.add("missing", len(missing))
        return [math.nan if isinstance(score, Missing) else score for score in scores]

    def _report(self, missing: Sequence[Missing], asked: int) -> None:
        before = self.world.once(lambda: (self.tally.total("missing"), self.tally.total("scored")))
        lost, of = before[0] + len(missing), before[1] + asked
        tally = Counter(score.why for score in missing).most_common()
        counts = "; ".join(f"{count} x {why}" for why, count in tally)
        said = f"scorer {self.kind}: {len(missing)} of {asked} scores are missing ({counts})"
        if lost > self.max_missing * of or (len(missing) == asked and self.max_missing < 1):
            raise UserError(
                f"{said}, {lost} of {of} in the whole run, and scorer.max_missing allows {self.max_missing:.0%} and "
                f"never a whole step. {missing[-1].remedy}, then run this again: what was done and answered so far is "
                "kept"
            )
        if self.world.leads:
            print(said, file=sys.stderr, flush=True)

    def __enter__(self) -> "ConfiguredScorer":
        return self

    def __exit__(self, *error: object) -> None:
        self.inner.close()

    def card(self) -> dict[str, str]:
        """What a run card says of the scorer beside its configuration."""
        return {"kind": self.kind, **self.inner.about()}
