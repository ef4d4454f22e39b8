"""The tree of steps: what it chooses, how it grows, and that it keeps to a group's budget."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from dagrpo.algorithm import GradedGroup, Recipe, SampleRequest, tree_search
from dagrpo.algorithm.tree import Node, Tree, insert
from dagrpo.objectives.search import branch_value, choice_score, label_noise
from dagrpo.policy.checkpoint import load_policy
from dagrpo.problems.store import read_problems
from dagrpo.processes.signals import never
from dagrpo.records import Group, Problem, Rollout, Verdict
from dagrpo.rollout.engine import Request, Sampling
from dagrpo.rollout.torch_engine import TorchEngine
from dagrpo.scorers import Tools, make_scorer
from dagrpo.trainer.collect import Collector, StepSampler
from dagrpo.verify import make_verifier
from tests.miniature import spec

PROBLEM = Problem("p", "sums", "1+1", "2")
PROMPT = tuple(map(ord, PROBLEM.prompt))


def test_what_is_visited_next() -> None:
    assert choice_score(0.4, 0.5, parent_visits=9, visits=2, exploration=1.0) == pytest.approx(0.9)
    assert branch_value([3, 1], [0.6, 0.2]) == pytest.approx(0.5)


def test_label_noise() -> None:
    best, worst = torch.tensor([6, 1, 0, 2]), torch.tensor([2, 1, 3, 0])
    assert label_noise(best, worst).tolist() == pytest.approx([0.25, 0.5, 0.5, 0.0])


def rollout(index: int, text: str, chance: float = 0.5) -> Rollout:
    logps = (float(torch.tensor(chance).log()),) * len(text)
    return Rollout(index, tuple(map(ord, text)), text, "stop", logps=logps, entropies=(0.1,) * len(text))


class Script:
    """A sampler whose policy knows these responses by heart and goes through them in turn; a token is a character."""

    def __init__(self, responses: Sequence[str], rows: int) -> None:
        self.responses, self.size = responses, rows
        self.asked: list[tuple[str, int, int]] = []

    def rows(self, problem: Problem) -> int:
        return self.size

    def prompt(self, problem: Problem, question: str | None = None) -> tuple[int, ...]:
        return PROMPT

    def text(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))

    def draw(self, asked: Sequence[SampleRequest], stage: str = "") -> list[GradedGroup]:
        drawn = []
        for one in asked:
            begun = self.text(one.begun)
            self.asked.append((begun, one.samples, one.first))
            fitting = [text.removeprefix(begun) for text in self.responses if text.startswith(begun)]
            numbers = range(one.first, one.first + one.samples)
            rollouts = [rollout(number, fitting[number % len(fitting)]) for number in numbers]
            verdicts = tuple(Verdict.CORRECT if one.text.endswith("2") else Verdict.WRONG for one in rollouts)
            drawn.append(GradedGroup(Group(one.problem, one.prompt_tokens + one.begun, tuple(rollouts)), verdicts))
        return drawn


def search(
    responses: Sequence[str], rows: int, depth: int = 3, iterations: int = 64
) -> tuple[Script, list[GradedGroup]]:
    sampler = Script(responses, rows)
    return sampler, tree_search(2, depth, iterations, 1.0, ";")(sampler, [PROBLEM])


def show(drawn: Sequence[GradedGroup]) -> list[tuple[str, list[tuple[str, float | None]]]]:
    """Each group's place in the response, and its steps with their values."""
    return [
        (
            "".join(map(chr, one.group.prompt_tokens[len(PROMPT) :])),
            [("".join(map(chr, row.tokens)), row.value) for row in one.group.rollouts],
        )
        for one in drawn
    ]


def test_steps_branch_where_responses_part() -> None:
    sampler, drawn = search(["a;b;2", "a;c;3", "d;3"], rows=8)
    assert sampler.asked[0] == ("", 2, 0)
    assert [first for _, _, first in sampler.asked] == [0, 2, 4, 6]
    assert any(begun.startswith("a;") for begun, _, _ in sampler.asked)
    places = dict(show(drawn))
    assert [step for step, _ in places["a;"]] == ["b;", "c;"]
    assert dict(places["a;"]) == {"b;": 1.0, "c;": 0.0}
    visits = {chr(row.tokens[0]): row.visits for one in drawn for row in one.group.rollouts}
    assert visits["b"] > 5 * visits["c"], "the better branch is visited more"


@pytest.mark.parametrize("rows", [1, 2, 5, 8])
@pytest.mark.parametrize("responses", [["2"], ["2", "3"], ["a;b;2", "a;c;3", "d;3"], ["a;b;c;d;e;2", "a;b;c;d;e;3"]])
def test_a_tree_costs_what_a_group_costs(rows: int, responses: list[str]) -> None:
    sampler, drawn = search(responses, rows)
    assert sum(samples for _, samples, _ in sampler.asked) == rows
    names = [row.index for one in drawn for row in one.group.rollouts]
    assert names == list(range(len(names))), "no two rows of a problem have one key"
    for one in drawn:
        steps = [row.tokens for row in one.group.rollouts]
        assert len(set(steps)) == len(steps) == len(one.verdicts)
        assert all(len(row.tokens) == len(row.logps) == len(row.entropies) for row in one.group.rollouts)


