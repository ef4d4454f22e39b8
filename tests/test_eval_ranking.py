"""The ranking: letters follow the pairs, pairs hold together, and the table and its picture say so."""

from pathlib import Path
from time import process_time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagrpo.seeds import generator
from eval.display import show
from eval.figures import FIGURES, read_source
from eval.ranking.letters import letters, name
from eval.ranking.pairs import Pairs, all_pairs
from eval.ranking.table import share
from eval.records import open_runs
from eval.statistics import Scores, estimate
from eval.tables import read_tables, write_tables
from tests.eval_tree import BASE, make_tree, write_json
from tests.test_eval_statistics import AVERAGE, FAMILY, world


def matrix(pairs: set[tuple[int, int]], count: int) -> np.ndarray:
    """Which pairs of ``count`` arms can be told apart."""
    apart = np.zeros((count, count), dtype=bool)
    for one, other in pairs:
        apart[one, other] = apart[other, one] = True
    return apart


def groups(found: list[tuple[str, ...]]) -> dict[str, set[int]]:
    """The arms of each letter."""
    every = sorted({letter for of_arm in found for letter in of_arm})
    return {letter: {arm for arm, of_arm in enumerate(found) if letter in of_arm} for letter in every}


def test_letters_of_a_worked_example() -> None:
    """Best to worst 2, 0, 1, 3; the first can be told from the last two, the second from the last."""
    assert letters(matrix({(2, 1), (2, 3), (0, 3)}, 4), [2, 0, 1, 3]) == [("a", "b"), ("b", "c"), ("a",), ("c",)]


def test_letters_at_the_ends() -> None:
    assert letters(matrix(set(), 3), [0, 1, 2]) == [("a",)] * 3
    assert letters(~np.eye(3, dtype=bool), [2, 1, 0]) == [("c",), ("b",), ("a",)]
    assert letters(matrix(set(), 1), [0]) == [("a",)]
    assert [name(number) for number in (0, 25, 26, 51, 52, 104)] == ["a", "z", "A", "Z", "a2", "a3"]


def test_a_letter_that_others_cover_is_left_out() -> None:
    """Six arms, four largest sets; the pairs of the middle one are all in the three others."""
    together = [{0, 1, 2}, {0, 1, 3}, {1, 2, 4}, {0, 2, 5}]
    apart = matrix({(i, j) for i in range(6) for j in range(i) if not any({i, j} <= one for one in together)}, 6)
    assert sorted(map(sorted, groups(letters(apart, list(range(6)))).values())) == sorted(map(sorted, together[1:]))


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.permutations(range(n)), st.lists(st.booleans(), min_size=36))))
def test_letters_say_what_the_pairs_say(drawn: tuple[list[int], list[bool]]) -> None:
    order, flags = drawn
    count = len(order)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    apart = matrix({pair for pair, flag in zip(pairs, flags, strict=False) if flag}, count)
    found = letters(apart, order)
    shared = np.array([[bool(set(one) & set(other)) for other in found] for one in found])
    assert np.array_equal(shared, ~apart)

    sets = groups(found)
    for letter, members in sets.items():
        others = set(range(count)) - members
        assert not any(all(not apart[arm, member] for member in members) for arm in others), "a larger set would do"
        without = [group for other, group in sets.items() if other != letter]
        needed = [{i, j} for i in members for j in members]
        assert not all(any(pair <= group for group in without) for pair in needed), "the letter could be left out"
    alike = [(i, j) for i, j in pairs if not apart[i, j] and np.array_equal(apart[i], apart[j])]
    assert all(found[i] == found[j] for i, j in alike), "arms that compare alike have the same letters"
    firsts = [min(order.index(arm) for arm in members) for members in sets.values()]
    assert "a" in found[order[0]]
    assert firsts == sorted(firsts)


def run(arms: list[Scores], resamples: int = 300) -> Pairs:
    return all_pairs(arms, FAMILY, AVERAGE, resamples, generator("test"))


def test_differences_are_those_of_the_tables_and_intervals_are_longer() -> None:
    arms = world(3, [0.0, 0.4, 0.8, 1.2], 3, 0.2)
    alone, together = estimate(arms, FAMILY, AVERAGE, 2000, generator("test")), run(arms, 2000)
    assert together.difference == pytest.approx(alone.difference)
    half = (alone.difference_high - alone.difference_low) / 2
    pairs = ~np.eye(4, dtype=bool)
    ratio = together.half_width[pairs] / half[pairs]
    assert np.all((ratio > 1.15) & (ratio < 1.6))
    # Between one comparison alone and Bonferroni's six, of Student's t with six degrees of freedom.
    assert 2.0 < together.factor[0] < 3.86


def test_two_arms_are_one_comparison() -> None:
    """Of the normal part alone the factor is the usual 1.96."""
    arms = [Scores((0,), arm.cells, trained=False) for arm in world(1, [0.0, 0.0], 1, 0.0)]
    assert run(arms, 4000).factor[0] == pytest.approx(1.96, abs=0.08)


@pytest.mark.parametrize("seeds", [2, 8])
def test_without_any_effect_false_letters_are_rare(seeds: int) -> None:
    """Eight equal arms: in at most about one study of twenty some pair is told apart."""
    studies = 120
    wrong = [run(world(number, [0.0] * 8, seeds, 0.3)).apart.any() for number in range(studies)]
    assert np.mean(wrong) <= 0.08


