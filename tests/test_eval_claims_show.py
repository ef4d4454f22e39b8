"""Verdicts as a reader sees them: frame, lines, table, figure, and the files of an experiment."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jinja2 import Environment, PackageLoader, StrictUndefined

from eval.claims.evidence import Evidence
from eval.claims.figure import claims_figure, draw_claims
from eval.claims.plot import claim_plots, marker
from eval.claims.read import evidence_of, read_claims, read_conflict, write_claims
from eval.claims.schema import Claim, load_claims
from eval.claims.show import amount, claims_frame, claims_table, line, page_claims, parts_frame
from eval.claims.verdicts import Finding, Judged, Verdict, judge
from eval.records import open_runs
from tests.claims_world import with_curves, world
from tests.eval_tree import STUDY, make_tree, write_lines


@pytest.fixture(scope="module")
def corpora() -> dict[str, Evidence]:
    return {
        "guessing": with_curves(world(1, {"dagrpo": 1.6}, seeds=8, luck=0.05), 1),
        "working": with_curves(world(2, {"dagrpo": -1.6}, seeds=8, luck=0.05), 2),
    }


@pytest.fixture(scope="module")
def judged(corpora: dict[str, Evidence]) -> list[Judged]:
    return judge(load_claims(), corpora)


def test_the_page_opens_with_the_main_claim_and_ends_with_what_does_not_apply(judged: list[Judged]) -> None:
    shown = page_claims(claims_frame(judged))
    assert len(shown) == len(load_claims())
    assert shown[0]["claim"] == load_claims()[0].sentence
    assert shown[0]["verdict"] == "depends on the base"
    assert shown[0]["corpora"] == ["guessing", "working"]
    assert [one["verdict"] for one in shown[-2:]] == ["not applicable"] * 2
    assert shown[-1]["corpora"] == []


def test_a_line_says_what_was_found_on_each_corpus_and_never_softens_it(judged: list[Judged]) -> None:
    frame = claims_frame(judged)
    said = line(frame[frame["claim"] == "average_over_grpo"])
    first, second = frame[frame["claim"] == "average_over_grpo"].to_dict("records")
    assert f"On guessing: {amount(first['estimate'], 'points')} (interval +" in said
    assert f"On working: {amount(second['estimate'], 'points')} (interval −" in said
    assert "over 8 seeds, reproduced." in said
    assert "over 8 seeds, contradicted: the opposite was found." in said
    assert "The paper has +4.7 points" in said
    assert said.endswith("From +1.0 points on it would matter.")


def test_a_line_of_one_corpus_names_none_and_reports_what_was_consumed(corpora: dict[str, Evidence]) -> None:
    frame = claims_frame(judge(load_claims(), {"only": corpora["working"]}))
    said = {claim: line(block) for claim, block in frame.groupby("claim")}
    assert not any("On only" in one for one in said.values())
    assert "1.00 times the compute, 1.00 times the samples and 1.00 times the optimiser steps" in said["equal_compute"]
    assert said["anchors_on_aime"] == "There are no problems of aime2024."
    assert "From ×0.67 on it would matter" in said["lower_spikes"]


def test_what_two_seeds_cannot_show_is_said_in_words_and_not_as_an_interval() -> None:
    """Student's t of one degree of freedom, corrected for twenty claims, spans hundreds of powers of ten."""
    frame = claims_frame(judge(load_claims(), {"only": with_curves(world(1, seeds=2), 1)}))
    told = frame[frame["estimate"].notna()].set_index("claim")
    scales = told["unit"].map({"points": 1.0, "index": 1.0, "correlation": 2.0, "spikes": 100.0, "factor": np.log(100)})
    ratio = told["unit"] == "factor"
    width = (told["high"] - told["low"]).where(~ratio, np.log((told["high"] / told["low"]).where(ratio)))
    assert (width.isna() | (width <= scales)).all()
    open_ones = told[told["low"].isna() & told["high"].isna()]
    assert len(open_ones) and (open_ones["verdict"] == "undecided").all()
    for claim in open_ones.index:
        said = line(frame[frame["claim"] == claim])
        assert "over 2 seeds, with no interval: two seeds cannot show it" in said and "(interval" not in said
    cells = [cell for row in claims_table(frame).rows for cell in row]
    assert any(cell.detail == "not bounded by 2 seeds" for cell in cells)


