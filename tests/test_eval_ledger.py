"""The ledger: records alone give the same bytes as the files, and what was changed, doubled or mixed is named."""

import json
import lzma
import math
import re
import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from typer.testing import CliRunner

from dagrpo import provenance
from dagrpo.errors import UserError
from dagrpo.trainer.job import train
from eval import design, figures
from eval.cli import app
from eval.files import read_json, read_lines
from eval.ledger import book, checks
from eval.ledger.record import MOST, Record, read_record
from eval.ledger.replay import compare, other_code, replay
from tests.eval_tree import ARMS, BASE, make_tree, write_json
from tests.miniature import guessing_base, spec
from tests.test_eval_conflict import measured_line, write_measured

NINE = {"aime2024": -1.0, "arc_challenge": 1.0}
PROMISED = (
    "report.html",
    "timing/school.csv",
    "tables/claims.csv",
    "tables/contamination.csv",
    "tables/school/conflict.csv",
    "tables/school/benchmarks/majority.csv",
    "tables/school/probe.csv",
    "figures/school/probe_prompts.svg",
)
PUBLISHED = str(Path(__file__).parent.parent / "results" / "published.csv")


def run(*words: str | Path) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def probe_line(number: int) -> dict[str, Any]:
    """A probed group of two right and two wrong rows."""
    draws = np.random.default_rng(number)
    gradients = draws.normal(size=(4, 9))
    return {
        "problem": f"p{number}",
        "family": "sums",
        "verdicts": ["correct", "correct", "wrong", "wrong"],
        "scores": {"steps": [9.0, 8.0, 3.0, 2.0]},
        "gram": (gradients @ gradients.T).tolist(),
        "masks": {"steps": measured_line(0, number, draws, 0.5)},
    }


