"""Training groups under the lens, samples for browsing, and the page's script that draws them."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dagrpo.algorithm import find_method
from dagrpo.records import Problem, Verdict
from dagrpo.trainer.snapshots import StoredGroup, StoredRow
from eval.excerpts import read_excerpts
from eval.excerpts.lens import DRAWN, chosen_steps, described, drawn_groups, kind_of, sentences
from eval.excerpts.samples import CHARACTERS, drawn, samples, shortened
from eval.excerpts.sharing import gaps, shared_with_others, stretches
from eval.records import open_runs
from eval.report import write_report
from eval.tables import write_tables
from tests.eval_tree import make_tree, write_json, write_lines

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
RECIPE = find_method("dagrpo").algorithm({"anchors": "none"}, "options").phases[0].recipe
HOSTILE = "</script><b>& it's \u2028"


def decode(tokens: Any) -> str:
    return "".join("abcdefghij"[token] for token in tokens)


def pushed(name: str, rows: list[tuple[tuple[int, ...], bool, float, float]], prompt: str = "1+1") -> StoredGroup:
    """A group of rows (tokens, right, score, weight) whose advantages are rewards less their mean."""
    mean = sum(right for _, right, _, _ in rows) / len(rows)
    stored = [
        StoredRow(
            index=index,
            tokens=tokens,
            text="",
            finish="stop",
            source="policy",
            verdict=Verdict.CORRECT if right else Verdict.WRONG,
            reward=float(right),
            score=score,
            advantage=right - mean,
            weight=weight,
        )
        for index, (tokens, right, score, weight) in enumerate(rows)
    ]
    return StoredGroup(Problem(name, "sums", prompt, "2", level=0), (9,), tuple(stored))


THINNED = [((0, 1, 2), True, 6.0, 0.0), ((0, 1, 3), False, 5.0, 0.0), ((0, 4), False, 1.0, 1.0), ((5,), True, 9.0, 1.0)]


def test_a_response_is_cut_where_other_rows_leave_it() -> None:
    cut = stretches([(1, 2, 3), (1, 2, 4), (1, 5), (6,), ()])
    assert cut[0] == [(0, 1, (0, 1, 2)), (1, 2, (0, 1)), (2, 3, (0,))]
    assert cut[2] == [(0, 1, (0, 1, 2)), (1, 2, (2,))]
    assert cut[3:] == [[(0, 1, (3,))], []]
    assert stretches([(7, 8), (7, 8)]) == [[(0, 2, (0, 1))]] * 2
    assert shared_with_others(cut, [1, -1, 1, -1, 0]) == [pytest.approx(2 / 3), pytest.approx(2 / 3), 0.5, 0, None]


def test_a_gap_is_to_the_nearest_of_the_other_side() -> None:
    assert gaps([9.0, 4.0, 5.0, 1.0, None, 7.0], [1, 1, -1, -1, 1, 0]) == [4.0, -1.0, -1.0, 3.0, None, None]
    assert gaps([9.0, 4.0], [1, 1]) == [None, None]


def test_a_group_is_described_before_and_after_the_mask() -> None:
    shown = described(pushed("p", THINNED), RECIPE, decode)
    first, second, third, _ = shown["rows"]
    assert (shown["prompt"], shown["answer"], shown["level"]) == ("1+1", "2", 0)
    assert (first["gap"], first["advantage"], first["weight"], first["shared"]) == (1.0, 0.5, 0.0, 0.667)
    assert first["parts"] == [["a", 1, 3, -0.5, -0.5, True], ["b", 1, 2, 0.0, 0.0, True], ["c", 1, 1, 0.5, 0.0, False]]
    assert second["parts"][2] == ["d", 1, 1, -0.5, 0.0, False] and third["gap"] == 5.0


def test_what_the_mask_removes_is_held_against_what_it_leaves() -> None:
    alike = [pushed(f"g{i}", THINNED) for i in range(8)] + [pushed("same", [((0,), True, 9.0, 1.0)] * 2)]
    removed, held = sentences(RECIPE, alike, 0)
    assert "Of 32 scored rows in 8 groups with both signs the mask removes 50 % [50, 50]" in removed
    assert "mean gap is 1.0, that of the rows which stay 4.5" in removed
    assert "shares 67 % of its tokens with a row of the other side, a row that stays 25 %: more, as far as" in held
    assert sentences(
        RECIPE, [pushed("g", [(tokens, right, score, 1.0) for tokens, right, score, _ in THINNED])], 0
    ) == ["Of 4 scored rows in 1 group with both signs the mask removes none."]
    assert sentences(RECIPE, alike[-1:], 0) == ["No group of these snapshots has scored rows of both signs."]


def test_groups_are_drawn_by_a_seed_and_none_twice() -> None:
    right, wrong = ((1,), True, 9.0, 1.0), ((2,), False, 1.0, 1.0)
    made = [pushed(f"easy{i}", [right, right]) for i in range(4)] + [pushed(f"hard{i}", [wrong]) for i in range(4)]
    made += [pushed(f"mixed{i}", [right, wrong]) for i in range(4)] + [pushed(f"thin{i}", THINNED) for i in range(4)]
    found = drawn_groups(made, "a")
    assert [kind for kind, _ in found] == [kind for kind, count in DRAWN.items() for _ in range(count)]
    assert len({one.problem.id for _, one in found}) == len(found)
    assert all(kind in ("masked", kind_of(one)) for kind, one in found)
    assert found == drawn_groups(made, "a") != drawn_groups(made, "b")


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], {}),
        ([5], {5: "early"}),
        ([0, 9], {0: "early", 9: "late"}),
        ([0, 1, 2, 3], {0: "early", 2: "middle", 3: "late"}),
    ],
)
def test_of_many_snapshots_three_are_shown(steps: list[int], words: dict[int, str]) -> None:
    assert chosen_steps(steps) == words


def test_samples_are_drawn_up_to_a_size_families_in_turn(tmp_path: Path) -> None:
    results = make_tree(tmp_path, seeds=(0,), problems=6, samples=5)
    write_lines(results / "problems" / "evaluation.jsonl", [{"id": "sums-0", "prompt": "1+1", "answer": "2"}])
    (whole,) = samples(open_runs(results))
    assert whole["of"] == len(whole["problems"]) == 30 and whole["beside"] == ["dagrpo", "grpo"]
    assert len({problem["family"] for problem in whole["problems"][:5]}) == 5
    (told,) = [problem for problem in whole["problems"] if problem["id"] == "sums-0"]
    assert (told["prompt"], told["answer"]) == ("1+1", "2") and len(told["rows"]["base"]) == 4
    (few,) = samples(open_runs(results), limit=9000)
    assert 0 < len(few["problems"]) < 15 and few["problems"] == whole["problems"][: len(few["problems"])]
    assert list(drawn({"a": ["a1", "a2"], "b": ["b1"]}, "x"))[1] == "b1"
    assert shortened("x" * CHARACTERS) == "x" * CHARACTERS and "[… 100 characters …]" in shortened(
        "x" * (CHARACTERS + 100)
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page with hostile texts in a group and in a sample, its figures left out."""
    results = make_tree(tmp_path_factory.mktemp("excerpts") / "toy", seeds=(0, 1), problems=5, samples=2, bootstrap=100)
    runs = open_runs(results)
    write_tables(runs, results / "tables")
    for name in ("averages", "accuracy", "differences", "ranking", "difficulty", "curves"):
        (results / "figures" / "school").mkdir(parents=True, exist_ok=True)
        (results / "figures" / "school" / f"{name}.svg").write_text("<svg/>")
    for arm in next(iter(runs.values())).experiment.arms:
        (results / "figures" / "school" / "methods").mkdir(exist_ok=True)
        (results / "figures" / "school" / "methods" / f"{arm}.svg").write_text("<svg/>")
    conflict = {"before": 0.5, "after": 0.25, "random": 0.4}
    kinds = [
        {"kind": kind, **described(pushed("p", THINNED, HOSTILE), RECIPE, decode), "conflict": conflict}
        for kind in ("easy", "masked")
    ]
    steps = [{"step": 0, "when": "early", "groups": kinds}, {"step": 9, "when": "late", "groups": kinds[:1]}]
    about = {"base": "school", "arm": "dagrpo", "label": "DaGRPO", "seed": 0, "delta": 3.0, "masked": True}
    write_json(results / "excerpts" / "lens.json", {"lens": [{**about, "said": ["Of all rows."], "steps": steps}]})
    (shown,) = samples(runs)
    shown["problems"][0]["prompt"] = HOSTILE
    shown["problems"][0]["rows"]["dagrpo"][0] = [HOSTILE, "wrong", "3", True]
    write_json(results / "excerpts" / "samples.json", {"samples": [shown]})
    write_report(runs, results / "report.html")
    assert read_excerpts(results / "nowhere") == {"lens": [], "samples": []}
    return (results / "report.html").read_text(encoding="utf-8")


