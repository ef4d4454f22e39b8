"""What the base reads: nothing of the experiment, in the styles that its corpus is told."""

import numpy as np
import pytest

from dagrpo import seeds
from dagrpo.config import Corpus, MiniProblems
from dagrpo.problems.mini import FAMILIES, LEVELS, OUT_OF_DISTRIBUTION, check_steps, generate, split_of
from dagrpo.problems.mini.corpus import corpus_problems, facts, respond
from dagrpo.problems.mini.expressions import canonical, parse
from dagrpo.problems.mini.families import LARGEST, draw

CORPUS = Corpus(problems=1500)


def test_the_corpus_holds_no_problem_of_the_experiment() -> None:
    sets = generate(MiniProblems(train=300, evaluation=40))
    experiment = {canonical(parse(problem.prompt)) for problems in sets.values() for problem in problems}
    cells = corpus_problems(CORPUS, 0, experiment)
    read = [problem.prompt for cell in cells.values() for problem in cell]
    assert len(read) > 1200
    assert len({canonical(parse(question)) for question in read}) > 0.99 * len(read)
    assert not {canonical(parse(question)) for question in read} & experiment
    assert {split_of(question) for question in read} == {"train"}
    unguarded = corpus_problems(CORPUS, 0, frozenset())
    assert {canonical(parse(p.prompt)) for cell in unguarded.values() for p in cell} & experiment, (
        "the guard has work to do"
    )


def test_the_corpus_is_mixed_as_told() -> None:
    cells = corpus_problems(CORPUS, 0, frozenset())
    total = sum(map(len, cells.values()))
    apart = sum(len(cells[family, level]) for family in OUT_OF_DISTRIBUTION for level in LEVELS)
    assert apart / total == pytest.approx(CORPUS.out_of_distribution, abs=0.02)
    first = sum(len(cells[family, 0]) for family in FAMILIES)
    second = sum(len(cells[family, 2]) for family in FAMILIES)
    assert first / second == pytest.approx(CORPUS.levels[0] / CORPUS.levels[2], rel=0.1)


@pytest.mark.parametrize("family", FAMILIES + OUT_OF_DISTRIBUTION)
def test_styles(family: str) -> None:
    rng = seeds.generator("styles", family)
    bare = Corpus(worked=(0, 0, 0, 0), wrong=(0, 0, 0, 0))
    wrong = bare.model_copy(update={"wrong": (1, 1, 1, 1)})
    worked = bare.model_copy(update={"worked": (1, 1, 1, 1), "slips": 0.0})
    slipping = worked.model_copy(update={"slips": 1.0})
    for level in LEVELS:
        problem = draw(family, level, rng)
        assert respond(problem, bare, rng) == f"A{problem.answer}"
        assert respond(problem, worked, rng) == problem.solution
        guess = respond(problem, wrong, rng)
        assert guess != f"A{problem.answer}"
        assert guess.startswith("A")
        slip = respond(problem, slipping, rng)
        assert not all(check_steps(problem, slip)), slip
        assert ";" in slip


def test_facts_are_true_and_in_range() -> None:
    found = dict(facts())
    assert len(found) == len(facts())
    assert found["12+7="] == "19"
    assert found["48/6="] == "8"
    assert found["20*3="] == "60"
    assert "12*4=" not in found
    for left, result in found.items():
        assert eval(left[:-1]) == int(result)
        assert 0 <= int(result) <= LARGEST


def test_responses_are_decided_by_their_generator() -> None:
    problem = draw("sums", 2, np.random.default_rng(0))
    one, other = ([respond(problem, CORPUS, seeds.generator("again", i)) for i in range(20)] for _ in range(2))
    assert one == other
    assert len(set(one)) > 2
