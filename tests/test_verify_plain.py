"""What is decided without a judge is what both judges would say."""

import random

import pytest

from dagrpo.verify.judge import JUDGES
from dagrpo.verify.plain import compare, read_plain
from dagrpo.verify.settle import MAX_CHARACTERS, MAX_NESTING, MAX_TOKENS, Judgement, settle
from dagrpo.verify.text import clean


def plain_text(draw: random.Random) -> str:
    """A plain number in one of its spellings, drawn from few values, so that equal ones are frequent."""
    n, d, r, few = draw.randint(1, 6), draw.randint(2, 4), draw.choice([2, 3, 8, 12]), draw.choice([2, 3, 8])
    whole = [f"{n}", f"0{n}", f"{n}.0", f"{n}.5", f"{n},000", f"{n}000", "0"]
    ratio = [f"{n}/{d}", rf"\frac{{{n}}}{{{d}}}"]
    root = [rf"{n}\sqrt{{{r}}}", rf"\sqrt{{{r}}}", rf"\sqrt{few}", rf"\frac{{{n}\sqrt{{{r}}}}}{{{d}}}"]
    circle = [rf"{n}\pi", rf"\frac{{\pi}}{{{d}}}", rf"\frac{{{n}\pi}}{{{d}}}", rf"\frac{{{n}}}{{{d}}}\pi"]
    return draw.choice(["", "", "-"]) + draw.choice(whole + ratio + root + circle)


def answer_text(draw: random.Random) -> str:
    if draw.random() < 0.8:
        return plain_text(draw)
    low, high, third = (plain_text(draw).replace(",", "") for _ in range(3))
    interval = draw.choice([rf"(-\infty,{high}]", rf"[{low},\infty)", rf"({low},{high})", f"[{low},{high})"])
    return draw.choice([interval, interval, f"({low},{high},{third})"])


def test_judges_agree_with_what_needs_no_judge() -> None:
    draw = random.Random(0)
    decided = {True: 0, False: 0}
    while min(decided.values()) < 150:
        gold, answer = answer_text(draw), answer_text(draw)
        wanted, given = read_plain(clean(gold)), read_plain(clean(answer))
        equal = compare(wanted, given) if wanted and given else None
        if equal is None or decided[equal] >= 150:
            continue
        decided[equal] += 1
        for name, judge in JUDGES.items():
            assert judge(gold, answer) is Judgement.of(equal), (name, gold, answer)


@pytest.mark.parametrize(
    "text", ["", "-", "x", "1/0", "5/0", "12,34", r"\sqrt{2", "1 2", "(1)", "(1,x)", "[2,1]", r"3\frac{1}{2}", "1e5"]
)
def test_what_is_not_plain(text: str) -> None:
    assert read_plain(text) is None


@pytest.mark.parametrize(
    ("gold", "answer", "judgement"),
    [
        ("25", "025", Judgement.EQUAL),
        (r"\frac{1}{2}", "0.5", Judgement.EQUAL),
        ("(1,2)", "( 1, 2 )", Judgement.EQUAL),
        (r"\text{Monday}", "MONDAY", Judgement.EQUAL),
        (r"9^{9^{9}}", r"$9^{9^{9}}$", Judgement.EQUAL),
        ("25", "26", Judgement.UNEQUAL),
        ("5 cm", r"5\text{ m}", Judgement.UNEQUAL),
        ("7_8", "7_9", Judgement.UNEQUAL),
        ("1/3", "0.33333", None),
        ("x+1", "1+x", None),
        ("5", "(5,6)", None),
        ("5", "5" + " " * MAX_CHARACTERS, Judgement.UNEQUAL),
        ("x" * (MAX_CHARACTERS + 1), "x" * (MAX_CHARACTERS + 1), Judgement.EQUAL),
        ("5", "{" * (MAX_NESTING + 1) + "5" + "}" * (MAX_NESTING + 1), Judgement.UNEQUAL),
        ("5", "+".join(["1"] * MAX_TOKENS), Judgement.UNEQUAL),
        ("x+y+z+u+v+w+5", "+".join(["x"] * MAX_TOKENS), None),
    ],
)
def test_settle(gold: str, answer: str, judgement: Judgement | None) -> None:
    assert settle(gold, answer) is judgement


def test_digits_on_either_side_of_a_space_stay_apart() -> None:
    assert settle("12/3", "1 2/3") is None
    assert settle(r"\frac{1}{23}", r"\frac{12}{3}") is Judgement.UNEQUAL
