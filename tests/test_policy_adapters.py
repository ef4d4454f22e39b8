"""Adapters learn and the weights do not; what samples, what is saved and what is resumed is the adapted model."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from dagrpo.config import Lora, Train, VllmColocated, parse
from dagrpo.errors import Interrupted, UserError
from dagrpo.files import checkpoints
from dagrpo.policy import adapters
from dagrpo.policy.adapters import add_adapters, merged
from dagrpo.policy.checkpoint import Policy, fingerprint, load_policy, save_policy
from dagrpo.policy.logprobs import token_logps
from dagrpo.policy.packing import PackedGroup, pack
from dagrpo.rollout.engine import Request, Sampling
from dagrpo.rollout.torch_engine import TorchEngine
from dagrpo.trainer.job import train
from tests.miniature import TRAIN, spec
from tests.test_rollout_torch_engine import CONFIGS, make_policy

needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="peft is not installed (the extra lora)")
SOME: dict[str, Any] = {"rank": 2, "alpha": 4, "targets": ("q_proj", "down_proj")}
PROMPT = (5, 6, 7, 8)


def adapted(policy: Policy, lora: Lora | None = None) -> Policy:
    """Give a policy adapters that have learnt something."""
    add_adapters(policy.model, lora or Lora(rank=3), seed=0)
    torch.manual_seed(0)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return policy


@torch.no_grad()
def logits(policy: Policy) -> Tensor:
    return policy.model(torch.tensor([PROMPT])).logits


@needs_peft
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_engine_samples_from_the_adapted_model(config: Any) -> None:
    policy = adapted(make_policy(config))
    sampling = Sampling(1.0, 12, 0, "test")
    ((*rollouts,),) = TorchEngine(policy, 4).sample([Request("a", PROMPT, 4)], sampling)
    (micro,) = pack([PackedGroup(PROMPT, [rollout.tokens for rollout in rollouts], [0, 1, 2, 3])], 10**6)
    with torch.no_grad():
        out = token_logps(policy.model, micro, 1.0)
    for row, rollout in enumerate(rollouts):
        assert torch.allclose(out.logp[out.row == row], torch.tensor(rollout.logps), atol=1e-4)


@needs_peft
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_what_is_saved_is_an_ordinary_model_of_the_same_logits(config: Any, tmp_path: Path) -> None:
    policy = make_policy(config)
    names, plain = list(dict(policy.model.named_parameters())), logits(policy)
    add_adapters(policy.model, Lora(), seed=0)
    assert torch.equal(logits(policy), plain)
    before = logits(adapted(make_policy(config)))
    policy = adapted(make_policy(config))
    save_policy(merged(policy), tmp_path / "model")
    loaded = load_policy(tmp_path / "model", policy.device)
    assert list(dict(loaded.model.named_parameters())) == names
    assert (logits(loaded) - before).abs().max() < 1e-5
    assert (before - plain).abs().max() > 1e-2
    assert torch.equal(logits(policy), before)
    assert fingerprint(merged(policy).model) == fingerprint(loaded.model)


@needs_peft
def test_adapters_begin_alike_for_one_seed() -> None:
    config = next(iter(CONFIGS.values()))
    prints: list[str] = []
    for seed in (0, 0, 1):
        policy = make_policy(config)
        torch.manual_seed(len(prints))
        add_adapters(policy.model, Lora(), seed)
        prints.append(fingerprint(policy.model))
    assert prints[0] == prints[1] != prints[2]


@needs_peft
def test_a_run_changes_its_targets_alone_and_resumes_to_the_same_bits(made: tuple[Path, Path], tmp_path: Path) -> None:
    job = spec("grpo", {"kl": 0.1}, lora=SOME, snapshots=(1,), conflict_every=1)
    train(job, 0, *made, tmp_path / "whole", tmp_path / "state")
    before, after = (load_file(folder / "model.safetensors") for folder in (made[0], tmp_path / "whole" / "model"))
    assert before.keys() == after.keys()
    for name, weight in before.items():
        if any(f"{target}.weight" in name for target in SOME["targets"]):
            assert torch.linalg.matrix_rank(after[name] - weight, atol=1e-6) == SOME["rank"]
        else:
            assert torch.equal(after[name], weight)

    state = tmp_path / "state"
    with pytest.raises(Interrupted):
        train(job, 0, *made, tmp_path / "parts", state, lambda: checkpoints.step_folder(state, 2).exists())
    folder = checkpoints.latest(state)
    assert folder is not None and all("lora_" in name for name in checkpoints.load(folder)[0])
    train(job, 0, *made, tmp_path / "parts", state)
    for name in ("model/model.safetensors", "snapshots/step1/model/model.safetensors", "metrics.jsonl"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_without_peft_it_says_what_to_install(
    base: Path, problems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"peft is not installed; run: pip install .*\[lora\]"):
        train(spec("grpo", lora={}), 0, base, problems, tmp_path / "out", tmp_path / "state")


@needs_peft
def test_a_target_that_is_no_layer_is_refused() -> None:
    with pytest.raises(UserError, match=r"no linear layers named 'c_attn'; name some of down_proj, .*v_proj"):
        add_adapters(make_policy(CONFIGS["qwen2"]).model, Lora(targets=("q_proj", "c_attn")), seed=0)


def test_vllm_is_refused(base: Path, problems: Path, tmp_path: Path) -> None:
    job = spec("grpo", lora={}).model_copy(update={"engine": VllmColocated()})
    with pytest.raises(UserError, match="vLLM is not given adapters"):
        train(job, 0, base, problems, tmp_path / "out", tmp_path / "state")


def test_a_spec_without_adapters_is_what_it_was() -> None:
    assert "lora" not in parse(Train, TRAIN, "train").model_dump_json()
    assert parse(Train, {**TRAIN, "lora": {}}, "train").lora == Lora()
