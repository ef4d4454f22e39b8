"""Whole jobs through the true vLLM: training steps, evaluation, the benchmarks, and a resumed run."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dagrpo.config import (
    EngineOptions,
    EvaluationSpec,
    PromptSpec,
    TorchEmbedded,
    TrainSpec,
    Verifier,
    VllmColocated,
    VllmServer,
)
from dagrpo.errors import Interrupted, UserError
from dagrpo.policy.checkpoint import save_policy
from dagrpo.processes.world import open_world
from dagrpo.trainer.job import train
from eval.sampling import evaluate, meta_path
from tests.benchmark_rows import QUESTIONS, write_mirror
from tests.miniature import guessing_base, spec
from tests.sharded_jobs import train_sharded
from tests.vllm_policies import BUDGET, make_policy, needs_vllm
from tests.vllm_process import TRAINED, serve

pytestmark = [pytest.mark.vllm, needs_vllm]
ENGINE = VllmColocated(memory=0.01, eager=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base that guesses, wide enough for vLLM, and its problem file."""
    return guessing_base(tmp_path_factory.mktemp("vllm"), width=64)


def metrics_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["grpo", "dagrpo"])
def test_two_steps_train_on_what_vllm_samples(made: tuple[Path, Path], tmp_path: Path, method: str) -> None:
    job = spec(method, steps=2, sampler_correction=2.0).model_copy(update={"engine": ENGINE})
    train(job, 0, *made, tmp_path / "out", tmp_path / "state")
    rows = metrics_of(tmp_path / "out")
    assert len(rows) == 2 and all(row["logp_gap"] < 1e-4 and row["grad_norm"] > 0 for row in rows)
    card = json.loads((tmp_path / "out" / "run.json").read_text())
    assert card["spec"]["engine"]["kind"] == "vllm" and any(name.startswith("vllm") for name in card["versions"])
    assert card["model_fingerprint"] != card["base_fingerprint"], "nothing was learnt, so the update proves nothing"


def test_a_stopped_run_goes_on_with_its_own_weights(made: tuple[Path, Path], tmp_path: Path) -> None:
    job = spec("grpo", steps=3, checkpoint_every=1).model_copy(update={"engine": ENGINE})
    train(job, 0, *made, tmp_path / "whole", tmp_path / "state")
    steps = tmp_path / "state"

    def after_the_first_step() -> bool:
        return (steps / "step-00000001").exists()

    with pytest.raises(Interrupted):
        train(job, 0, *made, tmp_path / "parts", steps, after_the_first_step)
    assert not (steps / "step-00000002").exists()
    train(job, 0, *made, tmp_path / "parts", steps)
    assert metrics_of(tmp_path / "parts") == metrics_of(tmp_path / "whole")


def test_a_method_that_reads_entropies_is_refused(made: tuple[Path, Path], tmp_path: Path) -> None:
    job = spec("srft", steps=1).model_copy(update={"engine": ENGINE})
    with pytest.raises(UserError, match="vLLM does not tell"):
        train(job, 0, *made, tmp_path / "out", tmp_path / "state")


def test_one_process_alone_computes_in_bf16(made: tuple[Path, Path], tmp_path: Path) -> None:
    job = spec("grpo", steps=2, precision="bf16").model_copy(update={"engine": ENGINE})
    with open_world(sharded=True) as world:
        train(job, 0, *made, tmp_path / "out", tmp_path / "state", world=world)
    assert all(row["grad_norm"] > 0 and row["logp_gap"] < 0.1 for row in metrics_of(tmp_path / "out"))


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)])
def test_each_of_two_processes_samples_from_a_vllm_of_its_own(
    made: tuple[Path, Path], tmp_path: Path, precision: str
) -> None:
    """Twice in one start, so that the second run meets what the first left of vLLM's world."""
    engine = ENGINE.model_copy(update={"dtype": {"fp32": "float32", "bf16": "bfloat16"}[precision]})
    job = spec("dagrpo", steps=2, precision=precision).model_copy(update={"engine": engine})
    one, two = train_by_two(job, made, tmp_path, ("one", "two"))
    assert metrics_of(one) == metrics_of(two)
    assert all(row["grad_norm"] > 0 for row in metrics_of(one))
    if precision == "fp32":
        train(job, 0, *made, tmp_path / "alone", tmp_path / "state")
        assert_same_run(tmp_path / "alone", one)


