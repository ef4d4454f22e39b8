"""A mirror is written from a stand-in for the hub, checked against the lock, and read like any other."""

import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from dagrpo.errors import UserError
from eval.benchmark_cli import fetch_benchmarks
from eval.benchmark_tasks import benchmarks
from eval.benchmark_tasks.benchmarks import BENCHMARKS, check, fetch, load
from tests.benchmark_rows import HUB
from tests.hub_server import COMMIT, hub

GATED = "gpqa_diamond"


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Serves one row of each set, one of them gated, with a lock that says so; gives the paths that were asked for."""
    files, lock = {}, {}
    for name, row in HUB.items():
        data = (json.dumps(row) + "\n").encode()
        files[f"/datasets/sets/{name}/resolve/{COMMIT}/rows.jsonl"] = files[f"/{name}.jsonl"] = data
        hub_entry = {"repo": f"sets/{name}", "revision": COMMIT, "file": "rows.jsonl"}
        lock[name] = {
            "mirror": {"rows": 9, "sha256": "0" * 64},
            "hub": {**hub_entry, "rows": 1, "sha256": sha256(data).hexdigest()},
        }
    with hub(files, gated=[f"/datasets/sets/{GATED}/"]) as (address, asked):
        lock["minerva_math"]["hub"] = {"url": f"{address}/minerva_math.jsonl", "rows": 1, "sha256": None}
        monkeypatch.setattr(benchmarks, "LOCK", tmp_path / "lock.json")
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", "")
        monkeypatch.delenv("DAGRPO_MIRROR", raising=False)
        benchmarks.LOCK.write_text(json.dumps(lock))
        yield asked


def _change_lock(name: str, **changes: Any) -> None:
    lock = json.loads(benchmarks.LOCK.read_text())
    lock[name]["hub"] |= changes
    benchmarks.LOCK.write_text(json.dumps(lock))


def test_the_sets_that_can_be_had_are_written_and_the_gated_one_says_what_to_do(
    remote: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mirror"
    with pytest.raises(
        UserError, match=rf"sets/{GATED} is gated: accept its conditions at http\S+/datasets/sets/{GATED}"
    ):
        fetch_benchmarks(out, "all")
    had = [name for name in BENCHMARKS if name != GATED]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == had
    for name in had:
        (ours,), (theirs,) = load(name, "mirror", out).problems, load(name, "hub").problems
        assert ours == theirs
    assert all(row["as_locked"] for row in check(had, "mirror", out))

    asked = len(remote)
    fetch_benchmarks(out, "math,arc_challenge")
    assert len(remote) == asked, "what is there already was fetched again"
    assert f"DAGRPO_MIRROR={out}" in capsys.readouterr().out


def test_what_is_not_the_locked_file_is_not_written(remote: list[str], tmp_path: Path) -> None:
    _change_lock("math500", sha256="1" * 64)
    with pytest.raises(UserError, match="another version of the set"):
        fetch("math500", tmp_path)
    assert not (tmp_path / "benchmarks").exists()


def test_a_fetched_set_that_was_changed_or_is_no_longer_locked_is_refused(remote: list[str], tmp_path: Path) -> None:
    fetch("math500", tmp_path)
    told, record = tmp_path / "fetched.json", (tmp_path / "fetched.json").read_text()
    for broken in ("[]", '{"math500": 3}', "{"):
        told.write_text(broken)
        with pytest.raises(UserError, match=r"fetched\.json: .*; delete the folder and fetch it again"):
            load("math500", "mirror", tmp_path)
    told.write_text(record)
    path = tmp_path / "benchmarks" / "math500.jsonl"
    text = path.read_text()
    path.write_text(text.replace("two", "three"))
    with pytest.raises(UserError, match="another version of the set"):
        load("math500", "mirror", tmp_path)
    assert fetch("math500", tmp_path) and path.read_text() == text
    _change_lock("math500", revision="1" * 40)
    with pytest.raises(UserError, match="another version of the set"):
        load("math500", "mirror", tmp_path)
    assert not check(["math500"], "mirror", tmp_path)[0]["as_locked"]