def test_a_large_effect_is_told_apart() -> None:
    found = [run(world(number, [1.5, 0.0, 0.0, 0.0, 0.0, 0.0], 3, 0.2)).apart[0, 1:] for number in range(30)]
    assert np.mean(found) > 0.9


def test_a_tie_is_never_told_apart_and_one_seed_tells_nothing() -> None:
    arm = world(5, [0.0], 3, 0.2)[0]
    found = run([arm, arm, *world(6, [3.0], 3, 0.0)])
    assert not found.apart[0, 1, 0]
    assert not run(world(7, [0.0, 6.0], 1, 0.0)).apart.any()


def test_forty_arms_take_seconds() -> None:
    arms = world(8, [0.05 * n for n in range(40)], 3, 0.2)
    start = process_time()
    found = run(arms, 2000)
    lettered = letters(found.apart[..., 0], np.argsort([-arm.cells.mean() for arm in arms]).tolist())
    assert process_time() - start < 5
    assert len(lettered) == 40


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four arms far apart, one pair of equals, and one arm that drew half as much again."""
    arms = {
        "low": ("grpo", "Low", -3.0),
        "grpo": ("grpo", "GRPO", 0.0),
        "equal": ("luffy", "Equal", 0.0),
        "high": ("sft", "High", 4.0),
    }
    results = make_tree(tmp_path_factory.mktemp("ranking"), arms=arms, seeds=(0, 1, 2))
    for arm, samples in (("equal", 2880), ("high", 0)):
        for seed in (0, 1, 2):
            path = results / f"runs/{BASE}/{arm}/seed{seed}/run.json"
            card = pd.read_json(path, typ="series").to_dict()
            write_json(path, card | {"consumed": card["consumed"] | {"samples": samples}})
    write_tables(open_runs(results), results / "tables")
    return results


def test_the_table_is_sorted_and_lettered(tree: Path) -> None:
    frame = read_tables(tree / "tables" / BASE)["ranking"]
    for _, block in frame.groupby("column"):
        assert block["mean"].is_monotonic_decreasing
        assert block["rank"].is_monotonic_increasing
    inside = frame[frame["column"] == "in_distribution"].set_index("arm")
    assert inside.index[0] == "high"
    assert inside.index[-1] == "low"
    assert inside.loc["high", "letters"] == "a"
    assert set(inside.loc["grpo", "letters"].split()) & set(inside.loc["equal", "letters"].split())
    assert not set(inside.loc["low", "letters"].split()) & set(inside.loc["grpo", "letters"].split())
    pairs = pd.read_csv(tree / f"tables/{BASE}/pairs.csv")
    by_arm = inside["letters"].str.split()
    of_average = pairs[pairs["column"] == "in_distribution"]
    assert len(of_average) == 10
    for _, pair in of_average.iterrows():
        assert pair["told_apart"] == (not set(by_arm[pair["arm"]]) & set(by_arm[pair["other"]]))
        assert pair["told_apart"] == (pair["low"] > 0 or pair["high"] < 0)
    main = read_tables(tree / "tables" / BASE)["main"].set_index(["column", "arm"])
    assert inside["low"].to_dict() == main.loc["in_distribution"]["low"].to_dict()


def test_arms_that_drew_more_or_less_say_so(tree: Path) -> None:
    for shown in (show(table, read_tables(tree / "tables" / BASE)) for table in ("ranking", "consumed")):
        place = shown.header.index("samples (GRPO = 1)")
        drawn = {row[0].text: row[place].text for row in shown.rows}
        assert drawn["Low"] == drawn["GRPO"] == "1.00"
        assert drawn["Equal"] == "1.50 more"
        assert drawn["High"] == "none"
    assert [share(value, marked=True) for value in (0.875, 1.001, float("nan"))] == ["0.88 fewer", "1.00", ""]
    assert share(0.875, marked=False) == "0.88"


def test_a_reference_that_draws_nothing_is_no_measure(tmp_path: Path) -> None:
    results = make_tree(tmp_path, arms={"grpo": ("sft", "SFT", 0.5), "luffy": ("luffy", "LUFFY", 0.6)}, problems=4)
    for seed in (0, 1):
        path = results / f"runs/{BASE}/grpo/seed{seed}/run.json"
        card = pd.read_json(path, typ="series").to_dict()
        nothing = {"samples": 0, "response_tokens_total": 0}
        write_json(path, card | {"consumed": card["consumed"] | nothing})
    write_tables(open_runs(results), results / "tables")
    frames = read_tables(results / "tables" / BASE)
    assert not any("= 1" in title for name in ("ranking", "consumed") for title in show(name, frames).header)


def test_one_average_makes_one_block(tmp_path: Path) -> None:
    results = make_tree(tmp_path, problems=4, samples=1, outside=(), seeds=(0,))
    write_tables(open_runs(results), results / "tables")
    shown = show("ranking", read_tables(results / "tables" / BASE))
    assert len(shown.rows) == 6
    assert {row[1].text for row in shown.rows} == {"a"}, "one seed tells nothing apart"


def test_the_picture_has_every_arm_and_letter(tree: Path) -> None:
    figure = FIGURES["ranking"](read_source(open_runs(tree)[BASE]))
    frame = read_tables(tree / "tables" / BASE)["ranking"]
    for axis, (_, block) in zip(figure.axes, frame.groupby("column", sort=False), strict=True):
        assert [label.get_text() for label in axis.get_yticklabels()] == list(block["label"])
        assert [text.get_text() for text in axis.texts] == " ".join(block["letters"]).split()
