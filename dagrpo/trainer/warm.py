"""A base after a short SFT: a model that writes worked solutions badly, but at all, so that reinforcement can begin."""

import shutil
from pathlib import Path

from dagrpo.config import BaseSpec, Scorer, Train, TrainSpec, Verifier, WarmedBase
from dagrpo.errors import UserError
from dagrpo.problems import build, write_problems
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.trainer.job import train


def warm(
    base: WarmedBase, spec: BaseSpec, source: Path, out: Path, state: Path, should_stop: ShouldStop = never
) -> None:
    """Teach the checkpoint ``source`` the demonstrations that the problems set apart, and write it to ``out``.

    Raises:
        UserError: the problems set no demonstration apart, or one of them cannot be used.
        Interrupted: ``should_stop`` became true; a later call continues from ``state`` to the same bits.
    """
    apart = build(spec.problems).warm
    if not apart:
        raise UserError(
            "base.kind warmed learns from rows that no arm sees, and these problems set none apart; "
            "choose problems.kind words and give problems.warm, or another base"
        )
    problems = state / "warm.jsonl"
    state.mkdir(parents=True, exist_ok=True)
    write_problems(problems, apart)
    settings = Train(
        steps=1,
        prompts=1,
        group_size=2,
        max_new_tokens=base.max_new_tokens,
        rl=base.optimizer,
        sft=base.optimizer,
        sft_rows=base.rows,
        sft_steps=base.steps,
        micro_tokens=base.micro_tokens,
        threads=base.threads,
    )
    run = TrainSpec(
        arm="warm",
        method="sft",
        options={},
        train=settings,
        prompt=spec.prompt,
        verifier=Verifier(),
        scorer=Scorer(),
        device=spec.device,
    )
    train(run, spec.seed, source, problems, state / "run", state / "training", should_stop)
    shutil.rmtree(out, ignore_errors=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(state / "run" / "model", out)
    shutil.rmtree(state, ignore_errors=True)
