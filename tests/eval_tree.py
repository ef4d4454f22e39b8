"""A results folder as an experiment leaves it, with invented models: what the tests of tables and pages read."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from dagrpo.seeds import generator
from eval.records import Runs, open_runs

FAMILIES = {"sums": 0.0, "products": -0.5, "gcd_of_two": -1.0, "sorting": 0.4, "counting": 0.2}
OOD = ("sorting", "counting")
ARMS = {
    "sft": ("sft", "SFT", 0.5),
    "grpo": ("grpo", "GRPO", 0.6),
    "dagrpo_no_anchors": ("dagrpo", "DaGRPO w/o anchors", 0.7),
    "dagrpo": ("dagrpo", "DaGRPO", 0.8),
    "random_reward": ("random_reward", "Random reward & co", -0.8),
}
CONSUMED = ("samples", "prompt_tokens", "response_tokens_total", "anchors", "optimiser_steps")
SPEC = {"samples": 4, "temperature": 0.6}
BASE = "school"  # the base corpus where there is one
# Two corpora on which the arms' gains differ, and a study of many arms, some of which have fewer seeds.
CORPORA = {"guessing": 0.35, "working": 1.0}
STUDY = {
    "sft": ("sft", "SFT", 0.9),
    "sft_then_rl": ("sft_then_rl", "SFT→RL", 1.0),
    "grpo": ("grpo", "GRPO", 0.6),
    "dr_grpo": ("dr_grpo", "Dr. GRPO", 0.62),
    "luffy": ("luffy", "LUFFY", 0.7),
    "dagrpo_no_anchors": ("dagrpo", "DaGRPO w/o anchors", 0.55),
    "dagrpo": ("dagrpo", "DaGRPO", 0.8),
    "random_reward": ("random_reward", "GRPO with random rewards", -0.1),
    **{f"delta_{delta}": ("dagrpo", f"DaGRPO, δ = {delta}", 0.8 - 0.1 * delta) for delta in (0, 1, 2, 4, 5)},
    **{f"alternate_{n}": ("dagrpo", f"DaGRPO, alternate {n}", 0.1 * n) for n in range(1, 7)},
}
FEWER = tuple(arm for arm in STUDY if arm.startswith(("delta", "alternate")))
SMALL_STUDY = {arm: STUDY[arm] for arm in ("delta_0", "sft", "grpo", "dagrpo", "delta_5")}


def write_json(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def experiment(
    seeds: tuple[int, ...],
    arms: dict[str, tuple[str, str, float]],
    corpora: dict[str, float],
    base_seeds: tuple[int, ...],
    fewer: dict[str, tuple[int, ...]],
) -> dict[str, Any]:
    """A resolved experiment with the given arms: method, label, gain over the base in logits."""
    return {
        "name": "toy",
        "title": "A toy experiment",
        "problems": {"kind": "mini"},
        "bases": {name: {"kind": "mini"} for name in corpora},
        "base_seeds": list(base_seeds),
        "train": {
            "steps": 30,
            "prompts": 8,
            "group_size": 8,
            "max_new_tokens": 60,
            "rl": {"lr": 1e-4},
            "sft": {"lr": 1e-4},
            "sft_steps": 30,
        },
        "arms": {
            name: {"method": method, "label": label, "seeds": list(fewer[name]) if name in fewer else None}
            for name, (method, label, _) in arms.items()
        },
        "seeds": list(seeds),
        "evaluation": {
            "samples": 4,
            "max_new_tokens": 60,
            "bootstrap": 200,
            "out_of_distribution": list(OOD),
            "reference": "grpo",
        },
    }


def make_tree(
    results: Path,
    seeds: tuple[int, ...] = (0, 1),
    problems: int = 20,
    samples: int = 4,
    arms: dict[str, tuple[str, str, float]] | None = None,
    families: dict[str, float] | None = None,
    outside: tuple[str, ...] = OOD,
    levels: bool = True,
    limited: dict[str, list[int]] | None = None,
    bootstrap: int = 200,
    corpora: dict[str, float] | None = None,
    base_seeds: tuple[int, ...] = (0,),
    fewer: dict[str, tuple[int, ...]] | None = None,
) -> Path:
    """Write samples, metrics, timings, cards and the spec of an experiment; accuracy follows a logistic model.

    ``corpora`` names base corpora and what each leaves of an arm's gain; ``fewer`` the seeds of arms that lack some.
    """
    arms, families, corpora, fewer = arms or ARMS, families or FAMILIES, corpora or {BASE: 1.0}, fewer or {}
    settings = experiment(seeds, arms, corpora, base_seeds, fewer)
    settings["evaluation"] |= {"bootstrap": bootstrap, "samples": samples, "out_of_distribution": list(outside)}
    write_json(results / "specs" / "report.json", settings)
    draws = generator("tree")
    bank = [
        (f"{family}-{number}", family, number % 4 if levels else None, easy - 0.9 * (number % 4) + draws.normal())
        for family, easy in families.items()
        for number in range(problems)
    ]
    mixture = [
        (f"train-{number}", "sums", number % 4 if levels else None, 1.2 - 1.3 * (number % 4)) for number in range(60)
    ]
    of_base = {seed: base_seeds[place % len(base_seeds)] for place, seed in enumerate(seeds)}
    for corpus, share in corpora.items():
        # Two bases of one corpus do not start equally high.
        start = {
            seed: generator("start", corpus, seed).normal(0, 0.2) if len(base_seeds) > 1 else 0.0 for seed in base_seeds
        }
        runs = [("base", seed, start[seed]) for seed in base_seeds]
        for arm, (method, label, gain) in arms.items():
            for seed in fewer.get(arm, seeds):
                luck = generator("luck", corpus, arm, seed).normal(0, 0.1)
                runs.append((arm, seed, share * gain + luck + start[of_base[seed]]))
                folder = results / "runs" / corpus / arm / f"seed{seed}"
                write_run(folder, arm, seed, share * gain, method, label, f"{corpus} base {of_base[seed]}")
        for arm, seed, shift in runs:
            path = results / "samples" / corpus / arm / f"seed{seed}.jsonl"
            write_lines(path, sample_rows(bank, shift, samples, f"{corpus} {arm}", seed))
            meta = {"spec": SPEC, "model_fingerprint": f"{corpus} {arm} {seed}", "limited": limited or {}}
            write_json(path.with_suffix(".meta.json"), meta)
        profile = sample_rows(mixture, 0.0, 8, f"{corpus} profile", 0)
        write_lines(results / "samples" / corpus / "profile.jsonl", profile)
    return results


def make_study(
    results: Path,
    problems: int = 20,
    samples: int = 4,
    bootstrap: int = 200,
    arms: dict[str, tuple[str, str, float]] | None = None,
) -> Path:
    """Two base corpora with two base seeds each, eight seeds of the main arms and four of the others."""
    arms = arms or STUDY
    return make_tree(
        results,
        seeds=tuple(range(8)),
        problems=problems,
        samples=samples,
        arms=arms,
        corpora=CORPORA,
        base_seeds=(0, 1),
        fewer={arm: (0, 1, 2, 3) for arm in FEWER if arm in arms},
        bootstrap=bootstrap,
    )


def runs_of(results: Path, base: str = BASE) -> Runs:
    """The runs on one base corpus."""
    return open_runs(results)[base]


def sample_rows(
    bank: list[tuple[str, str, int | None, float]], shift: float, count: int, arm: str, seed: int
) -> list[dict[str, Any]]:
    """Graded samples of one checkpoint."""
    draws = generator("samples", arm, seed)
    rows: list[dict[str, Any]] = []
    for name, family, level, easy in bank:
        for sample in range(count):
            correct = draws.random() < 1 / (1 + np.exp(-easy - shift))
            verdict = (
                "correct" if correct else ("wrong", "no_answer", "truncated")[int(draws.choice(3, p=[0.8, 0.15, 0.05]))]
            )
            rows.append(
                {
                    "problem_id": name,
                    "family": family,
                    "level": level,
                    "problem_hash": sha256(name.encode()).hexdigest(),
                    "prompt_hash": sha256(b"prompt" + name.encode()).hexdigest(),
                    "sample": sample,
                    "seed": seed,
                    "text": "1+1=2;A2",
                    "tokens": int(5 + draws.poisson(8)),
                    "finish": "length" if verdict == "truncated" else "stop",
                    "verdict": verdict,
                    "extracted": "2",
                    "rule": "marker",
                    "judges": {},
                }
            )
    return rows


def write_run(
    folder: Path, arm: str, seed: int, gain: float, method: str, label: str, base: str, steps: int = 30
) -> None:
    """Metrics, timings and card of one training run."""
    draws = generator("metrics", arm, seed)
    metrics, timings = [], []
    for step in range(steps):
        row: dict[str, Any] = {
            "step": step,
            "phase": "sft" if method == "sft" else "rl",
            "loss": float(draws.normal()),
            "trained_tokens": 700,
            "samples": 64,
            "prompt_tokens": 300,
            "response_tokens_total": 660,
            "anchors": 0,
            "optimiser_steps": 1,
        }
        row["grad_norm"] = float(np.exp(draws.normal(-1, 0.4)))
        if method != "sft":
            row |= {
                "reward": float(0.4 + gain * step / steps / 5 + draws.normal(0, 0.05)),
                "response_tokens": float(8 + gain * step / 5 + draws.normal(0, 0.5)),
                "entropy": float(0.6 - 0.01 * step + draws.normal(0, 0.02)),
            }
        if method == "dagrpo":
            row |= {
                "masked_share": float(draws.uniform(0.1, 0.4)),
                "mask/keep_pos": 0.7,
                "mask/keep_neg": 0.8,
                "sum_lambda_A": -0.1,
            }
            row |= {"mask/empty_groups": 0.1, "mask/one_sided_groups": 0.05, "score/missing": 0.0}
        metrics.append(row)
        timings.append(
            {
                "step": step,
                "phase": row["phase"],
                "rollout": 0.2,
                "score": 0.01,
                "update": float(draws.uniform(0.1, 0.2)),
            }
        )
    write_lines(folder / "metrics.jsonl", metrics)
    write_lines(folder / "timings.jsonl", timings)
    write_json(
        folder / "run.json",
        {
            "arm": arm,
            "method": method,
            "label": label,
            "seed": seed,
            "options": {"delta": 3.0} if method == "dagrpo" else {},
            "spec": {"arm": arm},
            "base_fingerprint": base,
            "model_fingerprint": f"{base.split()[0]} {arm} {seed}",
            "consumed": {key: sum(row.get(key, 0) for row in metrics) for key in CONSUMED},
            "versions": {"python": "3.11.0", "torch": "2.13.0"},
            "hardware": {"device": "cpu", "processor": "an invented one", "cores": 2},
            "code_hash": "c0de" * 16,
            "hashes": {"code": "c0de" * 16, "method": f"the file of {method}", "problems": "training problems"},
        },
    )
