"""A vLLM server as a process of its own."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from dagrpo.rollout.vllm_colocated import EXTENSION

TRAINED = ("--dtype", "float32", "--worker-extension-cls", EXTENSION, "--logprobs-mode", "processed_logprobs")
"""Flags of a server that a run trains with."""
STARTUP = 400
"""Seconds."""


@contextmanager
def serve(model: Path, log: Path, *flags: str, **environment: str) -> Iterator[str]:
    """Start a server for a checkpoint, wait until it answers, and end it; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += [
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--enforce-eager",
        "--kv-cache-memory-bytes",
        str(2**28),
        *flags,
    ]
    # Without a compiler in the way: it would spend half a minute on one helper of the sampler.
    settings = {**os.environ, "TORCH_COMPILE_DISABLE": "1", "VLLM_NO_USAGE_STATS": "1", **environment}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=settings)
        try:
            deadline = time.monotonic() + STARTUP
            while not _is_up(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"vLLM did not come up: {log.read_text()[-3000:]}")
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(60)


def _is_up(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200
    except requests.RequestException:
        return False
