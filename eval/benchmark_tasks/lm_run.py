"""Run benchmarks over checkpoints by our engine: every sample kept, and one table with intervals."""

import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lm_eval import simple_evaluate
from lm_eval.tasks import TaskManager
from lm_eval.utils import handle_non_serializable

from dagrpo import seeds
from dagrpo.config import BenchmarksSpec, EngineOptions, PromptSpec, TorchEmbedded
from dagrpo.config import Verifier as VerifierSpec
from dagrpo.errors import UserError
from dagrpo.files.checkpoints import write_atomically
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.rollout.make import engine_essence
from eval.benchmark_tasks.benchmarks import BENCHMARKS, TASKS, Benchmark, find
from eval.benchmark_tasks.drawn import Drawn
from eval.benchmark_tasks.lm_model import DagrpoLM
from eval.benchmark_tasks.prompts import family_of
from eval.sampling import meta_path
from eval.statistics import Scores, estimate

RATES = ("no_answer", "truncated", "timeout", "disagreement")


@dataclass(frozen=True, slots=True)
class Settings:
    """How benchmarks are run; the defaults are the papers' (DaGRPO, arXiv 2512.06337; LUFFY, arXiv 2504.14945).

    ``own`` is the prompt of the experiment, where ``prompt`` is ``experiment``. ``samples`` holds k of avg@k where it
    is not the benchmark's own. ``limit`` keeps the first questions only.
    """

    benchmarks: tuple[str, ...]
    prompt: str
    own: PromptSpec = field(default_factory=PromptSpec)
    samples: dict[str, int] = field(default_factory=dict)
    temperature: float = 0.6
    max_tokens: int = 8192
    limit: int | None = None
    rows: int = 64
    seed: int = 0
    dtype: str = "float32"
    device: str = "auto"
    source: str | None = None
    mirror: str | None = None
    verifier: VerifierSpec = field(default_factory=VerifierSpec)
    engine: EngineOptions = field(default_factory=TorchEmbedded)


def settings_of(spec: BenchmarksSpec, seed: int) -> Settings:
    """What an experiment asks for."""
    return Settings(
        benchmarks=spec.benchmarks,
        prompt=spec.prompt,
        own=spec.own,
        samples=spec.samples,
        temperature=spec.temperature,
        max_tokens=spec.max_new_tokens,
        limit=spec.limit,
        rows=spec.rollout_rows,
        seed=seed,
        device=spec.device,
        mirror=None if spec.mirror is None else str(spec.mirror),
        verifier=spec.verifier,
        engine=spec.engine,
    )


def run(models: dict[str, str], settings: Settings, out: Path, should_stop: ShouldStop = never) -> pd.DataFrame:
    """Run benchmarks over checkpoints, one after the other, each loaded once.

    Writes ``<out>/<name>.jsonl`` (a record for each sample), ``<name>.meta.json`` and ``<name>.lm_eval.json`` for each
    checkpoint, and ``scores.csv`` and ``scores.md`` over all. What is finished is not run again; a killed run goes on
    after its last whole batch of samples.

    Args:
        models: name -> folder of a checkpoint, or its name on the Hugging Face hub.

    Raises:
        UserError: the checkpoints, the benchmarks or the settings cannot be used.
        Interrupted: ``should_stop`` became true.
    """
    family_of(settings.prompt)
    for name in (*settings.benchmarks, *settings.samples):
        find(name)
    metas = {
        name: run_one(model, settings, out / f"{name}.jsonl", out / "state" / name, should_stop)
        for name, model in models.items()
    }
    shutil.rmtree(out / "state", ignore_errors=True)
    table = scores(
        {name: out / f"{name}.jsonl" for name in models}, settings.benchmarks, _sizes(next(iter(metas.values())))
    )
    write_atomically(out / "scores.csv", table.to_csv(index=False).encode())
    write_atomically(out / "scores.md", (as_text(table) + "\n").encode())
    return table


