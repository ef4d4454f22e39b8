"""Published figures: as printed, checked against themselves, and ours beneath them."""

import csv
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from dagrpo.errors import UserError
from eval.display import IN_DISTRIBUTION, OOD
from eval.published.read import (
    AVERAGED,
    CERTAINTIES,
    COLUMNS,
    Published,
    disagreements,
    read_published,
)
from eval.published.table import paper_table, show_paper
from eval.published_cli import app
from eval.render import latex, markdown

FILE = Path(__file__).parent.parent / "results" / "published.csv"
SIX, THREE = AVERAGED[IN_DISTRIBUTION], AVERAGED[OOD]


def published(method: str, values: dict[str, str], **changes: Any) -> Published:
    """A published row under some changes."""
    row: dict[str, Any] = {
        "source": "Paper",
        "arxiv": "2512.06337",
        "table": "Table 1",
        "base_model": "Qwen2.5-Math-7B",
        "method": method,
        "label": method.upper(),
        "certainty": "paper",
        "corrected": False,
        "std": {},
        "average_over": SIX,
        "note": "",
    }
    return Published(**(row | changes), values={name: Decimal(text) for name, text in values.items()})


def main_table(shares: dict[str, dict[str, float]], seeds: int = 3, limited: str = "", best: str = "") -> pd.DataFrame:
    """A main table as an experiment leaves it: shares by arm and column, five points either way."""
    rows = [
        {
            "arm": arm,
            "label": f"our {arm}",
            "seeds": 1 if arm == "base" else seeds,
            "column": column,
            "limited": limited,
            "missing": 0,
            "mean": shares[arm][column],
            "low": shares[arm][column] - 0.05,
            "high": shares[arm][column] + 0.05,
            "best": arm == best,
            "problems": 30,
            "samples": 960,
        }
        for column in next(iter(shares.values()))
        for arm in shares
    ]
    return pd.DataFrame(rows)


def texts(frame: pd.DataFrame) -> list[tuple[str, ...]]:
    return [tuple(f"{cell.text} {cell.detail}".strip() for cell in row) for row in show_paper(frame).rows]


def changed(tmp_path: Path, **cells: str) -> Path:
    """The real file with some cells of its first row changed."""
    with FILE.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    rows[0] |= cells
    path = tmp_path / "published.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_the_published_rows() -> None:
    rows = read_published(FILE)
    assert len(rows) == 50
    assert {row.certainty for row in rows} == set(CERTAINTIES)
    by_label = {(row.source, row.base_model, row.label): row for row in rows}
    ours = by_label["DaGRPO", "Qwen2.5-Math-7B", "DaGRPO"]
    printed = "29.5 20.9 63.0 86.0 37.5 55.8 48.8 83.1 40.9 53.0 59.0"
    assert [str(ours.values[column]) for column in COLUMNS] == printed.split()
    assert ours.arxiv == "2512.06337"
    corrected = [row for row in rows if row.corrected]
    assert {row.source for row in corrected} == {"Limozin et al."}
    assert all("corrected" in row.note for row in corrected)
    assert corrected[0].std["aime2024"] == Decimal("1.4") and corrected[0].std[IN_DISTRIBUTION] == Decimal("0.2")


def test_a_copied_row_is_a_copy_and_says_so() -> None:
    rows = read_published(FILE)
    of_paper = {row.method: row for row in rows if row.source == "DaGRPO"}
    of_luffy = {row.method: row for row in rows if row.source == "LUFFY" and row.base_model == "Qwen2.5-Math-7B"}
    same = {name for name in of_paper.keys() & of_luffy.keys() if of_paper[name].values == of_luffy[name].values}
    assert same == {"sft", "instruct", "simplerl_zero", "openreasoner_zero", "prime_zero", "oat_zero"}
    assert "probably copied" in of_paper["sft"].note
    assert all("LUFFY" in of_paper[name].note for name in same)


def test_every_printed_average_follows_from_its_columns_but_one() -> None:
    """The known one: SFT→GRPO's columns 67.7, 30.8 and 40.5 average 46.3; 49.3 is printed, perhaps a slip."""
    rows = read_published(FILE)
    found = disagreements(rows)
    assert [(each.row.source, each.row.label, each.column) for each in found] == [("DaGRPO", "SFT→GRPO", OOD)]
    assert str(found[0]) == "DaGRPO, SFT→GRPO, average OOD: 49.3 printed, 46.3 from its columns"
    assert "does not follow" in found[0].row.note
    checked = [
        (row, average)
        for row in rows
        for average, members in AVERAGED.items()
        if average in row.values and all(member in row.values for member in members)
    ]
    assert len(checked) == 68  # the rest are of rows with columns that are not known


