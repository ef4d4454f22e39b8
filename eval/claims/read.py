"""Evidence from the files of an experiment, and the files of its claims."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from eval.claims.evidence import Evidence
from eval.claims.schema import Claim, load_claims
from eval.claims.show import claims_frame, claims_table, parts_frame
from eval.claims.verdicts import judge
from eval.gradients import measured
from eval.records import Runs, load_cards, load_evaluation, load_metrics, scores
from eval.render import latex, markdown
from eval.tables import columns, to_csv


def write_claims(corpora: Mapping[str, Runs], out: Path, claims: Sequence[Claim] | None = None) -> None:
    """Judge the claims, by default the paper's, and write ``claims`` (csv, md, tex) and ``claim_parts.csv``."""
    judged = judge(claims or load_claims(), {base: evidence_of(runs) for base, runs in corpora.items()})
    out.mkdir(parents=True, exist_ok=True)
    (out / "claims.csv").write_bytes(to_csv(claims_frame(judged)))
    (out / "claim_parts.csv").write_bytes(to_csv(parts_frame(judged)))
    runs = next(iter(corpora.values()))
    shown = claims_table(read_claims(out))  # what a reader sees is made from what is stored
    if runs.interim:
        shown = replace(shown, notes=(runs.interim, *shown.notes))
    (out / "claims.md").write_text(markdown(shown), encoding="utf-8")
    (out / "claims.tex").write_text(latex(shown, f"tab:{runs.experiment.name}-claims"), encoding="utf-8")


def read_claims(out: Path) -> pd.DataFrame:
    """Read the frame that :func:`write_claims` stored."""
    return pd.read_csv(out / "claims.csv", keep_default_na=False, na_values=[""])


def evidence_of(runs: Runs) -> Evidence:
    """Gather what the runs on one base corpus left."""
    evaluation = load_evaluation(runs)
    problems = evaluation.frame.drop_duplicates("problem").sort_values("problem")
    shape = columns(evaluation.families, runs.experiment.evaluation.out_of_distribution)
    arms = scores(evaluation, runs, problems["problem"].to_numpy())
    cards = load_cards(runs)
    return Evidence(
        arms=dict(zip(runs.seeds, arms, strict=True)),
        family=problems["family"].map(evaluation.families.index).to_numpy(),
        families=evaluation.families,
        columns=dict(zip(shape.names, shape.weights, strict=True)),
        level=problems["level"].to_numpy(float),
        base_seed={seed: runs.experiment.base_seed(seed) for seed in runs.experiment.seeds},
        metrics=load_metrics(runs),
        consumed=pd.DataFrame([{"arm": arm, "seed": seed, **card["consumed"]} for (arm, seed), card in cards.items()]),
        conflict=read_conflict(runs),
    )


def read_conflict(runs: Runs) -> pd.DataFrame:
    """Read the measured gradients of an experiment: a row for each positive-negative pair; empty where none are."""
    found = measured(runs)
    if found.pairs.empty:
        return pd.DataFrame()
    of_group = found.groups[["conflict_before", "conflict_after", "conflict_random"]].astype(float)
    pairs = found.pairs[["arm", "seed", "step", "group", "cosine", "score_gap"]]
    return pairs.join(of_group, on="group")
