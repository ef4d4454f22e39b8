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
VECTOR = "it tells a column from a tuple: the same components in the same order are the same vector"
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
        Row("8", "\\text{8}", True),
        Row("8", "\\mathbf{8}", True),
        Row("8", "$8$", True),
        Row("8", "8.", True),
        Row("12", "3 \\cdot 4", True),
        Row("5", "4+1", True),
        Row("5", "5 5 5", False),
        Row("2^{1009}", "2 \\cdot 2^{1008}", True),
        Row("2^{1009}", "2^{1008}", False),
        Row("120", "5!", True),
        Row("10", "\\binom{5}{2}", True),
        Row("10", "\\binom{5}{1}", False),
    ],
    "thousands": [
        Row("1000", "1,000", True),
        Row("5,600", "5600", True),
        Row("9,\\!000,\\!000", "9000000", True),
        Row("10\\,000", "10000", True),
        Row("1{,}000", "1000", True),
        Row("1,234,567", "1234567", True),
        Row("1000", "1,00", False),
        Row("5600", "5,60", False),
    ],
    "fractions": [
        Row("\\frac{1}{2}", "1/2", True),
        Row("\\frac{1}{2}", "\\frac12", True),
        Row("\\frac{1}{2}", "\\dfrac{1}{2}", True),
        Row("\\frac{1}{2}", "\\frac{2}{4}", True),
        Row("\\frac{1}{2}", "0.5", True),
        Row("\\frac{1}{2}", "½", True),
        Row("0.5", "\\tfrac{1}{2}", True),
        Row("-\\frac{3}{4}", "\\frac{-3}{4}", True),
        Row("-\\frac{3}{4}", "\\frac{3}{-4}", True),
        Row("-\\frac{3}{4}", "\\frac{3}{4}", False),
        Row("\\frac{1}{2}", "\\frac{2}{1}", False),
        Row("\\frac{1}{3}", "0.33", False),
        Row("\\frac{1}{3}", "0.333333", True),
        Row("\\frac{1}{3}", "0.\\overline{3}", True, REPEATING),
        Row("\\frac{1}{6}", "0.1\\overline{6}", True, REPEATING),
        Row("\\frac{17}{32}", "17⁄32", True),
        Row("1:2", "\\frac{1}{2}", True),
        Row("1:2", "2:4", True),
        Row("1:2", "2:1", False),
    ],
    "mixed numbers": [
        Row("2\\frac{1}{2}", "\\frac{5}{2}", True),
        Row("2\\frac{1}{2}", "2.5", True),
        Row("2\\frac12", "2\\frac{1}{2}", True),
        Row("\\frac{5}{2}", "2 1/2", True, MIXED),
        Row("2 1/2", "\\frac{5}{2}", True, MIXED),
        Row("-2\\frac{1}{2}", "-2.5", True),
        Row("2\\frac{1}{2}", "1", False),
        Row("2\\frac{1}{2}", "\\frac{21}{2}", False),
    ],
    "decimals": [
        Row("0.25", ".25", True),
        Row("0.250", "0.25", True),
        Row("-3.5", "-\\frac{7}{2}", True),
        Row("3.14", "3.141", False),
        Row("\\pi", "3.14", False),
        Row("\\pi", "3.1415927", True),
        Row("\\pi", "3.14159", True, DIGITS),
        Row("\\sqrt{2}", "1.414214", True),
        Row("\\sqrt{2}", "1.41", False),
        Row("0.001", "0.002", False),
        Row("4.4677", "4.4676", False),
        Row("1234567.8", "1234567.9", True, DIGITS),
    ],
    "scientific notation": [
        Row("1.24e-8", "1.24\\times 10^{-8}", True),
        Row("1.24e-8", "1.24 \\cdot 10^{-8}", True),
        Row("1.24e-8", "0.0000000124", True),
        Row("1.24e-8", "1.25e-8", False),
        Row("1.24e-8", "5e-8", False),
        Row("4.46e19", "4.46 × 10^{19}", True),
        Row("4.46e19", "4.46 × 10¹⁹", True),
        Row("4.46e19", "4.46 \\times 10^{18}", False),
        Row("2e27", "2 \\times 10^{27}", True),
        Row("9.35e5", "935000", True),
        Row("6000", "6 \\times 10^3", True),
        Row("6000", "6e3", True),
    ],
    "radicals": [
        Row("2\\sqrt{2}", "\\sqrt{8}", True),
        Row("2\\sqrt{2}", "\\sqrt8", True),
        Row("2\\sqrt{2}", "2√2", True),
        Row("225\\sqrt{11}", "225√11", True),
        Row("\\frac{\\sqrt{3}}{3}", "\\frac{1}{\\sqrt{3}}", True),
        Row("3\\sqrt{13}", "sqrt(117)", True),
        Row("\\sqrt[3]{16}", "2\\sqrt[3]{2}", True),
        Row("4-2\\sqrt{3}", "(\\sqrt{3}-1)^2", True),
        Row("\\sqrt{5+2\\sqrt{6}}", "\\sqrt{2}+\\sqrt{3}", True),
        Row("2\\sqrt{3}", "3\\sqrt{2}", False),
        Row("\\sqrt{2}+1", "\\sqrt{2}-1", False),
        Row("\\sqrt{50}", "5\\sqrt{2}", True),
        Row("8", "4^{3/2}", True),
    ],
    "plus-minus": [
        Row("\\pm 2", "2,-2", True),
        Row("\\pm 2", "-2, 2", True),
        Row("\\pm 2", "2", False),
        Row("\\pm 2", "-2", False),
        Row("2", "\\pm 2", False),
        Row("3\\pm\\sqrt{2}", "3+\\sqrt{2}, 3-\\sqrt{2}", True),
        Row("1 + \\sqrt{2}, 1 - \\sqrt{2}", "1\\pm\\sqrt{2}", True),
        Row("x = \\pm 2", "x = 2 \\text{ or } x = -2", True),
        Row("\\frac{3\\pm\\sqrt{5}}{2}", "\\frac{3+\\sqrt{5}}{2},\\frac{3-\\sqrt{5}}{2}", True, "it splits a plus-minus in a sum, but not in a fraction"),
    ],
    "lists and sets": [
        Row("-2,1", "1,-2", True),
        Row("-2,1", "-2 \\text{ and } 1", True),
        Row("-2,1", "-2 or 1", True),
        Row("-2,1", "\\{1,-2\\}", True),
        Row("\\{1,2,3\\}", "\\{3,2,1\\}", True),
        Row("\\{1,2,3\\}", "\\{1,2\\}", False),
        Row("\\{1,2\\}", "\\{1,2,3\\}", False),
        Row("\\{1,2\\}", "1,2", True),
        Row("5", "\\{5\\}", True),
        Row("3", "3,4", False),
        Row("3,4", "3", False),
        Row("64,\\frac{1}{4}", "0.25, 64", True),
        Row("1,1,2", "1,2", True),
        Row("\\emptyset", "\\varnothing", True, "it knows one of the two signs of the empty set"),
        Row("\\{0, \\pi\\}", "0,\\pi", True),
    ],
    "tuples": [
        Row("(1,2)", "(1,2)", True),
        Row("(1,2)", "(2,1)", False),
        Row("(1,2)", "1,2", True),
        Row("\\left( 3, \\frac{\\pi}{2} \\right)", "(3, \\pi/2)", True),
        Row("(0.5,0.5)", "(\\frac12,\\frac12)", True),
        Row("(1,2,3)", "(1,2)", False),
        Row("(-5,1)", "(-5,7)", False),
        Row("(3+\\sqrt{5},-1)", "(3 + √5, –1)", True),
        Row("(1,2),(3,4)", "(3,4),(1,2)", True),
        Row("(1,2),(3,4)", "(1,2)", False),
        Row("(x,y)=(1,2)", "(1,2)", True),
    ],
    "intervals": [
        Row("[1,2)", "[1,2)", True),
        Row("[1,2)", "(1,2)", False),
        Row("[1,2)", "[1,2]", False),
        Row("(-\\infty,3)", "x<3", True, INEQUALITY),
        Row("x<3", "(-\\infty,3)", True),
        Row("[3,\\infty)", "x \\ge 3", True, INEQUALITY),
        Row("[3,\\infty)", "x > 3", False),
        Row("(1,3]", "1 < x \\leq 3", True, INEQUALITY),
        Row("(-\\infty,0)\\cup(5,\\infty)", "(5,\\infty)\\cup(-\\infty,0)", True),
        Row("(2,12) \\cup (12,102)", "(2,12)", False),
        Row("(-\\infty,\\infty)", "\\mathbb{R}", True),
        Row("[-1,1]", "x \\in [-1,1]", True),
        Row("\\left[\\frac{1}{2},1\\right]", "[0.5,1]", True),
    ],
    "matrices": [
        Row(
            "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}",
            "\\begin{bmatrix} 1 & 2 \\\\ 3 & 4 \\end{bmatrix}",
            True,
        ),
        Row(
            "\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}",
            "\\begin{pmatrix} 1 & 3 \\\\ 2 & 4 \\end{pmatrix}",
            False,
        ),
        Row(
            "\\begin{pmatrix} 1/2 & 0 \\\\ 0 & 1 \\end{pmatrix}",
            "\\begin{pmatrix} 0.5 & 0 \\\\ 0 & 1 \\end{pmatrix}",
            True,
        ),
        Row("\\begin{pmatrix} 3 \\\\ 1 \\\\ -2 \\end{pmatrix}", "(3,1,-2)", True, VECTOR),
        Row("\\begin{pmatrix} 3 \\\\ 1 \\\\ -2 \\end{pmatrix}", "(3,1,2)", False),
        Row("\\begin{pmatrix} 3 \\\\ 1 \\end{pmatrix}", "\\begin{pmatrix} 3 \\\\ 1 \\end{pmatrix}", True),
        Row("\\begin{pmatrix} 3 \\\\ 1 \\end{pmatrix}", "\\begin{pmatrix} 1 \\\\ 3 \\end{pmatrix}", False),
    ],
    "percent": [
        Row("50\\%", "50", True),
        Row("50", "50\\%", True),
        Row("50\\%", "50 percent", True),
        Row("50\\%", "0.5", True, PERCENT),
        Row("0.08", "8\\%", True, PERCENT),
        Row("8 \\%", "\\frac{2}{25}", True, PERCENT),
        Row("50\\%", "5\\%", False),
        Row("50\\%", "0.05", False),
        Row("50", "0.5", False),
    ],
    "degrees": [
        Row("76^\\circ", "76", True),
        Row("76", "76^\\circ", True),
        Row("76^\\circ", "76^{\\circ}", True),
        Row("76^\\circ", "76°", True),
        Row("76^\\circ", "76\\text{ degrees}", True),
        Row("76^\\circ", "67^\\circ", False),
        Row("90^\\circ", "90\\text{ radians}", False),
        Row("\\frac{\\pi}{2}", "90^\\circ", False),
    ],
    "units": [
        Row("5\\text{ cm}", "5", True),
        Row("5", "5\\text{ cm}", True),
        Row("5\\text{ cm}", "5 centimeters", True),
        Row("5\\text{ cm}", "5 m", False),
        Row("5\\text{ m}", "500\\text{ cm}", False),
        Row("12\\text{ cm}^2", "12 square centimeters", True),
        Row("12\\text{ cm}^2", "12\\text{ cm}", False),
        Row("45 \\text{ mph}", "45 miles per hour", True),
        Row("45", "45 miles per hour", True),
        Row("7\\text{ m/s}", "7\\text{ m/s}^2", False),
        Row("\\$32", "32", True),
        Row("32", "\\$32", True),
        Row("\\$32", "32 dollars", True),
        Row("\\$32", "32 cents", False),
        Row("20", "20 \\text{ square units}", True),
        Row("800", "800 pages", True),
        Row("3 hours", "3 days", False),
        Row("10\\sqrt{3}\\text{ feet}", "10\\sqrt{3}\\text{ ft}", True),
        Row("2516_8", "2516", True),
        Row("2516_8", "2516_{8}", True),
        Row("2516_8", "2516_9", False),
        Row("1242_6", "1242₆", True),
    ],
    "expressions": [
        Row("x^2+1", "1+x^2", True),
        Row("x^2-1", "(x-1)(x+1)", True),
        Row("x^2+1", "x^2-1", False),
        Row("\\frac{4-x}{5}", "\\frac{1}{5}(4-x)", True),
        Row("x^4-16", "x⁴ − 16", True),
        Row("-23x^3(5x^4-2)", "23x^3(2-5x^4)", True),
        Row("n^{2}+1", "n^2+1", True),
        Row("2x", "2y", False),
        Row("6+9i", "9i+6", True),
        Row("i", "-i", False),
        Row("\\sin^2 x", "1-\\cos^2 x", True),
        Row("\\ln 8", "3\\ln 2", True),
        Row("e^{2x}", "(e^x)^2", True),
        Row("|x-1|", "|1-x|", True),
        Row("\\frac{1}{2 a}(e^{a t}-e^{-a t})", "\\frac{\\sinh(at)}{a}", True, "it does not rewrite exponentials as hyperbolic functions"),
        Row("2RC+R+C", "R+C+2CR", True),
        Row("10p^3 \\sqrt{3p}", "10 p^3 sqrt(3p)", True, "it reads sqrt without a backslash as four letters"),
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
        Row("12", "0 = 12", False, "it takes the right side of any equation: this one is false"),
        Row("12", "10+2 = 12", True),
        Row("a=1, b=2", "(1,2)", True),
    ],
    "words": [
        Row("\\text{Monday}", "Monday", True),
        Row("\\text{Monday}", "monday", True),
        Row("\\text{Monday}", "Tuesday", False),
        Row("even", "odd", False),
        Row("\\text{yes}", "Yes", True),
        Row("\\text{yes}", "no", False),
        Row("\\mbox{four}", "4", True, "it reads no number words: four is 4"),
        Row("\\text{ellipse}", "ellipse", True),
        Row("\\text{undefined}", "0", False),
    ],
    "letters": [
        Row("\\text{(C)}", "C", True),
        Row("\\textbf{(B)}", "(B)", True),
        Row("C", "c", True),
        Row("C", "D", False),
        Row("\\text{(D)}", "\\textbf{(E)}", False),
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