def test_the_last_level_takes_the_rest() -> None:
    _, drawn = search(["a;b;c;d;2", "a;b;c;e;3"], rows=8, depth=2)
    assert [place for place, _ in show(drawn)] == ["", "a;"]
    assert [step for step, _ in show(drawn)[1][1]] == ["b;c;d;2", "b;c;e;3"]


def test_an_ended_branch_gets_siblings() -> None:
    sampler, drawn = search(["2", "2", "2", "3"], rows=4)
    assert sampler.asked == [("", 2, 0), ("", 2, 2)]
    assert show(drawn) == [("", [("2", 1.0), ("3", 0.0)])]


def test_values_come_from_below() -> None:
    root = Node(rollout(-1, ""), Verdict.NO_ANSWER, False)
    for text, verdict in (("a;2", Verdict.CORRECT), ("a;3", Verdict.WRONG), ("b;3", Verdict.WRONG)):
        insert(root, rollout(0, text), verdict, 3, lambda token: token == ord(";"))
    first, second = root.children
    assert (first.visits, first.value, second.visits, second.value) == (2, 0.5, 1, 0.0)
    assert not first.ended and first.prior == pytest.approx(0.5)
    insert(first, rollout(1, "2"), Verdict.CORRECT, 2, lambda token: token == ord(";"))
    insert(root, rollout(2, "a;2"), Verdict.CORRECT, 3, lambda token: token == ord(";"))
    assert [(one.visits, one.value) for one in first.children] == [(2, 1.0)]
    assert (first.visits, first.value) == (3, 1.0)
    tree = Tree(PROBLEM, PROMPT, left=0, root=root)
    tree.descend(exploration=0.0)
    assert [node.rollout.text for node in tree.path[1:]] == ["a;2", "2"]
    tree.visit()
    assert (root.visits, root.value) == (1, pytest.approx(4 / 5))


def test_a_response_under_way_keeps_its_budget_and_its_text(made: tuple[Path, Path]) -> None:
    """The verdict on a continuation is that on the whole response, which is no longer than any other may be."""
    job = spec("mcts_dpo", max_new_tokens=4)
    policy, problems = load_policy(made[0], torch.device("cpu")), read_problems(made[1])[:4]
    with make_verifier(job.verifier, never) as verifier:
        scorer = make_scorer(job.scorer, Tools(policy, never))
        collector = Collector(
            problems, policy, TorchEngine(policy, 16), verifier, scorer, job.train, job.prompt, seed=0
        )
        sampler = StepSampler(collector, Recipe(objective=()), step=0)
        (begun,) = policy.tokenizer.encode("A", add_special_tokens=False)
        drawn = sampler.draw([SampleRequest(one, sampler.prompt(one), 8, 3, (begun,)) for one in problems])
        late = sampler.draw([SampleRequest(one, sampler.prompt(one), 2, 0, (begun,) * 3) for one in problems])
    rows = [
        (one.group, row, verdict)
        for one in drawn
        for row, verdict in zip(one.group.rollouts, one.verdicts, strict=True)
    ]
    assert {row.index for _, row, _ in rows} == set(range(3, 11))
    assert all(group.prompt_tokens == (*sampler.prompt(group.problem), begun) for group, _, _ in rows)
    assert all(row.text == "A" + sampler.text(row.tokens) for _, row, _ in rows)
    finished = [(group, row, verdict) for group, row, verdict in rows if row.text in ("A1", "A2")]
    assert len(finished) > 10
    for group, row, verdict in finished:
        assert (verdict is Verdict.CORRECT) == (row.text == "A" + group.problem.answer)
    assert all(len(row.tokens) == 1 for one in late for row in one.group.rollouts)
    assert sampler.consumed.samples == 40


def test_a_request_may_have_a_smaller_budget(base: Path) -> None:
    policy = load_policy(base, torch.device("cpu"))
    sampling = Sampling(1.0, 12, 0, "test")
    free, held, generous = (Request("p", (3, 4, 5), 6, budget=budget) for budget in (None, 3, 99))
    engine = TorchEngine(policy, rows=4)
    together = engine.sample([free, held, generous], sampling)
    assert [row.tokens for row in together[1]] == [row.tokens[:3] for row in together[0]]
    assert [row.finish for row in together[1]] == [
        "length" if len(row.tokens) > 3 else row.finish for row in together[0]
    ]
    assert [row.tokens for row in together[2]] == [row.tokens for row in together[0]]
