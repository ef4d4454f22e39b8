"""The planned memory of a conflict probe against that of a real one."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dagrpo.config import HubBase
from dagrpo.errors import UserError
from dagrpo.plan.devices import DEVICES
from dagrpo.plan.memory import Setup, conflict_probe, load_of, update
from dagrpo.plan.shapes import Shape, shape_of
from dagrpo.plan.show import refuse_what_cannot_fit
from tests.test_plan_memory import changed

ROOT = Path(__file__).parent.parent
SEVEN = shape_of(HubBase(model="Qwen/Qwen2.5-Math-7B"))

ROW = 900
CASES = {"projected": (45_000, 1), "whole": (12_000, 4)}
"""Vocabularies, and rows of a group."""

PROGRAM = """
import json, sys
import torch
from benchmarks.full_shape import peak_bytes, reset_peak
from benchmarks.untrained import untrained
from dagrpo.diagnostics.gradients import SMALL, Sketch, flat, rollout_gradients

cpu = torch.device("cpu")
torch.set_num_threads(1)
length, cases = json.loads(sys.argv[1])
sizes = dict(width=384, layers=3, heads=6, kv_heads=2, feedforward=1024, window=4096, untied=True)
for vocabulary, rows in cases:
    before = reset_peak(cpu)
    model = untrained(cpu, torch.float32, vocabulary=vocabulary, **sizes).model
    read = flat if model.lm_head.weight.numel() < SMALL else Sketch(4096)
    rollout_gradients(model, tuple(range(3, 67)), [list(range(3, 3 + length))] * rows, 1.0, read, "last_layer")
    print(peak_bytes(cpu) - before)
    del model
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from Linux")
def test_a_real_glance_takes_what_is_planned() -> None:
    # Freed memory goes back at once, so that the peak is of what is held.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONPATH": str(ROOT)}
    told = json.dumps([ROW - 63, list(CASES.values())])
    command = [sys.executable, "-c", PROGRAM, told]
    done = subprocess.run(command, check=True, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    for (vocabulary, rows), took in zip(CASES.values(), done.stdout.split(), strict=True):
        shape = Shape(vocabulary, 384, 3, 6, 2, 64, 1024, tied=False, bias=True)
        planned = conflict_probe(shape, Setup(), load_of(64, ROW - 63, 1, rows=0), rows)
        del planned["optimiser"]  # there has been no update
        assert sum(planned.values()) == pytest.approx(int(took), rel=0.2)


def test_a_conflict_probe_takes_less_than_an_update_with_all_layers() -> None:
    load = load_of(1024, 8192, 9216, rows=8)
    setup = Setup(8, 2, recompute=False)
    assert conflict_probe(SEVEN, setup, load, 8)["activations"] < update(SEVEN, setup, load)["activations"] / 20
    assert conflict_probe(SEVEN, setup, load, 8)["projection"] < 2**30


def test_a_conflict_probe_that_does_not_fit_is_refused_by_its_knob() -> None:
    # Nothing else of it is so large: short rows, few of them, and a server that samples elsewhere.
    train = {"max_new_tokens": 256, "micro_tokens": 1280, "prompts": 2, "group_size": 64, "recompute": True}
    elsewhere = {"kind": "vllm_server", "url": "http://127.0.0.1:8000"}
    device = replace(DEVICES["h100"], usable=1.0)
    for memory in range(20, 80):
        experiment = changed({**train, "conflict_every": 0}, engine=elsewhere)
        try:
            refuse_what_cannot_fit(experiment, least := replace(device, memory=memory * 2.0**30))
        except UserError:
            continue
        break
    with pytest.raises(UserError, match=r"a conflict probe takes .* train\.conflict_every: 0"):
        refuse_what_cannot_fit(changed({**train, "conflict_every": 10}, engine=elsewhere), least)
