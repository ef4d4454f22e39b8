"""Questions to any OpenAI-compatible chat endpoint: many at once, with patience, limits and no leaks.

Nothing that a server says is repeated in a message, for servers quote keys and prompts in their errors.
"""

import json
import os
import queue
import re
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import requests
import urllib3
from requests.auth import AuthBase
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_when_event_set,
    wait_random_exponential,
)

from dagrpo.errors import UserError
from dagrpo.scorers.judge.options import JudgeOptions
from dagrpo.scorers.judge.prompt import BadReply, Grades, Question, read_reply, reply_schema
from dagrpo.scorers.request import Missing
from dagrpo.signals import ShouldStop, check

_POLL_SECONDS = 0.05
_MOST_BYTES = 1 << 20
_BUSY = {408, 409, 425, 429}


Answer = tuple[Question, Grades | Missing]


class Failed(Exception):
    """One request came to nothing. ``again`` says whether another try may help, ``wait`` what the server asked for."""

    def __init__(self, why: str, remedy: str, again: bool = True, wait: float = 0.0) -> None:
        super().__init__(why)
        self.why, self.remedy, self.again, self.wait = why, remedy, again, wait


class _Batch:
    """Questions that threads share out among themselves, and what came of each."""

    def __init__(self, questions: Sequence[Question], patience: int) -> None:
        self.done: queue.SimpleQueue[tuple[Question, Grades | Missing | BaseException]] = queue.SimpleQueue()
        self.enough = threading.Event()
        self._todo, self._patience, self._in_a_row = deque(questions), patience, 0
        self._lock = threading.Lock()

    def take(self) -> Question | None:
        with self._lock:
            return self._todo.popleft() if self._todo and not self.enough.is_set() else None

    def deliver(self, question: Question, outcome: Grades | Missing) -> None:
        """Hand an outcome over. Failures without a success between them end the batch, but for what is under way."""
        with self._lock:
            self.done.put((question, outcome))
            self._in_a_row = self._in_a_row + 1 if isinstance(outcome, Missing) else 0
            if isinstance(outcome, Missing) and self._in_a_row >= self._patience:
                self.enough.set()
                unasked = Missing(f"not asked after {self._patience} failures in a row", outcome.remedy)
                while self._todo:
                    self.done.put((self._todo.popleft(), unasked))


