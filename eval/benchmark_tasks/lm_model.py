"""Our engine as a model of lm-eval, under the name ``dagrpo``."""

import json
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.api.registry import register_model
from lm_eval.models.utils import normalize_gen_kwargs

from dagrpo import provenance
from dagrpo.config import EngineOptions, TorchEmbedded, VllmColocated, nearest
from dagrpo.errors import UserError
from dagrpo.files.partial import Partial
from dagrpo.policy.checkpoint import fingerprint, load_policy, window_of
from dagrpo.policy.device import resolve_device
from dagrpo.problems.prompts import as_chat, quoted
from dagrpo.processes.signals import ShouldStop, never
from dagrpo.progress import progress
from dagrpo.rollout.engine import Engine, Request, Sampling
from dagrpo.rollout.make import engine_essence, make_engine, versions
from eval.benchmark_tasks.drawn import Drawn, Sample
from eval.benchmark_tasks.lm_task import Response
from eval.sampling import ROUNDS, batches, policy_device

ENGINES: dict[str, EngineOptions] = {"torch": TorchEmbedded(), "vllm": VllmColocated()}
"""The engines that a word can ask for, each with its defaults."""


def find_engine(name: str) -> EngineOptions:
    """Find an engine by its name. Raises ``UserError``."""
    if name not in ENGINES:
        raise UserError(f"engine: there is no {name!r}{nearest(name, list(ENGINES))}")
    return ENGINES[name]


@dataclass(frozen=True, slots=True)
class _Job:
    """What one task asks for; ``places`` are where its samples stand among all that is asked for.

    ``known`` holds for each request the samples that need not be drawn, or ``None``.
    """

    task: str
    places: list[int]
    requests: list[Request]
    known: list[list[Sample] | None]
    sampling: Sampling

    @property
    def unknown(self) -> list[Request]:
        """The requests that are to be sampled."""
        return [request for request, known in zip(self.requests, self.known, strict=True) if known is None]


