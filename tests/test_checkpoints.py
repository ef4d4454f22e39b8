"""A checkpoint is whole or refused, and a refused one gives way to the one before it."""

import json
import random
from pathlib import Path

import pytest
import torch

from dagrpo.files import checkpoints


def _save(root: Path, step: int) -> Path:
    folder = checkpoints.step_folder(root, step)
    checkpoints.save(folder, {"w": torch.arange(100.0) + step}, {"step": step}, {"metrics.jsonl": b"{}\n" * step})
    return folder


def test_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    weights = torch.tensor([1.0, -0.0, float("nan"), 1e-45])
    checkpoints.save(tmp_path / "step-1", {"w": weights}, {"step": 1, "name": "ü"})
    tensors, data = checkpoints.load(tmp_path / "step-1")
    assert tensors["w"].view(torch.int32).tolist() == weights.view(torch.int32).tolist()
    assert data == {"step": 1, "name": "ü"}


@pytest.mark.parametrize("name", ["tensors.safetensors", "data.json", "metrics.jsonl", checkpoints.MANIFEST])
@pytest.mark.parametrize("damage", ["truncate", "flip", "delete"])
def test_damage_is_refused_and_the_one_before_is_used(
    tmp_path: Path, name: str, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before, newest = _save(tmp_path, 3), _save(tmp_path, 7)
    content = bytearray((newest / name).read_bytes())
    if damage == "truncate":
        (newest / name).write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        place = random.Random(name).randrange(len(content))
        content[place] ^= 1
        (newest / name).write_bytes(content)
    else:
        (newest / name).unlink()
    with pytest.raises(checkpoints.Damaged, match="step-00000007"):
        checkpoints.load(newest)
    assert checkpoints.latest(tmp_path) == before
    assert "refused" in capsys.readouterr().err


def test_an_unfinished_write_is_never_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _save(tmp_path, 3)

    def crash(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", crash)
    with pytest.raises(KeyboardInterrupt):
        _save(tmp_path, 4)
    assert checkpoints.latest(tmp_path) == before


def test_prune_keeps_the_newest(tmp_path: Path) -> None:
    for step in (1, 2, 3, 10):
        _save(tmp_path, step)
    checkpoints.prune(tmp_path, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000003", "step-00000010"]


def test_atomic_write_replaces_whole_files(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.json"
    checkpoints.write_atomically(path, b"[1]")
    checkpoints.write_atomically(path, b"[2]")
    assert json.loads(path.read_bytes()) == [2]
    assert [child.name for child in path.parent.iterdir()] == ["file.json"]
