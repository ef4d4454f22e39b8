"""The page: complete in itself, and its words follow from its numbers."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from markupsafe import Markup
from typer.testing import CliRunner

from eval.answers import answers, headline, verdict
from eval.cli import app
from eval.figures import FIGURES
from eval.records import labels, open_runs
from eval.render import REHEARSAL, Cell, Display, interval, signed
from eval.report import write_report
from eval.tables import read_tables, write_tables
from tests.eval_tree import ARMS, CORPORA, SMALL_STUDY, make_study, make_tree, runs_of


def page_of(results: Path) -> str:
    for verb in ("tables", "figures", "report"):
        outcome = CliRunner().invoke(app, [verb, "--results", str(results)])
        assert outcome.exit_code == 0, (verb, outcome.output, outcome.exception)
    return (results / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return page_of(make_tree(tmp_path_factory.mktemp("report") / "toy"))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables, figures and page of two base corpora, with two arms of fewer seeds."""
    results = make_study(tmp_path_factory.mktemp("report"), problems=4, samples=1, arms=SMALL_STUDY, bootstrap=100)
    page_of(results)
    return results


class Reader(HTMLParser):
    """Collects what a page refers to, and whether its tags are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in ("meta", "img", "br", "link", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def complete(page: str) -> list[str]:
    """Check that tags close, and that all that a page refers to is in it; the pictures."""
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    inside = {f"#{name}" for name in reader.ids}
    pictures = [reference for reference in reader.references if reference.startswith("data:image/svg+xml;base64,")]
    assert all(reference in inside for reference in reader.references if reference not in pictures)
    return pictures


def test_the_page_needs_nothing_but_itself(page: str) -> None:
    assert len(complete(page)) == len(FIGURES) + 1 + len(ARMS), "those of the corpus, of the claims and of each arm"
    assert not re.search(r"<script|@import|url\(", page)


def test_the_page_holds_all_that_a_reader_is_promised(page: str) -> None:
    for words in (
        "Does DaGRPO answer more problems than GRPO",
        "How to read the intervals",
        "The base on the training mixture",
        "What was consumed",
        "Seconds of a run",
        "Resolved configuration",
        "an invented one",
        "samples/school/dagrpo/seed1.jsonl",
        "The checkpoint that every arm starts from",
        "Options are named where they differ",
    ):
        assert words in page, words
    assert "delta = 3.0" not in page, "the margin is the default"
    assert all(label.replace("&", "&amp;") in page for _, label, _ in ARMS.values())
    assert "DaGRPO compares a prompt&#39;s good and bad answers" in page


def test_each_arm_has_a_page(page: str) -> None:
    for arm in ARMS:
        assert f'<a href="#method-{arm}">' in page
        assert f'<div id="method-{arm}">' in page
    own = page[page.index('<div id="method-dagrpo">') : page.index('<div id="method-random_reward">')]
    places = ["DaGRPO compares a prompt", "Paper: DaGRPO", "<pre>A_i  = R_i - mean(R)", "dagrpo/method.py", "<h4>Slots"]
    places += [
        ">shaped<",
        "as usual",
        "<h4>Options",
        ">drop_rejected_anchor<",
        "In distribution: ",
        ", rank ",
        ">share<",
    ]
    found = [own.index(place) for place in places]
    assert found == sorted(found)
    assert own.count("data:image/svg+xml") == 1


def test_the_answer_comes_first_and_follows_from_the_table(page: str, tmp_path: Path) -> None:
    places = ['<nav class="top"', 'class="headline"', 'class="tally"', "<figure>", 'class="answer"', 'id="claims"']
    found = [page.index(place) for place in [*places, 'id="arms"']]
    assert found == sorted(found)
    assert page.count("DaGRPO and GRPO cannot be told apart here") == 2, "in and out of distribution, each once"
    for name, grpo, dagrpo, words in (
        ("better", 0.0, 4.0, "beats GRPO here: +"),
        ("worse", 4.0, 0.0, "does worse than GRPO here: −"),
    ):
        arms = {"grpo": ("grpo", "GRPO", grpo), "dagrpo": ("dagrpo", "DaGRPO", dagrpo)}
        results = make_tree(tmp_path / name, arms=arms, seeds=(0, 1, 2))
        write_tables(open_runs(results), results / "tables")
        runs = runs_of(results)
        said = answers(read_tables(runs.tables), labels(runs), runs.subject, "grpo")
        assert said[0].startswith(f"DaGRPO {words}")
        assert "better than each other arm by an interval that excludes a tie" in said[2]


def test_one_seed_decides_nothing() -> None:
    row = pd.Series(
        {
            "difference": 0.3,
            "difference_low": 0.2,
            "difference_high": 0.4,
            "told_apart": False,
            "seeds": 1,
            "detectable": 0.1,
        }
    )
    assert verdict(row, "A", "B", "in distribution") == (
        "One training run of each cannot tell A from B: +30.0 points in distribution (95 % interval +20.0 to +40.0) "
        "between these checkpoints, and another seed could reverse it."
    )


def test_two_corpora_are_answered_in_one_sentence() -> None:
    row = {"column": "in_distribution", "arm": "a", "difference": -0.02, "difference_low": -0.03, "told_apart": True}
    frames = {
        base: {"differences": pd.DataFrame([row | {"difference_high": high, "told_apart": high < 0}])}
        for base, high in (("one", -0.01), ("two", 0.99))
    }
    assert headline(frames, {"a": "A", "b": "B"}, "a", "b") == (
        "A: on one it does worse than B (−2.0 points, 95 % interval −3.0 to −1.0); on two it cannot be told from B "
        "(−2.0 points, no interval: so few runs leave open more than all of accuracy)."
    )


def test_no_interval_wider_than_all_of_accuracy_is_printed() -> None:
    assert interval(-0.4, 0.6, signed) == "[−40.0, +60.0]"
    assert interval(-0.4, 0.61, signed) == "not bounded"


def test_runs_of_different_code_and_a_judge_that_hardly_masks_are_pointed_out(page: str, tmp_path: Path) -> None:
    assert "different versions of the code" not in page
    assert "from 1 kind of machine, 1 set of packages and 1 version of the code." in page
    results = make_tree(tmp_path / "toy", problems=3, samples=1)
    card = results / "runs/school/grpo/seed0/run.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"code_hash": "other"}))
    (results / "judge").mkdir()
    (results / "judge" / "school.txt").write_text("9 groups of the base\nwarning: dagrpo masks nothing; raise delta\n")
    changed = page_of(results)
    assert "Runs come from different versions of the code" in changed
    said = "Before training, on groups of the base: dagrpo masks nothing; raise delta."
    assert said in changed and said not in page and "9 groups of the base" not in changed
    assert "1 kind of machine, 1 set of packages and 2 versions of the code." in changed


def test_a_limited_evaluation_is_said_at_the_top_and_a_rehearsal_on_every_table(tmp_path: Path) -> None:
    arms = {"grpo": ("grpo", "GRPO", 0.5), "sft": ("sft", "<SFT>", 0.5)}
    make_tree(tmp_path, seeds=(0,), problems=4, samples=1, arms=arms, limited={"sums": [4, 30]}, levels=False)
    spec = tmp_path / "specs" / "report.json"
    spec.write_text(json.dumps(json.loads(spec.read_text()) | {"rehearsal": ["seeds: [0] in place of [0, 1]"]}))
    page = page_of(tmp_path)
    assert "thought: optional" in page  # what a box in a closed thought counts for
    assert page.index(REHEARSAL) < page.index("seeds: [0] in place of [0, 1]") < page.index("<h2")
    for found in re.finditer(r"<table>|<figcaption>", page):  # of figures; not of methods, machines, hashes
        assert REHEARSAL in page[found.start() - 300 : found.end() + 60]
    for path in (*tmp_path.rglob("tables/**/*.md"), *tmp_path.rglob("tables/**/*.tex")):
        assert REHEARSAL in path.read_text(), path
    assert page.index("Limited evaluation, no benchmark score: sums (first 4 of 30)") < page.index("<h2")
    assert "Each arm has one training seed" in page
    assert "<SFT>" not in page
    assert "&lt;SFT&gt;" in page


def test_a_page_on_one_corpus_does_not_speak_of_corpora(page: str) -> None:
    for words in (
        "Base corpus",
        "Side by side",
        "side-by-side",
        "ewer seeds",
        "<h3",
        'id="conflict"',
    ):
        assert words not in page, words


def test_several_corpora_stand_side_by_side_and_then_each_by_itself(study: Path) -> None:
    page = (study / "report.html").read_text()
    names = {f"{base}/{name}" for base in CORPORA for name in (*FIGURES, "sweeps")}
    names |= {f"{base}/methods/{arm}" for base in CORPORA for arm in SMALL_STUDY}
    names |= {"side_by_side", "side_by_side_sweeps", "claims"}
    folder = study / "figures"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*.*g")}
    assert files == {f"{name}.{form}" for name in names for form in ("svg", "png")}
    assert len(complete(page)) == len(names)
    assert page.count('<section class="answer"') == 2
    assert '<p class="headline">DaGRPO: on guessing it ' in page and "; on working it " in page
    places = [f"<summary>Base corpus: {base}</summary>" for base in CORPORA]
    places += ['id="arms"', 'id="side-by-side"', 'id="reading"']
    places += ['id="guessing-corpus"', 'id="guessing-accuracy"', 'id="guessing-verdicts"']
    places += ['id="working-corpus"', 'id="working-accuracy"', 'id="working-verdicts"', 'id="card"']
    found = [page.index(place) for place in places]
    assert found == sorted(found)
    for words in (
        "<summary>Arms with fewer seeds</summary>",
        '<tr class="block">',
        "average OOD over GRPO (working)",
        "among the main arms is",
        "Seeds start in turn from 2 bases",
        "samples/working/base/seed1.jsonl",
    ):
        assert words in page, words


def test_the_page_opens_with_verdicts_on_claims(study: Path) -> None:
    claims: list[dict[str, Any]] = [
        {
            "claim": "A < B",
            "where": "Table 9",
            "verdict": "contradicted",
            "sentence": "It is not.",
            "corpora": ["working"],
            "plot": Markup("<svg></svg>"),
            "found": [{"corpus": "working", "verdict": "contradicted", "text": "−2.0", "detail": "[−3, −1]"}],
            "paper": "+4.7 points",
            "smallest": "1.0 points",
        },
        {"claim": "C", "where": "Figure 8", "verdict": "not applicable", "sentence": "No C here.", "corpora": []},
    ]
    table = Display("Cosines", ("a", "b"), ((Cell("x"), Cell("0.5")),), ("A note.",))
    figure = {"name": "working/averages", "caption": "Words below.", "alt": "Words instead."}
    conflict: dict[str, Any] = {"title": "Gradients", "name": "conflict", "sentences": ["They oppose."]}
    conflict |= {"figures": [figure], "tables": [table]}
    write_report(open_runs(study), study / "judged.html", claims, [conflict])
    page = (study / "judged.html").read_text()
    assert len(complete(page)) == 2 * (len(FIGURES) + 1 + len(SMALL_STUDY)) + 4
    places = ["<b>1</b> contradicted", 'class="answer"', 'id="claims"', "A &lt; B", "Table 9; judged on working"]
    places += ["<td><svg></svg></td>", "[−3, −1]", "No C here.", 'id="arms"']
    found = [
        page.index(place) for place in [*places, "They oppose.", "Words below.", "Cosines", 'id="guessing-corpus"']
    ]
    assert found == sorted(found)
    assert '<a href="#conflict">' in page