def test_texts_cannot_leave_the_script_that_holds_them(page: str) -> None:
    assert HOSTILE not in page and page.count("</script>") == 3
    assert not re.search(r"<script[^>]+src|fetch\(|XMLHttp|innerHTML|import\(", page)
    text = re.findall(r'<script type="application/json" id="lens-data">(.*?)</script>', page)[0]
    assert json.loads(text)[0]["steps"][0]["groups"][0]["prompt"] == HOSTILE


DRIVER = """<script>
const told = {}, all = (query) => [...document.querySelectorAll(query)];
const pick = (place, value) => {
  const box = all("#samples-view select")[place];
  box.value = value;
  box.dispatchEvent(new Event("change"));
};
told.prompt = document.querySelector("#lens-view .prompt").textContent;
told.told = document.querySelector("#lens-view .told").textContent;
told.rows = all("#lens-view tbody tr").map((row) => row.textContent);
told.removed = all("#lens-view tr.removed").length;
told.hollow = all("#lens-view circle.removed").length;
told.drawn = document.querySelector("#lens-view circle").getBoundingClientRect().width > 0;
all("#lens-view button")[1].click();
told.late = all("#lens-view button").map((button) => button.textContent + button.getAttribute("aria-pressed"));
told.problems = all("#samples-view .problem").length;
told.arms = all("#samples-view .problem:first-of-type .answers-of > p").map((name) => name.textContent);
pick(2, "sums"); told.sums = all("#samples-view .problem").length;
pick(2, "any"); pick(4, "apart"); told.apart = all("#samples-view .problem code").map((code) => code.textContent);
told.sample = document.querySelector("#samples-view .apart").parentElement.textContent;
pick(1, ""); told.alone = all("#samples-view .problem:first-of-type .answers-of").length;
told.wide = document.documentElement.scrollWidth - innerWidth;
document.body.textContent = "TOLD" + JSON.stringify(told) + "END";
</script></body>"""


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (Debian: apt install chromium)")
def test_the_scripts_draw_groups_and_samples_in_a_browser(page: str, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    (tmp_path / "page.html").write_text(page.replace("</body>", DRIVER), encoding="utf-8")
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--window-size=500,900"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "page.html").as_uri()]
    done = subprocess.run([CHROMIUM, *words], capture_output=True, text=True, timeout=60, check=True)
    told = json.loads(
        re.findall(r"TOLD(.*)END", done.stdout.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))[0]
    )
    assert told["prompt"] == HOSTILE and told["drawn"]
    assert told["told"].startswith("The mask removes 2 of 4 rows.")
    assert "0.50 before, 0.25 after the mask, 0.40 where as many rows are dropped by lot" in told["told"]
    assert told["rows"][0] == "correct9.0+4.0+0.5010 %f" and told["removed"] == told["hollow"] == 2
    assert told["late"] == ["early (0)false", "late (9)true", "easytrue"]
    assert (told["problems"], told["sums"]) == (20, 5) and told["arms"] == ["DaGRPO, seed 0", "GRPO, seed 0"]
    assert told["apart"] == [HOSTILE] and told["alone"] == 1 and HOSTILE in told["sample"]
    assert told["wide"] <= 0, "nothing is wider than a phone"
