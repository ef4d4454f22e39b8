"""Prompts and demonstrations of the training problems as token ids."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from dagrpo.config import PromptSpec
from dagrpo.errors import UserError
from dagrpo.problems.prompts import TooLong, encode_anchor, render
from dagrpo.records import Problem, Rollout


class Encoding:
    """Encodes each prompt and each demonstration once, and keeps the token ids."""

    def __init__(self, problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, prompt: PromptSpec) -> None:
        self._problems, self._tokenizer, self._prompt = problems, tokenizer, prompt
        # Token ids of the whole data set: as arrays they take a tenth of what they take as tuples.
        self._prompts: dict[str, np.ndarray] = {}
        self._anchors: dict[str, np.ndarray] = {}
        self._opening: str | None = None

    def opening(self) -> str:
        """The beginning of the response that every prompt already holds."""
        if self._opening is None:
            self._opening = render(self._problems[0], self._tokenizer, self._prompt).opening
        return self._opening

    def prompt(self, problem: Problem) -> tuple[int, ...]:
        """The token ids of a problem's prompt."""
        if problem.id not in self._prompts:
            self._prompts[problem.id] = np.array(render(problem, self._tokenizer, self._prompt).tokens, np.int32)
        return tuple(self._prompts[problem.id].tolist())

    def prompt_of_question(self, problem: Problem, question: str) -> tuple[int, ...]:
        """The token ids of the prompt with ``question`` in place of the problem's own; they are not kept."""
        return render(replace(problem, prompt=question), self._tokenizer, self._prompt).tokens

    def anchor(self, problem: Problem, budget: int) -> Rollout:
        """The problem's demonstration as a rollout.

        Args:
            budget: most tokens of a response.

        Raises:
            TooLong: the demonstration exceeds the budget.
            UserError: its ``solution_logps`` are not one a token.
        """
        assert problem.solution is not None
        # The prompt may hold the beginning: the tag of a thought that the chat template opens by itself.
        problem = replace(problem, solution=problem.solution.removeprefix(self.opening()))
        assert problem.solution is not None
        if problem.id not in self._anchors:
            self._anchors[problem.id] = np.array(encode_anchor(problem, self._tokenizer, budget), np.int32)
        tokens = tuple(self._anchors[problem.id].tolist())
        logps = problem.solution_logps or (0.0,) * len(tokens)
        if len(logps) != len(tokens):
            raise UserError(
                f"problem {problem.id!r}: {len(logps)} solution_logps for a demonstration of {len(tokens)} tokens; "
                "they must come from a model with this tokenizer, and hold one for the end of the text"
            )
        return Rollout(-1, tokens, problem.solution, "stop", "anchor", logps)

    def fits(self, problem: Problem, budget: int) -> bool:
        """Whether the problem's demonstration has at most ``budget`` tokens."""
        try:
            self.anchor(problem, budget)
        except TooLong:
            return False
        return True
