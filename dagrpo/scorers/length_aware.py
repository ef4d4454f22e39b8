"""A modifier of any scorer: what is cut, or far shorter than the reference, is worth less."""

from collections.abc import Sequence

from dagrpo.scorers.request import Missing, Scorer, ScoreRequest

SHORT = 0.2
"""Share of the reference's length below which a response counts as too short."""


class LengthAware(Scorer):
    """The score of another scorer, times :func:`length_factor`."""

    def __init__(self, inner: Scorer) -> None:
        self.inner = inner

    def score(self, requests: Sequence[ScoreRequest]) -> list[float | Missing]:
        return [
            score if isinstance(score, Missing) else score * _factor(request)
            for request, score in zip(requests, self.inner.score(requests), strict=True)
        ]

    def about(self) -> dict[str, str]:
        return self.inner.about()

    def close(self) -> None:
        self.inner.close()


def length_factor(length: int, reference: int, finished: bool) -> float:
    """Give min(1, length / reference) for a response that was cut or is shorter than a fifth of the reference, else 1.

    Args:
        length: of the response, in the unit of ``reference``.
        reference: length of the worked solution, at least 1.
    """
    return min(1.0, length / reference) if not finished or length < SHORT * reference else 1.0


def _factor(request: ScoreRequest) -> float:
    """Lengths are counted in characters, so that no tokenizer is needed; without a reference nothing changes."""
    reference = request.problem.solution
    return length_factor(len(request.response), len(reference), request.finished) if reference else 1.0
