"""Claims as data: what is said, where, the statistic that would show it, and how large it must be to matter."""

import math
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from dagrpo.config import Name, Strict, load

Unit = Literal["points", "factor", "spikes", "correlation", "index"]


class Difference(Strict):
    """Accuracy of an arm minus that of a rival, in shares, averaged like the column of the main table.

    ``levels`` keeps the problems of these levels. With ``minus_levels`` the statistic is the difference on ``levels``
    minus the difference on ``minus_levels``: by how much more the arm gains on the former.
    """

    kind: Literal["difference"] = "difference"
    arm: Name
    rival: Name
    column: str = "in_distribution"
    levels: tuple[int, ...] | None = None
    minus_levels: tuple[int, ...] | None = None

    @model_validator(mode="after")
    def _two_sets_of_levels(self) -> "Difference":
        if self.minus_levels and (not self.levels or set(self.levels) & set(self.minus_levels)):
            raise ValueError("minus_levels needs levels, and none of its own may be among them")
        return self

    @property
    def unit(self) -> Unit:
        return "points"


class Order(Strict):
    """The smallest step of a chain of arms, each better than the one before it: a difference of accuracies."""

    kind: Literal["order"] = "order"
    arms: tuple[Name, ...] = Field(min_length=2, description="From the worst to the best.")
    column: str = "in_distribution"

    @property
    def unit(self) -> Unit:
        return "points"


class Best(Strict):
    """The smallest lead of an arm over its rivals: a difference of accuracies."""

    kind: Literal["best"] = "best"
    arm: Name
    rivals: tuple[Name, ...] = Field(min_length=1)
    column: str = "in_distribution"

    @property
    def unit(self) -> Unit:
        return "points"


class Curve(Strict):
    """A summary (see :mod:`eval.claims.curves`) of a training metric, of an arm or of an arm minus that of a rival.

    Several metrics are summarised each by itself and averaged. On a ``log`` scale a difference is a ratio; on a
    ``linear`` one the metric is a share.
    """

    kind: Literal["curve"] = "curve"
    arm: Name
    rival: Name | None = None
    metrics: tuple[str, ...] = Field(min_length=1)
    summary: Literal["mean", "late", "change", "spikes", "peak"]
    scale: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _scale_fits_summary(self) -> "Curve":
        if (self.summary, self.scale) in (("spikes", "log"), ("peak", "linear")):
            raise ValueError(f"summary {self.summary!r} has no {self.scale} scale")
        return self

    @property
    def unit(self) -> Unit:
        return "spikes" if self.summary == "spikes" else "factor" if self.scale == "log" else "points"


class Apart(Strict):
    """A metric rises in an arm and falls in its rival: the smaller of the two movements, as a ratio."""

    kind: Literal["apart"] = "apart"
    arm: Name
    rival: Name
    metric: str

    @property
    def unit(self) -> Unit:
        return "factor"


class Distinctiveness(Strict):
    """Rank correlation, over positive-negative pairs, of the cosine of their pushes and the gap of their scores."""

    kind: Literal["distinctiveness"] = "distinctiveness"
    arm: Name

    @property
    def unit(self) -> Unit:
        return "correlation"


class Conflict(Strict):
    """Conflict index of a group after the mask minus that before it, or minus that of as many rows masked at random."""

    kind: Literal["conflict"] = "conflict"
    arm: Name
    against: Literal["before", "random"]

    @property
    def unit(self) -> Unit:
        return "index"


Statistic = Annotated[
    Difference | Order | Best | Curve | Apart | Distinctiveness | Conflict, Field(discriminator="kind")
]


class Claim(Strict):
    """One claim. ``smallest`` and ``paper`` are in the unit of the statistic: shares, or a ratio where it is one."""

    id: Name = Field(description="Its key in the file.")
    label: str = Field(description="A few words, for figures and tables.")
    sentence: str
    where: str = Field(description="Section, table or figure of the paper; for other claims, whose they are.")
    source: Literal["paper", "ours"] = "paper"
    statistic: Statistic
    direction: Literal["higher", "lower"] = "higher"
    smallest: float = Field(ge=0, description="Smallest effect that matters, in the claimed direction.")
    paper: float | None = Field(None, description="What the paper reports for this statistic.")
    equal: Literal["compute", "samples", "optimiser_steps", "trained_tokens"] | None = Field(
        None, description="What both arms must have taken as much of for a verdict."
    )

    @model_validator(mode="after")
    def _agree(self) -> "Claim":
        kind = self.statistic.kind
        if self.statistic.unit == "factor" and self.smallest < 1:
            raise ValueError(f"claim {self.id!r}: the smallest effect of a ratio is at least 1")
        if kind in ("order", "best", "apart") and self.direction == "lower":
            raise ValueError(f"claim {self.id!r}: statistic {kind!r} has the direction 'higher'")
        if self.equal and kind != "difference":
            raise ValueError(f"claim {self.id!r}: equal is for statistic 'difference'")
        return self

    @property
    def arms(self) -> tuple[str, ...]:
        """Arms that the statistic names."""
        match self.statistic:
            case Order(arms=arms):
                return arms
            case Best(arm=arm, rivals=rivals):
                return (arm, *rivals)
            case Difference(arm=arm, rival=rival) | Curve(arm=arm, rival=rival) | Apart(arm=arm, rival=rival):
                return (arm,) if rival is None else (arm, rival)
            case _:
                return (self.statistic.arm,)

    @property
    def sign(self) -> int:
        """+1 where more is claimed, -1 where less is."""
        return 1 if self.direction == "higher" else -1

    @property
    def threshold(self) -> float:
        """Smallest effect that matters on the scale on which effects add up: a ratio's logarithm."""
        return math.log(self.smallest) if self.statistic.unit == "factor" else self.smallest


class Claims(Strict):
    """A file of claims by name, in the order of the page: the paper's main claim first."""

    claims: dict[Name, Claim]

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or not isinstance(given.get("claims"), Mapping):
            return given
        named = {id: {**of, "id": id} if isinstance(of, Mapping) else of for id, of in given["claims"].items()}
        return {**given, "claims": named}


def load_claims(path: Path | None = None) -> tuple[Claim, ...]:
    """Read a file of claims, by default those of the paper. Raises :class:`UserError` like :func:`config.load`."""
    if path is not None:
        return tuple(load(Claims, path).claims.values())
    with as_file(files("eval.claims") / "claims.yaml") as own:
        return tuple(load(Claims, own).claims.values())
