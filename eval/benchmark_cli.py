"""Verbs of the command line for benchmarks: run them, check their rows, grade answers, look for contamination."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from eval.benchmark_tasks.benchmarks import Form

from dagrpo import help_panels

app = typer.Typer()

Source = Annotated[str | None, typer.Option(help="mirror or hub; mirror where DAGRPO_MIRROR is set if left out.")]
Names = Annotated[str, typer.Option(help="Benchmarks by name, or nine, math, ood, all; separated by commas.")]


@app.command(rich_help_panel=help_panels.GRADE)
def benchmark(
    models: Annotated[list[str], typer.Argument(help="Checkpoints: folders or hub names; NAME=CHECKPOINT names one.")],
    out: Annotated[Path, typer.Option(help="Folder of samples and scores.")],
    tasks: Names = "nine",
    prompt: Annotated[str, typer.Option(help="think, chat, qwen or plain: how the model wants to be asked.")] = "chat",
    k: Annotated[list[str] | None, typer.Option(help="Samples a question: N for all, or BENCHMARK=N.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.6,
    max_tokens: Annotated[int, typer.Option(min=1, help="Budget of a response (tokens).")] = 8192,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first questions of each; marked everywhere.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Rows decoded together; does not change a sample.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    dtype: Annotated[
        str, typer.Option(help="float32 or bfloat16; vLLM computes in bfloat16 on a GPU, else in float32.")
    ] = "float32",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    engine: Annotated[str, typer.Option(help="What samples: torch, or vllm where it is installed.")] = "torch",
    source: Source = None,
    judge: Annotated[str, typer.Option(help="Whose word is the verdict: math_verify or sympy.")] = "math_verify",
    workers: Annotated[int, typer.Option(min=1, help="Processes that judge answers.")] = 1,
) -> None:
    """Run benchmarks over checkpoints by our engine; prints the table, keeps every sample."""
    needs_lm_eval()
    from dagrpo.config import Verifier, parse
    from dagrpo.errors import UserError
    from dagrpo.processes.signals import stop_flag
    from eval.benchmark_tasks.lm_model import find_engine
    from eval.benchmark_tasks.lm_run import Settings, as_text, run
    from eval.benchmark_tasks.names import choose
    from eval.benchmark_tasks.prompts import EXPERIMENT

    if prompt == EXPERIMENT:
        raise UserError("prompt: 'experiment' is for the section `benchmarks` of one; take think, chat, qwen or plain")
    chosen = choose(tasks)
    settings = Settings(
        benchmarks=chosen,
        prompt=prompt,
        samples=read_samples(k or [], chosen),
        temperature=temperature,
        max_tokens=max_tokens,
        limit=limit,
        rows=rows,
        seed=seed,
        dtype=dtype,
        device=device,
        source=source,
        verifier=parse(Verifier, {"judge": judge, "workers": workers}, "benchmark"),
        engine=find_engine(engine),
    )
    with stop_flag() as should_stop:
        print(as_text(run(read_models(models), settings, out, should_stop)))


@app.command("evaluate-benchmarks", rich_help_panel=help_panels.JOBS)
def evaluate_benchmarks(
    spec: Annotated[Path, typer.Option(help="The configuration of this job (JSON or YAML).")],
    model: Annotated[Path, typer.Option(help="Checkpoint to sample from.")],
    seed: Annotated[int, typer.Option(help="Seed of every draw.")],
    out: Annotated[Path, typer.Option(help="File of graded samples.")],
    state: Annotated[Path, typer.Option(help="Resumable state; deleted when the job is done.")],
    evaluated: Annotated[
        Path | None, typer.Option(help="Samples that evaluation drew of it: what they answer is not asked again.")
    ] = None,
) -> None:
    """Run an experiment's benchmarks over one of its checkpoints."""
    needs_lm_eval()
    import torch

    from dagrpo import config
    from dagrpo.processes.signals import stop_flag
    from eval.benchmark_tasks.drawn import read_drawn
    from eval.benchmark_tasks.lm_run import run_one, settings_of

    told = config.load(config.BenchmarksSpec, spec)
    torch.set_num_threads(told.threads)
    drawn = None if evaluated is None else read_drawn(evaluated)
    with stop_flag() as should_stop:
        run_one(str(model), settings_of(told, seed), out, state, should_stop, drawn)


@app.command("compare-benchmarks", rich_help_panel=help_panels.GRADE)
def compare_benchmarks(
    ours: Annotated[Path, typer.Argument(help="Samples of a checkpoint, as `dagrpo benchmark` wrote them.")],
    logged: Annotated[Path, typer.Argument(help="What `lm_eval --log_samples --output_path` wrote of the same rows.")],
) -> None:
    """Compare our engine's run, row by row, with one of lm-eval's own command."""
    from eval.benchmark_tasks.agreement import EQUAL, agreement

    found = agreement(ours, logged)
    print(found.to_markdown(index=False))
    total = found[["rows", *EQUAL]].sum()
    print(f"\nof {total['rows']} rows equal: " + ", ".join(f"{total[name]} {name}" for name in EQUAL))


