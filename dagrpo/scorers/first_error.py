"""Score a response by how far it goes before its first error, which a language model locates with a reference at hand.

It is the score that SGPO (arXiv 2505.11595) turns into a graded reward.
"""

import re
from collections.abc import Sequence

from dagrpo.scorers.judge import TRANSPORT, Judge, JudgeOptions
from dagrpo.scorers.registry import Tools, scorer
from dagrpo.scorers.request import Missing, Scorer, ScoreRequest

_SENTENCE_END = re.compile(r"(?<=[.;!?])\s+")


@scorer("first_error", JudgeOptions, transport=TRANSPORT)
class FirstError(Scorer):
    """Share of a response's steps that stand before the first wrong one."""

    def __init__(self, options: JudgeOptions, tools: Tools) -> None:
        self.judge = Judge("first_error.v1", options, tools)

    def score(self, requests: Sequence[ScoreRequest]) -> list[float | Missing]:
        """Score each request in [0, 1]; a response without a step is worth 0 and is not asked about.

        Raises:
            Interrupted: a stop was asked for.
            UserError: the judge or the cache cannot be used.
        """
        steps = [split_steps(request.response) for request in requests]
        questions = {
            row: self.judge.question(request.problem, numbered(own), {"first_wrong_step": (0, len(own))})
            for row, (request, own) in enumerate(zip(requests, steps, strict=True))
            if own
        }
        answers = dict(zip(questions, self.judge.ask(list(questions.values())), strict=True))
        scores: list[float | Missing] = [0.0] * len(requests)
        for row, answer in answers.items():
            found = answer if isinstance(answer, Missing) else answer["first_wrong_step"]
            scores[row] = found if isinstance(found, Missing) else right_prefix(found, len(steps[row]))
        return scores

    def about(self) -> dict[str, str]:
        return self.judge.rubric.about()

    def close(self) -> None:
        self.judge.close()


def split_steps(response: str) -> list[str]:
    """Cut a response into steps: its lines that are not blank, or the sentences of a single line."""
    lines = [line.strip() for line in response.splitlines() if line.strip()]
    return _SENTENCE_END.split(lines[0]) if len(lines) == 1 else lines


def numbered(steps: Sequence[str]) -> str:
    """Write steps on lines of their own, numbered from [1] on."""
    return "\n".join(f"[{number}] {step}" for number, step in enumerate(steps, start=1))


def right_prefix(first_wrong: int, steps: int) -> float:
    """Divide the steps before the first wrong one (counted from 1; 0 where none is wrong) by all steps."""
    return (first_wrong - 1 if first_wrong else steps) / steps
