"""The benchmarks: where their rows come from, and a lock that says which rows they are.

A set has two forms. *Mirror*: a file in ``benchmarks/`` of a local folder (one JSON object a line; ``.gz`` or not).
*Hub*: a file of a pinned revision. ``tasks/lock.json`` holds the rows and sha256 of both (in the mirror of the text,
whether compressed or not; at the hub of the file), and whoever reads a set compares. A mirror that :func:`fetch` wrote
has a ``fetched.json``, which says from what file of the hub each set was made, and its rows and sha256: these hold for
it while the lock names that very file. A rehearsal's rows say there that they are its own.
"""

import csv
import gzip
import io
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from string import ascii_uppercase
from typing import Any, Literal
from urllib.error import URLError
from urllib.request import urlopen

from dagrpo import seeds
from dagrpo.config import ContaminationSpec, MiniProblems, MirrorProblems
from dagrpo.errors import UserError
from dagrpo.files.text_files import read_json, read_object, text_of
from dagrpo.problems import mirror as mirrors
from dagrpo.records import Problem
from dagrpo.verify.extract import last_box
from eval.benchmark_tasks.names import DOMAINS, Domain, known

TASKS = Path(__file__).parents[1] / "tasks"
"""The lm-eval tasks, one YAML file a benchmark."""

LOCK = TASKS / "lock.json"

FETCHED = "fetched.json"

OWN = {"own": "a few rows for a rehearsal"}
"""In ``fetched.json``, under ``from``: the rows are no benchmark."""