@app.command("check-benchmarks", rich_help_panel=help_panels.GRADE)
def check_benchmarks(
    tasks: Names = "all",
    source: Source = None,
    write: Annotated[bool, typer.Option("--write", help="Put what is found into the lock.")] = False,
) -> None:
    """Compare the benchmarks' rows with the lock."""
    from dagrpo.errors import UserError
    from eval.benchmark_tasks.benchmarks import check
    from eval.benchmark_tasks.names import choose

    found = check(choose(tasks), read_source(source), write=write)
    for row in found:
        state = "as locked" if row["as_locked"] else "written" if write else "DIFFERS"
        print(f"{row['benchmark']:16} {row['form']:7} {row['rows']:6} rows  {row['sha256'][:12]}  {state}")
    if not write and not all(row["as_locked"] for row in found):
        raise UserError("check-benchmarks: some sets are not those of the lock; get those, or run this with --write")


@app.command("fetch-benchmarks", rich_help_panel=help_panels.GRADE)
def fetch_benchmarks(
    out: Annotated[Path, typer.Option(help="Folder that becomes a mirror; what it has already is kept.")],
    tasks: Names = "all",
) -> None:
    """Fetch the benchmarks from the hub to a folder, for DAGRPO_MIRROR or `mirror`, and check each against the lock."""
    from dagrpo.errors import UserError
    from eval.benchmark_tasks.benchmarks import fetch
    from eval.benchmark_tasks.names import choose

    faults = []
    for name in choose(tasks):
        try:
            record = fetch(name, out)
        except UserError as fault:  # the others may be had all the same
            faults.append(str(fault))
        else:
            print(f"{name:16} {record['rows']:6} rows  {record['sha256'][:12]}", flush=True)
    if faults:
        raise UserError("\n       ".join(faults))
    print(f"next: export DAGRPO_MIRROR={out.resolve()}")


@app.command(rich_help_panel=help_panels.GRADE)
def grade(
    file: Annotated[
        Path, typer.Argument(help='JSON Lines: {"gold": ..., "response": ...} or {"gold": ..., "answer": ...}.')
    ],
    out: Annotated[Path | None, typer.Option(help="Where the rows go; FILE.graded.jsonl if left out.")] = None,
    judge: Annotated[str, typer.Option(help="Whose word is the verdict: math_verify or sympy.")] = "math_verify",
    workers: Annotated[int, typer.Option(min=1, help="Processes that judge answers; does not change a verdict.")] = 1,
    seconds: Annotated[float, typer.Option(min=0.1, help="Wall-clock limit of one verdict.")] = 2.0,
    batch: Annotated[int, typer.Option(min=1, help="Rows judged together; 1 times each row by itself.")] = 256,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print how each row reads and why it is right or wrong; write nothing.")
    ] = False,
    row: Annotated[int | None, typer.Option(min=1, help="With --explain: the line of the only row.")] = None,
) -> None:
    """Grade rows of a file, and write them back with verdict, extracted answer, judges and seconds."""
    import time

    from dagrpo.config import Verifier, parse
    from dagrpo.processes.signals import stop_flag
    from eval.benchmark_tasks.grade import explain_file, grade_file

    spec = parse(Verifier, {"judge": judge, "workers": workers, "seconds": seconds}, "grade")
    if explain:
        with stop_flag() as should_stop:
            for line in explain_file(file, spec, row, should_stop):
                print(line.encode(errors="backslashreplace").decode())
        return
    target = out or file.with_name(f"{file.stem}.graded.jsonl")
    started = time.perf_counter()
    with stop_flag() as should_stop:
        counts = grade_file(file, target, spec, batch, should_stop)
    passed, apart = time.perf_counter() - started, counts.pop("disagreement", 0)
    total = counts.total()
    print(f"{total} rows in {passed:.1f} s -> {target}")
    print(", ".join(f"{verdict} {count}" for verdict, count in counts.most_common()))
    print(f"the judges disagree on {apart} ({apart / total:.1%})")


