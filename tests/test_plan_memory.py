"""The model of memory against what the trainer really holds, and the plan's sentences."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dagrpo.config import Experiment, HubBase, MiniBase, load
from dagrpo.errors import UserError
from dagrpo.plan.devices import DEVICES, find_device
from dagrpo.plan.memory import Setup, load_of, rollout, state, update
from dagrpo.plan.shapes import shape_of
from dagrpo.plan.show import Asked, refuse_what_cannot_fit, show_plan
from dagrpo.policy.pretrain import build_model
from dagrpo.problems.mini.tokenizer import build_tokenizer

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "config"
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
    assert rollout(SEVEN, Setup(compute_bytes=2), load)["cache"] == 8 * 9216 * 57_344  # 2 x 28 layers x 512 x 2 bytes


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (Asked("h100", Setup()), r"optimiser alone take 113\.5 GiB .* --gpus 4"),
        (Asked("h100", Setup(8, 2)), "an update takes .* --recompute"),
        (Asked("l40s", Setup(8, 2, True)), r"lower train\.rollout_rows to \d+"),
        (Asked("rtx4090", Setup(64, 2, True)), "lower train|more GPUs"),
        (Asked("h10", Setup()), "'h10' is not in the table; did you mean 'h100'"),
    ],
)
def test_what_cannot_fit_is_refused_by_its_knob(asked: Asked, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        refuse_what_cannot_fit(load(Experiment, CONFIG / "qwen2.5-math-7b.yaml"), asked)


def test_following_the_advice_makes_it_fit() -> None:
    experiment = load(Experiment, CONFIG / "qwen2.5-math-7b.yaml")
    refuse_what_cannot_fit(experiment, Asked("h100", Setup(8, 2, True)))
    rows = experiment.train.model_copy(update={"rollout_rows": 10_000})
    with pytest.raises(UserError, match=r"lower train\.rollout_rows to \d+") as refused:
        refuse_what_cannot_fit(experiment.model_copy(update={"train": rows}), Asked("h100", Setup(8, 2, True)))
    fewer = experiment.train.model_copy(update={"rollout_rows": int(str(refused.value).split()[-1])})
    refuse_what_cannot_fit(experiment.model_copy(update={"train": fewer}), Asked("h100", Setup(8, 2, True)))


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_experiment_has_a_plan(path: Path) -> None:
    experiment = load(Experiment, path)
    shown = show_plan(experiment, Asked("h200", Setup(8, 2, True)))
    assert all(arm in shown for arm in experiment.arms) and "GPU-hours" in shown
    refuse_what_cannot_fit(experiment, Asked("h200", Setup(8, 2, True)))


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
