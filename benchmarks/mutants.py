"""Golds with one slip each, none of which the verifier may accept.

    python -m benchmarks.mutants --mirror DIRECTORY --each 8

A slip is another sign, digit, order, bracket, letter or unit, or a part less or more; only those are made that change
the value. Golds come from the sets of a mirror (JSON Lines with ``answer``).
"""

import argparse
import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from tabulate import tabulate

from dagrpo.processes.signals import never
from dagrpo.progress import progress
from dagrpo.verify.settle import Judgement, settle
from dagrpo.verify.text import clean
from dagrpo.verify.workers import Workers

_NO_SYMBOLS = re.compile(
    r"\\(?:binom|in|mathbb|left|right|forall|quad|text|mbox|operatorname|angle|triangle|sum|int)\b|[<>=|']"
)
"""Where a letter may change without changing the value, or stands in a word."""

Mutation = Callable[[str, random.Random], str | None]
"""Makes one slip in a gold; ``None`` where there is nothing to slip on."""

_UNITS = ("cm", "m", "km", "kg", "hours", "minutes", "days", "inches", "feet", "dollars", "cents", "degrees")
_VALUE_FREE = re.compile(
    r"\\(?:binom|pm|mp|cos|sin|tan|sec|csc|cot|left|right|ldots|cdots|dots|mod|pmod|equiv|ne|neq|approx)\b|\|"
)
"""Where a sign or a digit may change without changing the value."""


def sign(gold: str, draw: random.Random) -> str | None:
    """The whole with the other sign, or one sum as a difference."""
    if _VALUE_FREE.search(gold) or "=" in gold or re.match(r"[\s$]*0(?!\.?\d*[1-9])", gold):
        return None
    signs = [match.start() for match in re.finditer(r"(?<=[\w})]) ?[-+] ?(?=[\w\\({])", gold) if "e" not in gold]
    if signs and draw.random() < 0.7:
        at = draw.choice(signs)
        found = re.compile("[-+]").search(gold, at)
        assert found
        return gold[: found.start()] + ("-" if found[0] == "+" else "+") + gold[found.end() :]
    body = gold.strip().strip("$")
    if not re.fullmatch(r"-?(?:[\d.,/]+|\\[dt]?frac\{\d+\}\{\d+\}|\d*\\(?:sqrt\{\d+\}|pi))", body):
        return None
    return body[1:] if body.startswith("-") else f"-{body}"


def digit(gold: str, draw: random.Random) -> str | None:
    """Another digit."""
    if _VALUE_FREE.search(gold):
        return None
    digits = [match.start() for match in re.finditer(r"\d", gold) if not re.search(r"\d{6,}$", gold[: match.start()])]
    if not digits:
        return None
    at = draw.choice(digits)
    return gold[:at] + draw.choice([d for d in "0123456789" if d != gold[at]]) + gold[at + 1 :]


def swap(gold: str, draw: random.Random) -> str | None:
    """Two different digits of a number, or two different entries of a tuple, in the other order."""
    numbers = [match for match in re.finditer(r"(?<![\d.])\d{2,5}(?![\d.])", gold) if len(set(match[0])) > 1]
    if numbers and not _VALUE_FREE.search(gold) and draw.random() < 0.5:
        match = draw.choice(numbers)
        places = [i for i in range(len(match[0]) - 1) if match[0][i] != match[0][i + 1]]
        at = match.start() + draw.choice(places)
        return gold[:at] + gold[at + 1] + gold[at] + gold[at + 2 :]
    body = gold.strip().strip("$")
    tuple_ = re.fullmatch(r"([(\[])([^,()\[\]{}]+(?:,[^,()\[\]{}]+)+)([)\]])", re.sub(r"\\(?:left|right)", "", body))
    if tuple_ is None:
        return None
    entries = tuple_[2].split(",")
    mixed = entries[::-1] if len(entries) == 2 else draw.sample(entries, len(entries))
    same = [clean(x) for x in mixed] == [clean(x) for x in entries]
    return None if same else tuple_[1] + ",".join(mixed) + tuple_[3]