@app.command(rich_help_panel=help_panels.GRADE)
def rescore(
    samples: Annotated[Path, typer.Argument(help="Stored samples, as evaluation or `dagrpo benchmark` wrote them.")],
    out: Annotated[Path, typer.Option(help="Where the samples go with their verdicts as they are now.")],
    problems: Annotated[
        Path | None, typer.Option(help="The problems that they answer; the benchmarks' own rows if left out.")
    ] = None,
    kind: Annotated[str, typer.Option(help="math, or exact for the miniature.")] = "math",
    judge: Annotated[str, typer.Option(help="Whose word is the verdict: math_verify or sympy.")] = "math_verify",
    workers: Annotated[int, typer.Option(min=1, help="Processes that judge answers; does not change a verdict.")] = 1,
    source: Source = None,
) -> None:
    """Grade stored samples again; with the same verifier, the same bytes."""
    from dagrpo.config import Verifier, parse
    from dagrpo.problems.store import read_problems
    from dagrpo.processes.signals import stop_flag
    from eval.benchmark_tasks.benchmarks import load
    from eval.files import read_lines
    from eval.rescore import rescore as run

    if problems is not None:
        known = read_problems(problems)
    else:
        families = dict.fromkeys(record["family"] for record in read_lines(samples))
        known = [problem for name in families for problem in load(name, read_source(source)).problems]
    spec = parse(Verifier, {"kind": kind, "judge": judge, "workers": workers}, "rescore")
    with stop_flag() as should_stop:
        changed = run(samples, known, spec, out, should_stop)
    print(f"{changed} verdicts differ from before; the samples: {out}")


@app.command(rich_help_panel=help_panels.JOBS)
def contamination(
    train: Annotated[Path, typer.Option(help="Training problems, one JSON object a line.")],
    out: Annotated[Path, typer.Option(help="Folder of pairs.csv and summary.csv.")],
    tasks: Names = "nine",
    ngram: Annotated[int, typer.Option(min=1, help="Words of an n-gram.")] = 8,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Least containment that counts.")] = 0.8,
    clean: Annotated[Path | None, typer.Option(help="Where the training problems go that are in no pair.")] = None,
    source: Source = None,
    spec: Annotated[
        Path | None, typer.Option(help="The configuration of this job, in place of --tasks (JSON or YAML).")
    ] = None,
) -> None:
    """Compare training questions with the benchmarks', and list those that occur in both."""
    from dagrpo import config
    from dagrpo.problems.contamination import compare
    from dagrpo.problems.store import read_problems, write_problems
    from eval.benchmark_tasks.benchmarks import evaluated, load
    from eval.benchmark_tasks.names import choose

    training = read_problems(train)
    if spec is not None:
        questions = evaluated(config.load(config.ContaminationSpec, spec))
    else:
        questions = [problem for name in choose(tasks) for problem in load(name, read_source(source)).problems]
    table, kept = compare(training, questions, out, ngram, threshold)
    print(table.to_markdown(index=False, floatfmt=".4f"))
    print(f"\n{len(training) - len(kept)} of {len(training)} training rows; the pairs: {out / 'pairs.csv'}")
    if clean is not None:
        write_problems(clean, kept)
        print(f"the other {len(kept)} rows: {clean}")


def read_models(words: list[str]) -> dict[str, str]:
    """Turn ``NAME=CHECKPOINT`` or ``CHECKPOINT`` into name -> checkpoint. Raises ``UserError``."""
    from dagrpo.errors import UserError

    models: dict[str, str] = {}
    for word in words:
        name, equals, place = word.partition("=")
        name, place = (name, place) if equals else (Path(word).name, word)
        if name in models or not name or "/" in name:
            raise UserError(f"benchmark: {name!r} names two checkpoints, or none; give each a name: NAME={place}")
        models[name] = place
    return models


def read_samples(words: list[str], benchmarks: tuple[str, ...]) -> dict[str, int]:
    """Turn ``N`` and ``BENCHMARK=N`` into k by benchmark. Raises ``UserError``."""
    from dagrpo.errors import UserError
    from eval.benchmark_tasks.names import choose

    samples: dict[str, int] = {}
    for word in words:
        name, equals, number = word.rpartition("=")
        if not number.isdigit() or int(number) < 1:
            raise UserError(f"k: {word!r} is neither N nor BENCHMARK=N; give a whole number from 1 on")
        samples.update({choose(name)[0]: int(number)} if equals else dict.fromkeys(benchmarks, int(number)))
    return samples


def read_source(word: str | None) -> "Form | None":
    """Check where rows are from. Raises ``UserError``."""
    from dagrpo.errors import UserError

    if word not in (None, "mirror", "hub"):
        raise UserError(f"source: must be mirror or hub, found {word!r}")
    return word  # type: ignore[return-value]


def needs_lm_eval() -> None:
    """Refuse to go on without lm-eval, and silence its progress bars. Raises ``UserError``."""
    from importlib.util import find_spec

    from dagrpo.errors import UserError

    if find_spec("lm_eval") is None:
        raise UserError("benchmark: lm-eval is not installed; run: pip install -c constraints.txt -e '.[lm-eval]'")
    os.environ.setdefault("TQDM_DISABLE", "1")  # ours tell the time left of each benchmark