def test_an_average_that_only_unrounded_figures_give_is_no_disagreement() -> None:
    """82.2, 40.4 and 49.2 average 57.27, yet 82.15, 40.35 and 49.15 would print alike and give 57.22."""
    columns = dict(zip(THREE, ("82.2", "40.4", "49.2"), strict=True))
    assert disagreements([published("grpo", columns | {OOD: "57.2"})]) == []
    assert len(disagreements([published("grpo", columns | {OOD: "57.1"})])) == 1


@given(st.lists(st.decimals(1, 99, places=4), min_size=6, max_size=6), st.sampled_from([1, -1]))
def test_rounding_alone_never_disagrees_and_a_real_slip_does(figures: list[Decimal], sign: int) -> None:
    def rounded(value: Decimal) -> str:
        return str(value.quantize(Decimal("0.1"), ROUND_HALF_UP))

    columns = dict(zip(SIX, map(rounded, figures), strict=True))
    average = sum(figures, Decimal(0)) / 6
    assert disagreements([published("x", columns | {IN_DISTRIBUTION: rounded(average)})]) == []
    wrong = average + sign * Decimal("0.21")
    assert len(disagreements([published("x", columns | {IN_DISTRIBUTION: rounded(wrong)})])) == 1


def test_an_average_over_fewer_benchmarks_is_recomputed_over_these() -> None:
    columns = dict.fromkeys(SIX, "50.0") | {"aime2025": "20.0", IN_DISTRIBUTION: "50.0"}
    assert len(disagreements([published("x", columns)])) == 1
    assert disagreements([published("x", columns, average_over=tuple(set(SIX) - {"aime2025"}))]) == []


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        ({"aime2024": "10,4"}, "line 2: aime2024 is '10,4'; write percent from 0 to 100"),
        ({"aime2024": "nan"}, "aime2024 is 'nan'"),
        ({"aime2024": "104"}, "aime2024 is '104'"),
        ({"aime2024_std": "-1"}, "aime2024_std is '-1'"),
        ({"aime2024": "", "aime2024_std": "1.0"}, "aime2024_std stands without aime2024"),
        ({"certainty": "sure"}, "certainty is 'sure'; choose from: paper, rerun, own report, second-hand"),
        ({"arxiv": "2512.6337"}, "arxiv is '2512.6337'; write an identifier"),
        ({"corrected": "no"}, "corrected is 'no'; write yes, or nothing"),
        ({"label": " "}, "label is empty"),
        ({"average_over": "aime2024 amc_val"}, "average_over names 'amc_val'; did you mean 'amc_val83'?"),
        (dict.fromkeys(COLUMNS, ""), "holds no figure"),
        ({"method": "instruct", "label": "Qwen2.5-Math-Instruct"}, "line 3: DaGRPO, Qwen2.5-Math-7B, instruct, "),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence(tmp_path: Path, cells: dict[str, str], sentence: str) -> None:
    with pytest.raises(UserError) as error:
        read_published(changed(tmp_path, **cells))
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("math500,", "maths,", "column 'math500' is missing"),
        ("math500_std", "maths_std", "unknown column 'maths_std'; did you mean 'math500_std'?"),
        ("math500_std", "aime2025_std", "a column occurs twice"),
        ("DaGRPO,2512", "DaGRPO,surplus,2512", "line 2: 29 cells under 28 columns"),
        (",Table 1,", ',"Table" 1,', "not a CSV file in UTF-8"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    path = tmp_path / "published.csv"
    path.write_text(FILE.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_published(path)
    assert sentence in str(error.value)
    with pytest.raises(UserError, match="cannot be read"):
        read_published(tmp_path / "nowhere.csv")


PAPER = (
    published("base", {"aime2024": "10.0", "math500": "50.0"}),
    published("sft", {"aime2024": "20.0", "math500": "60.0", IN_DISTRIBUTION: "40.0"}, note="copied"),
    published("grpo", {"aime2024": "30.0", "math500": "62.0", IN_DISTRIBUTION: "46.0"}),
    published("sft", {"aime2024": "33.0"}, source="Audit", corrected=True, std={"aime2024": Decimal("1.4")}),
    published("grpo", {"aime2024": "99.0"}, source="Audit", base_model="Llama"),
)


def test_differences_are_to_the_first_row_of_the_method_and_to_its_correction() -> None:
    shares = {arm: {"aime2024": 0.31, "math500": 0.7} for arm in ("base", "sft", "grpo", "luffy")}
    frame = paper_table(PAPER, {"seven": main_table(shares)})
    versus = frame[frame["kind"] == "difference"].set_index(["method", "label", "column"])
    assert set(versus.index) == {
        ("base", "− BASE (Paper)", "aime2024"),
        ("base", "− BASE (Paper)", "math500"),
        ("sft", "− SFT (Paper)", "aime2024"),
        ("sft", "− SFT (Paper)", "math500"),
        ("sft", "− SFT (Audit)", "aime2024"),
        ("grpo", "− GRPO (Paper)", "aime2024"),
        ("grpo", "− GRPO (Paper)", "math500"),
    }
    entry = versus.loc[("sft", "− SFT (Paper)", "aime2024")]
    assert entry[["mean", "low", "high"]].tolist() == pytest.approx([0.11, 0.06, 0.16])
    assert entry["mark"] == "told apart"
    assert versus.loc[("sft", "− SFT (Audit)", "aime2024"), "mark"] == ""
    assert "Nothing published to compare in seven: luffy." in show_paper(frame).notes


def test_ours_stand_beneath_the_first_source() -> None:
    frame = paper_table(PAPER, {"seven": main_table({"sft": {"aime2024": 0.31}})})
    rows = texts(frame)
    assert [row[0] for row in rows] == [
        "Paper, arXiv 2512.06337, Qwen2.5-Math-7B:",
        "BASE",
        "SFT [1]",
        "GRPO",
        "ours, seven:",
        "our sft",
        "− SFT (Paper)",
        "− SFT (Audit)",
        "Audit, arXiv 2512.06337, Qwen2.5-Math-7B:",
        "SFT",
        "Audit, arXiv 2512.06337, Llama:",
        "GRPO",
    ]
    assert rows[5][1:4] == ("3 seeds", "31.0 [26.0, 36.0]", "")
    assert rows[6][1:4] == ("", "+11.0 * [+6.0, +16.0]", "")
    assert rows[9][1:3] == ("corrected", "33.0 ±1.4")
    assert show_paper(frame).notes[-1] == "[1] copied"


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ((*SIX, IN_DISTRIBUTION, *THREE, OOD), set(COLUMNS)),
        ((*SIX[1:], IN_DISTRIBUTION, *THREE, OOD), set(COLUMNS) - {"aime2024", IN_DISTRIBUTION}),
        ((*SIX, "gsm8k", IN_DISTRIBUTION, *THREE[1:], OOD), {*SIX, *THREE[1:]}),
        ((*THREE, OOD), {*THREE, OOD}),
        (("sums", "products", IN_DISTRIBUTION), set()),
    ],
)
def test_an_average_is_compared_only_over_the_same_benchmarks(columns: tuple[str, ...], shown: set[str]) -> None:
    paper = [published("grpo", dict.fromkeys(COLUMNS, "40.0"))]
    frame = paper_table(paper, {"seven": main_table({"grpo": dict.fromkeys(columns, 0.5)})})
    for kind in ("ours", "difference"):
        assert set(frame.loc[frame["kind"] == kind, "column"]) == shown
    blank = [note for note in show_paper(frame).notes if note.startswith("Blank in seven")]
    assert bool(blank) == (0 < len(shown) < len(COLUMNS))
    if "aime2024" not in shown and blank:
        assert "AIME 2024" in blank[0]


