"""The benchmarks of an experiment in its tables, in the published table and on the page."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from dagrpo.errors import UserError
from eval.cli import app
from eval.records import load_evaluation
from tests.eval_tree import BASE, make_tree, runs_of, write_json

FAMILIES = {"aime2024": -1.0, "aime2025": -1.5, "math500": 0.5, "arc_challenge": 1.0, "gsm8k_test": 1.0}
LIMITED = {"aime2024": [6, 30]}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An experiment whose samples of the benchmarks are those of its own evaluation under other names."""
    results = make_tree(tmp_path_factory.mktemp("benchmarks") / "toy", problems=12)
    benchmarks = make_tree(
        tmp_path_factory.mktemp("benchmarks") / "toy", problems=6, families=FAMILIES, outside=("arc_challenge",),
        limited=LIMITED,
    )  # fmt: skip
    (benchmarks / "samples").rename(results / "benchmarks")
    for path in (results / "benchmarks").rglob("seed*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        # AIME has four samples a question, the others their first; half of a tied vote is right.
        kept = [row for row in rows if row["sample"] == 0 or row["family"] == "aime2024"]
        judges = [{"math_verify": i % 4 == 0, "sympy": True} for i in range(len(kept))]
        told = [{**row, "majority": 0.5, "judges": said} for row, said in zip(kept, judges, strict=True)]
        path.write_text("".join(json.dumps(row) + "\n" for row in told))
    spec = json.loads((results / "specs" / "report.json").read_text())
    write_json(
        results / "specs" / "report.json",
        spec | {"benchmarks": {"tasks": list(FAMILIES), "arms": ["grpo", "dagrpo"], "limit": 6}},
    )
    published = Path(__file__).parent.parent / "results" / "published.csv"
    for verb in ("tables", "figures", "report"):
        words = ["--published", str(published)] if verb != "figures" else []
        done = CliRunner().invoke(app, [verb, "--results", str(results), *words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
    return results


def table(results: Path, name: str) -> pd.DataFrame:
    return pd.read_csv(results / "tables" / BASE / "benchmarks" / f"{name}.csv", keep_default_na=False)


def test_the_macro_averages_are_over_the_benchmarks_of_a_domain_and_no_extra(results: Path) -> None:
    main = table(results, "main").set_index(["arm", "column"])["mean"]
    for arm in ("base", "grpo", "dagrpo"):
        inside = [main[arm, name] for name in ("aime2024", "aime2025", "math500")]
        assert main[arm, "in_distribution"] == pytest.approx(sum(inside) / 3, abs=1e-9)
        assert main[arm, "out_of_distribution"] == pytest.approx(main[arm, "arc_challenge"], abs=1e-9)
        assert 0 < main[arm, "gsm8k_test"] < 1
    assert set(table(results, "main")["arm"]) == {"base", "grpo", "dagrpo"}
    assert set(table(results, "differences")["arm"]) == {"base", "dagrpo"}


def test_a_mean_is_that_of_the_stored_samples(results: Path) -> None:
    found = runs_of(results).benchmarks
    assert found is not None
    frame = load_evaluation(found).frame
    by_problem = frame[frame["family"] == "aime2024"].set_index(["arm", "seed", "problem"])["right"]
    entries = table(results, "main").set_index(["arm", "column"])["mean"]
    assert entries["dagrpo", "aime2024"] == pytest.approx(by_problem["dagrpo"].mean(), abs=1e-9)


def test_the_majority_has_a_table_where_there_are_several_samples(results: Path) -> None:
    majority = table(results, "majority")
    assert set(majority["column"]) == {"aime2024"} and set(majority["mean"]) == {0.5}
    assert "AIME 2024, k = 4" in (results / "tables" / BASE / "benchmarks" / "majority.md").read_text()


def test_limits_disagreement_and_missing_figures_are_told(results: Path) -> None:
    text = (results / "tables" / BASE / "benchmarks" / "main.md").read_text()
    assert "first 6 of 30" in text and "no benchmark score: AIME 2024" in text and "AIME 2025: some of its" in text
    verdicts = table(results, "verdicts")
    assert verdicts["disagreement"].astype(float).between(0.5, 1).all()
    assert "judges disagree" in (results / "tables" / BASE / "benchmarks" / "verdicts.md").read_text()
    assert "disagreement" not in pd.read_csv(results / "tables" / BASE / "verdicts.csv")  # it has no two judges


def test_ours_stand_beneath_the_published_rows(results: Path) -> None:
    paper = pd.read_csv(results / "tables" / "paper.csv")
    ours = paper[paper["kind"] == "ours"].set_index(["method", "column"])["mean"]
    main = table(results, "main").set_index(["arm", "column"])["mean"]
    assert ours["dagrpo", "math500"] == pytest.approx(main["dagrpo", "math500"])
    # The average is over other benchmarks than the paper's, and GSM8K is none of its columns.
    assert not {"in_distribution", "gsm8k_test"} & set(ours.index.get_level_values("column"))
    tex = (results / "tables" / "paper.tex").read_text()
    assert "‡" not in tex and r"$\ddagger$" in tex


def test_the_page_shows_both(results: Path) -> None:
    page = (results / "report.html").read_text()
    assert 'id="benchmarks"' in page and "avg@k" in page and "maj@k" in page
    assert "<details open>" in page and "ours beneath" in page and "‡" in page


def test_an_experiment_without_benchmarks_has_none_of_it(tmp_path: Path) -> None:
    assert runs_of(make_tree(tmp_path / "toy", problems=4)).benchmarks is None


def test_benchmarks_of_other_settings_are_refused(results: Path, tmp_path: Path) -> None:
    path = results / "benchmarks" / BASE / "grpo" / "seed0.meta.json"
    before = path.read_text()
    write_json(path, json.loads(before) | {"spec": {"temperature": 1.0}})
    found = runs_of(results).benchmarks
    assert found is not None
    with pytest.raises(UserError, match="different settings"):
        load_evaluation(found)
    path.write_text(before)
