"""The page's section on gradients, from files of measured groups with a known truth."""

from pathlib import Path

from eval.gradients import draw_conflict, section, write_conflict
from eval.records import open_runs
from tests.eval_tree import make_tree
from tests.test_eval_conflict import write_measured


def test_nothing_is_shown_where_nothing_was_measured(tmp_path: Path) -> None:
    corpora = open_runs(make_tree(tmp_path))
    write_conflict(corpora, tmp_path / "tables")
    draw_conflict(corpora, tmp_path / "figures")
    assert section(corpora) is None
    assert not list(tmp_path.rglob("conflict*"))


def test_words_and_pictures_are_of_the_stored_frame(tmp_path: Path) -> None:
    results = make_tree(tmp_path)
    corpora = open_runs(results)
    (base,) = corpora
    write_measured(results / "conflict", {"grpo": 1.0}, base=base)
    (results / "tables" / base).mkdir(parents=True)
    write_conflict(corpora, results / "tables")
    draw_conflict(corpora, results / "figures")
    shown = section(corpora)
    assert shown is not None
    assert [figure["name"] for figure in shown["figures"]] == [f"{base}/conflict_cosine", f"{base}/conflict_index"]
    assert all((results / "figures" / f"{figure['name']}.svg").exists() for figure in shown["figures"])
    (sentence,) = [sentence for sentence in shown["sentences"] if sentence.startswith("GRPO")]
    assert "0.50 [0.50, 0.50] before the mask, 0.30 [0.30, 0.30] after it, 0.40 [0.40, 0.40] where lot" in sentence
