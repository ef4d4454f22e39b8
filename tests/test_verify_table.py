"""Golds, answers and what is right: the pairs of ``verify_pairs.yaml``."""

from collections import Counter

import pytest

from dagrpo.verify.judge import JUDGES
from dagrpo.verify.settle import Judgement, settle
from tests.verify_pairs import Pair, pairs

CATEGORIES = list(dict.fromkeys(pair.category for pair in pairs()))


def judged(judge: str, gold: str, answer: str) -> bool:
    return (settle(gold, answer) or JUDGES[judge](gold, answer)) is Judgement.EQUAL


def test_table_is_large_and_says_each_thing_once() -> None:
    assert len(pairs()) >= 600
    assert not [pair for pair, times in Counter(pair[1:3] for pair in pairs()).items() if times > 1]


@pytest.mark.parametrize("judge", JUDGES)
@pytest.mark.parametrize("category", CATEGORIES)
def test_judges_are_right(category: str, judge: str) -> None:
    def expected(pair: Pair) -> bool:
        return pair.right if pair.judge in (None, judge) else not pair.right

    chosen = [pair for pair in pairs() if pair.category == category]
    assert [pair for pair in chosen if judged(judge, pair.gold, pair.answer) != expected(pair)] == []


@pytest.mark.parametrize("category", CATEGORIES)
def test_both_verdicts_stand_in_every_category(category: str) -> None:
    assert {pair.right for pair in pairs() if pair.category == category} == {True, False}