def test_an_average_over_other_benchmarks_is_not_subtracted() -> None:
    paper = [published("grpo", {IN_DISTRIBUTION: "40.0", OOD: "40.0"}, average_over=SIX[1:])]
    frame = paper_table(paper, {"seven": main_table({"grpo": dict.fromkeys(COLUMNS, 0.5)})})
    assert frame.loc[frame["kind"] == "difference", "column"].tolist() == [OOD]


def test_a_limited_evaluation_and_a_single_seed_mark_nothing() -> None:
    shares = {"grpo": {"aime2024": 0.9}}
    limited = paper_table(PAPER, {"seven": main_table(shares, limited="first 8 of 30")})
    assert not (limited["mark"] == "told apart").any()
    assert texts(limited)[5][2] == "90.0 ‡ [85.0, 95.0]"
    assert texts(limited)[6][2] == "+60.0 ‡ [+55.0, +65.0]"
    assert any("no benchmark score: AIME 2024 (first 8 of 30)" in note for note in show_paper(limited).notes)
    single = paper_table(PAPER, {"seven": main_table(shares, seeds=1)})
    assert not (single["mark"] == "told apart").any()


def test_only_what_the_main_table_makes_bold_is_bold() -> None:
    shares = {arm: {"aime2024": 0.4} for arm in ("sft", "grpo")}
    tied = show_paper(paper_table(PAPER, {"seven": main_table(shares)}))
    assert not any(cell.bold for row in tied.rows for cell in row)
    clear = show_paper(paper_table(PAPER, {"seven": main_table(shares, best="grpo")}))
    assert [row[0].text for row in clear.rows if any(cell.bold for cell in row)] == ["our grpo"]
    assert "**40.0**" in markdown(clear) and r"\textbf{40.0}" in latex(clear, "tab:paper")


