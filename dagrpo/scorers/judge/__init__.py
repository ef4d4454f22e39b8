"""A language model as a judge: cached, so that no question is asked twice by any run."""

import json
import secrets
from collections.abc import Sequence

from dagrpo.errors import UserError
from dagrpo.records import Problem
from dagrpo.scorers.judge.batch import Outcome
from dagrpo.scorers.judge.cache import Cache
from dagrpo.scorers.judge.client import Client
from dagrpo.scorers.judge.options import TRANSPORT, JudgeOptions
from dagrpo.scorers.judge.prompt import (
    Bounds,
    Grades,
    Question,
    load_rubric,
    make_question,
    shown_reference,
    without_middle,
)
from dagrpo.scorers.judge.served import Served
from dagrpo.scorers.registry import Tools
from dagrpo.scorers.request import Missing

__all__ = ["TRANSPORT", "Grades", "Judge", "JudgeOptions"]


class Judge:
    """One rubric put to one model by all processes of a run, which share its budget of calls and its concurrency.

    Raises:
        UserError: there are more processes than requests that may be under way.
    """

    def __init__(self, rubric: str, options: JudgeOptions, tools: Tools) -> None:
        self.rubric, self.options, self.tools = load_rubric(rubric), options, tools
        self.cache = Cache(options.cache)
        self.served = Served(options, tools) if options.serve else None
        self.client = Client(options, tools, self.served.check if self.served else lambda: None)
        version = [] if options.revision is None else [options.revision]
        self._identity = json.dumps([options.model, *version, options.extra_body], sort_keys=True)
        if options.concurrency < tools.world.size:
            raise UserError(
                f"scorer.options.concurrency: {options.concurrency} requests cannot be shared out among "
                f"{tools.world.size} processes; raise it to {tools.world.size} at least"
            )
        self._mark = tools.world.once(lambda: secrets.token_hex(8))

    def question(self, problem: Problem, candidate: str, bounds: Bounds) -> Question:
        """Make a question about a response; of it and of the reference no more than the budgets is shown."""
        reference = shown_reference(problem, self.options.reference_chars)
        shown = without_middle(candidate, self.options.candidate_chars)
        return make_question(self.rubric, self._identity, problem, reference, shown, bounds, self._mark)

    def ask(self, questions: Sequence[Question]) -> list[Grades | Missing]:
        """Answer questions, in order, from the cache where it knows them; equal ones are asked once. All processes of
        the world call this, each with its own questions.

        Raises:
            Interrupted: a stop was asked for; the replies that had arrived are kept.
            UserError: the judge or the cache cannot be used, or the budget of calls is used up.
        """
        world, limit = self.tools.world, self.options.concurrency
        unique = {question.key: question for question in questions}
        answers: dict[str, Outcome] = {}

        def look_up() -> tuple[int, int]:
            answers.update(self.cache.find(unique.values()))
            return len(unique) - len(answers), self.tools.tally.total("calls")

        counts = world.each(look_up)
        unknown = [question for key, question in unique.items() if key not in answers]
        base_url = self.options.base_url
        if self.served is not None and any(waiting for waiting, _ in counts):
            base_url = self.served.url()
        if unknown and base_url is not None:
            # All see the same numbers: each may spend its part of what is left, so that none needs to ask the others.
            left = max(0, self.options.max_calls - counts[0][1])
            calls = left * len(unknown) // sum(waiting for waiting, _ in counts)
            threads = limit // world.size + (world.rank < limit % world.size)
            with self.client.asking(unknown, base_url, threads, calls) as outcomes:
                for question, outcome in outcomes:
                    answers[question.key] = outcome
                    if not isinstance(outcome, Missing):
                        self.cache.keep(question, outcome)
        return [answers[question.key] for question in questions]

    def close(self) -> None:
        """End the server of the run, if there is one."""
        if self.served is not None:
            self.served.close()
