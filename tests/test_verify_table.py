"""Golds, answers and what is right: decided by hand, with a line wherever math-verify says otherwise."""

from collections import Counter
from typing import NamedTuple

import pytest

from dagrpo.verify.judge import JUDGES
from dagrpo.verify.settle import Judgement, settle


class Row(NamedTuple):
    gold: str
    answer: str
    right: bool
    math_verify_errs: str = ""


PERCENT = "it equates 9% with 9, but not with 0.09: a percentage is right either way"
ANY_EQUATION = "it takes the right side of any equation: this one leaves its left side open"
VECTOR = "it tells a column from a tuple: the same components in the same order are the same vector"
FRACTION = "it splits a plus-minus in a sum, but not in a fraction"
HYPERBOLIC = "it does not rewrite exponentials as hyperbolic functions"
REPEATING = "it reads no repeating decimals"
MIXED = "it takes the space in a mixed number for a product"
INEQUALITY = "it takes an inequality for its interval in the gold only"
DIGITS = "it rounds to six decimals: a number that agrees to six digits is right"

TABLE: dict[str, list[Row]] = {
    "integers": [
        Row("25", "25", True),
        Row("25", "025", True),
        Row("033", "33", True),
        Row("27.0", "27", True),
        Row("27", "27.0", True),
        Row("-7", "-7", True),
        Row("7", "-7", False),
        Row("0", "-0", True),
        Row("204", "402", False),
        Row("70", "7", False),
        Row("5", "+5", True),
        Row("8", r"\text{8}", True),
        Row("8", r"\mathbf{8}", True),
        Row("8", "$8$", True),
        Row("8", "8.", True),
        Row("8", "= 8", True),
        Row("8", r"\approx 8", True),
        Row("12", r"3 \cdot 4", True),
        Row("5", "4+1", True),
        Row("5", "5 5 5", False),
        Row("2^{1009}", r"2 \cdot 2^{1008}", True),
        Row("2^{1009}", "2^{1008}", False),
        Row("120", "5!", True),
        Row("10", r"\binom{5}{2}", True),
        Row("10", r"\binom{5}{1}", False),
        Row("3", r"\lfloor \pi \rfloor", True),
    ],
    "thousands": [
        Row("1000", "1,000", True),
        Row("5,600", "5600", True),
        Row(r"9,\!000,\!000", "9000000", True),
        Row(r"10\,000", "10000", True),
        Row("1{,}000", "1000", True),
        Row("1,234,567", "1234567", True),
        Row("1000", "1,00", False),
        Row("5600", "5,60", False),
    ],
    "fractions": [
        Row(r"\frac{1}{2}", "1/2", True),
        Row(r"\frac{1}{2}", r"\frac12", True),
        Row(r"\frac{1}{2}", r"\dfrac{1}{2}", True),
        Row(r"\frac{1}{2}", r"\frac{2}{4}", True),
        Row(r"\frac{1}{2}", "0.5", True),
        Row(r"\frac{1}{2}", "½", True),
        Row("0.5", r"\tfrac{1}{2}", True),
        Row(r"-\frac{3}{4}", r"\frac{-3}{4}", True),
        Row(r"-\frac{3}{4}", r"\frac{3}{-4}", True),
        Row(r"-\frac{3}{4}", r"\frac{3}{4}", False),
        Row(r"\frac{1}{2}", r"\frac{2}{1}", False),
        Row(r"\frac{1}{3}", "0.33", False),
        Row(r"\frac{1}{3}", "0.333333", True),
        Row(r"\frac{1}{3}", r"0.\overline{3}", True, REPEATING),
        Row(r"\frac{1}{6}", r"0.1\overline{6}", True, REPEATING),
        Row(r"\frac{17}{32}", "17⁄32", True),
        Row("1:2", r"\frac{1}{2}", True),
        Row("1:2", "2:4", True),
        Row("1:2", "2:1", False),
    ],
    "mixed numbers": [
        Row(r"2\frac{1}{2}", r"\frac{5}{2}", True),
        Row(r"2\frac{1}{2}", "2.5", True),
        Row(r"2\frac12", r"2\frac{1}{2}", True),
        Row(r"\frac{5}{2}", "2 1/2", True, MIXED),
        Row("2 1/2", r"\frac{5}{2}", True, MIXED),
        Row(r"-2\frac{1}{2}", "-2.5", True),
        Row(r"2\frac{1}{2}", "1", False),
        Row(r"2\frac{1}{2}", r"\frac{21}{2}", False),
    ],
    "decimals": [
        Row("0.25", ".25", True),
        Row("0.250", "0.25", True),
        Row("-3.5", r"-\frac{7}{2}", True),
        Row("3.14", "3.141", False),
        Row(r"\pi", "3.14", False),
        Row(r"\pi", "3.1415927", True),
        Row(r"\pi", "3.14159", True, DIGITS),
        Row(r"\sqrt{2}", "1.414214", True),
        Row(r"\sqrt{2}", "1.41", False),
        Row("0.001", "0.002", False),
        Row("4.4677", "4.4676", False),
        Row("1234567.8", "1234567.9", True, DIGITS),
    ],
    "scientific notation": [
        Row("1.24e-8", r"1.24\times 10^{-8}", True),
        Row("1.24e-8", r"1.24 \cdot 10^{-8}", True),
        Row("1.24e-8", "0.0000000124", True),
        Row("1.24e-8", "1.25e-8", False),
        Row("1.24e-8", "5e-8", False),
        Row("4.46e19", "4.46 × 10^{19}", True),
        Row("4.46e19", "4.46 × 10¹⁹", True),
        Row("4.46e19", r"4.46 \times 10^{18}", False),
        Row("2e27", r"2 \times 10^{27}", True),
        Row("9.35e5", "935000", True),
        Row("6000", r"6 \times 10^3", True),
        Row("6000", "6e3", True),
    ],
    "radicals": [
        Row(r"2\sqrt{2}", r"\sqrt{8}", True),
        Row(r"2\sqrt{2}", r"\sqrt8", True),
        Row(r"2\sqrt{2}", "2√2", True),
        Row(r"225\sqrt{11}", "225√11", True),
        Row(r"\frac{\sqrt{3}}{3}", r"\frac{1}{\sqrt{3}}", True),
        Row(r"3\sqrt{13}", "sqrt(117)", True),
        Row(r"\sqrt[3]{16}", r"2\sqrt[3]{2}", True),
        Row(r"4-2\sqrt{3}", r"(\sqrt{3}-1)^2", True),
        Row(r"\sqrt{5+2\sqrt{6}}", r"\sqrt{2}+\sqrt{3}", True),
        Row(r"2\sqrt{3}", r"3\sqrt{2}", False),
        Row(r"\sqrt{2}+1", r"\sqrt{2}-1", False),
        Row(r"\sqrt{50}", r"5\sqrt{2}", True),
        Row("8", "4^{3/2}", True),
    ],
    "plus-minus": [
        Row(r"\pm 2", "2,-2", True),
        Row(r"\pm 2", "-2, 2", True),
        Row(r"\pm 2", "2", False),
        Row(r"\pm 2", "-2", False),
        Row("2", r"\pm 2", False),
        Row(r"3\pm\sqrt{2}", r"3+\sqrt{2}, 3-\sqrt{2}", True),
        Row(r"1 + \sqrt{2}, 1 - \sqrt{2}", r"1\pm\sqrt{2}", True),
        Row(r"x = \pm 2", r"x = 2 \text{ or } x = -2", True),
        Row(r"\frac{3\pm\sqrt{5}}{2}", r"\frac{3+\sqrt{5}}{2},\frac{3-\sqrt{5}}{2}", True, FRACTION),
    ],
    "lists and sets": [
        Row("-2,1", "1,-2", True),
        Row("-2,1", r"-2 \text{ and } 1", True),
        Row("-2,1", "-2 or 1", True),
        Row("-2,1", r"\{1,-2\}", True),
        Row(r"\{1,2,3\}", r"\{3,2,1\}", True),
        Row(r"\{1,2,3\}", r"\{1,2\}", False),
        Row(r"\{1,2\}", r"\{1,2,3\}", False),
        Row(r"\{1,2\}", "1,2", True),
        Row("5", r"\{5\}", True),
        Row("3", "3,4", False),
        Row("3,4", "3", False),
        Row(r"64,\frac{1}{4}", "0.25, 64", True),
        Row("1,1,2", "1,2", True),
        Row(r"\emptyset", r"\varnothing", True, "it knows one of the two signs of the empty set"),
        Row(r"\{0, \pi\}", r"0,\pi", True),
    ],
    "tuples": [
        Row("(1,2)", "(1,2)", True),
        Row("(1,2)", "(2,1)", False),
        Row("(1,2)", "1,2", True),
        Row(r"\left( 3, \frac{\pi}{2} \right)", r"(3, \pi/2)", True),
        Row("(0.5,0.5)", r"(\frac12,\frac12)", True),
        Row("(1,2,3)", "(1,2)", False),
        Row("(-5,1)", "(-5,7)", False),
        Row(r"(3+\sqrt{5},-1)", "(3 + √5, –1)", True),
        Row("(1,2),(3,4)", "(3,4),(1,2)", True),
        Row("(1,2),(3,4)", "(1,2)", False),
        Row("(x,y)=(1,2)", "(1,2)", True),
    ],
    "intervals": [
        Row("[1,2)", "[1,2)", True),
        Row("[1,2)", "(1,2)", False),
        Row("[1,2)", "[1,2]", False),
        Row(r"(-\infty,3)", "x<3", True, INEQUALITY),
        Row("x<3", r"(-\infty,3)", True),
        Row(r"[3,\infty)", r"x \ge 3", True, INEQUALITY),
        Row(r"[3,\infty)", "x > 3", False),
        Row("(1,3]", r"1 < x \leq 3", True, INEQUALITY),
        Row(r"(-\infty,0)\cup(5,\infty)", r"(5,\infty)\cup(-\infty,0)", True),
        Row(r"(2,12) \cup (12,102)", "(2,12)", False),
        Row(r"(-\infty,\infty)", r"\mathbb{R}", True),
        Row("[-1,1]", r"x \in [-1,1]", True),
        Row(r"\left[\frac{1}{2},1\right]", "[0.5,1]", True),
    ],
    "matrices": [
        Row(
            r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
            r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}",
            True,
        ),
        Row(
            r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
            r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}",
            False,
        ),
        Row(
            r"\begin{pmatrix} 1/2 & 0 \\ 0 & 1 \end{pmatrix}",
            r"\begin{pmatrix} 0.5 & 0 \\ 0 & 1 \end{pmatrix}",
            True,
        ),
        Row(r"\begin{pmatrix} 3 \\ 1 \\ -2 \end{pmatrix}", "(3,1,-2)", True, VECTOR),
        Row(r"\begin{pmatrix} 3 \\ 1 \\ -2 \end{pmatrix}", "(3,1,2)", False),
        Row(r"\begin{pmatrix} 3 \\ 1 \end{pmatrix}", r"\begin{pmatrix} 3 \\ 1 \end{pmatrix}", True),
        Row(r"\begin{pmatrix} 3 \\ 1 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 3 \end{pmatrix}", False),
    ],
    "percent": [
        Row(r"50\%", "50", True),
        Row("50", r"50\%", True),
        Row(r"50\%", "50 percent", True),
        Row(r"50\%", "0.5", True, PERCENT),
        Row("0.08", r"8\%", True, PERCENT),
        Row(r"8 \%", r"\frac{2}{25}", True, PERCENT),
        Row(r"50\%", r"5\%", False),
        Row(r"50\%", "0.05", False),
        Row("50", "0.5", False),
    ],
    "degrees": [
        Row(r"76^\circ", "76", True),
        Row("76", r"76^\circ", True),
        Row(r"76^\circ", r"76^{\circ}", True),
        Row(r"76^\circ", "76°", True),
        Row(r"76^\circ", r"76\text{ degrees}", True),
        Row(r"76^\circ", r"67^\circ", False),
        Row(r"90^\circ", r"90\text{ radians}", False),
        Row(r"\frac{\pi}{2}", r"90^\circ", False),
    ],
    "units": [
        Row(r"5\text{ cm}", "5", True),
        Row("5", r"5\text{ cm}", True),
        Row(r"5\text{ cm}", "5 centimeters", True),
        Row(r"5\text{ cm}", "5 m", False),
        Row(r"5\text{ m}", r"500\text{ cm}", False),
        Row(r"12\text{ cm}^2", "12 square centimeters", True),
        Row(r"12\text{ cm}^2", r"12\text{ cm}", False),
        Row(r"45 \text{ mph}", "45 miles per hour", True),
        Row("45", "45 miles per hour", True),
        Row(r"7\text{ m/s}", r"7\text{ m/s}^2", False),
        Row(r"\$32", "32", True),
        Row("32", r"\$32", True),
        Row(r"\$32", "32 dollars", True),
        Row(r"\$32", "32 cents", False),
        Row("20", r"20 \text{ square units}", True),
        Row("800", "800 pages", True),
        Row("3 hours", "3 days", False),
        Row(r"10\sqrt{3}\text{ feet}", r"10\sqrt{3}\text{ ft}", True),
        Row("2516_8", "2516", True),
        Row("2516_8", "2516_{8}", True),
        Row("2516_8", "2516_9", False),
        Row("1242_6", "1242₆", True),
        Row(r"5\text{ m}", "5 m", True),
        Row(r"5\text{ m}", "5", True),
        Row("5", "5 m", True),
        Row(r"5\text{ m}", "5 s", False),
        Row("2 n", "2", False),
        Row("2 n", "2 k", False),
        Row("f(n) = 2 n", "2n", True),
        Row("2k", "2", False),
        Row("5", r"5\text{ million}", False),
        Row("x_1", "x", False),
        Row("x_1", "x_2", False),
        Row("x_{1}", "x_1", True),
    ],
    "expressions": [
        Row("x^2+1", "1+x^2", True),
        Row("x^2-1", "(x-1)(x+1)", True),
        Row("x^2+1", "x^2-1", False),
        Row(r"\frac{4-x}{5}", r"\frac{1}{5}(4-x)", True),
        Row("x^4-16", "x⁴ − 16", True),
        Row("-23x^3(5x^4-2)", "23x^3(2-5x^4)", True),
        Row("n^{2}+1", "n^2+1", True),
        Row("2x", "2y", False),
        Row("6+9i", "9i+6", True),
        Row("i", "-i", False),
        Row(r"\sin^2 x", r"1-\cos^2 x", True),
        Row(r"\ln 8", r"3\ln 2", True),
        Row("e^{2x}", "(e^x)^2", True),
        Row("|x-1|", "|1-x|", True),
        Row(r"\frac{1}{2 a}(e^{a t}-e^{-a t})", r"\frac{\sinh(at)}{a}", True, HYPERBOLIC),
        Row("2RC+R+C", "R+C+2CR", True),
        Row(r"10p^3 \sqrt{3p}", "10 p^3 sqrt(3p)", True, "it reads sqrt without a backslash as four letters"),
    ],
    "equations": [
        Row("x=5", "5", True),
        Row("5", "x=5", True),
        Row("x=5", "y=5", False),
        Row("k=2n-1", "2n-1", True),
        Row("f(n) = 2n+1007", "f(n)=1007+2n", True),
        Row("y=2x+1", "y-2x=1", True),
        Row("2x+3y=6", "4x+6y=12", True),
        Row("2x+3y=6", "2x+3y=7", False),
        Row("12", "0 = 12", False),
        Row("5", "1=2=3=4=5", False),
        Row("2-2p", "x-p = 2-2p", False, ANY_EQUATION),
        Row("6", "2x+3y = 6", False, ANY_EQUATION),
        Row("12", "10+2 = 12", True),
        Row("a=1, b=2", "(1,2)", True),
    ],
    "words": [
        Row(r"\text{Monday}", "Monday", True),
        Row(r"\text{Monday}", "monday", True),
        Row(r"\text{Monday}", "Tuesday", False),
        Row("even", "odd", False),
        Row(r"\text{yes}", "Yes", True),
        Row(r"\text{yes}", "no", False),
        Row(r"\mbox{four}", "4", True, "it reads no number words: four is 4"),
        Row(r"\text{ellipse}", "ellipse", True),
        Row(r"\text{undefined}", "0", False),
    ],
    "letters": [
        Row(r"\text{(C)}", "C", True),
        Row(r"\textbf{(B)}", "(B)", True),
        Row("C", "c", True),
        Row("C", "D", False),
        Row(r"\text{(D)}", r"\textbf{(E)}", False),
        Row("B", "B.", True),
        Row("B", "A,B,C,D", False),
    ],
}  # fmt: skip

ROWS = [row for rows in TABLE.values() for row in rows]


def judged(judge: str, gold: str, answer: str) -> bool:
    return (settle(gold, answer) or JUDGES[judge](gold, answer)) is Judgement.EQUAL


def test_table_is_large_and_says_each_thing_once() -> None:
    assert len(ROWS) >= 150
    assert not [pair for pair, times in Counter(row[:2] for row in ROWS).items() if times > 1]


@pytest.mark.parametrize("kind", TABLE)
def test_our_judge_is_right(kind: str) -> None:
    assert [row for row in TABLE[kind] if judged("sympy", row.gold, row.answer) != row.right] == []


@pytest.mark.parametrize("kind", TABLE)
def test_math_verify_is_right_but_where_explained(kind: str) -> None:
    errs = [row for row in TABLE[kind] if judged("math_verify", row.gold, row.answer) != row.right]
    assert errs == [row for row in TABLE[kind] if row.math_verify_errs]
