"""What comes from outside: files with a byte-order mark or half a character, and names that become file names."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from dagrpo.config import Experiment, HubProblems, MirrorProblems, PromptSpec, Verifier, load
from dagrpo.errors import UserError
from dagrpo.problems import build
from dagrpo.problems.store import read_problems
from eval.benchmark_tasks.benchmarks import _rows
from eval.benchmark_tasks.grade import grade_file
from eval.figures import write_figure
from eval.published.read import read_published

CONFIG = Path(__file__).parent.parent / "config"
MARK = "\ufeff"
HALF = "\ud83d"


def problem_file(folder: Path, text: str, mark: str) -> Any:
    row = {"id": "a", "family": "sums", "prompt": text, "answer": "3"}
    (folder / "problems.jsonl").write_text(f"{mark}{json.dumps(row)}\n", "utf-8")
    return read_problems(folder / "problems.jsonl")


def mirror(folder: Path, text: str, mark: str, packed: bool = False) -> Any:
    row = {"id": "a", "problem": text, "answer": "3", "solution": "<answer>3</answer>"}
    for place in ("benchmarks", "train"):
        (folder / place).mkdir()
        written = f"{mark}{json.dumps(row | {'problem': 'One?'} if place == 'benchmarks' else row)}\n".encode()
        name = folder / place / ("set.jsonl.gz" if packed else "set.jsonl")
        name.write_bytes(gzip.compress(written) if packed else written)
    return build(MirrorProblems(mirror=folder, benchmarks=("set",), train_file="set", train=1))


def packed_mirror(folder: Path, text: str, mark: str) -> Any:
    return mirror(folder, text, mark, packed=True)


def hub_copy(folder: Path, text: str, mark: str) -> Any:
    mirror(folder, "One?", mark)
    row = {"prompt": [{"role": "user", "content": text}], "target": None, "reward_model": {"ground_truth": "3"}}
    (folder / "rows.jsonl").write_text(f"{mark}{json.dumps(row)}\n", "utf-8")
    return build(HubProblems(dataset=str(folder / "rows.jsonl"), mirror=folder, benchmarks=("set",)))


def fetched(folder: Path, text: str, mark: str) -> Any:
    return _rows(f"{mark}{json.dumps({'problem': text})}\n".encode(), "set.jsonl, here")


READERS: list[Callable[[Path, str, str], Any]] = [problem_file, mirror, packed_mirror, hub_copy, fetched]


@pytest.mark.parametrize("reader", READERS)
def test_a_byte_order_mark_is_no_part_of_a_row(reader: Callable[[Path, str, str], Any], tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain", tmp_path / "marked"
    plain.mkdir()
    marked.mkdir()
    assert reader(marked, "One and two? 😀", MARK) == reader(plain, "One and two? 😀", "")


@pytest.mark.parametrize("reader", READERS)
def test_half_a_character_is_named_with_its_line(reader: Callable[[Path, str, str], Any], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"line 1: holds half a character \(\\ud83d\); write it whole or delete it"):
        reader(tmp_path, f"One {HALF}?", "")


def test_rows_to_grade_may_begin_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(MARK + json.dumps({"gold": "3", "answer": "3"}) + "\n", "utf-8")
    assert grade_file(tmp_path / "rows.jsonl", tmp_path / "out.jsonl", Verifier())["correct"] == 1


def test_published_rows_may_begin_with_a_mark(tmp_path: Path) -> None:
    text = (CONFIG.parent / "results" / "published.csv").read_text("utf-8")
    (tmp_path / "published.csv").write_text(MARK + text, "utf-8")
    assert read_published(tmp_path / "published.csv") == read_published(CONFIG.parent / "results" / "published.csv")


def test_settings_may_begin_with_a_mark_and_hold_whole_characters(tmp_path: Path) -> None:
    for name, text in (("a.json", '{"opening": "x"}'), ("a.yaml", "opening: x")):
        (tmp_path / name).write_text(MARK + text, "utf-8")
        assert load(PromptSpec, tmp_path / name).opening == "x"
    for name, data in (
        ("a.json", rb'{"opening": "\ud83d"}'),
        ("a.yaml", rb'opening: "\ud83d"'),
        ("b.yaml", b"\xff\xfe"),
        ("c.json", b"[" * 99_999),
    ):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UserError, match=name):
            load(PromptSpec, tmp_path / name)


def test_arms_whose_names_have_a_dot_have_files_of_their_own(tmp_path: Path) -> None:
    for arm in ("dagrpo", "dagrpo.delta0", "dagrpo.delta5"):
        write_figure(Figure(), tmp_path / arm)
    names = [f"{arm}.{kind}" for arm in ("dagrpo", "dagrpo.delta0", "dagrpo.delta5") for kind in ("png", "svg")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


def test_bases_whose_files_could_collide_are_refused() -> None:
    mini = load(Experiment, CONFIG / "mini.yaml").model_dump()
    (base,) = mini["bases"].values()
    Experiment.model_validate(mini | {"bases": {"qwen_1.5b": base, "qwen_7b": base}})
    with pytest.raises(ValueError, match=r"'a\.b' begins with 'a' and a dot"):
        Experiment.model_validate(mini | {"bases": {"a": base, "a.b": base}})
