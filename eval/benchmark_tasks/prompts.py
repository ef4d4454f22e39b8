"""What a benchmark's question looks like to a model, by the family that the model belongs to.

The one wording for all ways of running the benchmarks. A family says whether the model's own chat template is put
around the text, and what the text is.
"""

from dataclasses import dataclass

from dagrpo.config import nearest
from dagrpo.errors import UserError
from dagrpo.records import Problem

BOX = r"Please reason step by step, and put your final answer within \boxed{}."
"""The instruction of Qwen2.5-Math (arXiv 2409.12122), which the evaluations of its descendants have kept."""

LETTER = r"Please reason step by step, and put the letter of the right option within \boxed{}."

_QWEN = f"<|im_start|>system\n{BOX}<|im_end|>\n<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"


@dataclass(frozen=True, slots=True)
class Family:
    """How models of one family are asked.

    ``chat``: whether the model's own chat template is applied. ``instructed``: whether the question ends with an
    instruction where it is not multiple choice (a multiple-choice question always does). ``before`` and ``after`` stand
    around it.
    """

    chat: bool
    instructed: bool
    before: str = ""
    after: str = ""


EXPERIMENT = "experiment"
"""The family that asks as an experiment does: with its system prompt, its instruction and its opening."""

FAMILIES = {
    EXPERIMENT: Family(chat=True, instructed=False),
    # The model's template brings its system prompt and opens the thought, as in LUFFY (arXiv 2504.14945).
    "think": Family(chat=True, instructed=False),
    "chat": Family(chat=True, instructed=True),
    "qwen": Family(chat=False, instructed=False, before=_QWEN[0], after=_QWEN[1]),
    "plain": Family(chat=False, instructed=True, after="\n"),
}


def family_of(name: str) -> Family:
    """Find a family of prompts. Raises ``UserError``."""
    if name not in FAMILIES:
        raise UserError(f"prompt: there is no family {name!r}{nearest(name, list(FAMILIES))}")
    return FAMILIES[name]


def ask(problem: Problem, name: str, own: str | None = None) -> str:
    """Write what the user says to a model of family ``name``; with the chat template left out, the whole prompt.

    Args:
        own: the experiment's instruction, for its own family, which says nothing else.
    """
    family = family_of(name)
    instruction = LETTER if problem.choices else BOX if family.instructed else ""
    if name == EXPERIMENT:
        instruction = own or ""
    question = "\n".join(filter(None, (problem.prompt, instruction)))
    return f"{family.before}{question}{family.after}"