@pytest.mark.slow
def test_two_processes_share_a_server(made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serve(made[0], tmp_path / "log", *TRAINED, VLLM_SERVER_DEV_MODE="1") as url:
        job = spec("dagrpo", steps=2).model_copy(update={"engine": VllmServer(url=url)})
        (out,) = train_by_two(job, made, tmp_path, ("out",))
        train(job, 0, *made, tmp_path / "alone", tmp_path / "state")
    assert_same_run(tmp_path / "alone", out)


def train_by_two(job: TrainSpec, made: tuple[Path, Path], folder: Path, names: Sequence[str]) -> list[Path]:
    """Train a job on two processes, once for each name; gives the folders of the results."""
    base, problems = map(str, made)
    places = {"base": base, "problems": problems, "stop_at": None, "said": str(folder), "state": str(folder / "state")}
    outs = [folder / name for name in names]
    train_sharded(
        [{**places, "spec": job.model_dump(mode="json"), "out": str(out)} for out in outs], folder / "jobs.json"
    )
    assert not list(folder.glob(f"{names[0]}.*")), "refused"
    assert all(json.loads((out / "run.json").read_text())["processes"] == 2 for out in outs)
    return outs


def assert_same_run(one: Path, other: Path) -> None:
    """The runs drew the same tokens, and differ by rounding at most."""
    for mine, theirs in zip(metrics_of(one), metrics_of(other), strict=True):
        assert mine.pop("phase") == theirs.pop("phase")
        assert theirs == pytest.approx(mine, rel=1e-5, abs=1e-5)
        assert mine["logp_gap"] < 1e-4 and mine["grad_norm"] > 0


def test_a_checkpoint_is_evaluated(made: tuple[Path, Path], evaluation_problems: Path, tmp_path: Path) -> None:
    job = EvaluationSpec(
        samples=2,
        samples_by_family={},
        temperature=0.6,
        max_new_tokens=20,
        rollout_rows=32,
        threads=1,
        prompt=PromptSpec(),
        verifier=Verifier(kind="exact"),
        device="cpu",
        engine=ENGINE,
    )
    for name in ("one", "two"):
        evaluate(job, made[0], evaluation_problems, 3, tmp_path / f"{name}.jsonl", tmp_path / "state")
    records = [json.loads(line) for line in (tmp_path / "one.jsonl").read_text().splitlines()]
    assert len(records) == 2 * len(evaluation_problems.read_text().splitlines())
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    assert json.loads(meta_path(tmp_path / "one.jsonl").read_text())["spec"]["engine"]["kind"] == "vllm"


def test_benchmarks_are_answered_as_by_the_torch_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Greedily, two tasks of made-up rows; one vLLM for both."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    from eval.benchmark_tasks.lm_run import Settings, run

    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # takes seconds
    write_mirror(tmp_path / "mirror", monkeypatch)
    save_policy(make_policy(), tmp_path / "base")
    tasks = ("math500", "arc_challenge")
    answered = {}
    engines: dict[str, EngineOptions] = {"torch": TorchEmbedded(), "vllm": ENGINE}
    for name, engine in engines.items():
        asked = Settings(tasks, "chat", temperature=0.0, max_tokens=BUDGET, rows=2, device="cpu", engine=engine)
        run({"one": str(tmp_path / "base")}, asked, tmp_path / name)
        records = [json.loads(line) for line in (tmp_path / name / "one.jsonl").read_text().splitlines()]
        answered[name] = [(row["problem_id"], row["text"], row["tokens"], row["finish"]) for row in records]
    assert answered["vllm"] == answered["torch"]
    assert len({text for _, text, *_ in answered["torch"]}) > QUESTIONS, "answers that tell nothing"
    meta = json.loads(meta_path(tmp_path / "vllm" / "one.jsonl").read_text())
    assert meta["spec"]["engine"]["kind"] == "vllm" and any(name.startswith("vllm") for name in meta["versions"])
