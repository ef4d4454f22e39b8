"""Grade responses: find the answer, and judge it against the gold.

Five verdicts. ``correct`` and ``wrong``: an answer was found and judged. ``no_answer``: the response ended without one.
``truncated``: the token budget cut the response before a complete answer. ``timeout``: an answer was found, and judging
it was refused, since it asks for a number of over 10,000 digits or a computation as large, or given up
(:mod:`dagrpo.verify.workers`).

A response is read from its opening on (:class:`dagrpo.records.Response`): where the prompt opens a thought, all that
stands in front of ``</think>`` is part of it.

The lexer and parser are our own for two reasons. latex2sympy2-extended computes while it parses, so that ``9^{9^9}``
has to be killed where ours refuses it; and a second judge that read answers by the parser of math-verify would repeat
its mistakes. What is a text, a label, a unit, a set or an interval is decided on our reading, before either is asked.
Their normalisation is not used either: it drops every unit and word behind a number, so that 5 cm is 5 m, and leaves
Unicode as it is. Limits are our own because those of math-verify are alarms of the wall clock, which its own handlers
of exceptions may swallow; and what is plain is settled by exact fractions because a judge takes a thousand times as
long.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from string import ascii_uppercase
from types import TracebackType
from typing import Literal, Protocol, Self

from dagrpo.config import Verifier as VerifierSpec
from dagrpo.errors import UserError
from dagrpo.problems.mini import extract_answer
from dagrpo.processes.signals import ShouldStop, check, never
from dagrpo.records import Finish, Problem, Response, Verdict
from dagrpo.verify.extract import Extraction, ThoughtRule, extract, given
from dagrpo.verify.settle import Judgement, settle
from dagrpo.verify.workers import Workers

__all__ = ["Graded", "JudgeName", "Verifier", "make_verifier"]

JudgeName = Literal["math_verify", "sympy"]
_JUDGES: tuple[JudgeName, ...] = ("math_verify", "sympy")
_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Graded:
    """A verdict and what it rests on: the answer found, the rule that found it, and what each judge said of it.

    ``judges`` is empty where no judge was asked or none came to an end; a judge that gave up is absent.
    """

    verdict: Verdict
    extracted: str | None
    rule: str
    judges: dict[str, bool] = field(default_factory=dict)


class Verifier(Protocol):
    """Grades responses; to be closed, or used in a ``with`` block."""

    def grade(self, problems: Sequence[Problem], responses: Sequence[Response]) -> list[Graded]:
        """Grade response i to problem i.

        Raises:
            UserError: a problem has an empty answer, or the answer of a multiple-choice problem is none of its letters.
            Interrupted: a stop was asked for.
        """
        ...

    def grade_answers(self, problems: Sequence[Problem], answers: Sequence[str]) -> list[Graded]:
        """Grade bare answer i to problem i: all of it is the answer, whatever it holds.

        Raises:
            UserError, Interrupted: as :meth:`grade`.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def make_verifier(spec: VerifierSpec, should_stop: ShouldStop = never) -> Verifier:
    """Build the verifier that a configuration names; workers start warming up in the background."""
    if spec.kind == "exact":
        return ExactVerifier(should_stop)
    return MathVerifier(Workers(spec.workers, spec.seconds, should_stop), should_stop, spec.judge, spec.thought)


