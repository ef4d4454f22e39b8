"""The model of memory against what the trainer really holds, and the plan's sentences."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagrpo.config import Experiment, HubBase, Lora, MiniBase, VllmColocated, VllmServer, load, parse
from dagrpo.errors import UserError
from dagrpo.plan.devices import DEVICES, find_device
from dagrpo.plan.memory import Setup, load_of, rollout, side_by_side, state, update
from dagrpo.plan.shapes import shape_of
from dagrpo.plan.show import PlanRequest, refuse_what_cannot_fit, show_plan
from dagrpo.plan.storage import host_bytes, run_host
from dagrpo.policy.pretrain import build_model
from dagrpo.problems.mini.tokenizer import build_tokenizer

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config"
H100 = DEVICES["h100"]
SEVEN = shape_of(HubBase(model="Qwen/Qwen2.5-Math-7B"))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from Linux")
def test_a_real_step_takes_what_is_planned(tmp_path: Path) -> None:
    """A Qwen2 of three layers through the trainer's own learning; every line fills its micro-batch."""
    words = (
        "--vocabulary 12000 --width 384 --layers 3 --heads 6 --kv-heads 2 --feedforward 1024 --untied --dtype float32 "
        "--prompt 64 --response 512 --short 64 --micro-tokens 638 --prompts 3 --threads 1 --device cpu"
    )
    out = tmp_path / "took.json"
    # Freed memory goes back at once, so that the peak is of what is held.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "benchmarks.full_shape", *words.split(), "--out", str(out)]
    subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True, timeout=500)
    took = json.loads(out.read_text())
    assert [step["optimiser_steps"] for step in took["steps"]] == [1, 1]
    assert sum(took["planned_gib"].values()) == pytest.approx(took["peak_gib"], rel=0.15)


def test_parameters_are_counted_as_the_model_has_them() -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

    from dagrpo.plan.shapes import shape_from_config

    for kind, config_of, model_of in (
        ("qwen2", Qwen2Config, Qwen2ForCausalLM),
        ("llama", LlamaConfig, LlamaForCausalLM),
    ):
        for tied in (True, False):
            config = {
                "vocab_size": 50,
                "hidden_size": 24,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "num_key_value_heads": 2,
                "intermediate_size": 40,
                "tie_word_embeddings": tied,
            }
            with torch.device("meta"):
                model = model_of(config_of(**config))
            counted = shape_from_config({"model_type": kind, **config}, "here").parameters
            assert counted == sum(parameter.numel() for parameter in model.parameters())


def test_known_shapes_have_their_names_size() -> None:
    small = shape_of(HubBase(model="Qwen/Qwen2.5-Math-1.5B"))
    assert (round(SEVEN.parameters / 1e9, 2), round(small.parameters / 1e9, 2)) == (7.62, 1.54)  # as their cards say
    mini = build_model(MiniBase(), 0, build_tokenizer())
    assert shape_of(MiniBase()).parameters == sum(parameter.numel() for parameter in mini.parameters())


def test_sharing_recomputing_and_half_precision_save_what_they_should() -> None:
    load = load_of(1024, 8192, 9216, rows=8)
    alone, eight = Setup(), Setup(gpus=8)
    assert state(SEVEN, alone)["optimiser"] == 8 * state(SEVEN, eight)["optimiser"]
    kept, again = (update(SEVEN, Setup(recompute=recompute), load) for recompute in (False, True))
    assert again["activations"] < kept["activations"] / 8
    assert again["optimiser"] == kept["optimiser"]
    half = update(SEVEN, Setup(compute_bytes=2), load)
    assert half["activations"] == kept["activations"] / 2
    cache = 8 * 9216 * 57_344  # rows, tokens, 2 x 28 layers x 512 x 2 bytes
    assert rollout(SEVEN, Setup(compute_bytes=2), load, H100)["cache"] == cache


