"""Samples that the evaluation of an experiment has drawn, for benchmarks that ask the same of the same checkpoint."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from dagrpo.config import EngineOptions, EvaluationSpec, parse
from dagrpo.errors import UserError
from dagrpo.rollout.engine import Request, Sampling
from dagrpo.rollout.make import engine_essence
from eval.files import read_json, read_lines
from eval.sampling import meta_path

Sample = dict[str, Any]
"""One sample: ``text``, ``tokens`` (their number) and ``finish``."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """Samples of one checkpoint, by problem and hash of the prompt's tokens, and how they were drawn."""

    samples: Mapping[tuple[str, str], list[Sample]]
    sampling: Sampling
    fingerprint: str
    engine: EngineOptions

    def answers(
        self, request: Request, sampling: Sampling, fingerprint: str, engine: EngineOptions
    ) -> list[Sample] | None:
        """The samples that a request asks for; ``None`` where too few, or only such of another kind, were drawn."""
        if (sampling, fingerprint, engine) != (self.sampling, self.fingerprint, self.engine):
            return None
        found = self.samples.get((request.problem_id, hash_of(request.prompt_tokens)), [])
        return found[: request.samples] if len(found) >= request.samples else None


def hash_of(prompt_tokens: tuple[int, ...]) -> str:
    """Sha256 (hex) of a prompt, as evaluation writes it."""
    return sha256(json.dumps(prompt_tokens).encode()).hexdigest()


def read_drawn(path: Path) -> Drawn:
    """Read the samples of :func:`eval.sampling.evaluate` or of a trial, with what stands beside them.

    Raises:
        UserError: one of the files is missing or broken.
    """
    meta = read_json(meta_path(path))
    samples: dict[tuple[str, str], list[Sample]] = {}
    try:
        spec = parse(EvaluationSpec, meta["spec"], str(meta_path(path)))
        for row in sorted(read_lines(path), key=lambda row: row["sample"]):
            sample = {key: row[key] for key in ("text", "tokens", "finish")}
            samples.setdefault((row["problem_id"], row["prompt_hash"]), []).append(sample)
        sampling = Sampling(spec.temperature, spec.max_new_tokens, meta["seed"], "evaluate")
        return Drawn(samples, sampling, meta["model_fingerprint"], engine_essence(spec.engine))
    except (KeyError, TypeError) as error:
        raise UserError(f"{path}: not samples of an evaluation ({error!r}); delete it and evaluate again") from None
