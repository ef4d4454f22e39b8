"""A base on a few rows before anything is trained: what every arm will need is tried while it has cost a minute."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch

from dagrpo.config import EvaluationSpec, MiniProblems, Problems
from dagrpo.errors import UserError
from dagrpo.files.checkpoints import write_atomically
from dagrpo.policy.checkpoint import fingerprint, load_policy
from dagrpo.policy.device import resolve_device
from dagrpo.problems.prompts import render
from dagrpo.problems.store import read_problems
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.records import Problem, Response, Verdict
from dagrpo.rollout.make import make_engine
from dagrpo.verify import Verifier, make_verifier
from eval.benchmark_tasks.benchmarks import BENCHMARKS, check
from eval.sampling import meta_path, policy_device, sampled

ROWS = 2
"""Problems of each family that are tried."""

DEMONSTRATIONS = 20
"""Demonstrations of each family that are graded."""


def trial(
    spec: EvaluationSpec,
    model: Path,
    train: Path,
    evaluation: Path,
    out: Path,
    source: Problems,
    should_stop: ShouldStop = never,
) -> None:
    """Try a checkpoint on the first problems of each family, of training and of evaluation.

    The rows of benchmarks are held against the lock. Prompts are rendered, the verifier is given each gold as an answer
    and more demonstrations as responses, the engine samples and the samples are graded. They are written to ``out`` in
    the form that evaluation writes, and how they were drawn beside them.

    Args:
        source: where the problems are from.

    Raises:
        UserError: one of these cannot be used, or the verifier takes neither a family's own answers nor its
            demonstrations for right.
        Interrupted: ``should_stop`` became true.
    """
    check_rows(source)
    torch.set_num_threads(spec.threads)
    device = resolve_device(spec.device)
    policy = load_policy(model, policy_device(spec.engine, device))
    parts = [first_of_each(read_problems(path)) for path in (train, evaluation)]

    def openings(problems: Sequence[Problem]) -> list[str]:
        return [render(problem, policy.tokenizer, spec.prompt).opening for problem in problems]

    with make_verifier(spec.verifier, should_stop) as verifier:
        for part in parts:
            check_golds(part, openings(part), verifier, spec.verifier.kind)
        shown = [problem for problem in first_of_each(read_problems(train), DEMONSTRATIONS) if problem.solution]
        check_demonstrations(shown, openings(shown), verifier, spec.verifier.kind)
        with make_engine(spec.engine, policy, spec.rollout_rows, device, should_stop) as engine:
            records = sampled([*parts[0], *parts[1]], policy, engine, verifier, spec, seed=0)
    write_atomically(out, "".join(json.dumps(record) + "\n" for record in records).encode())
    told = {"spec": spec.model_dump(mode="json"), "seed": 0, "model_fingerprint": fingerprint(policy.model)}
    write_atomically(meta_path(out), json.dumps(told, indent=1).encode())
    verdicts = Counter(record["verdict"] for record in records)
    print(f"{len(records)} samples: " + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()))


def check_rows(source: Problems) -> None:
    """Hold the rows of the benchmarks that problems are evaluated on against the lock.

    Raises:
        UserError: some are not those of the lock.
    """
    if isinstance(source, MiniProblems):
        return
    names = [name for name in source.benchmarks if name in BENCHMARKS]
    for row in check(names, "mirror", source.mirror) if names else []:
        if not row["as_locked"]:
            raise UserError(
                f"{row['place']}: not the rows of the lock, so that figures on {row['benchmark']} could be compared "
                "with no others; get the locked ones (`dagrpo fetch-benchmarks`), or, if these are wanted, write them "
                "into the lock with `dagrpo check-benchmarks --write` and say so beside your numbers"
            )


def first_of_each(problems: list[Problem], rows: int = ROWS) -> list[Problem]:
    """The first problems of each family, in order."""
    found: dict[str, list[Problem]] = {}
    for problem in problems:
        found.setdefault(problem.family, []).append(problem)
    return [problem for family in found.values() for problem in family[:rows]]


def check_golds(problems: Sequence[Problem], openings: Sequence[str], verifier: Verifier, kind: str) -> None:
    """Give the verifier each problem's own answer in the form that a model is asked for.

    Raises:
        UserError: of some family it calls none right. (Of real rows, one may be beyond it.)
    """
    graded = verifier.grade(
        problems, [stated(problem, opening, kind) for problem, opening in zip(problems, openings, strict=True)]
    )
    met = {problem.family: (problem, outcome) for problem, outcome in zip(problems, graded, strict=True)}
    right = {
        problem.family for problem, outcome in zip(problems, graded, strict=True) if outcome.verdict is Verdict.CORRECT
    }
    for family, (problem, outcome) in met.items():
        if family not in right:
            raise UserError(
                f"{family}: the verifier (kind {kind}) does not take the problems' own answers for right "
                f"({problem.id!r}: {problem.answer!r} is {outcome.verdict.value}), so no response could be; correct "
                "the form of the answers, or verifier.kind"
            )


def check_demonstrations(problems: Sequence[Problem], openings: Sequence[str], verifier: Verifier, kind: str) -> None:
    """Grade the problems' demonstrations as responses of the policy would be.

    A gold always agrees with itself, but a gold in another form than the answers agrees with no demonstration.

    Raises:
        UserError: of some family none is right.
    """
    responses = [
        Response(problem.solution or "", "stop", opening) for problem, opening in zip(problems, openings, strict=True)
    ]
    pairs = list(zip(problems, verifier.grade(problems, responses), strict=True))
    right = {problem.family for problem, outcome in pairs if outcome.verdict is Verdict.CORRECT}
    for problem, outcome in pairs:
        if problem.family not in right:
            raise UserError(
                f"{problem.family}: the verifier (kind {kind}) takes no demonstration for right "
                f"({problem.id!r} ends with {(problem.solution or '')[-40:]!r}, the gold is {problem.answer!r}: "
                f"{outcome.verdict.value}); correct the form of the golds or of the demonstrations, the opening, or "
                "the verifier's settings"
            )


def stated(problem: Problem, opening: str, kind: str) -> Response:
    """A response that does nothing but state a problem's answer, after the thought where the prompt opens one."""
    if kind == "exact":
        return Response(f"A{problem.answer}", "stop", opening)
    closing = "</think>\n" if "<think>" in opening else ""
    return Response(rf"{closing}\boxed{{{problem.answer}}}", "stop", opening)
