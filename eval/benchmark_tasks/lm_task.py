"""A benchmark as a task of lm-eval: every sample counts, and the verifier of training grades it.

For the files in ``tasks/``, whichever model of lm-eval runs them. Metadata (``--metadata key=value``) may hold:

``prompt``    family of prompts, see :mod:`eval.benchmark_tasks.prompts`
``instruction``, ``opening``  an experiment's own, where ``prompt`` is ``experiment``
``k``         samples of each question, in place of the task's own number; or these numbers by benchmark
``source``    ``mirror`` or ``hub``, see :mod:`eval.benchmark_tasks.benchmarks`
``mirror``    folder that holds ``benchmarks/``, in place of DAGRPO_MIRROR
``judge``     the judge whose word is the verdict: ``math_verify`` or ``sympy``
``thought``   whether an answer must follow a closed thought: ``optional`` or ``required``
``workers``   processes that judge answers
``seconds``   wall-clock limit of one verdict
``tokenizer`` where that of ``pretrained`` is not the one to count tokens with
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, get_args

from datasets import Dataset
from lm_eval.api.task import ConfigurableTask

from dagrpo.config import Verifier as VerifierSpec
from dagrpo.config import parse
from dagrpo.errors import UserError
from dagrpo.problems.prompts import opened_thought
from dagrpo.records import Finish, Verdict
from dagrpo.records import Response as Sampled
from dagrpo.verify import Graded, make_verifier
from eval.benchmark_tasks.benchmarks import Form, load
from eval.benchmark_tasks.grade import found
from eval.benchmark_tasks.majority import majority
from eval.benchmark_tasks.prompts import ask, family_of

GRADED = "graded"
"""Name of the filter under which lm-eval shows results."""

_FEWER, _FEWER_SHARE = 2, 0.01
"""How many tokens of its budget a cut response may seem to lack: its text can be split into fewer than were sampled."""


class Response(str):
    """A response that knows how many tokens it has and how it ended. Models of lm-eval itself return plain strings."""

    tokens: int
    finish: Finish

    @classmethod
    def of(cls, text: str, tokens: int, finish: Finish) -> "Response":
        response = cls(text)
        response.tokens, response.finish = tokens, finish
        return response


class Benchmark(ConfigurableTask):
    """Questions of one benchmark; ``metadata.benchmark`` names it."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings = {key: value for key, value in config.items() if key != "class"}
        metadata = settings["metadata"]
        k = metadata.get("k") or {}
        settings["repeats"] = k.get(metadata["benchmark"], settings["repeats"]) if isinstance(k, dict) else k
        if not isinstance(settings["repeats"], int) or settings["repeats"] < 1:
            raise UserError(f"k: must be a whole number from 1 on, found {settings['repeats']!r}")
        self.verifier = parse(
            VerifierSpec,
            {key: metadata[key] for key in ("judge", "thought", "workers", "seconds") if key in metadata},
            "metadata",
        )
        super().__init__(config=settings)

    def download(self, dataset_kwargs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """Read the benchmark, from the mirror or the hub, and hold it against the lock."""
        metadata = self.config.metadata
        form = metadata.get("source")
        if form not in (None, *get_args(Form)):
            raise UserError(f"source: must be mirror or hub, found {form!r}")
        mirror = metadata.get("mirror")
        loaded = load(metadata["benchmark"], form, None if mirror is None else Path(mirror))
        metadata["data"] = loaded.source
        self.problems = {problem.id: problem for problem in loaded.problems}
        rows = [
            {
                "id": problem.id,
                "question": problem.prompt,
                "prompt": ask(problem, metadata["prompt"], metadata.get("instruction")),
                "answer": problem.answer,
            }
            for problem in loaded.problems
        ]
        self.dataset = {"test": Dataset.from_list(rows)}

    def fewshot_context(self, doc: dict[str, Any], num_fewshot: int = 0, **settings: Any) -> Any:
        """Write the prompt. Raises ``UserError`` where the chat template is applied and must not be, or the reverse."""
        name, applied = self.config.metadata["prompt"], bool(settings.get("apply_chat_template"))
        if family_of(name).chat != applied:
            fault, cure = ("is a whole prompt", "drop") if applied else ("needs the model's chat template", "add")
            raise UserError(
                f"prompt: {name!r} {fault}; {cure} --apply_chat_template, or choose another by --metadata prompt=..."
            )
        return super().fewshot_context(doc, num_fewshot, **settings) + self._own_opening

    def apply_filters(self) -> None:
        """Grade all responses; each instance gets the record of each of its samples and the score of their majority."""
        instances = self.instances
        problems = [self.problems[instance.doc["id"]] for instance in instances]
        finishes = [[self._finish(response) for response in instance.resps] for instance in instances]
        rows = [
            (problem, Sampled(str(response), finish, self._opening(instance.args[0])))
            for problem, instance, ends in zip(problems, instances, finishes, strict=True)
            for response, finish in zip(instance.resps, ends, strict=True)
        ]
        with make_verifier(self.verifier) as verifier:
            flat = iter(verifier.grade(*zip(*rows, strict=True)))
            graded = [[next(flat) for _ in instance.resps] for instance in instances]
            majorities = majority(problems, graded, verifier)
        for instance, problem, samples, ends, agreed in zip(
            instances, problems, graded, finishes, majorities, strict=True
        ):
            records = [_record(sample, finish) for sample, finish in zip(samples, ends, strict=True)]
            about = {
                "problem_hash": problem.digest(),
                "level": problem.level,
                "opening": self._opening(instance.args[0]),
            }
            instance.filtered_resps[GRADED] = {**about, "samples": records, "majority": agreed}

    @property
    def _own_opening(self) -> str:
        """The opening of the experiment that asks, which every prompt ends with."""
        return str(self.config.metadata.get("opening") or "")

    def _opening(self, prompt: str) -> str:
        """What of the response a prompt holds already."""
        return opened_thought(prompt.removesuffix(self._own_opening)) + self._own_opening

    def _finish(self, response: str) -> Finish:
        if isinstance(response, Response):
            return response.finish
        metadata = self.config.metadata
        name = metadata.get("tokenizer") or metadata.get("pretrained")
        if name is None:
            return "stop"
        budget = self.config.generation_kwargs["max_gen_toks"]
        tokens = len(_tokenizer(name)(response, add_special_tokens=False)["input_ids"])
        return "length" if tokens >= budget - max(_FEWER, _FEWER_SHARE * budget) else "stop"


def averages(doc: dict[str, Any], results: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Average over the samples of one question: avg@k, maj@k, and how samples failed (shares).

    ``disagreement`` is the share of samples that the two judges see differently.
    """
    samples, agreed = results[0]["samples"], results[0]["majority"]
    verdicts = [sample["verdict"] for sample in samples]
    shares = {verdict.value: verdicts.count(verdict.value) / len(verdicts) for verdict in Verdict}
    apart = [len(set(sample["judges"].values())) > 1 for sample in samples]
    return {
        "acc": shares["correct"],
        "maj": agreed,
        "no_answer": shares["no_answer"],
        "truncated": shares["truncated"],
        "timeout": shares["timeout"],
        "disagreement": sum(apart) / len(apart),
    }


def _record(graded: Graded, finish: Finish) -> dict[str, Any]:
    return {**found(graded), "finish": finish}


@cache
def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name)
