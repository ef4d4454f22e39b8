"""The weights under training: whole in one process, or sharded over many by PyTorch's FSDP2.

Sharded, each process keeps its rows of every weight, of its gradient and of its optimiser's state, all in fp32, and
sees a whole layer only while that computes. Sampling and scoring need whole weights for thousands of small passes, in
which the processes do not keep step; for them the weights are gathered once into a plain copy of the model, in the
precision of training, and let go afterwards. So the peak of an update holds no copy, and that of sampling no gradients.
A process reads of a checkpoint nothing but its own rows.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import MethodType
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from dagrpo.config import Train
from dagrpo.errors import UserError
from dagrpo.files.checkpoints import Stored
from dagrpo.policy.adapters import merged
from dagrpo.policy.checkpoint import Policy
from dagrpo.policy.logprobs import Logps, token_logps
from dagrpo.policy.packing import MicroBatch
from dagrpo.processes.world import ALONE, World

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class Weights:
    """Weights that are whole in this one process.

    ``model`` carries the gradient and is what an optimiser is given. ``policy`` is what samples and is saved: here the
    same model.
    """

    def __init__(self, policy: Policy, recompute: bool = False, world: World = ALONE) -> None:
        self.policy, self.model, self.world = policy, policy.model, world
        if recompute:
            recompute_layers(self.model)

    def logps(self, micro: MicroBatch, temperature: float, entropy_gradient: bool = False) -> Logps:
        """See :func:`dagrpo.policy.logprobs.token_logps`."""
        return token_logps(self.model, micro, temperature, entropy_gradient)

    def clip(self, bound: float) -> float:
        """Bound the norm of the whole gradient; return what it was."""
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), bound)
        return float(norm.full_tensor() if isinstance(norm, DTensor) else norm)

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Inside, ``policy`` has the weights of now, in the precision of training. All processes enter together."""
        yield

    @contextmanager
    def exported(self) -> Iterator[Policy]:
        """Give what the leading process can save: the weights of now in fp32, adapters merged. All enter together."""
        yield merged(self.policy)


class ShardedWeights(Weights):
    """Weights of which each process holds some rows (FSDP2: Zhao et al., arXiv 2304.11277, one parameter at a time).

    Gradients are summed over the processes, not averaged, for the denominators of a loss count the rows of all.
    """

    def __init__(
        self, policy: Policy, train: Train, world: World, device: torch.device, stored: Stored | None = None
    ) -> None:
        model = policy.model
        copied = _hollow(model, device)
        if train.recompute:
            recompute_layers(model)
        self.model, self.world, self.dtype = model, world, DTYPES[train.precision]
        self.policy = replace(policy, model=copied, device=device)
        mesh = init_device_mesh(device.type, (world.size,))
        precision = MixedPrecisionPolicy(param_dtype=self.dtype, reduce_dtype=torch.float32)
        for module in (*decoder_layers(model), model):
            fully_shard(module, mesh=mesh, mp_policy=precision, reshard_after_forward=True)
            assert isinstance(module, FSDPModule)
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
        if stored is not None:
            _read_share(model, stored, device)
        model.packed_logps = MethodType(_packed_logps, model)
        register_fsdp_forward_method(model, "packed_logps")

    def logps(self, micro: MicroBatch, temperature: float, entropy_gradient: bool = False) -> Logps:
        return Logps(*self.model.packed_logps(micro, temperature, entropy_gradient))

    @contextmanager
    def whole(self) -> Iterator[None]:
        with self._copied(self.dtype, lambda full: full):
            yield

    @contextmanager
    def exported(self) -> Iterator[Policy]:
        with self._copied(torch.float32, lambda full: full.cpu() if self.world.leads else full.new_empty(0)):
            yield merged(self.policy) if self.world.leads else self.policy

    @contextmanager
    def _copied(self, dtype: torch.dtype, place: Callable[[Tensor], Tensor]) -> Iterator[None]:
        copied = dict(self.policy.model.named_parameters())
        for name, parameter in self.model.named_parameters():
            rows = cast(DTensor, parameter.detach().to(dtype))  # cast first, so that half as much travels
            copied[name].data = place(rows.full_tensor())
        try:
            yield
        finally:
            for parameter in copied.values():
                parameter.data = parameter.data.new_empty(0)


