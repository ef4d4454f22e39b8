"""vLLM as a server of its own: a client of its endpoints for tokens and, in its development mode, for weights.

Whoever reaches the port of such a server can replace its weights, so it belongs on a private address.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import requests
import torch
from requests.adapters import HTTPAdapter
from transformers import PreTrainedModel

from dagrpo.config import VllmServer
from dagrpo.errors import Interrupted, UserError
from dagrpo.processes.signals import ShouldStop, check
from dagrpo.rollout.vllm_engine import Completion, Job

COMMAND = (
    "VLLM_SERVER_DEV_MODE=1 python -m vllm.entrypoints.openai.api_server --model BASE --host 127.0.0.1 "
    "--logprobs-mode processed_logprobs --worker-extension-cls dagrpo.rollout.vllm_worker.HeldWeights"
)
"""Not ``vllm serve``, which looks for a package of that very name, and that of the CPU build is another."""
SECONDS = (10, 3600)
"""Limits for a connection and for a reply."""
ASKED = {"logprobs": 0, "return_token_ids": True, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""Log-probabilities of the sampled tokens alone, and no default that a server takes from a generation config."""


class Server:
    """A :class:`dagrpo.rollout.vllm_engine.Backend` behind HTTP; made by :func:`server`."""

    shared = True

    def __init__(self, session: requests.Session, options: VllmServer, rows: int, should_stop: ShouldStop) -> None:
        self.session, self.url, self.exchange = session, options.url.rstrip("/"), options.exchange
        self.rows, self.should_stop = rows, should_stop
        described = self._call_worker("described")
        for name, wanted in {"logprobs_mode": "processed_logprobs", "shards": 1, "quantization": None}.items():
            if described[name] != wanted:
                raise UserError(
                    f"engine.url: the server at {self.url} has {name} = {described[name]}, but {wanted} is needed; "
                    f"start it with: {COMMAND}"
                )
        self.dtype: torch.dtype = getattr(torch, described["dtype"])
        self.context: int = described["context"]

    def load(self, model: PreTrainedModel) -> None:
        """Hand over the weights through files that both sides see."""
        with TemporaryDirectory(dir=self.exchange, prefix="weights-") as folder:
            Path(folder).chmod(0o755)  # the server may be another user's
            model.save_pretrained(folder)
            self._call_worker("take_weights", folder=folder)
        if not self._post("/reset_prefix_cache")["success"]:
            raise UserError(f"engine.url: the server at {self.url} is busy with other requests; give this run its own")

    def digests(self) -> dict[str, str]:
        """Digest the weights that the server computes with."""
        return self._call_worker("held_digests")

    def label(self) -> str:
        """What the weights are called; a server that was started anew has forgotten the name."""
        return self._send("GET", "/weight_info")["weight_version"]

    def set_label(self, label: str) -> None:
        """Name the weights."""
        self._post("/update_weight_version", {"new_version": label})

    def generate(
        self, jobs: Sequence[Job], temperature: float, end: list[int], stop: Sequence[str]
    ) -> list[Completion]:
        """Draw the samples, at most ``rows`` at a time."""
        common = {"temperature": temperature, "stop_token_ids": end, "ignore_eos": True, "stop": list(stop)}
        with ThreadPoolExecutor(min(self.rows, len(jobs))) as pool:
            futures = [pool.submit(self._draw, job, ASKED | common) for job in jobs]
            try:
                while wait(futures, timeout=0.2).not_done:
                    check(self.should_stop)
                    for future in futures:
                        if future.done():
                            future.result()  # a failure ends the wait
            except (Interrupted, UserError):
                pool.shutdown(wait=False, cancel_futures=True)
                self._post("/abort_requests", {})
                raise
        label = self.label()
        return [Completion(*future.result(), label) for future in futures]

    def rest(self) -> bool:
        """Do nothing: the server has its own memory."""
        return False

    def _draw(self, job: Job, asked: dict[str, Any]) -> tuple[tuple[int, ...], tuple[float, ...]]:
        body = asked | {"prompt": job.prompt_tokens, "max_tokens": job.budget, "seed": job.seed}
        (choice,) = self._post("/v1/completions", body)["choices"]
        if choice["finish_reason"] not in ("stop", "length"):
            raise UserError(f"engine.url: the server at {self.url} ended a sample with {choice['finish_reason']!r}")
        return tuple(choice["token_ids"]), tuple(choice["logprobs"]["token_logprobs"])

    def _call_worker(self, method: str, **arguments: str) -> Any:
        results = self._post("/collective_rpc", {"method": method, "kwargs": arguments})["results"]
        return results[0]

    def _post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._send("POST", path, body)

    def _send(self, verb: str, path: str, body: dict[str, Any] | None = None) -> Any:
        try:
            reply = self.session.request(verb, self.url + path, json=body, timeout=SECONDS)
        except requests.RequestException as error:
            raise UserError(
                f"engine.url: no reply from {self.url} ({type(error).__name__}); start it with: {COMMAND}"
            ) from error
        if not reply.ok:
            raise UserError(
                f"engine.url: the server at {self.url} refuses {path} ({reply.status_code}: {reply.text[:300].strip()})"
                f"; start it with: {COMMAND}"
            )
        return reply.json()


@contextmanager
def server(options: VllmServer, rows: int, should_stop: ShouldStop) -> Iterator[Server]:
    """Connect to a running server.

    Args:
        rows: requests that are sent together.

    Raises:
        UserError: it does not answer, or was not started as it must be.
    """
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=rows))
        yield Server(session, options, rows, should_stop)
