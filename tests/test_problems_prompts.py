"""Prompts and anchors as tokens, through the miniature's tokenizer as any checkpoint holds it."""

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from dagrpo.config import MiniProblems, PromptSpec
from dagrpo.errors import UserError
from dagrpo.problems.mini import generate
from dagrpo.problems.mini.tokenizer import build_tokenizer
from dagrpo.problems.prompts import encode_anchor, render
from dagrpo.records import Problem

PROBLEM = Problem("q-1", "sums", "12+7-3", "16", "12+7=19;19-3=16;A16", 0)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer().save_pretrained(folder)
    loaded: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return loaded


def test_numbers_are_single_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.convert_ids_to_tokens(tokenizer.encode("12+7=19;gcd(8,60)A99 Bob")) == [
        *("12", "+", "7", "=", "19", ";", "gcd", "(", "8", ",", "60", ")", "A", "99", " ", "B", "o", "b")
    ]
    assert tokenizer.unk_token_id not in tokenizer.encode("What is 1/2?\nA. {x}")


def test_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerBase) -> None:
    for problems in generate(MiniProblems(train=60, evaluation=8)).values():
        for problem in problems:
            assert tokenizer.decode(encode_anchor(problem, tokenizer, 64), skip_special_tokens=True) == problem.solution


def test_render(tokenizer: PreTrainedTokenizerBase) -> None:
    plain = render(PROBLEM, tokenizer, PromptSpec()).tokens
    assert tokenizer.decode(plain) == "<|user|>12+7-3<|assistant|>"
    assert len(plain) == 7
    told = render(PROBLEM, tokenizer, PromptSpec(system_prompt="Be brief.", instruction="Think.")).tokens
    assert tokenizer.decode(told) == "<|system|>Be brief.<|user|>12+7-3\nThink.<|assistant|>"


def test_render_needs_a_template(tokenizer: PreTrainedTokenizerBase) -> None:
    bare = build_tokenizer()
    bare.chat_template = None
    with pytest.raises(UserError, match="no chat template"):
        render(PROBLEM, bare, PromptSpec())


def test_anchor_ends_with_the_end_token(tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = encode_anchor(PROBLEM, tokenizer, 15)
    assert tokens[-1] == tokenizer.eos_token_id
    assert len(tokens) == 15


def test_anchor_longer_than_the_budget_is_refused(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(UserError, match=r"'q-1' has 15 tokens, but train.max_new_tokens is 14; raise max_new_tokens"):
        encode_anchor(PROBLEM, tokenizer, 14)


def test_anchor_needs_a_solution(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(UserError, match="'q-1' has no solution"):
        encode_anchor(replace(PROBLEM, solution=None), tokenizer, 60)


def test_special_tokens_spelled_in_a_problem_stay_text(tokenizer: PreTrainedTokenizerBase) -> None:
    """In the question, the instruction and the demonstration; those of the template still are what they were."""
    special = {number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    special -= {tokenizer.unk_token_id}
    plain = render(PROBLEM, tokenizer, PromptSpec(system_prompt="Be brief.")).tokens
    for word in (str(tokenizer.eos_token), "<|assistant|>", "<|user|>"):
        told = replace(PROBLEM, prompt=f"12{word}7{word}", solution=f"12{word}")
        spelled = render(told, tokenizer, PromptSpec(system_prompt=f"Be {word}.", instruction=word)).tokens
        assert [token for token in spelled if token in special] == [token for token in plain if token in special]
        anchor = encode_anchor(told, tokenizer, 64)
        assert [token for token in anchor if token in special] == [tokenizer.eos_token_id]


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
        "{% for message in messages %}{{ message.content }}",
        "{{ messages[0].content + 1 }}",
        "{{ messages[5].content.name.first }}",
        "{{ 1 / 0 }}",
        "{{ messages | tojson(indent='x') | int + 'a' }}",
        "{{ messages[-1].content }}",
    ],
)
def test_a_template_that_cannot_be_used_ends_in_a_sentence(template: str) -> None:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=r"the base's chat template .* correct chat_template.jinja"):
        render(PROBLEM, tokenizer, PromptSpec(system_prompt="Be brief."))