def test_another_base_model_is_asked_for_by_name() -> None:
    ours = {"llama": main_table({"grpo": {"aime2024": 0.5}})}
    frame = paper_table(PAPER, ours, "Llama")
    assert frame.loc[frame["kind"] == "difference", "mean"].tolist() == pytest.approx([-0.49])
    with pytest.raises(UserError, match="nothing is published on 'Lama'; did you mean 'Llama'"):
        paper_table(PAPER, ours, "Lama")


def call(*words: str | Path) -> str:
    outcome = CliRunner().invoke(app, ["--rows", str(FILE), *map(str, words)], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


def test_the_verb_prints_the_published_rows_alone(tmp_path: Path) -> None:
    printed = call("--out", tmp_path / "here")
    assert printed.startswith("**Published figures, and ours**")
    assert "| DaGRPO [" in printed and "ours," not in printed
    assert "An average that does not follow from its columns: DaGRPO, SFT→GRPO, average OOD: 49.3" in printed
    assert (tmp_path / "here" / "paper.md").read_text(encoding="utf-8") == printed
    assert f"There are no tables in {tmp_path / 'tables'} yet" in call("--results", tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"here"}


def test_the_verb_writes_three_forms_beside_the_tables(tmp_path: Path) -> None:
    shares = {arm: dict.fromkeys(COLUMNS, 0.5) for arm in ("base", "sft", "dagrpo")}
    for base, frame in {"qwen": main_table(shares), "mini": main_table({"grpo": {"sums": 0.5}})}.items():
        (tmp_path / "tables" / base).mkdir(parents=True)
        frame.to_csv(tmp_path / "tables" / base / "main.csv", index=False)
    printed = call("--results", tmp_path)
    folder = tmp_path / "tables"
    assert (folder / "paper.md").read_text(encoding="utf-8") == printed
    assert "| − SFT (Limozin et al.)" in printed
    assert "No family of mini is one of the benchmarks, so it is left out." in printed
    page = (folder / "paper.tex").read_text(encoding="utf-8")
    assert "our dagrpo" in page and r"SFT$\to$RL (500 steps)" in page
    assert "Oat-Zero" in page and "LUFFY-Extra" not in page and "LUFFY-Extra" in printed
    stored = pd.read_csv(folder / "paper.csv").query("kind == 'difference' and method == 'dagrpo'").set_index("column")
    assert stored.loc[IN_DISTRIBUTION, "mean"] == pytest.approx(0.5 - 0.488)
    first = {path.name: path.read_bytes() for path in folder.glob("paper.*")}
    assert call("--results", tmp_path) == printed
    assert {path.name: path.read_bytes() for path in folder.glob("paper.*")} == first


def test_a_broken_table_of_ours_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tables" / "qwen" / "main.csv"
    path.parent.mkdir(parents=True)
    path.write_text("arm,label\ngrpo,GRPO\n")
    with pytest.raises(UserError, match="column 'seeds' is missing; run `dagrpo tables"):
        call("--results", tmp_path)
    path.write_text("")
    with pytest.raises(UserError, match="not a table"):
        call("--results", tmp_path)