def test_adapters_alone_have_gradients_and_moments() -> None:
    lora = Setup(lora=Lora(rank=16, targets=("q_proj", "down_proj")))
    numbers = 28 * 16 * ((3584 + 3584) + (18944 + 3584))
    assert state(SEVEN, lora) == {"weights": 4 * (SEVEN.parameters + numbers), "optimiser": 8 * numbers}
    load = load_of(1024, 8192, 9216, rows=8)
    assert update(SEVEN, lora, load)["gradients"] == 4 * numbers
    assert update(SEVEN, lora, load)["logits"] < update(SEVEN, Setup(), load)["logits"]


def test_a_reference_model_stands_beside_the_policy() -> None:
    beside, alone = (state(SEVEN, Setup(8, 2, reference=reference)) for reference in (True, False))
    assert sum(beside.values()) - sum(alone.values()) == 4 * SEVEN.parameters / 8
    told = yaml.safe_load((CONFIG / "qwen2.5-math-7b.yaml").read_text())
    arms = {"grpo": {"method": "grpo", "options": {"kl": 0.1}}}
    experiment = parse(Experiment, {**told, "arms": arms, "processes": 2}, "7b")
    # 28.37 GiB in fp32, of which a GPU has half five times over, and two embeddings of 1.01 GiB in bf16
    with pytest.raises(UserError, match=r"alone take 73\.0 GiB"):
        refuse_what_cannot_fit(experiment, H100)


def test_vllm_has_its_share_and_decodes_as_many_rows_as_fit_into_it() -> None:
    setup = Setup(8, 2, True, engine=VllmColocated(memory=0.4))
    load = load_of(1024, 8192, 9216, rows=256)
    held = rollout(SEVEN, setup, load, H100)
    assert held["vLLM"] == 32e9 and held["weights"] == state(SEVEN, setup)["weights"] + 2 * SEVEN.parameters
    room = 32e9 - 2 * SEVEN.parameters
    assert side_by_side(SEVEN, setup, load, 3072, H100) == pytest.approx(room / (57_344 * 3072))
    assert side_by_side(SEVEN, setup, load, 100, H100) == 256
    elsewhere = replace(setup, engine=VllmServer(url="http://127.0.0.1:8000"))
    assert "vLLM" not in rollout(SEVEN, elsewhere, load, H100)


def changed(train: dict[str, Any] | None = None, **keys: Any) -> Experiment:
    """The 7B experiment with other settings."""
    told = yaml.safe_load((CONFIG / "qwen2.5-math-7b.yaml").read_text())
    return parse(Experiment, {**told, **keys, "train": told["train"] | (train or {})}, "7b")


