"""Disk and main memory of an experiment, in bytes, by counting the copies of weights and rows that are held."""

from dataclasses import dataclass

from dagrpo.algorithm import find_method
from dagrpo.config import Experiment, HubProblems, Train, WordProblems
from dagrpo.plan.hours import state_bytes
from dagrpo.plan.memory import FP32, setup_of, trained
from dagrpo.plan.shapes import Shape, shape_of
from dagrpo.plan.taken import PROMPT_TOKENS, SHARE_OF_DEMONSTRATION

PROGRAM = 0.5e9
"""A process with torch and transformers loaded; measured on a CPU."""
CUDA = 3.0e9
"""What CUDA and its libraries add to a process; assumed."""
VLLM = 3.0e9
"""What vLLM adds to a process; assumed."""
WORKER = 0.2e9
"""A process that judges answers, with sympy and math_verify loaded; measured, what workers share counted in each."""
TOKEN, TEXT = 4, 5
"""Bytes of a token: its id, and its text."""
HUB_ROWS = 50_000
"""Rows of a data set of the hub of which all are taken; how many there are is not known before it is read."""

SEALED = 3
"""States of a run on disk at once: two are kept, and a third is written before the oldest goes."""


def disk_bytes(experiment: Experiment) -> float:
    """All that is on disk in the end (checkpoints of bases, runs and snapshots) and the sealed states of one run."""
    total = 0.0
    for base in experiment.bases.values():
        shape = shape_of(base)
        whole = shape.parameters * FP32
        total += whole * len(experiment.base_seeds)
        states = []
        for arm in experiment.arms:
            train = experiment.train_of(arm)
            total += whole * len(experiment.seeds_of(arm)) * (1 + len(train.snapshots))
            states.append(SEALED * state_bytes(shape, setup_of(experiment, train)) + whole * len(train.snapshots))
        total += max(states) / len(experiment.bases)
    return total


@dataclass(frozen=True, slots=True)
class Host:
    """Main memory of a training run, all its processes together: the ``programs`` themselves, the ``rows`` that they
    are trained on, the ``workers`` that verify, and the ``tensors`` of the worst moment: a state that is sealed or a
    model that is saved, which leave the GPUs for that, or on the CPU the whole training."""

    programs: float
    rows: float
    workers: float
    tensors: float

    @property
    def all(self) -> float:
        return self.programs + self.rows + self.workers + self.tensors


def run_host(experiment: Experiment, shape: Shape, arm: str) -> Host:
    """Main memory of one run of an arm. Of a checkpoint each process reads its own share."""
    train, processes = experiment.train_of(arm), experiment.processes
    setup = setup_of(experiment, train)
    on_cpu = experiment.device == "cpu"
    training = shape.parameters * FP32 * (2 if setup.gathers else 1) + 3 * trained(shape, setup) * FP32
    whole = shape.parameters * FP32 * (1 if setup.lora is None else 2)  # adapters add a merged copy
    leaving = max(state_bytes(shape, setup), whole)
    engine = experiment.engine.kind == "vllm"
    return Host(
        processes * (PROGRAM + (CUDA if not on_cpu else 0) + (VLLM if engine else 0)),
        processes * _rows(experiment, train, arm),
        processes * (experiment.verifier.workers * WORKER if experiment.verifier.kind == "math" else 0),
        training + whole if on_cpu else leaving,
    )


def host_bytes(experiment: Experiment) -> float:
    """Main memory that the largest job takes: a run, or the job of a base or an evaluation, which hold a whole model in
    fp32."""
    shapes = [shape_of(base) for base in experiment.bases.values()]
    whole = PROGRAM + CUDA + VLLM + max(shape.parameters for shape in shapes) * FP32
    return max(whole, *(run_host(experiment, shape, arm).all for shape in shapes for arm in experiment.arms))


def _rows(experiment: Experiment, train: Train, arm: str) -> float:
    """The training problems of a process: their texts, and the token ids of prompts and demonstrations."""
    problems = experiment.problems
    if isinstance(problems, WordProblems):
        count = sum(problems.train.values())
    else:
        count = problems.train or HUB_ROWS if isinstance(problems, HubProblems) else problems.train
    algorithm = find_method(experiment.arms[arm].method).algorithm(experiment.arms[arm].options, f"arms.{arm}.options")
    prompt = PROMPT_TOKENS * (TEXT + TOKEN)
    demonstration = SHARE_OF_DEMONSTRATION * train.max_new_tokens
    return count * (prompt + demonstration * (TEXT + TOKEN * algorithm.needs_demonstrations))
