"""What is wrong with the records of a study, in sentences: pure functions of records."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from eval.ledger.record import Record
from eval.records import BASE, counted_as
from eval.records import origin as come_from

HASHES = {"code": "code that affects training", "problems": "training problems"}
_CARD = ("arm", "seed", "spec", "hashes", "consumed", "versions", "hardware", "code_hash", "model_fingerprint")
_MOST = 4


def faults(records: Sequence[Record]) -> list[str]:
    """List what keeps records from being one study: a run with two different records, an inconsistent record."""
    return [*_disagreeing(records), *(f"{one.label}: {fault}" for one in records for fault in _unsound(one))]


def mixtures(records: Sequence[Record]) -> list[str]:
    """Where runs that are compared were not trained, or not asked, alike, with the runs on either side."""
    trained = [one for one in records if one.card is not None]
    found = [
        line for key, name in HASHES.items() for line in _mixed(trained, partial(_hash, key=key), f"different {name}")
    ]
    for arm in dict.fromkeys(one.arm for one in trained):
        runs = [one for one in trained if one.arm == arm]
        found += _mixed(runs, partial(_hash, key="method"), f"different method files of {arm}")
        found += _mixed(runs, lambda one: _text(_card(one)["spec"]), f"different settings of {arm}")
    for kept in dict.fromkeys(kept for one in records for kept in one.evaluations if kept != "profile"):
        asked = [one for one in records if kept in one.evaluations]
        found += _mixed(asked, partial(_settings, kept=kept), f"different settings of {kept}")
        found += _mixed(asked, partial(_questions, kept=kept), f"different questions in {kept}")
    return found


def duplicates(records: Sequence[Record]) -> list[str]:
    """Runs that two records tell alike: trained twice, to the same bits."""
    return [
        f"{group[0].label}: {len(group)} records say the same; one of them is enough"
        for group in _by_run(records).values()
        if len(group) > 1 and all(same(group[0], other) for other in group[1:])
    ]


def same(one: Record, other: Record) -> bool:
    """Tell whether two records of a run say the same of its training and its evaluations; seconds aside."""
    problems = [{kept: found.problems for kept, found in each.evaluations.items()} for each in (one, other)]
    return _text([one.metrics, one.conflict, problems[0]]) == _text([other.metrics, other.conflict, problems[1]])


def origin(records: Sequence[Record]) -> str:
    """From how many machines and versions a study is, in a sentence."""
    cards = [_card(one) for one in records if one.card is not None]
    training, codes = {card["hashes"]["code"] for card in cards}, {card["code_hash"] for card in cards}
    ways = f", which train in {counted_as(len(training), 'way')}" if len(codes) > 1 else ""
    bases = counted_as(len(records) - len(cards), "base")
    return f"{counted_as(len(cards), 'training run')} and {bases}, from {come_from(cards)}{ways}."


def _disagreeing(records: Sequence[Record]) -> Iterator[str]:
    for group in _by_run(records).values():
        for other in group[1:]:
            if not same(group[0], other):
                files = " and ".join(record.path().name for record in (group[0], other))
                yield f"{other.label}: {files} disagree {_where(group[0], other)}; keep one of them"


def _where(one: Record, other: Record) -> str:
    if one.metrics != other.metrics:
        steps = zip(one.metrics, other.metrics, strict=False)
        first = next((step for step, lines in enumerate(steps) if lines[0] != lines[1]), None)
        return "in the number of steps" if first is None else f"from step {first} of training on"
    return "in what was measured of the trained weights"


def _unsound(record: Record) -> Iterator[str]:
    card = record.card
    if (record.arm == BASE) != (card is None):
        yield "a base has no run card, and every other run has one"
    elif "samples" not in record.evaluations:
        yield "it was not evaluated"
    elif card is not None:
        if lacking := [key for key in _CARD if key not in card]:
            yield f"its run card has no {lacking[0]!r}; train it again with this version"
            return
        summed = {key: int(sum(line.get(key, 0) for line in record.metrics)) for key in card["consumed"]}
        if card["consumed"] != summed:
            yield "its steps do not add up to what its run card says that it consumed"
        if (card["arm"], card["seed"]) != (record.arm, record.seed):
            yield f"its run card is of {card['arm']}, seed {card['seed']}"
        for kept, found in record.evaluations.items():
            if found.meta.get("model_fingerprint") != card["model_fingerprint"]:
                yield f"{kept}: sampled from other weights than its run card names"


def _mixed(records: Iterable[Record], kind: Callable[[Record], str], what: str) -> list[str]:
    """A sentence where records are of several kinds: the kinds by size, the smaller ones by their runs."""
    kinds: dict[str, list[str]] = defaultdict(list)
    for one in records:
        kinds[kind(one)].append(one.label)
    if len(kinds) < 2:
        return []
    most, *others = sorted(kinds.values(), key=len, reverse=True)
    apart = [label for labels in others for label in labels]
    more = f" and {len(apart) - _MOST} more" if len(apart) > _MOST else ""
    return [f"{what}: {counted_as(len(most), 'run')} agree, apart from them {'; '.join(apart[:_MOST])}{more}"]


def _hash(record: Record, key: str) -> str:
    return str(_card(record)["hashes"][key])


def _settings(record: Record, kept: str) -> str:
    return _text(record.evaluations[kept].meta["spec"])


def _questions(record: Record, kept: str) -> str:
    found = record.evaluations[kept].problems
    return _text(sorted(zip(found["problem_id"], found["question"], strict=True)))


def _by_run(records: Iterable[Record]) -> dict[tuple[str, str, int], list[Record]]:
    found: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for one in records:
        found[one.run].append(one)
    return found


def _card(record: Record) -> Mapping[str, Any]:
    assert record.card is not None
    return record.card


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
