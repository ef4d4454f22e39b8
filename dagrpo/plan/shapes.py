"""The numbers of an architecture that memory and time follow from."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dagrpo.config import Base, GgufBase, HubBase, MiniBase, WarmedBase
from dagrpo.errors import UserError
from dagrpo.files.text_files import read_json

_KNOWN = Path(__file__).with_name("architectures.json")
_SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder of the kind of Llama and Qwen2. ``heads_width`` is the width of all query heads together."""

    vocabulary: int
    width: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    feedforward: int
    tied: bool
    bias: bool

    @property
    def heads_width(self) -> int:
        return self.heads * self.head_width

    @property
    def kv_width(self) -> int:
        return self.kv_heads * self.head_width

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """What the linear layers of a block take and give."""
        width, heads, kv, inner = self.width, self.heads_width, self.kv_width, self.feedforward
        return {
            "q_proj": (width, heads),
            "k_proj": (width, kv),
            "v_proj": (width, kv),
            "o_proj": (heads, width),
            "gate_proj": (width, inner),
            "up_proj": (width, inner),
            "down_proj": (inner, width),
        }

    @property
    def layer_parameters(self) -> int:
        """Of one layer: its projections, two norms, biases of Qwen2."""
        biases = self.heads_width + 2 * self.kv_width if self.bias else 0
        return sum(taken * given for taken, given in self.projections.values()) + biases + 2 * self.width

    @property
    def embedding(self) -> int:
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        return self.layers * self.layer_parameters + self.width + self.embedding * (1 if self.tied else 2)


def shape_from_config(config: Mapping[str, Any], where: str) -> Shape:
    """Read a shape from a checkpoint's config.json. Raises :class:`UserError` for another kind of model."""
    if config.get("model_type") not in ("llama", "qwen2"):
        raise UserError(f"{where}: the model of memory knows llama and qwen2, not {config.get('model_type')!r}")
    wanted = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    if wrong := [key for key in wanted if type(config.get(key)) is not int]:
        raise UserError(f"{where}: {wrong[0]} of config.json is no whole number; make or fetch the checkpoint again")
    heads, width = config["num_attention_heads"], config["hidden_size"]
    return Shape(
        vocabulary=config["vocab_size"],
        width=width,
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_width=config.get("head_dim") or width // heads,
        feedforward=config["intermediate_size"],
        tied=config.get("tie_word_embeddings", False),
        bias=config["model_type"] == "qwen2",
    )


def shape_of(base: Base) -> Shape:
    """The shape of a base, without the network: a checkpoint at hand, a model that architectures.json lists, or one
    that is trained here. Raises :class:`UserError` for others."""
    if isinstance(base, WarmedBase):
        return shape_of(base.source)
    if isinstance(base, GgufBase):
        from dagrpo.policy.convert import read_config

        return shape_from_config(read_config(base.file.expanduser()), str(base.file))
    if isinstance(base, MiniBase):
        from dagrpo.problems.mini.tokenizer import build_tokenizer

        head = base.width // base.heads
        vocabulary = len(build_tokenizer())
        return Shape(
            vocabulary, base.width, base.layers, base.heads, base.heads, head, base.feedforward, tied=True, bias=False
        )
    name = base.model if isinstance(base, HubBase) else _SMOLLM2
    if (local := Path(name).expanduser() / "config.json").is_file():
        return shape_from_config(read_json(local, "make or fetch the checkpoint again"), name)
    known = json.loads(_KNOWN.read_text())
    if name not in known:
        raise UserError(
            f"{name}: its shape is not known ({', '.join(known)} are); give the folder of a checkpoint as bases.*.model"
        )
    return shape_from_config(known[name], name)
