"""Lay responses out so that a forward pass computes each prompt once and almost no padding.

A *line* is one row of the model's input. It holds whole groups, or parts of groups, one after another, each as
``prompt | response 1 | response 2 | ...``. A response token sees its own prompt and the earlier tokens of its own
response, which makes a group a tree with the prompt as its trunk; positions restart after the prompt for every
response. The last token of a response is predicted but never read, so it is not laid out at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SHORT_LINE = 128
"""Lines are filled to this length (tokens), or to one and a half times the longest member where that is more. Attention
is quadratic in the length, so longer lines waste work on masked pairs; shorter ones repeat prompts. Both measured: the
step of a miniature is fastest at 100 to 128 with members of 80 tokens, that of a 135M model at 380 to 510 with 180."""


@dataclass(frozen=True, slots=True)
class PackedGroup:
    """Responses that share a prompt; ``rows`` names each response to the caller."""

    prompt_tokens: Sequence[int]
    responses: Sequence[Sequence[int]]
    rows: Sequence[int]


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Lines that go through the model together, and where in them the n response tokens are predicted.

    ``tokens``, ``positions``, ``group`` and ``segment`` describe the lines, (lines, length): ``segment`` numbers the
    runs of a line, ``group`` is the segment of the prompt that a token sees. ``source`` (m,) are the places (in the
    flattened lines, ascending) whose next-token distributions are needed. The other columns describe the response
    tokens, (n,), row after row and each row from its first token on: ``row`` is the caller's name of the row,
    ``target`` the token's id, ``at`` the index in ``source`` of the distribution that predicts it.
    """

    tokens: Tensor
    positions: Tensor
    group: Tensor
    segment: Tensor
    source: Tensor
    row: Tensor
    target: Tensor
    at: Tensor

    def mask(self) -> Tensor:
        """Which token sees which: bool, (lines, 1, length, length). Every token sees itself, padding included."""
        earlier = torch.ones(2 * self.tokens.shape[1:], dtype=torch.bool, device=self.tokens.device).tril()
        seen = (self.segment[:, None] == self.segment[:, :, None]) | (self.segment[:, None] == self.group[:, :, None])
        return (seen & earlier)[:, None]

    def to(self, device: torch.device) -> "MicroBatch":
        """A copy on another device."""
        return MicroBatch(*(getattr(self, name).to(device, non_blocking=True) for name in self.__slots__))


def pack(groups: Sequence[PackedGroup], micro_tokens: int, share: tuple[int, int] = (0, 1)) -> list[MicroBatch]:
    """Arrange groups into lines and lines into micro-batches of at most ``micro_tokens`` tokens (padding included).

    A micro-batch exceeds the bound only if a single prompt with its response does.

    Args:
        share: which share of the lines is wanted, from 0, and of how many. All shares have about the same work and
            equally many micro-batches, so that processes that each take one keep step; what one of them lacks is made
            up by micro-batches without a response.
    """
    if not groups:
        return []
    longest = max(len(group.prompt_tokens) + max(map(len, group.responses)) - 1 for group in groups)
    capacity = max(longest, min(max(SHORT_LINE, longest * 3 // 2), micro_tokens))
    lines = _fill([part for group in groups for part in _split(group, capacity)], capacity)
    lines.sort(key=_line_length)
    mine, of = share
    shares = [_stack(lines[number::of], micro_tokens) for number in range(of)]
    empty = [[PackedGroup(groups[0].prompt_tokens[:1], [], [])]]
    lacking = max(map(len, shares)) - len(shares[mine])
    return [_micro_batch(micro) for micro in shares[mine] + [empty] * lacking]


def _stack(lines: Sequence[list[PackedGroup]], micro_tokens: int) -> list[list[list[PackedGroup]]]:
    """Cut lines of ascending length into micro-batches."""
    micros: list[list[list[PackedGroup]]] = []
    for line in lines:  # ascending, so the line at hand is the longest of its micro-batch
        if not micros or (len(micros[-1]) + 1) * _line_length(line) > micro_tokens:
            micros.append([])
        micros[-1].append(line)
    return micros


def _length(group: PackedGroup) -> int:
    return len(group.prompt_tokens) + sum(map(len, group.responses)) - len(group.responses)


def _line_length(line: Sequence[PackedGroup]) -> int:
    return sum(map(_length, line))


def _split(group: PackedGroup, capacity: int) -> list[PackedGroup]:
    """Cut a group that does not fit in one line; each part repeats the prompt. First fit by descending length."""
    room: list[int] = []
    parts: list[list[int]] = []
    for index in sorted(range(len(group.responses)), key=lambda index: -len(group.responses[index])):
        size = len(group.responses[index]) - 1
        part = next((part for part, left in enumerate(room) if left >= size), len(parts))
        if part == len(parts):
            parts.append([])
            room.append(capacity - len(group.prompt_tokens))
        parts[part].append(index)
        room[part] -= size
    return [
        PackedGroup(group.prompt_tokens, [group.responses[i] for i in part], [group.rows[i] for i in part])
        for part in map(sorted, parts)
    ]


def _fill(parts: list[PackedGroup], capacity: int) -> list[list[PackedGroup]]:
    """Bin packing, best fit by descending length."""
    lines: list[list[PackedGroup]] = []
    room: list[int] = []
    for part in sorted(parts, key=_length, reverse=True):
        size = _length(part)
        best = min((line for line, left in enumerate(room) if left >= size), key=room.__getitem__, default=len(lines))
        if best == len(lines):
            lines.append([])
            room.append(capacity)
        lines[best].append(part)
        room[best] -= size
    return lines


def _micro_batch(lines: Sequence[Sequence[PackedGroup]]) -> MicroBatch:
    length = max(map(_line_length, lines))
    tokens: list[int] = []
    positions: list[int] = []
    group: list[int] = []
    segment: list[int] = []
    source: list[int] = []
    row: list[int] = []
    target: list[int] = []
    at: list[int] = []
    for number, line in enumerate(lines):
        runs = 0
        for part in line:
            trunk = runs
            prompt = len(part.prompt_tokens)
            tokens += part.prompt_tokens
            positions += range(prompt)
            fork = len(source)
            source += [len(tokens) - 1] if part.responses else []
            group += [trunk] * prompt
            segment += [trunk] * prompt
            for name, response in zip(part.rows, part.responses, strict=True):
                runs += 1
                inner = len(response) - 1
                row += [name] * len(response)
                target += response
                at += [fork, *range(len(source), len(source) + inner)]
                source += range(len(tokens), len(tokens) + inner)
                tokens += response[:inner]
                positions += range(prompt, prompt + inner)
                group += [trunk] * inner
                segment += [runs] * inner
            runs += 1
        padding = (number + 1) * length - len(tokens)
        # Padding repeats a token of the line, for a padding token's own embedding may hold anything.
        tokens += [tokens[-1]] * padding
        positions += [0] * padding
        group += [-1] * padding
        segment += [-1] * padding

    def lined(values: list[int]) -> Tensor:
        return torch.tensor(values).view(len(lines), length)

    flat = (torch.tensor(values, dtype=torch.long) for values in (source, row, target, at))
    return MicroBatch(lined(tokens), lined(positions), lined(group), lined(segment), *flat)
