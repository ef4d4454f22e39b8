"""vLLM in the trainer's own process: on a GPU it sleeps while the policy learns.

Where several processes train together each has one of its own, with whole weights, for the prompts that fall to it.
"""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import deepcopy
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from transformers import PreTrainedModel

from dagrpo.config import VllmColocated
from dagrpo.errors import Interrupted, UserError
from dagrpo.policy.checkpoint import Policy
from dagrpo.processes.signals import ShouldStop, check
from dagrpo.rollout.vllm_engine import Completion, Job

EXTENSION = "dagrpo.rollout.vllm_worker.HeldWeights"
CPU_BATCH = 8192
"""Tokens that vLLM computes at once on a CPU, at most, unless one prompt is longer."""

UNSHARED = 0.9
"""Share of a GPU's memory where no trainer is beside."""
QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", "VLLM_NO_USAGE_STATS": "1", "VLLM_CONFIGURE_LOGGING": "1"}


class Colocated:
    """A :class:`dagrpo.rollout.vllm_engine.Backend` in this process; made by :func:`colocated`."""

    shared = False

    def __init__(self, engine: Any, eager: bool, sleeps: bool, should_stop: ShouldStop) -> None:
        self.engine, self.sleeps, self.should_stop = engine, sleeps, should_stop
        self.dtype: torch.dtype = engine.model_config.dtype
        self.context: int = engine.model_config.max_model_len
        self.eager = eager
        self._asleep = False
        self._requests = 0

    def load(self, model: PreTrainedModel) -> None:
        """Hand over the weights themselves; nothing is written to disk."""
        if self._asleep:  # the cache of keys and values would only be in the way of what a load allocates
            torch.accelerator.empty_cache()  # vLLM cannot use what torch keeps of an update
            self.engine.wake_up(["weights"])
        weights = ((name, parameter.detach()) for name, parameter in model.named_parameters())
        self.engine.collective_rpc("take_weights", args=(weights,))
        if self._asleep:
            self.engine.wake_up(["kv_cache"])
            self._asleep = False
        if not self.engine.reset_prefix_cache():
            raise RuntimeError("vLLM keeps prompts that were computed with old weights: a request is still running")

    def digests(self) -> dict[str, str]:
        """Digest the weights that vLLM computes with."""
        (held,) = self.engine.collective_rpc("held_digests")
        return held

    def label(self) -> str:
        """What the weights are called."""
        return self.engine.get_weight_version()

    def set_label(self, label: str) -> None:
        """Name the weights."""
        self.engine.set_weight_version(label)

    def generate(
        self, jobs: Sequence[Job], temperature: float, end: list[int], stop: Sequence[str]
    ) -> list[Completion]:
        """Draw the samples; a stop is looked for between decoding steps."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        names = [str(self._requests + number) for number in range(len(jobs))]
        self._requests += len(jobs)
        for name, job in zip(names, jobs, strict=True):
            params = SamplingParams(
                temperature=temperature,
                max_tokens=job.budget,
                seed=job.seed,
                stop_token_ids=end,
                ignore_eos=True,  # `end` has the last word on what ends a response
                stop=list(stop),
                logprobs=0,  # of the sampled token alone
                flat_logprobs=True,
                detokenize=bool(stop),
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            self.engine.add_request(name, {"prompt_token_ids": list(job.prompt_tokens)}, params)
        completions: dict[str, Completion] = {}
        try:
            with _stance(self.eager):
                while self.engine.has_unfinished_requests():
                    check(self.should_stop)
                    completions |= {output.request_id: _completion(output.outputs[0]) for output in self.engine.step()}
        except Interrupted:
            self.engine.abort_request(names)
            raise
        return [completions[name] for name in names]

    def rest(self) -> bool:
        """Give the memory of weights, keys and values to the trainer; the CPU build of vLLM cannot."""
        if self.sleeps:
            self.engine.sleep(2)
        self._asleep = self.sleeps
        return self.sleeps


@contextmanager
def colocated(
    options: VllmColocated, policy: Policy, rows: int, device: torch.device, should_stop: ShouldStop
) -> Iterator[Colocated]:
    """Start vLLM in this process for a policy's shape, and end it; the weights are handed over later.

    Args:
        rows: samples decoded together.

    Raises:
        UserError: vLLM is not installed, or not for this device, or cannot run this model.
    """
    if find_spec("vllm") is None:
        raise UserError("engine.kind: vllm is not installed here; run `make setup-vllm`, or set engine.kind: torch")
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # else weights and calls would have to be pickled
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from vllm import EngineArgs, LLMEngine
    from vllm.distributed import cleanup_dist_env_and_memory
    from vllm.platforms import current_platform

    if current_platform.device_type != device.type:
        raise UserError(
            f"engine.kind: the installed vLLM runs on {current_platform.device_type}, and device is {device.type}; "
            "run `make setup-vllm` on the machine that is to sample, or change device"
        )
    sleeps = current_platform.is_sleep_mode_available()
    dtype = {"auto": "float32" if device.type == "cpu" else "bfloat16"}.get(options.dtype, options.dtype)
    beside = policy.model.device.type == device.type
    memory: dict[str, Any] = {"gpu_memory_utilization": options.memory if beside else UNSHARED}
    if device.type == "cpu":  # there that share would count what the trainer holds too
        memory = {
            "kv_cache_memory_bytes": int(options.memory * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
            # A prompt that is computed in parts sets back its generator, which those of the CPU cannot be.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(CPU_BATCH, policy.model.config.max_position_embeddings),
        }
    joined = dist.is_initialized()  # then vLLM takes part in that world, which its own ways to end would end too
    with TemporaryDirectory() as folder, ExitStack() as at_end:
        at_end.callback(_leave_world if joined else cleanup_dist_env_and_memory)
        at_end.callback(gc.collect)
        _write_shape(policy.model, Path(folder))
        policy.tokenizer.save_pretrained(folder)
        settings = EngineArgs(
            folder,
            load_format="dummy",
            generation_config="vllm",
            dtype=dtype,
            enforce_eager=options.eager,
            max_num_seqs=rows,
            enable_prefix_caching=True,
            enable_sleep_mode=sleeps,
            logprobs_mode="processed_logprobs",  # of the distribution that was drawn from
            worker_extension_cls=EXTENSION,
            disable_log_stats=True,
            # one vLLM a process, each going its own way: as many replicas as processes
            distributed_executor_backend="external_launcher" if joined and dist.get_world_size() > 1 else None,
            **memory,
        )
        try:
            with _stance(options.eager), _own_threads():
                engine = LLMEngine.from_engine_args(settings)
        except (ValueError, RuntimeError, NotImplementedError) as error:
            reason = str(error).strip().split("\n")[0]
            raise UserError(f"engine: vLLM cannot run this model here ({reason}); set engine.kind: torch") from error
        if joined:
            engine.engine_core._finalizer.detach()
        at_end.callback(engine.model_executor.shutdown if joined else engine.engine_core.shutdown)
        yield Colocated(engine, options.eager, sleeps, should_stop)


def _leave_world() -> None:
    """Drop vLLM's own groups of processes, and nothing else."""
    from vllm.distributed import parallel_state

    parallel_state.destroy_model_parallel()
    if parallel_state._WORLD is not None:
        parallel_state._WORLD.destroy()
        parallel_state._WORLD = None


@contextmanager
def _own_threads() -> Iterator[None]:
    """Keep torch's setter of threads, in place of which vLLM's CPU build puts one that does nothing."""
    own = torch.set_num_threads
    try:
        yield
    finally:
        torch.set_num_threads = own


def _stance(eager: bool) -> AbstractContextManager[None]:
    """Eager means eager: without this, vLLM still compiles a helper of its sampler, which takes half a minute."""
    return torch.compiler.set_stance("force_eager" if eager else "default")


def _completion(output: Any) -> Completion:
    if output.finish_reason not in ("stop", "length"):
        raise RuntimeError(f"vLLM ended a sample with {output.finish_reason!r}")
    versions = {span.version for span in output.weight_versions}
    return Completion(tuple(output.token_ids), tuple(output.logprobs.logprobs), ", ".join(sorted(versions)))


def _write_shape(model: PreTrainedModel, folder: Path) -> None:
    config = deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