def scores(
    samples: dict[str, Path], benchmarks: Sequence[str], sizes: dict[str, tuple[int, int]], resamples: int = 2000
) -> pd.DataFrame:
    """Score stored samples: one row for each checkpoint and benchmark, and for the average over each domain.

    Columns: ``score`` (avg@k), ``low`` and ``high`` (95 % interval over questions and samples), ``maj`` (maj@k), the
    shares of samples without an answer, truncated, timed out, and judged differently by the two judges; ``questions``
    and ``of`` differ where the run was limited.
    """
    chosen = [find(name) for name in benchmarks]
    frames = {name: _questions(path) for name, path in samples.items()}
    first = next(iter(frames.values()))
    if any(list(frame.index) != list(first.index) for frame in frames.values()):
        raise UserError("scores: the checkpoints were asked different questions; run them with the same settings")
    families = [benchmark.name for benchmark in chosen]
    columns = _columns(chosen)
    estimates = estimate(
        [Scores((0,), frame[["correct"]].to_numpy().T, trained=False) for frame in frames.values()],
        np.array([families.index(family) for family, _ in first.index]),
        np.array([weights for _, weights in columns]),
        resamples,
        seeds.generator("benchmarks", "bootstrap"),
    )
    rows = []
    for arm, (name, frame) in enumerate(frames.items()):
        means = frame.groupby(level="family", sort=False)[["maj", *RATES]].mean().loc[families]
        for column, (title, weights) in enumerate(columns):
            used = [family for family, weight in zip(families, weights, strict=True) if weight]
            rows.append(
                {
                    "checkpoint": name,
                    "benchmark": title,
                    "k": "/".join(map(str, dict.fromkeys(int(frame.loc[[family], "k"].iloc[0]) for family in used))),
                    "questions": sum(sizes[family][0] for family in used),
                    "of": sum(sizes[family][1] for family in used),
                    "score": estimates.mean[arm, column],
                    "low": estimates.low[arm, column],
                    "high": estimates.high[arm, column],
                    **{key: float(np.dot(weights, means[key])) for key in ("maj", *RATES)},
                }
            )
    return pd.DataFrame(rows)


def as_text(table: pd.DataFrame) -> str:
    """Write the scores as Markdown, in percent; a limited run says so in each of its rows."""
    shown = table.astype({"k": str})
    for key in ("score", "low", "high", "maj", *RATES):
        shown[key] = [f"{100 * value:.1f}" for value in table[key]]
    shown["score"] = shown["score"] + " [" + shown.pop("low") + ", " + shown.pop("high") + "]"
    limited = table["questions"] < table["of"]
    shown["questions"] = [
        f"first {questions} of {of}" if less else str(of)
        for questions, of, less in zip(table["questions"], table["of"], limited, strict=True)
    ]
    text = str(shown.drop(columns="of").to_markdown(index=False, disable_numparse=True))
    notes = ["Percent; in brackets 95 % intervals over questions and samples. Averages count each benchmark the same."]
    if limited.any():
        notes.append("LIMITED: only the first questions of some benchmarks were asked; compare with no other table.")
    if missing := [b.title for b in BENCHMARKS.values() if b.no_figure and b.title in set(table["benchmark"])]:
        notes.append(f"{', '.join(missing)}: some of its questions speak of a figure that no copy of the set has.")
    return "\n\n".join([text, *notes])


def run_one(
    model: str,
    settings: Settings,
    path: Path,
    state: Path,
    should_stop: ShouldStop = never,
    drawn: Drawn | None = None,
) -> dict[str, Any]:
    """Run benchmarks over one checkpoint, and return what ``<path stem>.meta.json`` says of the samples in ``path``.

    The samples have the form that ordinary evaluation writes, with ``majority`` besides: the score of maj@k. What is
    finished is not run again; ``state`` holds finished batches until then. ``<path stem>.lm_eval.json`` has the results
    as lm-eval writes them.

    Args:
        drawn: samples of the experiment's own evaluation, which are taken where they answer what is asked.

    Raises:
        UserError, Interrupted: like :func:`run`.
    """
    for logger in ("lm_eval", "datasets"):
        logging.getLogger(logger).setLevel(logging.ERROR)  # their progress is ours to tell
    lm = DagrpoLM(
        model,
        device=settings.device,
        dtype=settings.dtype,
        batch_size=settings.rows,
        seed=settings.seed,
        state=state,
        engine=settings.engine,
        should_stop=should_stop,
        drawn=drawn,
    )
    meta: dict[str, Any] = {
        "spec": _told(settings),
        "seed": settings.seed,
        "model": model,
        "model_fingerprint": lm.fingerprint,
        **lm.card,
    }
    if path.exists() and meta_path(path).exists():
        before: dict[str, Any] = json.loads(meta_path(path).read_text())
        if all(before.get(key) == value for key, value in json.loads(json.dumps(meta)).items()):
            return before
    results = simple_evaluate(
        model=lm,
        tasks=[find(benchmark).task for benchmark in settings.benchmarks],
        task_manager=TaskManager(
            include_path=str(TASKS),
            include_defaults=False,
            metadata={
                "prompt": settings.prompt,
                "k": settings.samples,
                "source": settings.source,
                "mirror": settings.mirror,
                **settings.own.model_dump(include={"instruction", "opening"}),
                **settings.verifier.model_dump(include={"judge", "thought", "workers", "seconds"}),
            },
        ),
        system_instruction=settings.own.system_prompt,
        apply_chat_template=family_of(settings.prompt).chat,
        gen_kwargs={
            "temperature": settings.temperature,
            "do_sample": settings.temperature > 0,
            "max_gen_toks": settings.max_tokens,
        },
        limit=settings.limit,
        bootstrap_iters=0,
    )
    asked = results.pop("samples")
    meta |= {
        "data": {name: results["configs"][find(name).task]["metadata"]["data"] for name in settings.benchmarks},
        "limited": _limited(results["n-samples"], settings.benchmarks),
        "drawn_by_evaluation": lm.taken,
    }
    lines = [
        json.dumps(record) + "\n"
        for benchmark in settings.benchmarks
        for example in asked[find(benchmark).task]
        for record in _records(benchmark, example, settings.seed)
    ]
    write_atomically(path.with_suffix(".lm_eval.json"), json.dumps(results, default=handle_non_serializable).encode())
    write_atomically(path, "".join(lines).encode())
    write_atomically(meta_path(path), json.dumps(meta, indent=1).encode())
    lm.forget()
    return meta


