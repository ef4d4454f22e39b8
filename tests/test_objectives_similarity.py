import math

import pytest
import torch

from dagrpo.objectives.similarity import distances, jaccard, ngrams


def test_ngrams_of_a_short_response_are_the_response() -> None:
    assert ngrams([1, 2, 3], 2) == {(1, 2), (2, 3)}
    assert ngrams([1], 2) == {(1,)}
    assert ngrams([], 2) == {()}


def test_jaccard() -> None:
    assert jaccard(ngrams([1, 2, 3], 1), ngrams([3, 2, 4], 1)) == 0.5
    assert jaccard(ngrams([1, 2], 2), ngrams([2, 1], 2)) == 0
    assert jaccard(ngrams([5, 6], 2), ngrams([5, 6], 2)) == 1


def test_distance_is_to_the_nearest_row_of_the_other_side() -> None:
    responses = [[1, 2, 3], [1, 2, 4], [7, 8, 9], [1, 2, 3]]
    advantage = torch.tensor([0.5, -0.5, -0.5, 0.5])
    found = distances(responses, advantage, torch.zeros(4, dtype=torch.int64), 2)
    assert found.tolist() == pytest.approx([2 / 3, 2 / 3, 1, 2 / 3])


def test_distance_needs_another_side_in_the_same_group() -> None:
    responses = [[1, 2], [1, 2], [1, 2], [1, 2]]
    advantage = torch.tensor([0.5, 0.0, -0.5, 0.5])
    group = torch.tensor([0, 0, 1, 1])
    assert distances(responses, advantage, group, 2).tolist() == [math.inf, math.inf, 0, 0]
