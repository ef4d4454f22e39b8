"""A language model as a judge: cached, so that no question is asked twice by any run."""

import json
from collections.abc import Sequence

from dagrpo.records import Problem
from dagrpo.scorers.judge.cache import Cache
from dagrpo.scorers.judge.client import Client
from dagrpo.scorers.judge.options import TRANSPORT, JudgeOptions
from dagrpo.scorers.judge.prompt import Bounds, Grades, Question, load_rubric, make_question, without_middle
from dagrpo.scorers.request import Missing
from dagrpo.signals import ShouldStop

__all__ = ["TRANSPORT", "Grades", "Judge", "JudgeOptions"]


class Judge:
    """One rubric put to one model."""

    def __init__(self, rubric: str, options: JudgeOptions, should_stop: ShouldStop) -> None:
        self.rubric, self.options = load_rubric(rubric), options
        self.client = Client(options, should_stop)
        self._identity = json.dumps([options.model, options.extra_body], sort_keys=True)

    def question(self, problem: Problem, candidate: str, bounds: Bounds) -> Question:
        """Make a question about a response, of which no more than the budget is shown."""
        shown = without_middle(candidate, self.options.candidate_chars)
        return make_question(self.rubric, self._identity, problem, shown, bounds)

    def ask(self, questions: Sequence[Question]) -> list[Grades | Missing]:
        """Answer questions, in order, from the cache where it knows them; equal ones are asked once.

        Raises:
            Interrupted: a stop was asked for; the replies that had arrived are kept.
            UserError: the key or the cache cannot be used.
        """
        unique = {question.key: question for question in questions}
        with Cache(self.options.cache) as cache:
            answers: dict[str, Grades | Missing] = dict(cache.find(list(unique.values())))
            unknown = [question for key, question in unique.items() if key not in answers]
            if unknown:
                with self.client.asking(unknown) as outcomes:
                    for question, outcome in outcomes:
                        answers[question.key] = outcome
                        if not isinstance(outcome, Missing):
                            cache.keep(question, outcome)
        return [answers[question.key] for question in questions]
