"""maj@k: what the most frequent answer of k samples scores."""

from collections.abc import Sequence

from dagrpo.records import Problem, Verdict
from dagrpo.verify import Graded, Verifier


def majority(problems: Sequence[Problem], graded: Sequence[Sequence[Graded]], verifier: Verifier) -> list[float]:
    """Score the answer that most samples of a problem agree on: 1 if it is right, else 0.

    Samples vote with the answer that was found in them; one without an answer has no vote. Two answers are one if the
    verifier takes the second for right where the first is the gold. Where several answers have the most votes, the
    score is the share of them that are right, which is the expectation over a fair draw among them. An answer of which
    some votes were found right, and others not (the verifier may see it as the gold under one spelling only), is right
    by that share. A problem without any vote scores 0.

    Args:
        problems: P problems.
        graded: the k samples of each problem, graded.
        verifier: what the samples were graded with.

    Returns:
        P scores.
    """
    groups = [_by_text(samples) for samples in graded]
    ballots: list[list[list[Graded]]] = [[] for _ in problems]
    while waiting := [place for place, texts in enumerate(groups) if texts]:
        # Each problem's first answer without a group becomes the gold that its other answers are held against.
        golds: list[Problem] = []
        answers: list[tuple[int, str]] = []
        for place in waiting:
            gold, votes = next(iter(groups[place].items()))
            del groups[place][gold]
            ballots[place].append(votes)
            if problems[place].choices is None:
                others = list(groups[place])
                golds += [Problem(problems[place].id, problems[place].family, "", gold)] * len(others)
                answers += [(place, other) for other in others]
        judgements = verifier.grade_answers(golds, [answer for _, answer in answers])
        for (place, answer), judged in zip(answers, judgements, strict=True):
            if judged.verdict is Verdict.CORRECT:
                ballots[place][-1] += groups[place].pop(answer)
    return [_score(votes) for votes in ballots]


def _by_text(samples: Sequence[Graded]) -> dict[str, list[Graded]]:
    texts: dict[str, list[Graded]] = {}
    for sample in samples:
        if sample.extracted is not None:
            texts.setdefault(sample.extracted, []).append(sample)
    return texts


def _score(ballots: Sequence[Sequence[Graded]]) -> float:
    most = max(map(len, ballots), default=0)
    winners = [votes for votes in ballots if len(votes) == most]
    right = [sum(vote.verdict is Verdict.CORRECT for vote in votes) / most for votes in winners]
    return sum(right) / len(right) if right else 0.0