def bracket(gold: str, draw: random.Random) -> str | None:
    """An end that belongs to an interval or does not, or a tuple as a set."""
    body = re.sub(r"\\(?:left|right)(?![a-z])", "", gold.strip().strip("$"))
    match = re.fullmatch(r"([(\[])([^()\[\]]*,[^()\[\]]*)([)\]])", body)
    if match is None:
        return None
    opening, inner, closing = match.groups()
    if (opening, closing) == ("(", ")") and draw.random() < 0.4:
        return rf"\{{{inner}\}}"
    if draw.random() < 0.5:
        return ("[" if opening == "(" else "(") + inner + closing
    return opening + inner + ("]" if closing == ")" else ")")


def letter(gold: str, draw: random.Random) -> str | None:
    """Another letter for a symbol, or the letters of a word or label in another order."""
    if _NO_SYMBOLS.search(gold):
        words = re.fullmatch(r"\s*\\(?:text|mbox|textbf)\{([A-Za-z]{2,})\}\s*", gold)
        if words is None:
            return None
        mixed = "".join(draw.sample(words[1], len(words[1])))
        return None if mixed.lower() == words[1].lower() else rf"\text{{{mixed}}}"
    if re.fullmatch(r"[A-Z]{2,}|[A-Za-z]{4,}", gold.strip()):
        mixed = "".join(draw.sample(gold.strip(), len(gold.strip())))
        return None if mixed.lower() == gold.strip().lower() else mixed
    symbols = list(re.finditer(r"(?<![A-Za-z\\])[a-hj-zA-Z](?![A-Za-z])", gold))
    if not symbols:
        return None
    at = draw.choice(symbols).start()
    return gold[:at] + draw.choice([c for c in "abcknpqrtuvwxyz" if c != gold[at].lower()]) + gold[at + 1 :]


def unit(gold: str, draw: random.Random) -> str | None:
    """Another unit."""
    match = re.search(r"\\(?:text|mbox)\s*\{\s*([a-z]+)\.?\s*\}\s*$", gold)
    named = match[1] if match else ""
    known = next((unit for unit in _UNITS if unit.removesuffix("s") == named.removesuffix("s")), None)
    if match is None or known is None:
        return None
    return gold[: match.start()] + rf"\text{{ {draw.choice([u for u in _UNITS if u != known])}}}"


def missing(gold: str, draw: random.Random) -> str | None:
    """A part less: an entry, a term, an exponent, a denominator, a root, the last digit."""
    body = re.sub(r"\\(?:left|right)(?![a-z])|\\[,!;: ]", "", gold.strip().strip("$"))
    made = []
    if match := re.fullmatch(r"(\(|\[|\\\{|)([^,()\[\]{}]+(?:,[^,()\[\]{}]+)+)(\)|\]|\\\}|)", body):
        entries = match[2].split(",")
        if len({clean(entry) for entry in entries}) == len(entries) and not re.search(r"\d,\d{3}(?!\d)", body):
            entries.pop(draw.randrange(len(entries)))
            made.append(match[1] + ",".join(entries) + match[3])
    match = re.search(r"(?<!\\)(?<!1)\^(?:\{(?!\\circ|[^{}]*circ)([^{}]*)\}|([2-9]))", body)
    if match and "\\text" not in body:
        made.append(body[: match.start()] + body[match.end() :])
    if match := re.search(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}", body):
        made.append(body[: match.start()] + f"({match[1]})" + body[match.end() :])
    if match := re.search(r"\\sqrt\{([^{}]*)\}", body):
        made.append(body[: match.start()] + f"({match[1]})" + body[match.end() :])
    if re.fullmatch(r"-?\d{2,}", body):
        made.append(body[:-1])
    if match := re.search(r"(?<=[\w})]) ?[-+] ?\d+[a-z]?$", body):
        made.append(body[: match.start()])
    if _VALUE_FREE.search(body) or not made:
        return None
    return draw.choice(made)


