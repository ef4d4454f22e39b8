"""From a problem to token ids: the rendered question, and the demonstration that answers it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from dagrpo.config import PromptSpec
from dagrpo.errors import UserError
from dagrpo.records import Problem


class TooLong(UserError):
    """A demonstration has more tokens than a response may have."""


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
        UserError: like :func:`as_chat`.
    """
    question = f"{problem.prompt}\n{prompt.instruction}" if prompt.instruction else problem.prompt
    texts, mark = quoted([prompt.system_prompt or "", question], tokenizer)
    both = zip(("system", "user"), texts, strict=True)
    messages = [{"role": role, "content": text} for role, text in both if role == "user" or text]
    text = as_chat(messages, tokenizer)
    opening = prompt.opening or ""
    return Prompt(encode(f"{text}{opening}", mark, tokenizer), opened_thought(text) + opening)


def as_chat(messages: Sequence[Mapping[str, str]], tokenizer: PreTrainedTokenizerBase, **settings: bool) -> str:
    """Write messages through the tokenizer's chat template, up to where the response begins.

    Args:
        settings: in place of ``add_generation_prompt=True``, which ends the text with the head of the response.

    Raises:
        UserError: where the tokenizer has no chat template, or one that refuses these messages or leaves one out.
    """
    if not tokenizer.chat_template:
        raise UserError("the base has no chat template; add chat_template.jinja to its folder")
    told = settings or {"add_generation_prompt": True}
    try:
        text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, **told)
    except (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
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
    return text


def quoted(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> tuple[list[str], str]:
    """Put a mark behind the first sign of each special token that is spelled out in a text from outside, such as
    ``<|im_end|>``: :func:`encode` cuts there, so that it stays text and ends no turn.

    Returns:
        the texts, and the mark, a sign that none of them had; empty where there is nothing to cut.
    """
    special = _special(tokenizer)
    if special is None or not any(map(special.search, texts)):
        return list(texts), ""
    mark = next(sign for sign in map(chr, range(0xE000, 0xF8FF)) if not any(sign in text for text in texts))
    return [special.sub(lambda word: f"{word[0][:1]}{mark}{word[0][1:]}", text) for text in texts], mark


def encode(text: str, mark: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Encode the parts between the marks, each by itself; without a mark the whole."""
    pieces = text.split(mark) if mark else [text]
    return tuple(token for piece in pieces for token in tokenizer.encode(piece, add_special_tokens=False))


@lru_cache(maxsize=4)
def _special(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str] | None:
    """What finds a special token in a text. Other added tokens, such as ``<think>`` of some models, are words."""
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    words = sorted(added | set(tokenizer.all_special_tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, words))) if words else None


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
    (solution,), mark = quoted([problem.solution], tokenizer)
    tokens = (*encode(solution, mark, tokenizer), tokenizer.eos_token_id)
    if len(tokens) > budget:
        raise TooLong(
            f"the anchor of problem {problem.id!r} has {len(tokens)} tokens, but train.max_new_tokens is {budget}; "
            "raise max_new_tokens, set problems.long_demonstrations: left_out, or leave the problem out"
        )
    return tokens