@pytest.mark.parametrize(("direction", "kept"), [("higher", "at least ×2.00"), ("lower", "at most ×0.50")])
def test_of_a_decided_claim_the_end_that_decides_is_kept(direction: str, kept: str) -> None:
    statistic = {"kind": "curve", "arm": "a", "metrics": ["m"], "summary": "mean", "scale": "log"}
    about = {"id": "one", "label": "one", "sentence": "One.", "where": "here", "smallest": 1.1, "direction": direction}
    claim = Claim.model_validate({**about, "statistic": statistic})
    low, high = sorted((claim.sign * np.log(2.0), claim.sign * np.log(2000.0)))
    middle = (low + high) / 2
    found = Finding(Verdict.REPRODUCED, "", middle, low, high, seeds=2)
    said = line(claims_frame([Judged(claim, found.verdict, {"only": found})]))
    assert f"({kept}) over 2 seeds" in said


def test_amounts_are_written_in_the_units_of_a_reader() -> None:
    assert amount(-0.0123, "points") == "−1.2 points"
    assert amount(1.5, "factor") == "×1.50"
    assert amount(1e60, "factor") == "×1000 or more"
    assert amount(-0.5, "spikes") == "−0.5 spikes in 100 steps"
    assert amount(-0.25, "correlation") == "−0.25"


def test_a_line_says_where_the_papers_own_figure_is_excluded(judged: list[Judged]) -> None:
    frame = claims_frame(judged)
    block = frame[frame["claim"] == "average_over_grpo"]
    near, far = block.assign(paper=block["estimate"].iloc[0]), block.assign(paper=0.9)
    assert "exclude" not in line(near)
    assert "The paper has +90.0 points, which these intervals exclude." in line(far)
    assert "which this interval excludes." in line(far.iloc[:1])


def test_an_undecided_claim_names_the_seeds_that_it_needs(judged: list[Judged]) -> None:
    frame = claims_frame(judged)
    known = frame[frame["seeds_needed"].notna()]
    assert len(known) and (known["verdict"] == "undecided").all()
    assert all(f"about {row.seeds_needed} seeds" in row.reason for row in known.itertuples())
    assert (known["seeds_needed"] > known["seeds"]).all()


def test_parts_and_base_seeds_stand_behind_the_verdicts(judged: list[Judged]) -> None:
    parts = parts_frame(judged)
    order = parts[(parts["claim"] == "order") & (parts["corpus"] == "working")]
    assert list(order.loc[order["base_seed"] == "", "part"]) == [
        "dagrpo_no_anchors over grpo",
        "luffy over dagrpo_no_anchors",
        "dagrpo over luffy",
    ]
    one = order[order["part"] == "dagrpo over luffy"].set_index("base_seed")["estimate"]
    assert (one["0"] + one["1"]) / 2 == pytest.approx(one[""])


def test_table_and_figure_show_every_claim_that_they_are_for(judged: list[Judged], tmp_path: Path) -> None:
    frame = claims_frame(judged)
    table = claims_table(frame)
    assert table.rows[0][0].text == "DaGRPO over GRPO"
    assert all(len(row) == len(table.header) for row in table.rows)
    figure = claims_figure(frame)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    of_accuracy = frame[frame["statistic"].isin(["difference", "order", "best"]) & frame["estimate"].notna()]
    assert labels == list(dict.fromkeys(of_accuracy["label"]))
    for folder in ("one", "two"):
        draw_claims(frame, tmp_path / folder)
    assert (tmp_path / "one/claims.svg").read_bytes() == (tmp_path / "two/claims.svg").read_bytes()


def test_a_study_in_which_no_claim_applies_can_be_shown(corpora: dict[str, Evidence]) -> None:
    bare = world(3, arms=("rloo", "reinforce"))
    frame = claims_frame(judge(load_claims(), {"only": bare}))
    assert set(frame["overall"]) == {"not applicable"}
    assert len(page_claims(frame)) == len(claims_table(frame).rows) == len(frame)
    assert claims_figure(frame).axes


