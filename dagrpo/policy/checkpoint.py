"""Load and save a policy as an ordinary checkpoint: config.json, safetensors, tokenizer and chat template."""

import shutil
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import GENERATION_CONFIG_NAME, logging

from dagrpo.errors import UserError
from dagrpo.files.checkpoints import Stored, disk_errors, flush
from dagrpo.files.text_files import read_object, read_text
from dagrpo.policy.logprobs import check_supported

JSON_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
    "added_tokens.json", "vocab.json", "model.safetensors.index.json",
)  # fmt: skip
TEXT_FILES = ("chat_template.jinja", "merges.txt")
"""Files of a checkpoint that are text."""

REMEDY = "make or fetch it again"


@dataclass(frozen=True, slots=True)
class Policy:
    """A causal language model and its tokenizer; the model is in eval mode (no dropout), its weights are trainable."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device

    @property
    def end_tokens(self) -> frozenset[int]:
        """The ids that end a response: those of the generation config and the tokenizer's own."""
        configured = self.model.generation_config.eos_token_id if self.model.generation_config else None
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(token for token in (*ids, self.tokenizer.eos_token_id) if token is not None)


def window_of(model: PreTrainedModel) -> int | None:
    """The longest text that a model may read (tokens), where its configuration says."""
    window = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return window if isinstance(window, int) else None


def load_policy(
    source: Path | str, device: torch.device, dtype: torch.dtype = torch.float32, revision: str | None = None
) -> Policy:
    """Load a checkpoint; nothing but safetensors and JSON is read, and no code of the checkpoint is run.

    Args:
        source: a local folder, which is then all that is read, or a name on the Hugging Face hub.
        revision: commit of the hub's repository.

    Raises:
        UserError: the checkpoint is missing, damaged, or of an architecture that training does not support.
    """
    where: dict[str, Any] = {"local_files_only": Path(source).is_dir(), "revision": revision}
    with _loading(source):
        tokenizer = AutoTokenizer.from_pretrained(source, **where)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, use_safetensors=True, attn_implementation="sdpa", **where
        )
    policy = _that_ends(Policy(model.to(device).eval(), tokenizer, device), source)
    check_supported(policy.model)
    return policy


def load_outline(source: Path) -> Policy:
    """Load all of a checkpoint but its weights, which are on the meta device: for :func:`stored_weights` to fill in.

    Whether training supports the architecture is for the caller to check, once there are weights.

    Raises:
        UserError: the checkpoint is missing or damaged, or has not the weights of its model.
    """
    with _loading(source):
        tokenizer = AutoTokenizer.from_pretrained(source, local_files_only=True)
        config = AutoConfig.from_pretrained(source, local_files_only=True)
        with init_empty_weights(include_buffers=False):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
        model.tie_weights()
        if (source / GENERATION_CONFIG_NAME).is_file():
            model.generation_config = GenerationConfig.from_pretrained(source, local_files_only=True)
        stored = stored_weights(source)
        for name, parameter in model.named_parameters():
            if name not in stored or stored.shape(name) != tuple(parameter.shape):
                raise ValueError(f"{name} is missing or of another shape")
    return _that_ends(Policy(model.eval(), tokenizer, torch.device("cpu")), source)


def stored_weights(source: Path) -> Stored:
    """The weights of a local checkpoint, each read when it is asked for."""
    return Stored(source, "model*.safetensors")


@contextmanager
def _loading(source: Path | str) -> Iterator[None]:
    """Say of what fails inside that the checkpoint cannot be loaded."""
    if isinstance(source, Path) and not (source / "config.json").is_file():
        raise UserError(f"{source}: no checkpoint here (config.json is missing); give the folder of a saved model")
    if Path(source).is_dir():
        check_texts(Path(source))
    logging.disable_progress_bar()
    try:
        yield
    except Exception as error:  # tokenizers raise a bare one, and odd settings fail anywhere in transformers
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{source}: the checkpoint cannot be loaded ({reason}); {REMEDY}") from error


def check_texts(folder: Path) -> None:
    """Read the files of a checkpoint that are text. (transformers passes over a generation_config.json that is broken,
    and so over what ends a response.)

    Raises:
        UserError: one is no UTF-8, no JSON object, begins with a byte-order mark, or holds half a character.
    """
    for name in (*JSON_FILES, *TEXT_FILES):
        path = folder / name
        if not path.is_file():
            continue
        text = read_text(path, REMEDY)
        if path.read_bytes()[:3] == BOM_UTF8:
            raise UserError(f"{path}: begins with a byte-order mark; write it without, or {REMEDY}")
        if name in JSON_FILES:
            read_object(text, str(path), REMEDY)


def _that_ends(policy: Policy, source: Path | str) -> Policy:
    if not policy.end_tokens or not all(isinstance(token, int) for token in policy.end_tokens):
        raise UserError(
            f"{source}: generation_config.json and the tokenizer name no end-of-sequence token, or one that is no "
            "number; add one"
        )
    return policy


def save_policy(policy: Policy, folder: Path) -> None:
    """Write an ordinary checkpoint aside and put it in place by a rename; what was there before is replaced."""
    logging.disable_progress_bar()
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside, before = (folder.with_name(f".{folder.name}.{part}") for part in ("new", "old"))
    for leftover in (aside, before):
        shutil.rmtree(leftover, ignore_errors=True)
    with disk_errors():
        policy.model.save_pretrained(aside)
        policy.tokenizer.save_pretrained(aside)
    for path in (*aside.iterdir(), aside):
        flush(path)
    if folder.exists():
        folder.rename(before)
    aside.rename(folder)
    flush(folder.parent)
    shutil.rmtree(before, ignore_errors=True)


def fingerprint(model: PreTrainedModel) -> str:
    """Sha256 (hex) over the names, types, shapes and bytes of all parameters, in order."""
    return _fingerprint((name, parameter.detach().cpu()) for name, parameter in model.named_parameters())


def stored_fingerprint(model: PreTrainedModel, stored: Stored) -> str:
    """The :func:`fingerprint` that a model would have with stored weights in its own type; one is read at a time."""
    return _fingerprint((name, stored[name].to(parameter.dtype)) for name, parameter in model.named_parameters())


def _fingerprint(weights: Iterable[tuple[str, Tensor]]) -> str:
    digest = sha256()
    for name, weight in weights:
        digest.update(f"{name}:{weight.dtype}:{tuple(weight.shape)};".encode())
        digest.update(weight.contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