@pytest.mark.parametrize(
    ("gpu", "experiment", "sentence"),
    [
        ("h100", changed({"precision": "fp32"}, processes=1), r"alone take 113\.5 GiB .* processes: 4"),
        ("h100", changed({"recompute": False}), "an update takes .* train.recompute: true"),
        ("rtx4090", changed({"precision": "fp32"}, processes=16), "an update takes .* train.precision: bf16"),
        ("h100", changed(engine={"kind": "vllm", "memory": 0.8}), r"sampling takes .* lower engine\.memory to 0\.\d+"),
        ("h100", changed(engine={"kind": "vllm", "memory": 0.15}), r"no room .* raise engine\.memory to 0\.20"),
        ("l40s", changed(engine={"kind": "torch"}), r"lower train\.rollout_rows to \d+"),
        ("rtx4090", changed(processes=64), "raise processes|lower train"),
        ("h10", changed(), "'h10' is not in the table; did you mean 'h100'"),
    ],
)
def test_what_cannot_fit_is_refused_by_its_knob(gpu: str, experiment: Experiment, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        refuse_what_cannot_fit(experiment, find_device(gpu))


@pytest.mark.parametrize(
    ("wrong", "knob", "right"),
    [
        ({"engine": {"kind": "torch"}, "train": {"rollout_rows": 10_000}}, r"train\.rollout_rows to (\S+)$", "rows"),
        ({"engine": {"kind": "vllm", "memory": 0.8}}, r"lower engine\.memory to (\S+)$", "memory"),
        ({"engine": {"kind": "vllm", "memory": 0.1}}, r"raise engine\.memory to (\S+)$", "memory"),
    ],
)
def test_following_the_advice_makes_it_fit(wrong: dict[str, Any], knob: str, right: str) -> None:
    with pytest.raises(UserError, match=knob) as refused:
        refuse_what_cannot_fit(changed(**wrong), H100)
    advice = float(str(refused.value).split()[-1])
    wrong = wrong | ({"train": {"rollout_rows": int(advice)}} if right == "rows" else {})
    wrong["engine"] |= {"memory": advice} if right == "memory" else {}
    refuse_what_cannot_fit(changed(**wrong), H100)


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_experiment_fits_where_it_says_and_has_a_plan(path: Path) -> None:
    experiment = load(Experiment, path)
    shown = show_plan(experiment, PlanRequest("h100"))
    assert all(arm in shown for arm in experiment.arms) and "GPU-hours" in shown
    refuse_what_cannot_fit(experiment, H100)


def test_measured_rates_take_the_place_of_the_table(tmp_path: Path) -> None:
    figures = {
        "best": {"copy_gb_per_s": 2000.0, "matmul_tflop_per_s": 600.0},
        "share": {name: {"decode_of_copy": 0.4, "update_of_matmul": share} for name, share in (("a", 0.3), ("b", 0.2))},
    }
    path = tmp_path / "measured.json"
    path.write_text(json.dumps(figures))
    device = find_device("h100", path)
    assert (device.bf16, device.bandwidth, device.mfu, device.mbu) == (600e12, 2e12, 0.2, 0.4)
    assert device.memory == DEVICES["h100"].memory
    path.write_text("{}")
    with pytest.raises(UserError, match="not a file of benchmarks"):
        find_device("h100", path)


def test_main_memory_is_that_of_shares_states_and_rows() -> None:
    experiment = load(Experiment, CONFIG / "qwen2.5-math-7b.yaml")
    host = run_host(experiment, SEVEN, "dagrpo")
    assert host.tensors == 12 * SEVEN.parameters  # of a sealed state, whatever the number of processes
    assert host.tensors < 8 * 4 * SEVEN.parameters
    one = run_host(experiment.model_copy(update={"processes": 1}), SEVEN, "dagrpo")
    assert (one.tensors, one.programs, one.rows) == (host.tensors, host.programs / 8, host.rows / 8)
    assert run_host(experiment, SEVEN, "grpo").rows < host.rows  # no demonstrations
    adapters = changed({"lora": {"rank": 16}}, engine={"kind": "torch"})
    assert run_host(adapters, SEVEN, "dagrpo").tensors == 8 * SEVEN.parameters  # the model and a merged copy
    assert host_bytes(experiment) == host.all


@pytest.mark.parametrize("path", sorted(CONFIG.glob("qwen*.yaml")), ids=lambda path: path.stem)
def test_the_slurm_profile_asks_for_the_main_memory_that_is_planned(path: Path) -> None:
    experiment = load(Experiment, path)
    profile = yaml.safe_load((ROOT / "profiles" / "slurm" / "config.yaml").read_text())["set-resources"]
    asked = {rule: resources["mem_mb"] * 1e6 for rule, resources in profile.items()}
    for base in experiment.bases.values():
        shape = shape_of(base)
        assert all(run_host(experiment, shape, arm).all < asked["train"] for arm in experiment.arms)
        whole = 4 * shape.parameters
        assert all(
            1.2 * whole < asked[rule]
            for rule in ("evaluate", "profile", "benchmarks", "conflict", "trial", "trial_benchmarks")
        )
        assert 2 * whole < asked["base"]


def test_the_plan_shows_all_that_it_counts() -> None:
    shown = show_plan(load(Experiment, CONFIG / "qwen2.5-math-7b.yaml"), PlanRequest("h100"))
    for words in (
        "rollout",
        "transfer",
        "update",
        "conflict",
        "sealing",
        "main memory",
        "Disk:",
        "2504.14945",
        "ratio",
    ):
        assert words in shown