class Client:
    """Speaks to one endpoint; counts its calls."""

    def __init__(self, options: JudgeOptions, should_stop: ShouldStop) -> None:
        self.options, self.should_stop = options, should_stop
        self.calls = 0
        self._lock = threading.Lock()

    @contextmanager
    def asking(self, questions: Sequence[Question]) -> Iterator[Iterator[Answer]]:
        """Put questions to the judge; the iterator yields each with its outcome, in the order of arrival.

        After as many failures in a row as there are requests at once, the rest is not asked. Leaving the ``with`` ends
        what is under way.

        Raises:
            Interrupted: a stop was asked for.
            UserError: the key is not in the environment.
        """
        auth, batch = _Bearer(self._key()), _Batch(questions, self.options.concurrency)
        for _ in range(min(self.options.concurrency, len(questions))):
            # Daemons, for a thread that waits for a slow server cannot be ended and must not hold up the process.
            threading.Thread(target=self._serve, args=(auth, batch), daemon=True).start()
        try:
            yield self._outcomes(batch, len(questions))
        finally:
            batch.enough.set()

    def _outcomes(self, batch: "_Batch", left: int) -> Iterator[Answer]:
        while left:
            check(self.should_stop)
            try:
                question, outcome = batch.done.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            if isinstance(outcome, BaseException):
                raise outcome
            left -= 1
            yield question, outcome

    def _serve(self, auth: "_Bearer", batch: "_Batch") -> None:
        with requests.Session() as session:
            session.auth = auth
            while (question := batch.take()) is not None:
                try:
                    batch.deliver(question, self._try(session, question, batch.enough))
                except BaseException as error:  # a bug: the main thread raises it
                    batch.done.put((question, error))
                    return

    def _try(self, session: requests.Session, question: Question, enough: threading.Event) -> Grades | Missing:
        options = self.options
        backoff = wait_random_exponential(multiplier=options.backoff, max=options.max_wait)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.wait if isinstance(error, Failed) else 0.0
            return min(options.max_wait, max(asked, backoff(state)))

        attempts = Retrying(
            stop=stop_after_attempt(1 + options.retries) | stop_when_event_set(enough),
            wait=wait,
            retry=retry_if_exception(lambda error: isinstance(error, Failed) and error.again),
            sleep=sleep_using_event(enough),
            reraise=True,
        )
        try:
            return attempts(self._call, session, question)
        except Failed as error:
            return Missing(error.why, error.remedy)

    def _call(self, session: requests.Session, question: Question) -> Grades:
        with self._lock:
            if self.calls >= self.options.max_calls:
                raise Failed(
                    f"the budget of {self.options.max_calls} calls is used up", "Raise scorer.options.max_calls", False
                )
            self.calls += 1
        status, headers, body = self._post(session, self._body(question))
        if status != 200:
            raise self._refusal(status, headers)
        try:
            return read_reply(_content(body), question.bounds)
        except BadReply as error:
            raise Failed(
                str(error), "Use a model that keeps to the format, set reply_format to json_schema, or raise max_tokens"
            ) from None

    def _body(self, question: Question) -> dict[str, Any]:
        body = {
            "model": self.options.model,
            "messages": question.messages,
            "temperature": 0,
            "max_tokens": self.options.max_tokens,
        }
        match self.options.reply_format:
            case "json_object":
                body["response_format"] = {"type": "json_object"}
            case "json_schema":
                schema = {"name": "reply", "strict": True, "schema": reply_schema(question.bounds)}
                body["response_format"] = {"type": "json_schema", "json_schema": schema}
        body |= self.options.extra_body
        return {name: value for name, value in body.items() if value is not None}

    def _post(self, session: requests.Session, body: dict[str, Any]) -> tuple[int, Any, bytes]:
        seconds = self.options.timeout
        end = time.monotonic() + seconds
        slow = Failed(f"no answer within {seconds:g} s", f"See how {self.options.host} is doing, or raise timeout")
        try:
            with session.post(
                f"{self.options.base_url}/chat/completions",
                json=body,
                timeout=seconds,
                allow_redirects=False,
                stream=True,
            ) as response:
                received = b""
                # Piece by piece as they come, for the library's own timeout starts anew with every byte.
                while part := response.raw.read1(1 << 16, decode_content=True):
                    received += part
                    if time.monotonic() > end:
                        raise slow
                    if len(received) > _MOST_BYTES:
                        raise Failed("an answer without end", f"See what {self.options.host} sends")
                return response.status_code, response.headers, received
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise slow from None
        except requests.ConnectionError:
            raise Failed("no connection", f"Start the judge at {self.options.host}, or correct base_url") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise Failed(f"a broken answer ({type(error).__name__})", f"See what {self.options.host} sends") from None

    def _refusal(self, status: int, headers: Any) -> Failed:
        why = f"HTTP {status}"
        if status in _BUSY:
            wait = _retry_after(headers.get("Retry-After"))
            return Failed(why, "Lower concurrency, or raise retries and max_wait", wait=wait)
        if status >= 500:
            wait = _retry_after(headers.get("Retry-After"))
            return Failed(why, f"See how {self.options.host} is doing", wait=wait)
        if status in (401, 403):
            return Failed(
                why, f"Put a valid key for {self.options.host} into the variable that api_key_env names", again=False
            )
        return Failed(why, "Correct base_url, model, reply_format, max_tokens or extra_body", again=False)

    def _key(self) -> str | None:
        name = self.options.api_key_env
        if name is None:
            return None
        key = os.environ.get(name, "").strip()
        if not re.fullmatch(r"[!-~]+", key):
            raise UserError(
                f"the environment variable {name} holds no key for {self.options.host}; export it and run again"
            )
        return key


class _Bearer(AuthBase):
    """Sends the key, if any; its presence also keeps requests from sending a password of ~/.netrc."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._key is not None:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


def _content(body: bytes) -> str:
    """Take the text out of a chat completion. Raises :class:`BadReply`."""
    try:
        choice = json.loads(body)["choices"][0]
        content, finish = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        raise BadReply("an answer that is no chat completion") from None
    if not isinstance(content, str):
        raise BadReply("an answer that is no chat completion")
    if finish == "length":
        raise BadReply("a reply that was cut short")
    return content


def _retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for: a number or a date (RFC 9110, 10.2.3); 0 where it says nothing."""
    if value is None:
        return 0.0
    if re.fullmatch(r"\d{1,9}", value.strip()):
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
