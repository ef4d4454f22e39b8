"""Low-rank adapters (LoRA: Hu et al., arXiv 2106.09685): the weights stay, and a small product beside each learns.

They are put into the model in place, so that it remains what it was to all that call it or its layers. What reads the
matrix of a layer asks :func:`matrix`.
"""

import copy
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from dagrpo import seeds
from dagrpo.config import Lora
from dagrpo.errors import UserError
from dagrpo.policy.checkpoint import Policy

_NAME = "default"


def add_adapters(model: PreTrainedModel, lora: Lora, seed: int) -> None:
    """Freeze a model's weights and put adapters beside them, which change nothing before they have learnt.

    Args:
        seed: of the run; with it the adapters begin alike on every process and device.

    Raises:
        UserError: peft is not installed, or a target is no linear layer of the model.
    """
    if find_spec("peft") is None:
        raise UserError("train.lora: peft is not installed; run: pip install -c constraints.txt -e '.[lora]'")
    linear = {name for name, layer in model.base_model.named_modules() if isinstance(layer, nn.Linear)}
    known = {name.rpartition(".")[2] for name in linear}
    if strange := [target for target in lora.targets if target not in known]:
        raise UserError(
            f"train.lora.targets: the model has no linear layers named {strange[0]!r}; name some of "
            f"{', '.join(sorted(known))}"
        )
    from peft import LoraConfig, inject_adapter_in_model

    options = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, target_modules=list(lora.targets))
    inject_adapter_in_model(options, model, _NAME)
    for name, layer in model.named_modules():
        if _adapted(layer):
            _begin(cast(Any, layer), seeds.key(seed, "adapters", name))
    model.eval()


@torch.no_grad()
def _begin(layer: Any, key: int) -> None:
    """Give an adapter the numbers that it begins with, also beside weights that are not there yet (meta)."""
    first, second = layer.lora_A[_NAME], layer.lora_B[_NAME]
    for part in (first, second):
        if part.weight.is_meta:
            part.to_empty(device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key)
        first.weight.copy_(nn.Linear(first.in_features, first.out_features, bias=False).weight)
    nn.init.zeros_(second.weight)


def matrix(layer: nn.Module) -> Tensor:
    """What a linear layer multiplies with, its adapters added: (out, in)."""
    plain = cast(Tensor, layer.weight)
    return plain + cast(Any, layer).get_delta_weight(_NAME) if _adapted(layer) else plain


def merged(policy: Policy) -> Policy:
    """A copy to be saved, of which the adapters are added to the weights, under the names of an ordinary model.

    The policy itself where it has no adapters.
    """
    if not any(_adapted(layer) for layer in policy.model.modules()):
        return policy
    model = copy.deepcopy(policy.model)
    for name, layer in list(model.named_modules()):
        if _adapted(layer):
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
    del model.peft_config
    return replace(policy, model=model.requires_grad_(True))


def _adapted(layer: nn.Module) -> bool:
    return hasattr(layer, "get_delta_weight")
