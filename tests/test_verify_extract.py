"""Where the answer of a response is found, rule by rule, and what does not count as one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dagrpo.records import Finish
from dagrpo.verify.extract import Extraction, extract, last_box, read_choice, split_thoughts

FINISHES: tuple[Finish, ...] = ("stop", "length")
CHOICES = ("Venus", "A red star", "10^-4 eV", "5 cm")


@pytest.mark.parametrize(
    ("response", "answer", "rule"),
    [
        (r"so it is \boxed{5}.", "5", "boxed"),
        (r"\boxed{5} and then \boxed{6}", "6", "boxed"),
        (r"\boxed{5} and then \boxed{ }", "5", "boxed"),
        (r"\boxed{5} and then \boxed{6", "5", "boxed"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}", "boxed"),
        (r"\boxed{x=\boxed{5}}", "5", "boxed"),
        (r"\boxed{\left\{1,2\right\}}", r"\left\{1,2\right\}", "boxed"),
        (r"a } stray brace, {\boxed{5}", "5", "boxed"),
        (r"\boxed {5}", "5", "boxed"),
        (r"\fbox{5}", "5", "boxed"),
        (r"so \\boxed{5}", "5", "boxed"),
        (r"\boxed{5\ }", "5\\", "boxed"),
        (r"So $\boxed{-2}$ and $\boxed{1}$.", "-2, 1", "boxed"),
        (r"\boxed{-2} and \boxed{1}.", "-2, 1", "boxed"),
        (r"\[ \boxed{-2} \quad \text{and} \quad \boxed{1}. \]", "-2, 1", "boxed"),
        (r"$k = \boxed{45}, n = \boxed{2}$", "k = 45, n = 2", "boxed"),
        (r"- $k = \boxed{45}$" + "\n" + r"and $\boxed{2}$", "45, 2", "boxed"),
        (r"\boxed{1}, \boxed{2} or \boxed{3}", "1, 2, 3", "boxed"),
        (r"\boxed{1} \boxed{1}", "1", "boxed"),
        (r"\boxed{4}" + "\n\n" + r"\boxed{5}", "5", "boxed"),
        (r"\boxed{4}, no: \boxed{5}", "5", "boxed"),
        (r"\boxed{4}. Rather, \boxed{5} and \boxed{6}", "5, 6", "boxed"),
        (r"\boxed{}", None, "none"),
        (r"\boxed{ }", None, "none"),
        (r"\boxed{", None, "none"),
        ("<answer>5</answer>", "5", "answer_tag"),
        ("<answer>5</answer> <answer> </answer>", "5", "answer_tag"),
        ("<answer>5</answer> or <answer>6</answer>", "6", "answer_tag"),
        ("<answer>The answer is 5.</answer>", "5", "answer_tag"),
        (r"<answer>6</answer> \boxed{5}", "5", "boxed"),
        ("<answer>5", None, "none"),
        ("The answer is 5.", "5", "phrase"),
        ("The answer is 4. No, the answer is 5. Done.", "5", "phrase"),
        ("**Final Answer:** 5", "5", "phrase"),
        ("Final answer:\n\n**12.5** cm\nGoodbye", "12.5 cm", "phrase"),
        ("16 - 3 = 13\n#### 13", "13", "phrase"),
        (r"the answer is: $\frac{1}{2}$.", r"$\frac{1}{2}$", "phrase"),
        ("Final Answer: The largest $n$ is 34.", "34", "phrase"),
        ("The answer is that $n$ is 34.", "34", "phrase"),
        ("**Final Answer**\nThe largest of the 3 is equal to 34.", "34", "phrase"),
        ("### Final Answer:\n\n$34$", "$34$", "phrase"),
        ("The answer is not 17", "not 17", "phrase"),
        ("The answer is 5 since n is 34.", "5 since n is 34", "phrase"),
        ("The answer is $5$, as $n$ is 34.", "$5$, as $n$ is 34", "phrase"),
        ("Answer: it is not known, but 34 was tried", "not known, but 34 was tried", "phrase"),
        ("The answer is", None, "none"),
        ("I get 5", None, "none"),
        ("", None, "none"),
        (r"\boxed{-\boxed{3}}", r"-\boxed{3}", "boxed"),
        (r"\boxed{\text{so } \boxed{3}}", "3", "boxed"),
        (r"\boxed{4} for part (a) and \boxed{5} for part (b)", "4, 5", "boxed"),
        (r"<think>\boxed{5}</think> \boxed{6}", "6", "boxed"),
        (r"<think>\boxed{5}</think> The answer is 6.", "6", "phrase"),
        (r"<think>\boxed{5}</think>", "5", "boxed_in_thought"),
        (r"thinking \boxed{5}</think> done", "5", "boxed_in_thought"),
        (r"thinking \boxed{5}</think> so \boxed{6}", "6", "boxed"),
        (r"<think>\boxed{5}", None, "none"),
        (r"\boxed{4} <think> or \boxed{5}", "4", "boxed"),
        (r"<think>a</think> b <think> \boxed{5}", None, "none"),
        (r"<think>the answer is 5</think>", None, "none"),
        (r"<think><think>\boxed{5}</think> \boxed{6}", "6", "boxed"),
    ],
)
def test_chain(response: str, answer: str | None, rule: str) -> None:
    assert extract(response, "stop") == Extraction(answer, rule)


@pytest.mark.parametrize(
    ("response", "answer", "rule"),
    [
        (r"\boxed{5} and on and", "5", "boxed"),
        ("<answer>5</answer> and on", "5", "answer_tag"),
        ("the answer is 12", None, "none"),
        (r"<think>\boxed{5}</think> so", None, "none"),
        (r"<think>\boxed{5}", None, "none"),
        (r"so \boxed{12", None, "none"),
    ],
)
def test_cut_response_counts_what_was_complete(response: str, answer: str | None, rule: str) -> None:
    assert extract(response, "length") == Extraction(answer, rule)


@pytest.mark.parametrize(
    ("answer", "letter", "rule"),
    [
        ("B", "B", "letter"),
        ("b", "B", "letter"),
        ("(B)", "B", "letter"),
        ("B.", "B", "letter"),
        (r"\text{B}", "B", "letter"),
        (r"\textbf{(B)}", "B", "letter"),
        ("Option B", "B", "letter"),
        ("B) A red star", "B", "letter"),
        ("(A) Venus", "A", "letter"),
        ("C: because it is small", "C", "letter"),
        ("A red star", "B", "option_text"),
        ("venus", "A", "option_text"),
        ("5 cm", "D", "option_text"),
        ("Venus, A red star", None, "none"),
        ("A) A red star", None, "none"),
        ("A, B, C, D", None, "none"),
        ("A B C D", None, "none"),
        ("ABCD", None, "none"),
        ("(A)(B)(C)(D)", None, "none"),
        ("A or B", None, "none"),
        ("A. or B.", None, "none"),
        ("A, not B", None, "none"),
        ("E", None, "none"),
        ("5", None, "none"),
        ("A planet", None, "none"),
    ],
)
def test_choice(answer: str, letter: str | None, rule: str) -> None:
    assert read_choice(answer, CHOICES) == (letter, rule)


def test_choice_that_two_options_share_is_none() -> None:
    assert read_choice("same", ("same", "same")) == (None, "none")


@pytest.mark.parametrize(
    ("response", "found"),
    [
        (r"\boxed{C}", Extraction("C", "boxed/letter")),
        (r"\boxed{\text{Venus}}", Extraction("A", "boxed/option_text")),
        ("The correct option is (C).", Extraction("C", "phrase/letter")),
        ("Answer: B", Extraction("B", "phrase/letter")),
        ("答案\uff1aB", Extraction("B", "phrase/letter")),
        ("所以答案是C。", Extraction("C", "phrase/letter")),
        ("没有答案 B", Extraction(None, "none")),
        ("<answer>D</answer>", Extraction("D", "answer_tag/letter")),
        ("B) A red star", Extraction("B", "bare/letter")),
        (r"\boxed{A,B}", Extraction("A,B", "boxed/none")),
        ("Venus is nice.", Extraction(None, "none")),
        ("B\nC", Extraction(None, "none")),
    ],
)
def test_multiple_choice(response: str, found: Extraction) -> None:
    assert extract(response, "stop", CHOICES) == found


def test_bare_line_is_an_answer_of_multiple_choice_only() -> None:
    assert extract("B", "stop") == Extraction(None, "none")
    assert extract("B", "length", CHOICES) == Extraction(None, "none")


@given(
    st.lists(st.sampled_from(["<think>", "</think>", r"\boxed{", "{", "}", r"\{", "x", " ", "<answer>", "</answer>"]))
)
def test_extraction_never_fails_and_never_takes_from_an_unfinished_thought(pieces: list[str]) -> None:
    text = "".join(pieces)
    for finish in FINISHES:
        found = extract(text, finish)
        assert (found.answer is None) == (found.rule == "none")
        assert found.answer is None or found.answer.strip()
    outside, thoughts = split_thoughts(text)
    unfinished = text.rpartition("</think>")[2].partition("<think>")[2]
    assert len(outside) + len(thoughts.replace("\n", "")) <= len(text) - len(unfinished)
    assert extract("<think>" + text.replace("</think>", ""), "stop").answer is None


@pytest.mark.parametrize(
    "piece",
    [
        r"\boxed{",
        r"\boxed{}",
        "{",
        "}",
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "answer is ",
        "#",
        " ",
        "\n",
        "9",
    ],
)
def test_extraction_takes_linear_time(piece: str) -> None:
    for finish in FINISHES:
        extract(piece * (300_000 // len(piece)), finish)


def test_last_box_of_a_thousand() -> None:
    assert last_box("".join(rf"\boxed{{{n}}}" for n in range(1000))) == "999"
