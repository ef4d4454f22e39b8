"""What vLLM's worker process is taught: to tell which weights it holds, under the names of a checkpoint."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from dagrpo.rollout.weights import digests


class HeldWeights:
    """Methods that vLLM adds to its worker (``worker_extension_cls``); they are called by ``collective_rpc``."""

    vllm_config: Any
    model_runner: Any
    reload_weights: Callable[..., None]

    def take_weights(self, weights: Iterable[tuple[str, Tensor]] | None = None, folder: str | None = None) -> None:
        """Load weights by their names in a checkpoint, from an iterator or from a checkpoint's folder."""
        self.reload_weights(weights_iterator=weights, weights_path=folder)
        for module in self.model_runner.get_model().modules():
            # The CPU build computes with a packed copy, and a reload forgets the copy of a head tied to the embedding.
            if hasattr(module, "cpu_linear") and module.weight.dim() == 2:
                module.quant_method.process_weights_after_loading(module)

    def held_digests(self) -> dict[str, str]:
        """Digest the weights that this worker computes with; see :func:`dagrpo.rollout.weights.digests`."""
        return digests(held_weights(self.model_runner.get_model()), self.vllm_config.model_config.dtype)

    def described(self) -> dict[str, Any]:
        """The settings that a trainer relies on."""
        model, parallel = self.vllm_config.model_config, self.vllm_config.parallel_config
        return {
            "dtype": str(model.dtype).removeprefix("torch."),
            "logprobs_mode": model.logprobs_mode,
            "shards": parallel.tensor_parallel_size * parallel.pipeline_parallel_size,
            "quantization": model.quantization,
            "context": model.max_model_len,
        }


@torch.inference_mode()
def held_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every weight of an unsharded vLLM model, with fused projections taken apart and without padding."""
    for path, module in model.named_modules(remove_duplicate=False):
        before, _, last = path.rpartition(".")
        parts = getattr(model, "packed_modules_mapping", {}).get(last, [last])
        for name, parameter in module.named_parameters(recurse=False):
            weight = _packed(module, parameter) if name == "weight" and hasattr(module, "cpu_linear") else parameter
            sizes = module.output_sizes if len(parts) > 1 else [getattr(module, "org_vocab_size", len(weight))]
            for part, piece in zip(parts, weight[: sum(sizes)].split(sizes), strict=True):
                yield f"{before}.{part}.{name}".lstrip("."), piece


def _packed(module: Any, parameter: Tensor, rows: int = 256) -> Tensor:
    """Read a weight that vLLM's CPU build has packed out of sight: the product with the identity gives it, exactly."""
    width = parameter.shape[1] if parameter.dim() == 2 else module.input_size
    identity = torch.eye(width, dtype=parameter.dtype)
    return torch.cat([module.cpu_linear(part, parameter, None) for part in identity.split(rows)]).T
