"""Score a response by a language model's grades, as DaGRPO does (arXiv 2512.06337, section 4)."""

from collections.abc import Sequence

from dagrpo.scorers.judge import TRANSPORT, Grades, Judge, JudgeOptions
from dagrpo.scorers.registry import Tools, scorer
from dagrpo.scorers.request import Missing, Scorer, ScoreRequest

CRITERIA = ("answer", "validity", "completeness")
LOWEST, HIGHEST = 1, 10


@scorer("llm_judge", JudgeOptions, transport=TRANSPORT)
class LLMJudge(Scorer):
    """Mean of three grades from 1 to 10, mapped to [0, 1]."""

    def __init__(self, options: JudgeOptions, tools: Tools) -> None:
        self.judge = Judge("holistic.v1", options, tools)

    def score(self, requests: Sequence[ScoreRequest]) -> list[float | Missing]:
        """Score each request in [0, 1].

        Raises:
            Interrupted: a stop was asked for.
            UserError: the judge or the cache cannot be used.
        """
        bounds = dict.fromkeys(CRITERIA, (LOWEST, HIGHEST))
        questions = [self.judge.question(request.problem, request.response, bounds) for request in requests]
        return [answer if isinstance(answer, Missing) else mean_grade(answer) for answer in self.judge.ask(questions)]

    def about(self) -> dict[str, str]:
        return self.judge.rubric.about()

    def close(self) -> None:
        self.judge.close()


def mean_grade(grades: Grades) -> float:
    """Map the mean of grades from 1 to 10 to [0, 1]."""
    return (sum(grades.values()) / len(grades) - LOWEST) / (HIGHEST - LOWEST)
