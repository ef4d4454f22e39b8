"""A judge, as a configuration describes it."""

import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from dagrpo.config import Strict
from dagrpo.errors import UserError


class JudgeOptions(Strict):
    """A judge, and how it is spoken to."""

    base_url: str = Field(description="Of the API, as in http://localhost:8000/v1.")
    model: str = Field(min_length=1, description="Name of the model at that endpoint.")
    api_key_env: str | None = Field(None, description="Name of the environment variable that holds the key.")
    cache: Path = Field(Path(".cache/judge"), description="Folder of all replies; runs and nodes may share it.")
    candidate_chars: int = Field(24_000, ge=100, description="Longer responses lose their middle (characters).")
    reference_chars: int = Field(
        8_000, ge=100, description="Longer references lose their thought, then their middle (characters)."
    )
    max_tokens: int = Field(256, ge=1, description="Budget of a reply (tokens); raise it for a model that thinks.")
    reply_format: Literal["json_object", "json_schema", "text"] = Field(
        "json_object", description="What the server is told to hold the reply to, as far as it can."
    )
    extra_body: dict[str, Any] = Field(default_factory=dict, description="Sent along in each request, as it is.")
    concurrency: int = Field(16, ge=1, le=1024, description="Requests under way at once, of all processes of a run.")
    timeout: float = Field(60.0, gt=0, description="Patience with one request (seconds).")
    retries: int = Field(2, ge=0, description="Further tries of a request that failed.")
    backoff: float = Field(1.0, ge=0, description="Scale of the first wait before another try (seconds); it doubles.")
    max_wait: float = Field(60.0, ge=0, description="Longest wait, also where the server asks for more (seconds).")
    outage_hours: float = Field(
        6.0, ge=0, le=24, description="How long a run waits for a judge that does not answer anything (hours)."
    )
    max_calls: int = Field(
        100_000, ge=1, description="Answered requests that a run may pay for: all processes, and all starts, together."
    )

    @property
    def host(self) -> str:
        return urlsplit(self.base_url).netloc

    # A UserError passes through pydantic as it is, and so without the value, which may hold a secret.
    @field_validator("base_url")
    @classmethod
    def _is_plain_url(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            reachable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
            plain = reachable and not (parts.query or parts.fragment or "@" in parts.netloc)
        except ValueError:
            plain = False
        if not plain:
            raise UserError(
                "scorer.options.base_url: must be an http(s) address such as http://localhost:8000/v1 without a key or "
                "password in it; put the key into an environment variable and its name into api_key_env"
            )
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def _is_a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Z][A-Z0-9_]*", name):
            raise UserError(
                "scorer.options.api_key_env: must be the NAME of an environment variable, such as JUDGE_API_KEY, in "
                "capitals; never write the key itself into a file"
            )
        return name


TRANSPORT = frozenset(JudgeOptions.model_fields) - {
    "model",
    "candidate_chars",
    "reference_chars",
    "reply_format",
    "extra_body",
}
"""Options that change how the judge is reached and for how long, but not what it is asked."""