@register_model("dagrpo")
class DagrpoLM(LM):
    """Samples from a checkpoint: a sample depends on the seed, its question and its number, and on nothing else.

    Args:
        pretrained: folder of a checkpoint, or a name on the Hugging Face hub.
        revision: commit of the hub's repository.
        batch_size: rows decoded together; does not change a sample.
        seed: of every draw.
        state: where finished batches are kept, so that a killed run loses at most one; nowhere if left out.
        engine: what samples; a name, as lm-eval hands it over, stands for that engine's defaults.
        should_stop: looked at between decoding steps.
        drawn: samples of this checkpoint that are taken where they answer what is asked.
    """

    def __init__(
        self,
        pretrained: str | Path,
        revision: str | None = None,
        device: str | None = None,
        dtype: str = "float32",
        batch_size: int | str = 64,
        max_batch_size: int | None = None,
        seed: int = 0,
        state: str | Path | None = None,
        engine: EngineOptions | str = "torch",
        should_stop: ShouldStop = never,
        drawn: Drawn | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise UserError(f"dtype: torch has none named {dtype!r}; use float32 or bfloat16")
        self.engine = find_engine(engine) if isinstance(engine, str) else engine
        folder = Path(pretrained)
        where = resolve_device("cpu" if device == "cpu" else "cuda" if str(device).startswith("cuda") else "auto")
        self._device = where  # lm-eval's name for it
        self.policy = load_policy(
            folder if folder.is_dir() else str(pretrained),
            policy_device(self.engine, where),
            getattr(torch, dtype),
            revision,
        )
        self.name, self.seed, self.should_stop = str(pretrained), seed, should_stop
        self.rows = int(batch_size)
        self.fingerprint = fingerprint(self.policy.model)
        self.state = None if state is None else Path(state)
        self.drawn, self.taken = drawn, 0

    @property
    def card(self) -> dict[str, Any]:
        """Versions, hardware and code that sample."""
        return provenance.card(self._device, versions(self.engine))

    @property
    def tokenizer(self) -> Any:
        """The checkpoint's tokenizer."""
        return self.policy.tokenizer

    @property
    def tokenizer_name(self) -> str:
        """What lm-eval calls the tokenizer."""
        return self.name.replace("/", "__")

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The chat template, for lm-eval's records."""
        return self.tokenizer.chat_template if chat_template else None

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Write messages as a prompt. Raises ``UserError`` where the tokenizer has no chat template."""
        if not self.tokenizer.chat_template:
            raise UserError(f"{self.name}: the tokenizer has no chat template; choose the prompt plain or qwen")
        return as_chat(
            chat_history,
            self.tokenizer,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )

    def get_model_info(self) -> dict[str, Any]:
        """What lm-eval writes into its results about the model."""
        return {"model_fingerprint": self.fingerprint, **self.card}

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Sample responses, benchmark by benchmark, in the order of ``requests``.

        The same instance, asked for again, is the next sample of its question. One engine serves all benchmarks, and
        none is started where all samples are drawn already.

        Raises:
            UserError: settings that the engine does not offer, or a prompt without room for the response.
            Interrupted: a stop was asked for; finished batches are kept.
        """
        tasks = dict.fromkeys(request.task_name for request in requests)
        jobs = [self._job(str(task), requests) for task in tasks]  # first, for an engine may take a minute to start
        self.taken = sum(len(known) for job in jobs for known in job.known if known)
        responses: dict[int, str] = {}
        with ExitStack() as stack:
            engine = None
            if any(job.unknown for job in jobs):
                made = make_engine(self.engine, self.policy, self.rows, self._device, self.should_stop)
                engine = stack.enter_context(made)
            for job in jobs:
                responses.update(zip(job.places, self._responses(job, engine), strict=True))
        return [responses[place] for place in range(len(requests))]

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        raise UserError("model dagrpo samples only; for a task that needs log-likelihoods use lm-eval's model hf")

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        raise UserError("model dagrpo samples only; for a task that needs log-likelihoods use lm-eval's model hf")

    def _job(self, task: str, asked: Sequence[Instance]) -> _Job:
        places = [place for place, instance in enumerate(asked) if instance.task_name == task]
        instances = [asked[place] for place in places]
        settings = normalize_gen_kwargs(instances[0].args[1])
        sampling = _sampling(settings, self.seed)
        if not all(instance.args[1] == instances[0].args[1] for instance in instances):
            raise UserError(f"{task}: its questions ask for different generation settings; give them one")
        requests = self._requests(instances)
        self._check_room(task, requests, sampling.max_new_tokens)
        engine = engine_essence(self.engine)
        known = [
            self.drawn.answers(request, sampling, self.fingerprint, engine) if self.drawn else None
            for request in requests
        ]
        return _Job(task, places, requests, known, sampling)

    def _responses(self, job: _Job, engine: Engine | None) -> list[Response]:
        """All responses of a job, those that were known in their places."""
        fresh = iter(self._sample(job, engine) if engine is not None and job.unknown else [])
        rows = [
            row
            for request, known in zip(job.requests, job.known, strict=True)
            for row in (known if known is not None else islice(fresh, request.samples))
        ]
        return [Response.of(row["text"], row["tokens"], row["finish"]) for row in rows]

    def _sample(self, job: _Job, engine: Engine) -> list[Sample]:
        partial = None if self.state is None else Partial(self.state / job.task, self._identity(job))
        rows: list[Sample] = []
        if partial is not None:
            rows = [json.loads(line) for line in partial.content().decode().splitlines()]
        counts = [request.samples for request in job.unknown]
        todo = batches(job.unknown, counts, self.rows)
        with progress(job.task.removeprefix("dagrpo_"), sum(counts)) as report:
            report(len(rows))
            for batch in todo[0 if partial is None else partial.batches :]:
                rollouts = [rollout for group in engine.sample(batch, job.sampling) for rollout in group]
                new = [{"text": row.text, "tokens": len(row.tokens), "finish": row.finish} for row in rollouts]
                if partial is not None:
                    partial.append(new)
                rows += new
                report(len(rows))
        return rows

    def _requests(self, instances: Sequence[Instance]) -> list[Request]:
        """One request a question; the samples of a question follow each other in what lm-eval asks for."""
        requests: list[Request] = []
        last: Instance | None = None
        for instance in instances:
            if instance is last:
                before = requests[-1]
                requests[-1] = Request(before.problem_id, before.prompt_tokens, before.samples + 1)
                continue
            last = instance
            doc = instance.doc if isinstance(instance.doc, dict) else {}
            name, question = doc.get("id", instance.doc_id), doc.get("question", "")
            requests.append(Request(str(name), self._encode(instance.args[0], question), 1))
        return requests

    def _encode(self, prompt: str, question: str = "") -> tuple[int, ...]:
        """As lm-eval's own model does: a prompt that begins with the begin token gets no second one. But special tokens
        that the question spells out stay text, as everywhere here."""
        begin = self.tokenizer.bos_token
        begins = not (begin and prompt.startswith(begin))
        question = question.strip()
        (marked, _), mark = quoted([question, prompt], self.tokenizer)
        # Without a special token in the question nothing is marked, and the prompt is encoded whole.
        pieces = prompt.replace(question, marked).split(mark) if marked != question else [prompt]
        return tuple(
            token
            for place, piece in enumerate(pieces)
            for token in self.tokenizer.encode(piece, add_special_tokens=begins and place == 0)
        )

    def _check_room(self, task: str, requests: Sequence[Request], budget: int) -> None:
        window = window_of(self.policy.model)
        longest = max(len(request.prompt_tokens) for request in requests)
        if window is not None and longest + budget > window:
            raise UserError(
                f"{task}: prompts of up to {longest} tokens and responses of up to {budget} exceed the model's "
                f"{window}; lower the budget to {window - longest}"
            )

    def _identity(self, job: _Job) -> str:
        asked = [(request.problem_id, request.prompt_tokens, request.samples) for request in job.unknown]
        engine = engine_essence(self.engine).model_dump(mode="json")
        what = [self.fingerprint, self.rows, ROUNDS, engine, repr(job.sampling), asked, self.card]
        return sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()

    def forget(self) -> None:
        """Delete the kept batches: what they were for is written."""
        if self.state is not None:
            shutil.rmtree(self.state, ignore_errors=True)


def _sampling(settings: dict[str, Any], seed: int) -> Sampling:
    if settings.get("top_p", 1.0) != 1.0 or settings.get("top_k") not in (None, 0, -1):
        raise UserError("model dagrpo samples from the whole distribution; set top_p to 1.0 and top_k to 0")
    temperature = float(settings["temperature"]) if settings.get("do_sample") else 0.0
    stop = tuple(text for text in settings["until"] if text)
    # The purpose that ordinary evaluation has: the same seed and prompt give the same samples.
    return Sampling(temperature, int(settings["max_gen_toks"]), seed, "evaluate", stop=stop)
