"""What the base reads: nothing of the experiment, in the styles that its corpus is told."""

import numpy as np
import pytest

from dagrpo import seeds
from dagrpo.config import Corpus, MiniProblems
from dagrpo.problems.mini import FAMILIES, LEVELS, OUT_OF_DISTRIBUTION, check_steps, generate, split_of
from dagrpo.problems.mini.corpus import cell_shares, corpus_problems, facts, respond
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


@pytest.mark.parametrize("school", [True, False])
def test_cells_are_read_as_told(school: bool) -> None:
    shares = cell_shares(CORPUS, school)
    assert sum(shares.values()) == pytest.approx(1)
    apart = sum(shares[family, level] for family in OUT_OF_DISTRIBUTION for level in LEVELS)
    assert apart == pytest.approx(CORPUS.out_of_distribution)
    levels = np.array([sum(share for (_, at), share in shares.items() if at == level) for level in LEVELS])
    told = np.array(CORPUS.school_levels if school else CORPUS.web_levels)
    assert levels == pytest.approx(told / told.sum())


@pytest.mark.parametrize("family", FAMILIES + OUT_OF_DISTRIBUTION)
def test_styles(family: str) -> None:
    rng = seeds.generator("styles", family)
    bare = Corpus(worked=(0, 0, 0, 0))
    worked = Corpus(worked=(1, 1, 1, 1), slips=0)
    slipping = Corpus(worked=(1, 1, 1, 1), slips=1)
    for level in LEVELS:
        problem = draw(family, level, rng)
        assert respond(problem, bare, False, rng) == f"A{problem.answer}"
        assert respond(problem, worked, False, rng) == problem.solution
        assert respond(problem, slipping, True, rng) == problem.solution, "no slips in school"
        for _ in range(5):
            slip = respond(problem, slipping, False, rng)
            assert not all(check_steps(problem, slip)), slip
            assert ";" in slip


@pytest.mark.parametrize("family", FAMILIES)
def test_late_slips_follow_the_solution_up_to_the_last_step(family: str) -> None:
    rng = seeds.generator("late slips", family)
    late = Corpus(worked=(1, 1, 1, 1), slips=1, slip_place="late")
    for level in LEVELS:
        problem = draw(family, level, rng)
        *steps, _, _ = (problem.solution or "").split(";")
        found = [respond(problem, late, False, rng) for _ in range(60)]
        slips = [response for response in found if response != problem.solution]
        assert len(slips) / len(found) == pytest.approx(level / LEVELS[-1], abs=0.2), "the more the higher the level"
        assert all(response.split(";")[: len(steps)] == steps for response in slips)
        assert all(response.rpartition("A")[2] != problem.answer for response in slips)
        sound = [sum(check_steps(problem, response)) for response in slips]
        assert len(set(sound)) == (2 if slips else 0), "in the last step, or in the answer alone"


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
    one, other = ([respond(problem, CORPUS, False, seeds.generator("again", i)) for i in range(20)] for _ in range(2))
    assert one == other
    assert len(set(one)) > 2