def added(gold: str, draw: random.Random) -> str | None:
    """A part more: another value beside the gold, a sign that takes both, a summand, a factor."""
    body = gold.strip().strip("$")
    beside = [f"{body}, 7919", rf"{body} \text{{ or }} 7919"]
    if re.search(r"^[\s0.]*$|\\(?:infty|pm|in|cup|text|mbox)\b|[<>=:,]", body):
        return draw.choice(beside)
    times = (
        [f"7919({body})"] if re.search(r"[1-9]|(?<![\\{A-Za-z])[a-zA-Z]", body) else []
    )  # nothing times zero is zero
    return draw.choice([*beside, rf"\pm {body}", f"{body}+7919", *times])


MUTATIONS: tuple[Mutation, ...] = (sign, digit, swap, bracket, letter, unit, missing, added)


def mutants(gold: str, draw: random.Random, each: int) -> list[tuple[str, str]]:
    """Up to so many mutants of a gold for each mutation, without repetition: name of the mutation, text."""
    found: dict[str, str] = {}
    for mutation in MUTATIONS:
        for _ in range(each):
            text = mutation(gold, draw)
            if text is not None and text.strip() and clean(text) != clean(gold):
                found.setdefault(text, mutation.__name__)
    return [(name, text) for text, name in found.items()]


def accepted(cases: Sequence[tuple[str, str]], workers: Workers) -> list[tuple[str, str, str]]:
    """Of pairs (gold, mutant) those that a judge calls equal, with the name of the judge."""
    settled = [settle(*case) for case in cases]
    wrong = [("settled", *case) for case, word in zip(cases, settled, strict=True) if word is Judgement.EQUAL]
    asked = [case for case, word in zip(cases, settled, strict=True) if word is None]
    tasks = [(judge, *case) for case in asked for judge in ("math_verify", "sympy")]
    said = workers.judge(tasks)
    return wrong + [task for task, word in zip(tasks, said, strict=True) if word is Judgement.EQUAL]


def mirror_golds(mirror: Path) -> Iterator[str]:
    """The distinct golds of the sets of a mirror, multiple choice aside, in the order of their files."""
    seen = set()
    for path in sorted(mirror.glob("*/*.jsonl*")):
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                gold = row.get("answer")
                if isinstance(gold, str) and gold.strip() and not row.get("choices") and gold not in seen:
                    seen.add(gold)
                    yield gold


def search(golds: Iterable[str], each: int, seed: int) -> tuple[Counter[str], list[tuple[str, str, str, str]]]:
    """Try mutants of golds: how many by mutation, and those that were accepted (mutation, judge, gold, mutant)."""
    draw = random.Random(seed)
    cases = [(name, gold, text) for gold in golds for name, text in mutants(gold, draw, each)]
    names = {(gold, text): name for name, gold, text in cases}
    found: list[tuple[str, str, str, str]] = []
    workers = Workers(2, 2.0, never)
    try:
        with progress("mutants", len(cases)) as report:
            for start in range(0, len(cases), 2000):
                report(start)
                batch = [(gold, text) for _, gold, text in cases[start : start + 2000]]
                found += [(names[gold, text], judge, gold, text) for judge, gold, text in accepted(batch, workers)]
    finally:
        workers.close()
    return Counter(name for name, _, _ in cases), found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", type=Path, required=True, help="directory of sets (JSON Lines)")
    parser.add_argument("--each", type=int, default=4, help="mutants of a gold for each mutation")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--golds", type=int, help="only so many golds, drawn by the seed")
    arguments = parser.parse_args()
    golds = list(mirror_golds(arguments.mirror))
    if arguments.golds is not None:
        golds = random.Random(arguments.seed).sample(golds, min(arguments.golds, len(golds)))
    tried, found = search(golds, arguments.each, arguments.seed)
    wrong = Counter(name for name, *_ in found)
    rows = [[mutation.__name__, tried[mutation.__name__], wrong[mutation.__name__]] for mutation in MUTATIONS]
    print(tabulate([*rows, ["all", tried.total(), wrong.total()]], ["mutation", "tried", "accepted"]))
    for name, judge, gold, text in found:
        print(f"{name} ({judge}): {gold}  ->  {text}")


if __name__ == "__main__":
    main()
