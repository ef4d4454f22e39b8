"""What can be said of an answer without computing anything."""

from enum import Enum

from dagrpo.verify.plain import compare, read_plain
from dagrpo.verify.text import clean, contradicting_units, nesting, same_text

MAX_CHARACTERS, MAX_NESTING = 1_000, 20


class Judgement(Enum):
    """What a judge says; ``REFUSED`` where the answer is too long, too deep or too large to be computed."""

    EQUAL = "1"
    UNEQUAL = "0"
    REFUSED = "r"

    @classmethod
    def of(cls, equal: bool) -> "Judgement":
        return cls.EQUAL if equal else cls.UNEQUAL


def settle(gold: str, answer: str) -> Judgement | None:
    """Judge what one look can judge; ``None`` where a judge must compute.

    In this order: the gold's own text is right; an answer too long or too deeply nested is refused; two plain
    answers are compared exactly (the judges agree on those, so asking them would only take time); an answer in another
    unit than the gold's is wrong, even where a conversion would make it right.
    """
    if len(answer) > MAX_CHARACTERS:
        return Judgement.REFUSED
    if same_text(gold, answer):
        return Judgement.EQUAL
    if nesting(answer) > MAX_NESTING:
        return Judgement.REFUSED
    wanted, given = read_plain(clean(gold)), read_plain(clean(answer))
    if wanted is not None and given is not None and (equal := compare(wanted, given)) is not None:
        return Judgement.of(equal)
    return Judgement.UNEQUAL if contradicting_units(gold, answer) else None
