"""A judge, as a configuration describes it."""

import re
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from dagrpo.config import Revision, Strict
from dagrpo.errors import UserError
from dagrpo.hub import require_pin


class Serve(Strict):
    """How vLLM serves the model beside a run (`make setup-vllm`)."""

    gpus: int = Field(1, ge=0, description="GPUs of its own, beside the run's; 0: a share of the run's last one.")
    memory: float = Field(0.9, gt=0, lt=1, description="Share of the memory of its GPUs for weights and cache.")
    window: int = Field(16_384, ge=256, description="Longest question and reply together (tokens).")
    minutes: float = Field(30.0, gt=0, description="How long it may take to come up.")
    args: tuple[str, ...] = Field((), description="Further words of the server's command line.")


class Price(Strict):
    """What a judge charges, in any one currency for a million tokens; `dagrpo plan` adds it up."""

    input: float = Field(ge=0)
    cached: float | None = Field(None, ge=0, description="Of a prefix that it has read before; null: as any other.")
    output: float = Field(ge=0)


class JudgeOptions(Strict):
    """A judge, and how it is spoken to: at an address, or as a model that is served for the time of the run."""

    base_url: str | None = Field(None, description="Of the API, as in http://localhost:8000/v1.")
    model: str = Field(min_length=1, description="Name of the model at that endpoint; a hub name or folder to serve.")
    serve: Serve | None = Field(None, description="Serve the model beside the run, in place of a base_url.")
    revision: Revision | None = Field(None, description="Commit of a model of the hub that is served.")
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
        6.0, ge=0, le=7, description="How long a run waits for a judge that does not answer anything (hours)."
    )
    max_calls: int = Field(
        100_000, ge=1, description="Answered requests that a run may pay for: all processes, and all starts, together."
    )

    price: Price | None = Field(None, description="For the plan alone.")

    @property
    def host(self) -> str:
        return "the run's own server" if self.base_url is None else urlsplit(self.base_url).netloc

    @model_validator(mode="after")
    def _has_one_way(self) -> "JudgeOptions":
        if (self.base_url is None) == (self.serve is None):
            raise UserError("scorer.options: give either base_url, the address of a judge, or serve, to start one")
        if self.serve is not None:
            require_pin(self.model, self.revision, "scorer.options")
        return self

    # A UserError passes through pydantic as it is, and so without the value, which may hold a secret.
    @field_validator("base_url")
    @classmethod
    def _is_plain_url(cls, url: str | None) -> str | None:
        if url is None:
            return None
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
    "revision",
    "candidate_chars",
    "reference_chars",
    "reply_format",
    "extra_body",
}
"""Options that change how the judge is reached and for how long, but not what it is asked."""
