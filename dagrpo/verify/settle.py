"""What can be said of an answer without computing anything."""

import re
from dataclasses import dataclass
from enum import Enum

from dagrpo.verify.plain import compare, read_plain
from dagrpo.verify.text import clashing, nesting, pointed, same_text, split_units

_NAME = re.compile(r"^[a-z] ?= ?")
_TOKEN = re.compile(r"\\?[a-zA-Z]+|[0-9]+|\S")
MAX_CHARACTERS, MAX_NESTING, MAX_TOKENS, MAX_LENGTHENING = 1_000, 12, 40, 4
"""No answer that exceeds these is the gold in other words; ``MAX_TOKENS`` grows by the last for each of the gold's."""


class Judgement(Enum):
    """What a judge says; ``REFUSED`` where the answer asks for more than can be computed."""

    EQUAL = "1"
    UNEQUAL = "0"
    REFUSED = "r"

    @classmethod
    def of(cls, equal: bool) -> "Judgement":
        return cls.EQUAL if equal else cls.UNEQUAL


@dataclass(frozen=True, slots=True)
class Opinion:
    """What is said of an answer, and why, in words."""

    judgement: Judgement
    reason: str


def settle(gold: str, answer: str) -> Judgement | None:
    """Judge what one look can judge; ``None`` where a judge must compute."""
    opinion = look(gold, answer)
    return None if opinion is None else opinion.judgement


def look(gold: str, answer: str) -> Opinion | None:
    """What one look says of an answer; ``None`` where a judge must compute.

    In this order: the gold's own text is right; an answer far longer than the gold, or nested too deeply, is wrong; so
    is one in another unit than the gold's, even where a conversion would make it right; two plain answers, units and
    the answer's "x =" aside, are compared exactly (the judges agree on those, so asking them would only take time).
    """
    if gold == answer:
        return Opinion(Judgement.EQUAL, "the texts are equal")
    if len(answer) > max(MAX_CHARACTERS, 2 * len(gold)):
        return Opinion(Judgement.UNEQUAL, "the answer is far longer than the gold")
    if same_text(gold, answer):
        return Opinion(Judgement.EQUAL, "the texts are equal but for spacing, faces or the case of words")
    longest = MAX_TOKENS + MAX_LENGTHENING * len(_TOKEN.findall(gold))
    if nesting(answer) > MAX_NESTING or len(_TOKEN.findall(answer)) > longest:
        return Opinion(Judgement.UNEQUAL, "the answer is far longer than the gold, or nested too deeply")
    answer = pointed(gold, answer)
    (wanted, unit), (given, other) = split_units(gold, answer)
    if clashing(unit, other):
        return Opinion(Judgement.UNEQUAL, f"the units differ: {unit} and {other}")
    if "%" in (unit, other):  # 0.5 is 50% too: that takes a judge
        return None
    left, right = read_plain(wanted), read_plain(_NAME.sub("", given))
    equal = None if left is None or right is None else compare(left, right)
    if equal is None:
        return None
    return Opinion(Judgement.of(equal), f"exact arithmetic: {wanted} is {'' if equal else 'not '}{given}")


def readings(gold: str, answer: str) -> list[tuple[str, str]]:
    """Gold and answer as they stand, and without their units.

    A percent sign divides by a hundred in the first reading, and is a unit in the second: where the gold has one, the
    answer may leave it out or multiply it out. Where the gold has none, the answer's is a unit only if the gold is over
    1, since no share of a whole is: 25% is 0.25 and 25, but 0.25% is not 0.25.
    """
    answer = pointed(gold, answer)
    (wanted, unit), (given, other) = split_units(gold, answer)
    share = read_plain(wanted)
    is_share = share is not None and all(abs(float(number)) <= 1 for number in share.numbers)
    if other == "%" and unit is None and is_share:
        return [(gold, answer)]
    return list(dict.fromkeys([(gold, answer), (wanted, given)]))