class _Closing:
    """A verifier's use in a ``with`` block."""

    def close(self) -> None:
        """Free what the verifier holds."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ExactVerifier(_Closing):
    """Compares what follows the last ``A`` with the gold, letter by letter: for the miniature, in this process.

    Such an answer has no end but the response's, so a response that was cut is truncated whatever it holds.
    """

    def __init__(self, should_stop: ShouldStop = never) -> None:
        self.should_stop = should_stop

    def grade(self, problems: Sequence[Problem], responses: Sequence[Response]) -> list[Graded]:
        """See :meth:`Verifier.grade`."""
        _check_golds(problems)
        return [self._grade(*row) for row in zip(problems, responses, strict=True)]

    def _grade(self, problem: Problem, response: Response) -> Graded:
        check(self.should_stop)
        if response.finish == "length":
            return Graded(Verdict.TRUNCATED, None, "none")
        answer = extract_answer(response.whole)
        if answer is None:
            return Graded(Verdict.NO_ANSWER, None, "none")
        return self._judged(problem, answer, "after_A")

    def grade_answers(self, problems: Sequence[Problem], answers: Sequence[str]) -> list[Graded]:
        """See :meth:`Verifier.grade_answers`."""
        _check_golds(problems)
        return [self._judged(problem, answer, "given") for problem, answer in zip(problems, answers, strict=True)]

    def _judged(self, problem: Problem, answer: str, rule: str) -> Graded:
        right = answer == problem.answer.strip()
        return Graded(Verdict.CORRECT if right else Verdict.WRONG, answer, rule, {"exact": right})


class MathVerifier(_Closing):
    """Grades mathematical and multiple-choice answers; ``decisive`` names the judge whose word is the verdict, and
    ``thought`` the rule on thoughts (:mod:`dagrpo.verify.extract`).

    A letter is compared here (judge ``letter``). Other answers go to both judges, each distinct pair of gold and answer
    once: what a judge said of a pair is remembered, since it depends on nothing else.
    """

    def __init__(
        self,
        workers: Workers,
        should_stop: ShouldStop = never,
        decisive: JudgeName = "math_verify",
        thought: ThoughtRule = "optional",
    ) -> None:
        self.workers, self.should_stop, self.decisive, self.thought = workers, should_stop, decisive, thought
        self._known: dict[tuple[str, str], dict[str, Judgement]] = {}

    def grade(self, problems: Sequence[Problem], responses: Sequence[Response]) -> list[Graded]:
        """See :meth:`Verifier.grade`."""
        _check_golds(problems)
        found: list[Extraction] = []
        for problem, response in zip(problems, responses, strict=True):
            check(self.should_stop)
            found.append(extract(response.whole, response.finish, problem.choices, self.thought))
        return self._graded_all(problems, found, [response.finish for response in responses])

    def grade_answers(self, problems: Sequence[Problem], answers: Sequence[str]) -> list[Graded]:
        """See :meth:`Verifier.grade_answers`."""
        _check_golds(problems)
        found = [given(answer, problem.choices) for problem, answer in zip(problems, answers, strict=True)]
        return self._graded_all(problems, found, ["stop"] * len(found))

    def _graded_all(
        self, problems: Sequence[Problem], found: Sequence[Extraction], finishes: Sequence[Finish]
    ) -> list[Graded]:
        judged = self._judge(
            dict.fromkeys(
                (problem.answer, extraction.answer)
                for problem, extraction in zip(problems, found, strict=True)
                if extraction.answer is not None and problem.choices is None
            )
        )
        return [self._graded(*row, judged) for row in zip(problems, found, finishes, strict=True)]

    def close(self) -> None:
        """End the workers."""
        self.workers.close()

    def _judge(self, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], dict[str, Judgement]]:
        """What the judges say of each pair; a judge that gave up is absent."""
        judged: dict[tuple[str, str], dict[str, Judgement]] = {}
        asked: list[tuple[str, str]] = []
        for pair in pairs:
            check(self.should_stop)
            if pair in self._known:
                judged[pair] = self._known[pair]
            elif (settled := settle(*pair)) is not None:
                judged[pair] = dict.fromkeys(_JUDGES, settled)
            else:
                judged[pair] = {}
                asked.append(pair)
        tasks = [(judge, *pair) for pair in asked for judge in _JUDGES]
        for (judge, gold, answer), judgement in zip(tasks, self.workers.judge(tasks), strict=True):
            if judgement is not None:
                judged[gold, answer][judge] = judgement
        if len(self._known) > _REMEMBERED:
            self._known.clear()
        self._known.update((pair, judged[pair]) for pair in asked if len(judged[pair]) == len(_JUDGES))
        return judged

    def _graded(
        self,
        problem: Problem,
        extraction: Extraction,
        finish: Finish,
        judged: dict[tuple[str, str], dict[str, Judgement]],
    ) -> Graded:
        answer, rule = extraction.answer, extraction.rule
        if answer is None:
            return Graded(Verdict.TRUNCATED if finish == "length" else Verdict.NO_ANSWER, None, rule)
        if problem.choices is not None:
            right = answer == problem.answer
            return Graded(Verdict.CORRECT if right else Verdict.WRONG, answer, rule, {"letter": right})
        said = judged[problem.answer, answer]
        judges = {name: word is Judgement.EQUAL for name, word in said.items() if word is not Judgement.REFUSED}
        verdict = {True: Verdict.CORRECT, False: Verdict.WRONG, None: Verdict.TIMEOUT}[judges.get(self.decisive)]
        return Graded(verdict, answer, rule, judges)


def _check_golds(problems: Sequence[Problem]) -> None:
    for problem in problems:
        if not problem.answer.strip():
            raise UserError(f"problem {problem.id!r} has an empty answer; fill it in or leave the problem out")
        if problem.choices is not None and problem.answer not in tuple(ascii_uppercase[: len(problem.choices)]):
            raise UserError(
                f"problem {problem.id!r}: its answer {problem.answer!r} is not the letter of one of its "
                f"{len(problem.choices)} choices; correct it or leave the problem out"
            )
