"""Which tokens of a group several rows share, and how hard a group pushes each of them: pure functions."""

from collections.abc import Sequence

Stretch = tuple[int, int, tuple[int, ...]]
"""First token, one past the last, and the rows that share it."""


def stretches(responses: Sequence[Sequence[int]]) -> list[list[Stretch]]:
    """Cut each response wherever the set of rows that hold the same tokens up to there changes.

    Rows share a token where they agree in it and in all tokens before it, as in
    :func:`dagrpo.diagnostics.conflict.shared_pairs`: there their gradients are of the same quantity.

    Returns:
        The stretches of each response, in order; together they are the whole response.
    """
    found: list[list[Stretch]] = [[] for _ in responses]
    waiting = [(0, tuple(range(len(responses))))]
    while waiting:
        start, rows = waiting.pop()
        end = start
        while _agree([responses[row] for row in rows], end):
            end += 1
        if end > start:
            for row in rows:
                found[row].append((start, end, rows))
        following: dict[int, list[int]] = {}
        for row in rows:
            if end < len(responses[row]):
                following.setdefault(responses[row][end], []).append(row)
        waiting += [(end, tuple(branch)) for branch in following.values()]
    return found


def shared_with_others(cut: Sequence[Sequence[Stretch]], advantage: Sequence[float]) -> list[float | None]:
    """The share of each row's tokens that a row of the other side holds too; ``None`` for a row that has no side."""
    found: list[float | None] = []
    for row, parts in enumerate(cut):
        length = sum(end - start for start, end, _ in parts)
        opposed = sum(
            end - start for start, end, rows in parts if any(advantage[row] * advantage[other] < 0 for other in rows)
        )
        found.append(opposed / length if length and advantage[row] else None)
    return found


def gaps(score: Sequence[float | None], advantage: Sequence[float]) -> list[float | None]:
    """How far each row's score is from the nearest of the other side, the way the mask of DaGRPO asks (Eq. 8 and 9).

    Positive where the good row has the higher score; ``None`` where the row has no side, or a score is missing.
    """
    sides = {
        sign: [value for value, push in zip(score, advantage, strict=True) if value is not None and push * sign > 0]
        for sign in (1, -1)
    }
    return [
        None
        if value is None or not push or not sides[-1 if push > 0 else 1]
        else value - max(sides[-1])
        if push > 0
        else min(sides[1]) - value
        for value, push in zip(score, advantage, strict=True)
    ]


def _agree(rows: Sequence[Sequence[int]], place: int) -> bool:
    return all(place < len(row) for row in rows) and len({row[place] for row in rows}) == 1
