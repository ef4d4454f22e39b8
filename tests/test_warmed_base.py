"""A base that is warmed on rows which problems set apart."""

import json
from pathlib import Path

import pytest

from dagrpo.config import BaseSpec, HubBase, MiniProblems, Optimizer, PromptSpec, WarmedBase, WordProblems
from dagrpo.errors import UserError
from dagrpo.policy.base import make_base
from dagrpo.policy.checkpoint import save_policy
from eval.rehearsal import standins


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has hardly read anything."""
    own = standins.word_problems()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(standins, "WARM_STEPS", 21)
        policy = standins.build_base(
            HubBase(model="Qwen/Qwen2.5-Math-1.5B"), own, PromptSpec(), [standins.text_of(row) for row in own]
        )
    folder = tmp_path_factory.mktemp("source") / "model"
    save_policy(policy, folder)
    return folder


def spec(source: Path, mirror: Path) -> BaseSpec:
    rows = [
        {"id": row.id, "problem": row.prompt, "answer": row.answer, "solution": row.solution}
        for row in standins.word_problems()
    ]
    for name, kept in (("train/plain", rows), ("benchmarks/asked", [{"id": "b", "problem": "What?", "answer": "1"}])):
        (path := mirror / f"{name}.jsonl").parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in kept))
    problems = WordProblems(mirror=mirror, train={"plain": 8}, warm={"plain": 8}, benchmarks=("asked",))
    warmed = WarmedBase(
        source=HubBase(model=str(source)), steps=3, rows=4, optimizer=Optimizer(lr=1e-3), max_new_tokens=96
    )
    return BaseSpec(base=warmed, problems=problems)


def test_a_base_is_warmed_and_its_state_is_gone(source: Path, tmp_path: Path) -> None:
    told = spec(source, tmp_path / "mirror")
    make_base(told, tmp_path / "base", tmp_path / "state", lambda: False)
    assert (tmp_path / "base" / "config.json").is_file() and not (tmp_path / "state").exists()
    weights = [(folder / "model.safetensors").read_bytes() for folder in (source, tmp_path / "base")]
    assert weights[0] != weights[1]
    make_base(told, tmp_path / "again", tmp_path / "state", lambda: False)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == weights[1]


def test_problems_that_set_nothing_apart_warm_nothing(source: Path, tmp_path: Path) -> None:
    told = spec(source, tmp_path / "mirror")
    for problems in (MiniProblems(train=8), told.problems.model_copy(update={"warm": {}})):
        with pytest.raises(UserError, match="set none apart"):
            make_base(told.model_copy(update={"problems": problems}), tmp_path / "base", tmp_path / "state", bool)


def test_only_a_warmed_base_is_told_of_prompts(source: Path, tmp_path: Path) -> None:
    told = spec(source, tmp_path / "mirror")
    assert set(json.loads(told.model_dump_json())) == {"base", "seed", "problems"}
    asked = told.model_copy(update={"prompt": PromptSpec(instruction="Add.")})
    assert BaseSpec.model_validate_json(asked.model_dump_json()) == asked