def make_small(results: Path, **changes: Any) -> Path:
    """An experiment with everything that a table, a figure or the page shows: benchmarks, gradients, contamination."""
    arms = {name: ARMS[name] for name in ("grpo", "dagrpo")}
    families = {"sums": 0.0, "sorting": 0.4}
    make_tree(results, arms=arms, families=families, problems=6, samples=2, bootstrap=100, **changes)
    other = results.with_name("benchmarks")
    make_tree(other, arms=arms, families=NINE, problems=4, samples=2, limited={"aime2024": [4, 30]}, **changes)
    (other / "samples").rename(results / "benchmarks")
    for path in (results / "benchmarks").rglob("seed*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        told = [row | {"majority": 0.5, "judges": {"a": i % 3 == 0, "b": True}} for i, row in enumerate(rows)]
        path.write_text("".join(json.dumps(row) + "\n" for row in told))
    shutil.rmtree(other)
    settings = json.loads((results / "specs" / "report.json").read_text())
    write_json(results / "specs" / "report.json", settings | {"benchmarks": {"tasks": list(NINE), "limit": 4}})
    write_measured(results / "conflict", {"dagrpo": 1.0}, groups=8, base=BASE)
    (results / "contamination").mkdir()
    (results / "contamination" / "summary.csv").write_text(
        "benchmark,questions,met_in_training,share,training_rows,met,training,ngram,threshold\n"
        "aime2024,30,3,0.1,4,4,1000,13,0.5\n"
    )
    told = [{"groups": 1, "rows": {"correct": 2}}, *map(probe_line, range(4))]
    (results / "judge").mkdir()
    (results / "judge" / f"{BASE}.txt").write_text("warning: dagrpo masks nothing; raise delta\n")
    (results / "probe").mkdir()
    (results / "probe" / f"{BASE}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    log = results / "logs" / "train" / f"{BASE}.dagrpo.seed1.log"
    log.parent.mkdir(parents=True)
    log.write_text("step 1\ntook 12.0 s, 11.5 s of a core, 300 MiB at the peak\n")
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_small(tmp_path_factory.mktemp("results") / "toy")


@pytest.fixture(scope="module")
def kept(results: Path) -> Path:
    """Its ledger, as it was first made."""
    run("ledger", "add", results)
    return results.parent / "ledger" / "toy"


@pytest.fixture
def ledger(kept: Path, tmp_path: Path) -> Path:
    """A copy of the ledger."""
    return Path(shutil.copytree(kept, tmp_path / "toy"))


def a_record(ledger: Path, arm: str = "dagrpo", seed: int = 1) -> Path:
    (path,) = ledger.glob(f"{BASE}/{arm}/seed{seed}-*.json.xz")
    return path


def rewrite(path: Path, change: Callable[[dict[str, Any]], None], sealed: bool = True) -> None:
    """Change what a record says; with a new seal and the name that goes with it, or with the old ones."""
    head, text = lzma.decompress(path.read_bytes()).decode().splitlines()
    body = json.loads(text)
    change(body)
    text = json.dumps(body, separators=(",", ":"))
    digest = sha256(text.encode()).hexdigest()
    head = json.dumps({"sha256": digest}) if sealed else head
    path.unlink()
    place = path.with_name(f"seed{body['seed']}-{digest[:12]}.json.xz") if sealed else path
    place.write_bytes(lzma.compress(f"{head}\n{text}\n".encode()))


def test_the_ledger_alone_gives_the_same_bytes_as_the_files(
    results: Path, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in set(figures.FIGURES) - {"curves"}:  # these are drawn from tables alone
        monkeypatch.setitem(figures.FIGURES, name, lambda source: Figure(figsize=(1, 1)))
    for verb in ("tables", "figures", "report"):
        words = ["--published", PUBLISHED] if verb != "figures" else []
        run(verb, "--results", results, *words)
        run(verb, "--results", tmp_path / "toy", "--ledger", kept, *words)
    made = {path.relative_to(tmp_path / "toy") for path in (tmp_path / "toy").rglob("*") if path.is_file()}
    assert {Path(name) for name in PROMISED} <= made
    for path in made:
        assert (tmp_path / "toy" / path).read_bytes() == (results / path).read_bytes(), path
    shown = {
        path.relative_to(results) for name in ("tables", "figures", "timing") for path in (results / name).rglob("*.*")
    }
    assert shown < made


def test_a_record_knows_what_its_jobs_took(kept: Path) -> None:
    assert read_record(a_record(kept)).seconds == {"train": 11.5}


def test_what_counts_as_code_that_affects_training_is_there() -> None:
    root = Path(provenance.__file__).parent
    assert all((root / name).exists() for name in provenance.APART)
    assert provenance.training_hash() != provenance.code_hash()


def test_a_record_is_small_and_holds_no_text(kept: Path) -> None:
    for path in book.record_files(kept):
        assert path.stat().st_size <= MOST
        assert b"1+1=2" not in lzma.decompress(path.read_bytes())  # the text of each sample


def test_what_is_there_is_not_added_again_and_what_is_missing_is_named(results: Path, ledger: Path) -> None:
    a_record(ledger).unlink()
    assert "dagrpo  seeds 0; missing 1" in run("ledger", "list", ledger)
    files = run("ledger", "list", ledger, "--missing").split()
    assert files == [
        f"results/toy/{file}"
        for file in (
            "runs/school/dagrpo/seed1/run.json",
            "samples/school/dagrpo/seed1.jsonl",
            "benchmarks/school/dagrpo/seed1.jsonl",
        )
    ]
    assert "1 records added" in run("ledger", "add", results, "--to", ledger)
    assert "0 records added" in run("ledger", "add", results, "--to", ledger)
    assert run("ledger", "list", ledger, "--missing").strip() == ""
    assert "from 1 kind of machine, 1 set of packages and 1 version of the code" in run("ledger", "verify", ledger)


def test_one_digit_changed_by_hand_is_found(ledger: Path) -> None:
    def one_more(body: dict[str, Any]) -> None:
        body["evaluations"]["samples"]["problems"]["correct"][0] += 1

    rewrite(a_record(ledger), one_more, sealed=False)
    with pytest.raises(UserError, match="changed after it was made"):
        run("ledger", "verify", ledger)
    with pytest.raises(UserError, match="changed after it was made"):
        run("tables", "--results", ledger.parent / "out", "--ledger", ledger)


@pytest.mark.parametrize("sound", [True, False])
def test_a_record_that_was_cut_off_is_found(ledger: Path, sound: bool) -> None:
    path = a_record(ledger)
    path.write_bytes(path.read_bytes()[: -1 if sound else 40])
    with pytest.raises(UserError, match=rf"{path.name}: (cut off|damaged)"):
        read_record(path)


def more_samples(body: dict[str, Any]) -> None:
    body["metrics"][0]["samples"] += 1


def better(body: dict[str, Any]) -> None:
    body["metrics"][3]["loss"] = 0.5


def changed_code(body: dict[str, Any]) -> None:
    body["card"]["hashes"]["code"] = "another"


def other_data(body: dict[str, Any]) -> None:
    body["card"]["hashes"]["problems"] = "others"


def other_method(body: dict[str, Any]) -> None:
    body["card"]["hashes"]["method"] = "another"


def other_questions(body: dict[str, Any]) -> None:
    body["evaluations"]["samples"]["problems"]["question"][0] = "00000000"


def other_weights(body: dict[str, Any]) -> None:
    body["evaluations"]["samples"]["meta"]["model_fingerprint"] = "another"


def numbered(body: dict[str, Any]) -> None:
    body["evaluations"]["samples"]["problems"]["family"][0] = 3


def no_level(body: dict[str, Any]) -> None:
    body["evaluations"]["samples"]["problems"]["level"][0] = "high"


def half(body: dict[str, Any]) -> None:
    body["evaluations"]["samples"]["problems"]["problem_id"][0] = "\ud83d"


def no_hardware(body: dict[str, Any]) -> None:
    del body["card"]["hardware"]


def no_limits(body: dict[str, Any]) -> None:
    body["evaluations"]["samples"]["meta"]["limited"] = []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        *(
            (change, "damaged: it does not have the form")
            for change in (numbered, no_level, half, no_hardware, no_limits)
        ),
        (more_samples, "dagrpo from school, seed 1: its steps do not add up"),
        (other_weights, "dagrpo from school, seed 1: samples: sampled from other weights"),
        (
            changed_code,
            "different code that affects training: 3 runs agree, apart from them dagrpo from school, seed 1",
        ),
        (other_data, "different training problems: 3 runs agree"),
        (other_method, "different method files of dagrpo: 1 run agree"),
        (other_questions, "different questions in samples: 4 runs agree"),
    ],
)
def test_a_sealed_record_that_does_not_fit_is_named(
    ledger: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    rewrite(a_record(ledger), change)
    with pytest.raises(UserError, match=message):
        run("ledger", "verify", ledger)


def test_versions_of_the_code_that_train_alike_are_counted_and_no_fault(ledger: Path) -> None:
    def newer(body: dict[str, Any]) -> None:
        body["card"]["code_hash"] = "another"

    rewrite(a_record(ledger), newer)
    assert "and 2 versions of the code, which train in 1 way." in run("ledger", "verify", ledger)


def test_a_run_that_two_records_tell_differently_is_named(ledger: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(ledger, tmp_path / "other"))
    rewrite(a_record(other), better)
    with pytest.raises(UserError, match=r"nothing is merged:\ndagrpo from school, seed 1: .* disagree from step 3 of"):
        run("ledger", "merge", other, ledger)
    shutil.copytree(other, ledger, dirs_exist_ok=True)  # copied by hand
    with pytest.raises(UserError, match="disagree from step 3 of training on; keep one of them"):
        run("ledger", "verify", ledger)


def test_a_run_that_was_made_twice_alike_counts_once(ledger: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(ledger, tmp_path / "other"))

    def elsewhere(body: dict[str, Any]) -> None:
        body["card"]["hardware"]["processor"] = "a faster one"
        body["timings"][0]["update"] = 0.01

    rewrite(a_record(other), elsewhere)
    assert "0 records came, 5 runs were known" in run("ledger", "merge", other, ledger)
    shutil.copytree(other, ledger, dirs_exist_ok=True)
    said = run("ledger", "verify", ledger)
    assert "dagrpo from school, seed 1: 2 records say the same" in said and "2 kinds of machine" in said
    assert len(book.open_ledger(ledger, tmp_path)[BASE].source.lines("metrics", "dagrpo", 1)) == 30


def test_another_machines_seeds_come_by_merging(kept: Path, tmp_path: Path) -> None:
    """The other machine has one more seed and one more arm."""
    other = make_small(tmp_path / "there" / "toy", seeds=(0, 1, 2))
    ledger = Path(shutil.copytree(kept, tmp_path / "ledger"))
    run("ledger", "add", other)
    assert "2 records came, 5 runs were known" in run("ledger", "merge", other.parent / "ledger" / "toy", ledger)
    assert book.open_ledger(ledger, tmp_path)[BASE].experiment.seeds == (0, 1, 2)
    assert "7 records" in run("ledger", "verify", ledger)


def test_a_study_that_lacks_runs_tells_of_its_whole_bases_and_says_so(tmp_path: Path) -> None:
    """Six bases in three rounds of two corpora; a run that is missing on one corpus takes its base out of both."""
    arms = {name: ARMS[name] for name in ("grpo", "dagrpo", "sft")}
    tree: dict[str, Any] = {"arms": arms, "corpora": {"a": 1.0, "b": 0.5}, "families": {"sums": 0.0, "sorting": 0.4}}
    results = make_tree(
        tmp_path / "toy",
        seeds=tuple(range(7)),
        base_seeds=(0, 1, 2),
        fewer={"sft": (0, 1, 2)},
        problems=2,
        samples=2,
        bootstrap=100,
        **tree,
    )
    (results / "samples" / "b" / "dagrpo" / "seed4.jsonl").unlink()
    assert "1 runs are not finished" in run("ledger", "add", results)
    out, ledger = tmp_path / "out", tmp_path / "ledger" / "toy"
    corpora = book.open_ledger(ledger, out)
    for runs in corpora.values():
        assert runs.seeds == {"base": (0, 2), "grpo": (0, 2, 3, 5, 6), "dagrpo": (0, 2, 3, 5, 6), "sft": (0, 2)}
        assert [runs.experiment.base_seed(seed) for seed in runs.seeds["grpo"]] == [0, 2, 0, 2, 0]
    run("tables", "--results", out, "--ledger", ledger)
    said = "Interim: of the 3 base seeds that the study asks for, all runs are there of 2 (0, 2)."
    assert said in (out / "tables" / "claims.md").read_text() and said in corpora["a"].interim


def test_the_commit_that_fixed_a_study_stays_with_its_ledger(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b.c", *words], cwd=tmp_path, check=True)

    monkeypatch.chdir(tmp_path)
    file, ledger = tmp_path / "config" / "toy.yaml", tmp_path / "toy"
    file.parent.mkdir()
    file.write_text("name: toy\n")
    assert design.of_file("toy") == ""  # no repository
    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "fixed")
    fixed = design.of_file("toy")
    assert re.fullmatch(r"The experiment, config/toy\.yaml, was last changed in commit [0-9a-f]{40}, 20\S+\.", fixed)
    run("ledger", "add", results, "--to", ledger)
    file.write_text("name: toy\nseeds: [0, 1, 2]\n")
    assert design.of_file("toy") == ""  # not what is committed
    git("commit", "-q", "-a", "-m", "one more seed")
    assert design.of_file("toy") not in ("", fixed)
    run("ledger", "add", results, "--to", ledger)
    assert book.open_ledger(ledger, tmp_path)[BASE].design == fixed


def test_what_is_another_study_is_not_merged() -> None:
    one = {"name": "toy", "seeds": [0, 1], "arms": {"grpo": {"method": "grpo", "seeds": None}}, "train": {"steps": 3}}
    arm = {"method": "dagrpo", "seeds": [0]}
    joined = book.unite(one, {**one, "seeds": [0, 1, 2], "arms": {"dagrpo": arm}})
    assert joined["seeds"] == [0, 1, 2] and list(joined["arms"]) == ["grpo", "dagrpo"]
    assert book.unite({**one, "arms": {"a": arm}}, {**one, "arms": {"a": {**arm, "seeds": [1]}}})["arms"]["a"][
        "seeds"
    ] == [0, 1]
    for change, message in (
        ({"train": {"steps": 4}}, "differ in train"),
        ({"seeds": [1, 0]}, "differ in seeds"),
        ({"arms": {"grpo": arm}}, r"differ in arms\.grpo"),
    ):
        with pytest.raises(UserError, match=message):
            book.unite(one, {**one, **change})


def test_a_run_made_again_with_other_results_is_not_added(results: Path, ledger: Path) -> None:
    rewrite(a_record(ledger), better)
    with pytest.raises(UserError, match=r"not added:\ndagrpo from school, seed 1: .* disagree from step 3"):
        run("ledger", "add", results, "--to", ledger)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Record, Path]:
    """The record of a true run of four steps, and the folder that its base and problems stand in."""
    folder = tmp_path_factory.mktemp("trained")
    made, rows = guessing_base(folder / "made")
    base, problems = folder / "bases" / "mini" / "seed0", folder / "problems" / "train.jsonl"
    shutil.copytree(made, base)
    problems.parent.mkdir()
    shutil.copyfile(rows, problems)
    train(spec("grpo"), 3, base, problems, folder / "run", folder / "state")
    card, metrics = read_json(folder / "run" / "run.json"), list(read_lines(folder / "run" / "metrics.jsonl"))
    about: dict[str, Any] = {
        "timings": [],
        "evaluations": {},
        "conflict": None,
        "probe": None,
        "judge": None,
        "seconds": {},
    }
    return Record(study="toy", base="mini", arm="grpo", seed=3, card=card, metrics=metrics, **about), folder


def test_a_replay_is_equal_to_the_bit_here(trained: tuple[Record, Path]) -> None:
    record, folder = trained
    for steps in (3, 4):  # four are all there are
        found = replay(record, folder, steps)
        assert (found.steps, found.alike, found.worst, found.differing) == (steps, True, 0.0, ())
    assert other_code(record) is None


def test_one_digit_that_no_machine_made_is_found_by_replaying(trained: tuple[Record, Path]) -> None:
    record, folder = trained
    assert record.metrics[1]["grad_norm"] > 0
    forged = record.model_copy(deep=True)
    forged.metrics[1]["grad_norm"] = math.nextafter(forged.metrics[1]["grad_norm"], math.inf)
    (step, key, _, _), *others = replay(forged, folder, 3).differing
    assert (step, key, others) == (1, "grad_norm", [])


def test_a_replay_needs_the_records_problems_and_base(trained: tuple[Record, Path], tmp_path: Path) -> None:
    record, folder = trained
    with pytest.raises(UserError, match="not the training problems of grpo from mini, seed 3"):
        replay(record, tmp_path, 3)
    moved = record.model_copy(update={"base": "other"})
    with pytest.raises(UserError, match="no base here has the weights that grpo from other, seed 3 started from"):
        replay(moved, folder, 3)


def test_another_kind_of_machine_may_round_otherwise() -> None:
    told = [{"loss": 0.5, "logp_gap": 4.9e-7, "phase": "rl"}]
    near, far = [{**told[0], "loss": 0.50001, "logp_gap": 5.1e-7}], [{**told[0], "loss": 0.51}]
    assert not compare(told, near, alike=False).differing
    assert [key for _, key, _, _ in compare(told, near, alike=True).differing] == ["loss", "logp_gap"]
    assert [key for _, key, _, _ in compare(told, far, alike=False).differing] == ["loss"]
    assert compare(told, [{**told[0], "phase": "sft"}], alike=False).differing


def test_a_rehearsal_has_no_ledger(tmp_path: Path) -> None:
    settings = json.loads((make_tree(tmp_path / "toy", problems=2) / "specs" / "report.json").read_text())
    write_json(tmp_path / "toy" / "specs" / "report.json", settings | {"rehearsal": ["steps"]})
    with pytest.raises(UserError, match="a rehearsal is no evidence"):
        run("ledger", "add", tmp_path / "toy")


def test_an_older_run_card_is_refused(ledger: Path) -> None:
    record = read_record(a_record(ledger))
    card = {key: value for key, value in (record.card or {}).items() if key != "hashes"}
    (found,) = checks.faults([record.model_copy(update={"card": card})])
    assert found == "dagrpo from school, seed 1: its run card has no 'hashes'; train it again with this version"
