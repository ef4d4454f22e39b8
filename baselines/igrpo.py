"""iGRPO spends half of a group on drafts, shows the best of them to the policy beside the question, and reinforces the
answers that it gives then.

Paper: iGRPO: Self-Feedback-Driven LLM Reasoning, arXiv 2602.09000.

    d    = the draft of highest reward, the first of equals; q' = the question and d, by a fixed template
    A_i  = (R_i - mean(R)) / (std(R) + 1e-6)            over the answers to q'; the drafts are not trained on
    loss = that of GRPO, with q' in the place of the question

What is evaluated is the plain question. Defaults, the paper's: as many drafts as answers, together a group of GRPO
(4 + 4); ε = 0.2, no KL. The template is ours and has no words, for the base of the miniature has read none; a language
model is better told what the draft is for.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

from pydantic import AfterValidator, Field

from baselines import grpo
from dagrpo.algorithm import Algorithm, GradedGroup, Phase, Sampler, SampleRequest, method
from dagrpo.config import Strict
from dagrpo.records import Problem, Verdict


def _holds_both(template: str) -> str:
    if "{question}" not in template or template.count("{draft}") != 1:
        raise ValueError("it must hold {question}, and {draft} once")
    return template


class Options(Strict):
    """Parameters of iGRPO."""

    drafts: float = Field(0.5, gt=0, lt=1, description="Share of a group's samples that are drafts.")
    template: Annotated[str, AfterValidator(_holds_both)] = Field(
        "{draft};{question}", description="The second prompt, with {question} and {draft}."
    )
    clip: float = Field(0.2, gt=0, lt=1, description="Bound on the ratio of new to old policy.")


@method("igrpo", Options)
def igrpo(options: Options) -> Algorithm:
    def plan(sampler: Sampler, problems: Sequence[Problem]) -> list[GradedGroup]:
        """Drafts, then answers to the question with the best draft."""
        rows = [sampler.rows(problem) for problem in problems]
        drafts = [max(1, min(count - 1, round(options.drafts * count))) for count in rows]
        first = [SampleRequest(one, sampler.prompt(one), count) for one, count in zip(problems, drafts, strict=True)]
        second = [
            SampleRequest(one, sampler.prompt(one, refining(options.template, one, draft)), count - spent)
            for one, draft, count, spent in zip(problems, sampler.draw(first, "drafts"), rows, drafts, strict=True)
        ]
        return sampler.draw(second)

    recipe = replace(grpo.recipe(grpo.Options(clip=options.clip)), plan=plan)
    return Algorithm("iGRPO", (Phase(recipe),))


def refining(template: str, problem: Problem, draft: GradedGroup) -> str:
    """The question with the first of the best drafts; braces in either stay as they are."""
    best = max(range(len(draft.verdicts)), key=lambda i: draft.verdicts[i] is Verdict.CORRECT)
    before, after = template.split("{draft}", 1)
    parts = (part.replace("{question}", problem.prompt) for part in (before, after))
    return draft.group.rollouts[best].text.join(parts)