Form = Literal["mirror", "hub"]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark; its name is that of the mirror's file and of the family of its problems.

    ``samples`` is k of avg@k in the papers. ``convert`` turns a row of the hub into one of the mirror. ``no_figure``
    names problems that speak of a figure which no copy of the set has.
    """

    name: str
    title: str
    samples: int
    convert: Callable[[Row], Row]
    no_figure: tuple[str, ...] = ()

    @property
    def domain(self) -> Domain:
        return DOMAINS[self.name]

    @property
    def task(self) -> str:
        """Name of the lm-eval task."""
        return f"dagrpo_{self.name}"


@dataclass(frozen=True, slots=True)
class Loaded:
    """Problems of one benchmark, and where they are from: form, place, rows and sha256."""

    problems: list[Problem]
    source: dict[str, Any]


def _aime2024(row: Row) -> Row:
    return {"id": f"aime2024-{row['id']}", "problem": row["problem"], "answer": str(row["answer"])}


def _aime2025(row: Row) -> Row:
    return {"id": f"aime2025-{row['id']}", "problem": row["problem"], "answer": str(row["answer"])}


def _amc(row: Row) -> Row:
    return {"id": f"amc-{row['id']}", "problem": row["problem"], "answer": str(row["answer"])}


def _math500(row: Row) -> Row:
    return {"id": row["unique_id"], "problem": row["problem"], "answer": row["answer"], "level": row["level"]}


def _minerva(row: Row) -> Row:
    return {"id": f"minerva-{row['idx']:03}", "problem": row["problem"], "answer": last_box(row["solution"])}


def _olympiad(row: Row) -> Row:
    question = "\n".join(filter(None, (row["context"], row["question"])))
    return {"id": f"olympiadbench-{row['id']}", "problem": question, "answer": row["final_answer"][0]}


def _arc(row: Row) -> Row:
    letter = ascii_uppercase[list(row["choices"]["label"]).index(row["answerKey"])]
    choices = [text.strip() for text in row["choices"]["text"]]
    return {"id": row["id"], "problem": row["question"].strip(), "answer": letter, "choices": choices}


def _gpqa(row: Row) -> Row:
    """The right option comes first in the source, so options are shuffled, by a seed of the question."""
    names = ["Correct Answer", *(f"Incorrect Answer {number}" for number in (1, 2, 3))]
    question, options = row["Question"].strip(), [row[name].strip() for name in names]
    order = seeds.permutation(len(options), "choices", question).tolist()
    choices = [options[place] for place in order]
    return {"id": row["Record ID"], "problem": question, "answer": ascii_uppercase[order.index(0)], "choices": choices}


def _mmlu_pro(row: Row) -> Row:
    choices = list(row["options"])
    return {
        "id": f"mmlu-pro-{row['question_id']}", "problem": row["question"], "answer": row["answer"], "choices": choices
    }  # fmt: skip


def _gsm8k(row: Row) -> Row:
    name = f"gsm8k-{sha256(row['question'].encode()).hexdigest()[:12]}"
    return {"id": name, "problem": row["question"], "answer": row["answer"].rpartition("####")[2].strip()}


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("aime2024", "AIME 2024", 32, _aime2024),
        Benchmark("aime2025", "AIME 2025", 32, _aime2025, no_figure=("ii-3", "ii-5", "ii-6")),
        Benchmark("amc_val83", "AMC", 32, _amc),
        Benchmark("math500", "MATH-500", 1, _math500),
        Benchmark("minerva_math", "Minerva", 1, _minerva),
        Benchmark("olympiadbench", "OlympiadBench", 1, _olympiad),
        Benchmark("arc_challenge", "ARC-Challenge", 1, _arc),
        Benchmark("gpqa_diamond", "GPQA-diamond", 1, _gpqa),
        Benchmark("mmlu_pro", "MMLU-Pro", 1, _mmlu_pro),
        Benchmark("gsm8k_test", "GSM8K", 1, _gsm8k),
    )
}  # fmt: skip


def load(name: str, form: Form | None = None, mirror: Path | None = None) -> Loaded:
    """Read a benchmark and hold it against the lock.

    Args:
        form: mirror where left out and ``mirror`` or DAGRPO_MIRROR is set, else hub.
        mirror: the folder that holds ``benchmarks/``; DAGRPO_MIRROR where left out.

    Raises:
        UserError: an unknown name, a file that cannot be read, or rows that are not those of the lock.
    """
    benchmark = find(name)
    form, folder = _where(form, mirror)
    lock = _expected(read_lock()[name], form, folder, name)
    place, data = _mirror_file(folder, name) if folder is not None else _hub_file(lock)
    digest = sha256(data).hexdigest()
    rows = _rows(data, place)
    _compare(place, lock, len(rows), digest)
    if form == "hub":
        rows = [benchmark.convert(row) for row in rows]
    problems = [
        mirrors.read_row(json.dumps(row), name, f"{place}, row {number}") for number, row in enumerate(rows, start=1)
    ]
    return Loaded(problems, {"form": form, "place": place, "rows": len(rows), "sha256": digest})


def find(name: str) -> Benchmark:
    """Find a benchmark by its name. Raises ``UserError``."""
    return BENCHMARKS[known(name)]


def evaluated(spec: ContaminationSpec) -> list[Problem]:
    """All questions of the benchmarks that an experiment evaluates on, whatever its limits. Raises ``UserError``."""
    problems, questions = spec.problems, {}
    if not isinstance(problems, MiniProblems):
        # What training reads does not matter here.
        questions = mirrors.read_benchmarks(MirrorProblems(mirror=problems.mirror, benchmarks=problems.benchmarks))
    questions |= {name: load(name, mirror=spec.mirror).problems for name in spec.benchmarks}
    return [question for family in questions.values() for question in family]


def read_lock() -> dict[str, dict[str, dict[str, Any]]]:
    """What the sets must be: benchmark -> form -> rows, sha256 (null where it is not known yet) and place."""
    lock: dict[str, dict[str, dict[str, Any]]] = json.loads(LOCK.read_text())
    return lock


def check(
    names: Sequence[str], form: Form | None = None, mirror: Path | None = None, write: bool = False
) -> list[dict[str, Any]]:
    """Compare sets with the lock, one row a set; ``write`` puts what is found into the lock instead.

    Raises:
        UserError: like :func:`load`, but for a set that differs, of which the row says so.
    """
    form, folder = _where(form, mirror)
    lock = read_lock()
    found = []
    for name in names:
        entry = lock[find(name).name][form]
        expected = _expected(lock[name], form, folder, name)
        place, data = _mirror_file(folder, name) if folder is not None else _hub_file(entry)
        now = {"rows": len(_rows(data, place)), "sha256": sha256(data).hexdigest()}
        same = now == {key: expected[key] for key in now}
        found.append({"benchmark": name, "form": form, **now, "as_locked": same, "place": place})
        entry.update(now)
    if write:
        from dagrpo.files.checkpoints import write_atomically  # imports torch

        write_atomically(LOCK, (json.dumps(lock, indent=1) + "\n").encode())
    return found


def fetch(name: str, folder: Path) -> Row:
    """Write a benchmark of the hub into ``folder`` as a mirror has it, unless it is there already.

    Returns:
        what ``fetched.json`` says of it: ``from`` (what the lock names), ``rows`` and ``sha256``.

    Raises:
        UserError: it cannot be had, is not the locked one, or a row of it is broken.
    """
    from dagrpo.files.checkpoints import write_atomically  # imports torch

    benchmark, lock = find(name), read_lock()[name]
    path, source = folder / "benchmarks" / f"{name}.jsonl", _source(lock["hub"])
    known = _fetched(folder)
    there = path.is_file() and {"from": source, "sha256": sha256(path.read_bytes()).hexdigest()}
    if name in known and there == {key: known[name][key] for key in ("from", "sha256")}:
        return known[name]
    place, data = _hub_file(lock["hub"])
    rows = _rows(data, place)
    _compare(place, lock["hub"], len(rows), sha256(data).hexdigest())
    lines = [json.dumps(benchmark.convert(row), ensure_ascii=False) for row in rows]
    for number, line in enumerate(lines, start=1):
        mirrors.read_row(line, name, f"{place}, row {number}")
    text = "".join(line + "\n" for line in lines).encode()
    record: Row = {"from": source, "rows": len(rows), "sha256": sha256(text).hexdigest()}
    write_atomically(path, text)
    write_atomically(folder / FETCHED, (json.dumps({**known, name: record}, indent=1) + "\n").encode())
    return record


def _expected(lock: dict[str, Row], form: Form, folder: Path | None, name: str) -> Row:
    """What a set must be: as the lock has it, or as it was made from what the lock names."""
    record = _fetched(folder).get(name, {}) if folder is not None else {}
    return record if record.get("from") in (_source(lock["hub"]), OWN) else lock[form]


def _source(hub: Row) -> Row:
    return {key: hub[key] for key in ("repo", "revision", "file", "url") if key in hub}


def _fetched(folder: Path) -> dict[str, Row]:
    path, remedy = folder / FETCHED, "delete the folder and fetch it again"
    found = read_json(path, remedy) if path.exists() else {}
    if wrong := [name for name, record in found.items() if not isinstance(record, dict)]:
        raise UserError(f"{path}: {wrong[0]!r} is no JSON object; {remedy}")
    return found


def _where(form: Form | None, mirror: Path | None) -> tuple[Form, Path | None]:
    named = mirror or os.environ.get(mirrors.ENVIRONMENT)
    if form == "hub" or (form is None and not named):
        return "hub", None
    if not named:
        raise UserError(f"benchmarks: no mirror is given; set {mirrors.ENVIRONMENT} to a folder that holds benchmarks/")
    if not (folder := Path(named).expanduser()).is_dir():
        raise UserError(f"benchmarks: the mirror {folder} is not a folder; correct {mirrors.ENVIRONMENT}")
    return "mirror", folder


def _mirror_file(folder: Path, name: str) -> tuple[str, bytes]:
    path = mirrors.find_file(folder / "benchmarks", name)
    return str(path), mirrors.read_text(path).encode()


def _hub_file(lock: Row) -> tuple[str, bytes]:
    """Fetch the file that the lock names: from the Hugging Face hub, or from the address of a pinned commit."""
    hint = f"check the network, or set {mirrors.ENVIRONMENT} to a folder that holds benchmarks/"
    try:
        if "url" in lock:
            with urlopen(lock["url"], timeout=60) as answer:
                return lock["url"], answer.read()
        from huggingface_hub import constants, hf_hub_download
        from huggingface_hub.errors import GatedRepoError

        place = f"{lock['repo']}@{lock['revision'][:12]}/{lock['file']}"
        try:
            path = hf_hub_download(lock["repo"], lock["file"], repo_type="dataset", revision=lock["revision"])
        except GatedRepoError:
            raise UserError(
                f"benchmarks: {lock['repo']} is gated: accept its conditions at {constants.ENDPOINT}/datasets/"
                f"{lock['repo']}, log in with `hf auth login` (or set HF_TOKEN), then run this again"
            ) from None
        return place, Path(path).read_bytes()
    except (OSError, URLError, ValueError) as error:  # the hub's own errors are OSError or ValueError
        where = lock.get("url") or lock["repo"]
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"benchmarks: {where} cannot be fetched ({reason}); {hint}") from None


def _rows(data: bytes, place: str) -> list[Row]:
    try:
        if place.endswith(".parquet"):
            import pyarrow.parquet

            rows: list[Row] = pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
            return rows
        text = text_of(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
        if place.endswith(".csv"):
            return list(csv.DictReader(io.StringIO(text)))
        lines = enumerate(text.split("\n"), start=1)
        return [read_object(line, f"{place}, line {number}") for number, line in lines if line.strip()]
    except (ValueError, OSError, EOFError) as error:
        raise UserError(f"{place}: cannot be read ({error}); get the file again") from None


def _compare(place: str, lock: Row, rows: int, digest: str) -> None:
    if rows == lock["rows"] and lock["sha256"] in (None, digest):
        return
    raise UserError(
        f"{place}: {rows} rows, sha256 {digest[:12]}, but the lock says {lock['rows']} rows, sha256 "
        f"{str(lock['sha256'])[:12]}: another version of the set; get the locked one, or, if this one is wanted, write "
        "it into the lock with `dagrpo check-benchmarks --write` and say so beside your numbers"
    )
