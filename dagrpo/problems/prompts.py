"""From a problem to token ids: the rendered question, and the demonstration that answers it."""

import re
from dataclasses import dataclass

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from dagrpo.config import PromptSpec
from dagrpo.errors import UserError
from dagrpo.records import Problem

_OPENED = re.compile(r"<think>\s*\Z")


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt as token ids, and what of the response it holds already (:class:`dagrpo.records.Response`)."""

    tokens: tuple[int, ...]
    opening: str


def opened_thought(prompt: str) -> str:
    """The tag of a thought that a prompt ends with, with the spaces behind it; empty where it opens none."""
    found = _OPENED.search(prompt)
    return found[0] if found else ""


def render(problem: Problem, tokenizer: PreTrainedTokenizerBase, prompt: PromptSpec) -> Prompt:
    """Render a problem through the tokenizer's chat template, up to where the response begins or its opening ends.

    The opening is that of the configuration, after a thought that the template opens by itself.

    Raises:
        UserError: where the tokenizer has no chat template, or one that refuses these messages or leaves one out.
    """
    if not tokenizer.chat_template:
        raise UserError("the base has no chat template; add chat_template.jinja to its folder")
    question = f"{problem.prompt}\n{prompt.instruction}" if prompt.instruction else problem.prompt
    system = [{"role": "system", "content": prompt.system_prompt}] if prompt.system_prompt else []
    messages = [*system, {"role": "user", "content": question}]
    try:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    except TemplateError as error:
        raise UserError(
            f"the base's chat template cannot be used ({error}); correct chat_template.jinja in its folder, or, where "
            "it takes no system message, leave system_prompt out"
        ) from None
    for message in messages:
        if message["content"].strip() not in text:
            raise UserError(
                f"the base's chat template leaves the message of the {message['role']} out; correct "
                "chat_template.jinja in its folder, or, where it takes no system message, leave system_prompt out"
            )
    opening = prompt.opening or ""
    tokens = tokenizer.encode(f"{text}{opening}", add_special_tokens=False)
    return Prompt(tuple(tokens), opened_thought(text) + opening)


def encode_anchor(problem: Problem, tokenizer: PreTrainedTokenizerBase, budget: int) -> tuple[int, ...]:
    """Encode a problem's solution as response tokens, the end-of-sequence token included.

    Args:
        budget: most tokens that a response may have.

    Raises:
        UserError: where there is no solution, it is longer than the budget, or the tokenizer has no
            end-of-sequence token.
    """
    if not problem.solution:
        raise UserError(
            f"problem {problem.id!r} has no solution to serve as an anchor; add one or leave the problem out"
        )
    if tokenizer.eos_token_id is None:
        raise UserError("the base's tokenizer has no end-of-sequence token; set eos_token in its tokenizer_config.json")
    tokens = (*tokenizer.encode(problem.solution, add_special_tokens=False), tokenizer.eos_token_id)
    if len(tokens) > budget:
        raise UserError(
            f"the anchor of problem {problem.id!r} has {len(tokens)} tokens, but train.max_new_tokens is {budget}; "
            "raise max_new_tokens, or leave the problem out"
        )
    return tokens
