"""Answers to measure a verifier with: those of an ordinary training step, and hostile ones."""

import random

from dagrpo.records import Problem

HOSTILE = [
    *("{" * 1000 + "1" + "}" * 1000, "(" * 500 + "1" + ")" * 500, r"\frac{1}{" * 1000 + "2" + "}" * 1000),
    *(r"\{" + ",".join(map(str, range(3000))) + r"\}", "0." + "3" * 50_000, "9^{9^{9^{9}}}", r"9^{9^{9}}", "9^9^9^9"),
    *("10^{10^{8}}", "7^{20000000}", "((9!)!)!", "10000000!", "(x+y+z+w)^{200}", r"\sin(10^{500})+\cos(10^{10^{6}})"),
    *(r"\binom{10^8}{5*10^7}", r"\sum_{k=1}^{10^9} 1/k", r"\log_2(2^{10^9})", r"\sqrt{" + "7" * 3000 + "}"),
    *(
        "2^{400000000}",
        "100000000!",
        r"7^{30000000} \cdot 3^{30000000}",
        r"7^{30000000} \mod 10",
        "9^{9^{9}}, 8^{8^{8}}",
    ),
    *(r"\frac{7^{30000000}}{3^{20000000}}", r"\frac{1}{" * 200 + "2" + "}" * 200, r"\sqrt{" * 300 + "2" + "}" * 300),
    *(r"\sqrt" * 150 + "2", "^".join("x" * 300), "_".join("x" * 400), "-" * 900 + "1", "abc" * 300, "1," * 450 + "1"),
    *(r"(1,2)\cup" * 90 + "(3,4)", r"\frac{1}{" * 19 + "2" + "}" * 19, "+".join(rf"\sin({n}x)" for n in range(1, 90))),
    r"\begin{pmatrix}" + r"\\".join("&".join("1" * 60) for _ in range(60)) + r"\end{pmatrix}",
]
"""Deeply nested, enormous, or asking for a computation that does not end."""


def hostile_responses(count: int) -> list[str]:
    """Boxed hostile answers, no two alike, so that none is spared as a repetition."""
    boxed = [rf"\boxed{{{HOSTILE[n % len(HOSTILE)]}}}" for n in range(count)]
    return [text.replace("1", f"{n + 1}", 1) if n >= len(HOSTILE) else text for n, text in enumerate(boxed)]


def ordinary_step(draw: random.Random, prompts: int = 256) -> list[tuple[Problem, str]]:
    """Groups of 8 over mixed golds: half repeat the gold, the others spell it differently or are wrong."""

    def number() -> int:
        return draw.randint(2, 999)

    forms = [
        *[lambda: str(number())] * 11,
        *[lambda: rf"\frac{{{number()}}}{{{number()}}}"] * 2,
        lambda: f"{number()}.{number()}",
        lambda: rf"{number()}\sqrt{{{number()}}}",
        lambda: rf"\frac{{{number()}\pi}}{{7}}",
        lambda: f"({number()},{number()})",
        lambda: rf"{number()}^\circ",
        lambda: f"{number()}x+{number()}",
        lambda: f"[{number()},\\infty)",
    ]
    pairs = []
    for _ in range(prompts):
        form = draw.choice(forms)
        gold = form()
        answers = [gold] * 4 + [gold.replace(r"\frac", r"\dfrac"), f"x = {gold}", form(), form()]
        question = Problem("ordinary", "benchmark", "?", gold)
        pairs += [(question, rf"We find \boxed{{{answer}}}.") for answer in answers]
    return pairs