def shard(policy: Policy, train: Train, world: World, device: torch.device, stored: Stored | None = None) -> Weights:
    """Take a policy's weights under training; where the world is more than one process alone, its processes share them.

    Args:
        policy: as loaded, in fp32; in a world that shards, on the CPU. Its model must be left to the weights then.
        stored: in a world that shards, where the weights are read from that the policy has on the meta device.

    Raises:
        UserError: where the decoder layers of its architecture are is not known.
    """
    if world.shards:
        return ShardedWeights(policy, train, world, device, stored)
    return Weights(policy, train.recompute)


def decoder_layers(model: PreTrainedModel) -> list[nn.Module]:
    """The blocks of a model, in order. Raises :class:`UserError` where the architecture hides them."""
    layers = getattr(model.base_model, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        raise UserError(
            f"architecture {model.config.model_type!r}: where its decoder layers are is not known, so it can be "
            "neither sharded nor recomputed; leave train.precision and train.recompute, and start without torchrun"
        )
    return list(layers)


def recompute_layers(model: PreTrainedModel) -> None:
    """Keep only the input of each layer for the backward pass, and compute the rest again (activation checkpointing:
    Chen et al., arXiv 1604.06174)."""
    for layer in decoder_layers(model):
        layer.forward = _recomputed(layer.forward)  # not a wrapping module, which would change the weights' names


def held(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this process holds; the tensor itself where it is whole. Shares its memory."""
    return cast(DTensor, tensor.detach()).to_local() if isinstance(tensor, DTensor) else tensor.detach()


def fill(target: Tensor, stored: Stored, name: str) -> None:
    """Copy a stored tensor into ``target``, or of it the rows that this process holds."""
    if not isinstance(target, DTensor):
        target.copy_(stored[name])
        return
    rows = held(target)
    if len(rows):
        # as torch.chunk, which FSDP follows: full chunks, then what is left
        first = -(-len(target) // target.device_mesh.size()) * target.device_mesh.get_local_rank()
        rows.copy_(stored.rows(name, first, first + len(rows)))


@torch.no_grad()
def _read_share(model: PreTrainedModel, stored: Stored, device: torch.device) -> None:
    """Give the rows that this process holds of each weight without data their place, and their stored numbers."""
    missing = {name for name, parameter in model.named_parameters() if parameter.is_meta}
    model._apply(lambda tensor: torch.empty_like(tensor, device=device) if tensor.is_meta else tensor)
    for name, parameter in model.named_parameters():
        if name in missing:
            fill(parameter, stored, name.replace(".base_layer.", "."))  # a parameter with adapters


def _packed_logps(
    model: PreTrainedModel, micro: MicroBatch, temperature: float, entropy_gradient: bool
) -> tuple[Tensor, Tensor, Tensor]:
    # a tuple, for FSDP looks for tensors with a gradient in tuples and not in our records
    out = token_logps(model, micro, temperature, entropy_gradient)
    return out.logp, out.entropy, out.row


def _hollow(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    """A copy of a model whose parameters are empty, weights that are shared being so in the copy."""
    memo: dict[int, object] = {
        id(parameter): nn.Parameter(torch.empty(0, dtype=parameter.dtype), requires_grad=parameter.requires_grad)
        for parameter in model.parameters()
    }
    return copy.deepcopy(model, memo).to(device)


def _recomputed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*inputs: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*inputs, **named)
        return checkpoint(forward, *inputs, use_reentrant=False, **named)

    return run
