"""Questions that threads share out among themselves, and what becomes of those that fail: a question's own fault, or an
outage of the judge, which is waited out."""

import queue
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Sequence

from dagrpo.errors import UserError
from dagrpo.processes.heartbeat import beat
from dagrpo.scorers.judge.prompt import Grades, Question
from dagrpo.scorers.request import Missing

Outcome = Grades | Missing
FEWEST = 3
"""Questions that must fail one after another before it counts as an outage while others remain."""


STRIKES = 2
"""Times that a question must fail while others are answered before its score is missing."""


class Failed(Exception):
    """One request came to nothing.

    ``silent`` says that the judge gave no answer to go by (it is down, overloaded or out of reach), ``again`` that
    another try may help, ``wait`` for how many seconds the server asked.
    """

    def __init__(self, why: str, remedy: str, *, silent: bool = False, again: bool = True, wait: float = 0.0) -> None:
        super().__init__(why)
        self.why, self.remedy, self.silent, self.again, self.wait = why, remedy, silent, again, wait

    def missing(self) -> Missing:
        return Missing(self.why, self.remedy)


class Batch:
    """Hands questions to threads and gathers outcomes in :attr:`done`.

    A question that gets no answer is put aside. When the judge answers one that was asked later, those aside failed by
    themselves; each is asked once more, for it may have met the end of an outage. Where no later one is answered,
    neither of several in a row nor of all there are, the judge is down: then one question after another tries, with
    growing waits, until one is answered or ``outage`` seconds have passed.

    Args:
        wait: longest wait between two tries of a judge that is down, and scale of the first (seconds).
    """

    def __init__(
        self, questions: Sequence[Question], threads: int, host: str, outage: float, wait: tuple[float, float]
    ) -> None:
        self.done: queue.SimpleQueue[tuple[Question, Outcome] | BaseException] = queue.SimpleQueue()
        self.ended = threading.Event()
        self._todo, self._aside = deque(questions), list[tuple[Question, Failed, int]]()
        self._begun, self._number, self._strikes = 0, dict[str, int](), Counter[str]()
        self._patience, self._host, self._outage = max(FEWEST, threads), host, outage
        self._longest_wait, self._first_wait = wait
        self._under_way = self._bad_in_a_row = self._tries = 0
        self._answered = False
        self._fatal: BaseException | None = None
        self._down_since: float | None = None
        self._down_from = 0
        self._next_try = 0.0
        self._turn = threading.Condition()

    @property
    def down(self) -> bool:
        return self._down_since is not None

    def take(self) -> Question | None:
        """Wait for a question to ask; ``None`` when there is none left."""
        with self._turn:
            while not self.ended.is_set():
                pause = self._next_try - time.monotonic() if self.down else 0.0
                if self._todo and pause <= 0 and not (self.down and self._under_way):
                    self._under_way += 1
                    self._begun += 1
                    question = self._todo.popleft()
                    self._number[question.key] = self._begun
                    return question
                if not self._todo and not self._under_way:
                    break
                self._turn.wait(pause if pause > 0 else None)
            return None

    def end(self) -> None:
        """Let no more be asked."""
        with self._turn:
            self.ended.set()
            self._turn.notify_all()

    def fail(self, error: BaseException) -> None:
        """End the whole batch, as soon as what is under way, and may be paid for, has come."""
        with self._turn:
            self._fatal = self._fatal or error
            self._comes_back()

    def answered(self, question: Question, grades: Grades) -> None:
        with self._turn:
            self._bad_in_a_row = 0
            self.done.put((question, grades))
            self._speaks(question)
            self._comes_back()

    def failed(self, question: Question, error: Failed) -> None:
        with self._turn:
            if not error.silent:
                self._refused(question, error)
            elif self.down:
                self._todo.append(question)  # last, so that each has its turn
                self._still_down(error)
            else:
                self._aside.append((question, error, self._begun))
                if len(self._aside) >= self._patience or (self._is_last() and not self._answered):
                    self._goes_down(error)
            self._comes_back()

    def _is_last(self) -> bool:
        return not self._todo and self._under_way == 1

    def _comes_back(self) -> None:
        """One that was under way is no more."""
        if self._is_last():
            self._blame_those_aside(self._begun)
        self._under_way -= 1
        if self._fatal is not None:
            self._todo.clear()
            self.ended.set()
            if not self._under_way:
                self.done.put(self._fatal)
        self._turn.notify_all()

    def _refused(self, question: Question, error: Failed) -> None:
        """The judge is there, and gave nothing that could be used. A row of such ends the batch: it is not paid for."""
        self.done.put((question, error.missing()))
        self._speaks(question)
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= self._patience:
            unasked = Missing(f"not asked after {self._patience} failures in a row", error.remedy)
            while self._todo:
                self.done.put((self._todo.popleft(), unasked))

    def _speaks(self, question: Question) -> None:
        self._answered = True
        number = self._number[question.key]
        self._blame_those_aside(number - 1)
        if self._down_since is not None and number > self._down_from:
            minutes = (time.monotonic() - self._down_since) / 60
            self._say(f"answers again after {minutes:.1f} minutes")
            self._down_since, self._tries = None, 0

    def _blame_those_aside(self, until: int) -> None:
        """Those that had failed before question number ``until + 1`` was asked."""
        kept = []
        for question, error, when in self._aside:
            if when > until:
                kept.append((question, error, when))
                continue
            self._strikes[question.key] += 1
            if self._strikes[question.key] < STRIKES:
                self._todo.append(question)
            else:
                self.done.put((question, error.missing()))
        self._aside = kept

    def _goes_down(self, error: Failed) -> None:
        self._todo.extend(question for question, _, _ in self._aside)
        self._aside.clear()
        self._down_since, self._down_from = time.monotonic(), self._begun
        self._say(f"{error.why}; it is waited for, {self._outage / 3600:g} hours at most, and nothing is lost")
        self._still_down(error)

    def _still_down(self, error: Failed) -> None:
        assert self._down_since is not None
        beat()
        waited = time.monotonic() - self._down_since
        if waited >= self._outage:
            self._fatal = UserError(
                f"the judge at {self._host} has answered nothing for {waited / 3600:.1f} hours ({error.why}), and "
                f"scorer.options.outage_hours allows {self._outage / 3600:g}. {error.remedy}, then run this again: "
                "what was done and answered so far is kept"
            )
            return
        grown = min(self._longest_wait, self._first_wait * 2.0 ** min(self._tries, 30))
        self._tries += 1
        left = self._outage - waited
        self._next_try = time.monotonic() + min(left, self._longest_wait, max(grown, error.wait))

    def _say(self, what: str) -> None:
        print(f"the judge at {self._host}: {what}", file=sys.stderr, flush=True)
