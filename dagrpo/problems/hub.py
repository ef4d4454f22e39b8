"""Training problems of a Hugging Face data set, in the columns that verl reads: ``prompt`` (messages), ``target`` (the
demonstration, one message or text) and ``reward_model.ground_truth``, as in LUFFY's OpenR1-Math-46k-8192."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dagrpo.config import HubProblems, MirrorProblems
from dagrpo.errors import UserError
from dagrpo.files.text_files import read_object
from dagrpo.hub import require_pin
from dagrpo.problems import mirror
from dagrpo.problems.store import ProblemSets
from dagrpo.records import Problem


class BeginsOtherwise(UserError):
    """A demonstration does not begin as the prompt has it begin."""


def load(spec: HubProblems) -> ProblemSets:
    """Load the training rows and the benchmarks. The family of a row is its ``data_source``, its id counts the rows.

    Rows whose demonstration does not begin with the opening are left out and counted, unless they are the most.

    Raises:
        UserError: the data set is not pinned or cannot be had, a row is broken, or no row is left.
    """
    questions = mirror.read_benchmarks(MirrorProblems(mirror=spec.mirror, benchmarks=spec.benchmarks))
    train, others = [], []
    for number, row in enumerate(_rows(spec)):
        try:
            problem = read_row(row, spec.opening, f"{spec.dataset}, row {number}", f"{spec.split}-{number}")
        except BeginsOtherwise as error:
            others.append(error)
            continue
        if spec.max_prompt_chars is None or len(problem.prompt) <= spec.max_prompt_chars:
            train.append(problem)
        if len(train) == spec.train and spec.drop_overlap is None:
            break
    if len(others) > len(train):
        raise others[0]
    if others:
        print(f"{len(others)} rows of {spec.dataset} are left out; the first: {others[0]}")
    train = mirror.apart(train, questions, spec.drop_overlap)[: spec.train]
    if len(train) < (spec.train or 1):
        raise UserError(
            f"problems: {spec.dataset} has {len(train)} rows with a prompt of at most {spec.max_prompt_chars} "
            f"characters, {spec.train or 1} wanted; lower problems.train or raise max_prompt_chars"
        )
    return ProblemSets(train, *mirror.kept(questions, spec.limit))


def _rows(spec: HubProblems) -> Iterable[Mapping[str, Any]]:
    local = Path(spec.dataset).expanduser()
    if local.is_file() and local.suffix != ".parquet":
        lines = enumerate(mirror.read_text(local).split("\n"), start=1)
        return [read_object(line, f"{local}, line {number}") for number, line in lines if line.strip()]
    try:
        import datasets
    except ImportError:
        raise UserError(
            "problems.kind hub: the package datasets is not installed; run: pip install -c constraints.txt -e '.[hub]'"
        ) from None
    if not local.is_file():
        require_pin(spec.dataset, spec.revision, "problems")
    try:
        if local.is_file():
            return datasets.load_dataset("parquet", data_files=str(local), split="train")
        return datasets.load_dataset(spec.dataset, revision=spec.revision, split=spec.split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().split("\n")[0]
        what = "read as parquet" if local.is_file() else "had from the hub"
        raise UserError(
            f"problems: {spec.dataset} cannot be {what} ({reason}); give a whole local copy as problems.dataset"
        ) from error


def read_row(row: Mapping[str, Any], opening: str, where: str, name: str) -> Problem:
    """Turn a row into a problem; of the prompt's messages only the user's is kept, for the experiment has a system
    prompt of its own. Raises :class:`UserError` that begins with ``where``: :class:`BeginsOtherwise` where the
    demonstration does not begin with ``opening``."""
    try:
        (question,) = [message["content"] for message in row["prompt"] if message["role"] == "user"]
        target = row.get("target")
        solution = target[0]["content"] if isinstance(target, list) and target else target or None
        problem = Problem(
            id=name,
            family=row.get("data_source") or "train",
            prompt=question,
            answer=row["reward_model"]["ground_truth"],
            solution=solution.removeprefix(opening) if solution else None,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{where}: needs prompt (messages, one of the user), reward_model.ground_truth and target "
            f"({type(error).__name__}: {error}); choose another data set"
        ) from None
    for key in ("prompt", "answer"):
        if not isinstance(value := getattr(problem, key), str) or not value.strip():
            raise UserError(f"{where}: {key} is empty or no text; choose another data set")
    if solution and not solution.startswith(opening):
        raise BeginsOtherwise(
            f"{where}: the demonstration begins with {solution[:20]!r}, the prompt ends with {opening!r}; correct "
            "opening (and problems.opening) to what the data set's demonstrations begin with"
        )
    return problem
