"""Questions to any OpenAI-compatible chat endpoint: many at once, with patience, limits and no leaks.

Nothing that a server says is repeated in a message, for servers quote keys and prompts in their errors.
"""

import json
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
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
from dagrpo.processes.signals import check
from dagrpo.scorers.judge.batch import Batch, Failed, Outcome
from dagrpo.scorers.judge.options import JudgeOptions
from dagrpo.scorers.judge.prompt import BadReply, Grades, Question, read_reply, reply_schema
from dagrpo.scorers.registry import Tools

_POLL_SECONDS = 0.05
_MOST_BYTES = 1 << 20
_BUSY = {408, 409, 425, 429}
_OF_THIS_REQUEST = {400, 413, 422}


class Client:
    """Speaks to one endpoint; counts the calls that it answered.

    Args:
        check_server: raises :class:`UserError` where there is no use in waiting.
    """

    def __init__(self, options: JudgeOptions, tools: Tools, check_server: Callable[[], None]) -> None:
        self.check_server = check_server
        self.options, self.should_stop, self.tally = options, tools.should_stop, tools.tally
        self._lock = threading.Lock()
        self._left = 0

    @contextmanager
    def asking(
        self, questions: Sequence[Question], base_url: str, threads: int, calls: int
    ) -> Iterator[Iterator[tuple[Question, Outcome]]]:
        """Put questions to the judge; the iterator yields each with its outcome, in the order of arrival. Leaving the
        ``with`` ends what is under way.

        Args:
            threads: requests under way at once.
            calls: how many may be answered.

        Raises:
            Interrupted: a stop was asked for.
            UserError: the judge refuses the key, the model or the address, answers nothing for longer than it may, or
                ``calls`` are used up.
        """
        options = self.options
        auth, self._left = _Bearer(self._key()), calls
        wait = (options.max_wait, options.backoff)
        batch = Batch(questions, threads, options.host, 3600 * options.outage_hours, wait)
        for _ in range(min(threads, len(questions))):
            # Daemons, for a thread that waits for a slow server cannot be ended and must not hold up the process.
            threading.Thread(target=self._serve, args=(auth, batch, base_url), daemon=True).start()
        try:
            yield self._outcomes(batch, len(questions))
        finally:
            batch.end()

    def _outcomes(self, batch: Batch, left: int) -> Iterator[tuple[Question, Outcome]]:
        while left:
            check(self.should_stop)
            try:
                came = batch.done.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                self.check_server()
                continue
            if isinstance(came, BaseException):
                raise came
            left -= 1
            yield came

    def _serve(self, auth: "_Bearer", batch: Batch, base_url: str) -> None:
        with requests.Session() as session:
            session.auth = auth
            while (question := batch.take()) is not None:
                try:
                    grades = self._try(session, question, base_url, batch)
                except Failed as error:
                    batch.failed(question, error)
                except BaseException as error:  # the judge cannot be used, or a bug: the main thread raises it
                    batch.fail(error)
                    return
                else:
                    batch.answered(question, grades)

    def _try(self, session: requests.Session, question: Question, base_url: str, batch: Batch) -> Grades:
        options = self.options
        backoff = wait_random_exponential(multiplier=options.backoff, max=options.max_wait)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.wait if isinstance(error, Failed) else 0.0
            return min(options.max_wait, max(asked, backoff(state)))

        attempts = Retrying(
            stop=stop_after_attempt(1 if batch.down else 1 + options.retries) | stop_when_event_set(batch.ended),
            wait=wait,
            retry=retry_if_exception(lambda error: isinstance(error, Failed) and error.again),
            sleep=sleep_using_event(batch.ended),
            reraise=True,
        )
        grades: Grades = attempts(self._call, session, question, base_url)
        return grades

    def _call(self, session: requests.Session, question: Question, base_url: str) -> Grades:
        self._count(1)  # before it is sent, so that a death in between counts it
        try:
            status, headers, body = self._post(session, self._body(question), base_url)
            if status != 200:
                raise self._refusal(status, headers, body)
        except (Failed, UserError):
            self._count(-1)  # what is not answered is not paid for
            raise
        try:
            return read_reply(_content(body), question.bounds)
        except BadReply as error:
            raise Failed(
                str(error), "Use a model that keeps to the format, set reply_format to json_schema, or raise max_tokens"
            ) from None

    def _count(self, calls: int) -> None:
        with self._lock:
            if calls > self._left:
                raise UserError(
                    f"the judge's budget of {self.options.max_calls} calls is used up by this run; raise "
                    "scorer.options.max_calls, then run this again: what was done and answered so far is kept"
                )
            self._left -= calls
            self.tally.add("calls", calls)

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

    def _post(self, session: requests.Session, body: dict[str, Any], base_url: str) -> tuple[int, Any, bytes]:
        seconds = self.options.timeout
        end = time.monotonic() + seconds
        slow = Failed(
            f"no answer within {seconds:g} s", f"See how {self.options.host} is doing, or raise timeout", silent=True
        )
        try:
            with session.post(
                f"{base_url}/chat/completions",
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
                        raise Failed("an answer without end", f"See what {self.options.host} sends", silent=True)
                return response.status_code, response.headers, received
        except (requests.Timeout, urllib3.exceptions.TimeoutError):
            raise slow from None
        except requests.ConnectionError:
            raise Failed(
                "no connection", f"Start the judge at {self.options.host}, or correct base_url", silent=True
            ) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise Failed(
                f"a broken answer ({type(error).__name__})", f"See what {self.options.host} sends", silent=True
            ) from None

    def _refusal(self, status: int, headers: Any, body: bytes) -> Exception:
        """What a status says: the judge has no time, or takes no such request, or none of ours."""
        why, host = f"HTTP {status}", self.options.host
        if status in _BUSY or status >= 500:
            remedy = "Lower concurrency, or raise outage_hours" if status < 500 else f"See how {host} is doing"
            if _code(body) == "insufficient_quota":
                why, remedy = f"{why}, the account's quota is used up", f"Raise the quota at {host}"
            return Failed(why, remedy, silent=True, wait=_retry_after(headers.get("Retry-After")))
        if status in _OF_THIS_REQUEST:
            return Failed(why, "Lower candidate_chars, or correct reply_format, max_tokens or extra_body", again=False)
        kept = "then run this again: what was done and answered so far is kept"
        if status in (401, 403):
            return UserError(
                f"the judge at {host} refuses the key ({why}); put a valid one into the variable that "
                f"scorer.options.api_key_env names, {kept}"
            )
        return UserError(
            f"the judge at {host} takes no such request ({why}); correct scorer.options.base_url or model, {kept}"
        )

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


def _code(body: bytes) -> str | None:
    """The code of an error, as OpenAI's servers send it."""
    try:
        code = json.loads(body)["error"]["code"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return code if isinstance(code, str) else None


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