def test_a_plot_turns_the_claimed_way_to_the_right_and_cuts_what_lies_beyond() -> None:
    about = {"unit": "factor", "verdict": "undecided", "smallest": 1.1, "paper": np.nan, "estimate": 0.5}
    rows = [
        about | {"claim": "fewer", "direction": "lower", "low": 0.25, "high": 1.0, "corpus": "one"},
        about | {"claim": "more", "direction": "higher", "low": 0.25, "high": 1.0, "corpus": "one"},
        about | {"claim": "more", "direction": "higher", "low": 1e-9, "high": np.nan, "corpus": "two"},
        about | {"claim": "none", "direction": "higher", "estimate": np.nan, "corpus": "one"},
    ]
    plots = claim_plots(pd.DataFrame(rows))
    drawn = {claim: re.findall(r"M([\d.]+) [\d.]+H([\d.]+)", plots[claim]) for claim in plots}
    (fewer,), (more, cut) = drawn["fewer"], drawn["more"]
    assert float(fewer[0]) == float(more[1]) == 120, "a ratio of 1 stands in the middle"
    assert float(fewer[1]) - 120 == pytest.approx(120 - float(more[0]))
    assert float(fewer[1]) > 120 > float(more[0]) and float(cut[0]) == 9 < float(cut[1]) < 120
    assert plots["none"] == "" and plots["fewer"].count("<circle") == 1
    assert plots["more"].count("<circle") == 1, "each corpus has its own marker"
    assert plots["more"].count("l-3 3l3 3") == 1, "an arrow to the left"


def test_the_templates_take_the_claims_and_escape_them(judged: list[Judged]) -> None:
    environment = Environment(loader=PackageLoader("eval"), autoescape=True, undefined=StrictUndefined)
    shown = page_claims(claims_frame(judged))
    shown[0]["claim"] = "a < b"
    markers = {corpus: marker(place) for place, corpus in enumerate(("guessing", "working"))}
    page = environment.get_template("claims.html.j2").render(claims=shown, markers=markers)
    assert "a &lt; b" in page and page.count('<td class="claim">') == len(shown) - 2
    assert "How a claim is judged" in environment.get_template("claims_method.html.j2").render()


def test_an_experiments_files_become_evidence_and_claims(tmp_path: Path) -> None:
    arms = {name: STUDY[name] for name in ("sft", "grpo", "dagrpo_no_anchors", "dagrpo", "delta_0")}
    results = make_tree(
        tmp_path,
        seeds=(0, 1, 2, 3),
        base_seeds=(0, 1),
        arms=arms,
        problems=8,
        fewer={"delta_0": (0, 1)},
        corpora={"one": 1.0, "two": 0.5},
    )
    group = {"step": 0, "conflict_before": 0.5, "conflict_after": None, "conflict_random": 0.4}
    pairs = [
        {"cosine": -0.5, "score_gap": 2.0, "overlap": 0.5, "kept": True},
        {"cosine": -0.1, "score_gap": None, "overlap": 0.5, "kept": False},
    ]
    for seed in (0, 1):
        write_lines(results / f"conflict/one/grpo/seed{seed}.jsonl", [{**group, "pairs": pairs}] * 2)
    runs = open_runs(results)
    evidence = evidence_of(runs["one"])
    assert list(evidence.arms) == ["base", "sft", "grpo", "dagrpo_no_anchors", "dagrpo", "delta_0"]
    assert evidence.base_seed == {0: 0, 1: 1, 2: 0, 3: 1}
    assert len(evidence.conflict) == 8 and evidence.conflict["conflict_after"].isna().all()
    assert read_conflict(runs["two"]).empty

    for folder in ("a", "b"):
        write_claims(runs, tmp_path / folder)
    names = ["claim_parts.csv", "claims.csv", "claims.md", "claims.tex"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == names
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    stored = read_claims(tmp_path / "a")
    assert isinstance(stored, pd.DataFrame) and set(stored["corpus"]) == {"one", "two"}
    by_claim = stored.set_index(["claim", "corpus"])
    assert by_claim.loc[("average_over_grpo", "one"), "verdict"] != "not applicable"
    assert "no arm named luffy was trained" in by_claim.loc[("over_luffy", "one"), "reason"]
    assert "gradients of grpo were not measured" in by_claim.loc[("conflict_of_alike", "two"), "reason"]
    assert page_claims(stored)[0]["corpora"] == ["one", "two"]
