"""Questions that occur in training and in a benchmark are found, counted and left out."""

from pathlib import Path

import pandas as pd
import pytest

from dagrpo.problems.contamination import compare, overlaps, summary, without
from dagrpo.records import Problem
from eval.overlap import show

LONG = "A train leaves the old station at noon and runs north at forty miles an hour for three hours; how far is it?"


def problem(name: str, text: str, family: str = "train") -> Problem:
    return Problem(name, family, text, "1")


BENCHMARK = [problem("b1", LONG, "one"), problem("b2", "Find the sum of all odd primes below ten now.", "two")]


def test_a_copy_is_found_however_it_is_typeset() -> None:
    pairs = overlaps([problem("t1", LONG.upper().replace(" ", "  "))], BENCHMARK)
    assert pairs[["train_id", "benchmark", "benchmark_id", "containment"]].to_numpy().tolist() == [
        ["t1", "one", "b1", 1]
    ]


def test_a_question_inside_a_longer_one_is_found() -> None:
    pairs = overlaps([problem("t1", f"Read this first and think. {LONG} Say it in kilometres.")], BENCHMARK)
    assert list(pairs["benchmark_id"]) == ["b1"] and pairs["containment"].item() == 1


def test_containment_is_the_share_of_common_ngrams() -> None:
    """Of seven words, the last differs: one of two 6-grams is shared."""
    left, right = problem("t", "one two three four five six seven"), problem("b", "one two three four five six eight")
    assert overlaps([left], [right], ngram=6, threshold=0.5)["containment"].item() == 0.5
    assert overlaps([left], [right], ngram=6, threshold=0.6).empty
    assert overlaps([left], [right], ngram=3, threshold=0.6)["containment"].item() == pytest.approx(0.8)


def test_common_phrases_are_no_contamination() -> None:
    assert overlaps([problem("t", "Find the sum of all even numbers between one and a hundred.")], BENCHMARK).empty


def test_a_short_question_is_found_as_a_whole_only() -> None:
    short = problem("b", "What is nine squared?", "one")
    assert len(overlaps([problem("t", "what is NINE squared")], [short])) == 1
    assert overlaps([problem("t", "Say at last what is nine squared, my friend and foe.")], [short]).empty


def test_drawings_do_not_count() -> None:
    drawing = "[asy] draw((0,0)--(1,1)); draw((0,0)--(1,1)); dot((0,0)); dot((1,1)); [/asy]"
    assert overlaps([problem("t", f"{drawing} How long?")], [problem("b", f"{drawing} How wide?")]).empty


def test_options_do_not_count() -> None:
    stem = "Which of these planets is the one that has the most moons?"
    options = tuple(f"the planet number {i} counted from the sun on" for i in range(4))
    asked = "\n".join([stem, *(f"{letter}. {option}" for letter, option in zip("ABCD", options, strict=True))])
    choice = Problem("b", "one", asked, "A", choices=options)
    assert overlaps([problem("t", f"{stem} Mercury, Venus, Jupiter, or Saturn, or none of all these?")], [choice])[
        "containment"
    ].item() == 1  # fmt: skip
    assert overlaps([problem("t", "Is it the planet number 2 counted from the sun on or not?")], [choice]).empty


def test_the_table_counts_questions_and_the_rest_is_kept() -> None:
    training = [
        problem("t1", LONG),
        problem("t2", LONG + " Really?"),
        problem("t3", "Something else entirely, is it not so?"),
    ]
    pairs = overlaps(training, BENCHMARK)
    table = summary(pairs, BENCHMARK)
    assert table.to_numpy().tolist() == [["one", 1, 1, 1.0, 2], ["two", 1, 0, 0.0, 0]]
    assert [kept.id for kept in without(training, pairs)] == ["t3"]


def test_what_is_found_is_written(tmp_path: Path) -> None:
    training = [problem("t1", LONG), problem("t3", "Something else entirely, is it not so?")]
    table, kept = compare(training, BENCHMARK, tmp_path / "found")
    assert list(table["training_rows"]) == [1, 0] and [row.id for row in kept] == ["t3"]
    assert "t1,one,b1" in (tmp_path / "found" / "pairs.csv").read_text()
    shown = show(pd.read_csv(tmp_path / "found" / "summary.csv"))
    assert [cell.text for cell in shown.rows[0]] == ["one", "1", "1", "100.0", "1"]
    assert shown.notes[0].startswith("1 of 2 training questions share at least 80 % of their word 8-grams")


def test_nothing_in_common_is_an_empty_table() -> None:
    pairs = overlaps([problem("t3", "Something else entirely, is it not so?")], BENCHMARK)
    assert pairs.empty and list(summary(pairs, BENCHMARK)["met_in_training"]) == [0, 0]