def _records(benchmark: str, example: dict[str, Any], seed: int) -> list[dict[str, Any]]:
    """One record for each sample of a question, of the form that ordinary evaluation writes."""
    (responses,), (graded,) = example["resps"], example["filtered_resps"]
    return [
        {
            "problem_id": example["doc"]["id"],
            "family": benchmark,
            "level": graded["level"],
            "problem_hash": graded["problem_hash"],
            "prompt_hash": example["prompt_hash"],
            "sample": index,
            "seed": seed,
            "opening": graded["opening"],
            "text": str(response),
            "tokens": response.tokens,
            "finish": response.finish,
            **sample,
            "majority": graded["majority"],
        }
        for index, (response, sample) in enumerate(zip(responses, graded["samples"], strict=True))
    ]


def _told(settings: Settings) -> dict[str, Any]:
    """The settings that all checkpoints of a table share."""
    told = {**asdict(settings), "verifier": settings.verifier.model_dump(), "seed": None}
    if (own := told.pop("own")) != PromptSpec():
        told["own"] = own.model_dump()
    engine = engine_essence(told.pop("engine"))
    # What the torch engine has sampled needs no word for it to stay up to date.
    return told if engine.kind == "torch" else {**told, "engine": engine.model_dump(mode="json")}


def _limited(counts: dict[str, Any], benchmarks: Sequence[str]) -> dict[str, list[int]]:
    """Benchmarks of which only the first questions were asked: name -> [asked, of]."""
    found = {name: counts[find(name).task] for name in benchmarks}
    pairs = {name: [count["effective"], count["original"]] for name, count in found.items()}
    return {name: [asked, of] for name, (asked, of) in pairs.items() if asked < of}


def _sizes(meta: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Questions of each benchmark: how many were asked, of how many."""
    whole = {name: 2 * (source["rows"],) for name, source in meta["data"].items()}
    return {name: (asked, of) for name, (asked, of) in {**whole, **meta["limited"]}.items()}


def _questions(path: Path) -> pd.DataFrame:
    """Means over the samples of each question, in the order of the file; index (family, problem_id)."""
    records = pd.DataFrame([json.loads(line) for line in path.read_text().splitlines()])
    told = pd.DataFrame(
        {
            "family": records["family"],
            "problem_id": records["problem_id"],
            "k": 1,
            "correct": records["verdict"] == "correct",
            "maj": records["majority"],
            **{rate: records["verdict"] == rate for rate in RATES[:-1]},
            "disagreement": [len(set(judges.values())) > 1 for judges in records["judges"]],
        }
    )
    grouped = told.groupby(["family", "problem_id"], sort=False)
    return grouped.mean().assign(k=grouped.size())


def _columns(chosen: Sequence[Benchmark]) -> list[tuple[str, list[float]]]:
    """Titles and weights over benchmarks: each alone, and the macro average of every domain with more than one."""
    columns = [(one.title, [float(one is other) for other in chosen]) for one in chosen]
    for title, domain in (("average, mathematics", "math"), ("average, out of distribution", "ood")):
        inside = [other.domain == domain for other in chosen]
        if sum(inside) > 1:
            columns.append((title, [float(member) / sum(inside) for member in inside]))
    return columns
