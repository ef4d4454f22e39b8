"""The experiment, and what the rules ask of it."""

import os
import re
import shutil
import sys
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

from dagrpo import config as typed
from dagrpo.errors import UserError
from dagrpo.jobs.start import start_host
from dagrpo.jobs.wire import ADDRESS
from dagrpo.loggers import check_tracker
from eval.benchmark_tasks.names import choose

PUBLISHED = str(Path(workflow.basedir, "results", "published.csv"))
OWN_KEYS = ("experiment", "mirror", "methods")

# The jobs call `dagrpo` of the environment whose Python runs this file, even if it is not activated.
os.environ["PATH"] += os.pathsep + str(Path(sys.executable).parent)
os.environ[ADDRESS] = ""  # a job of the workflow


def load_experiment():
    """The experiment of this run; a mistake in it ends the run with its sentence alone."""
    try:
        experiment = typed.parse(typed.Experiment, *settings())
        check_tracker(experiment.logger)
        return with_benchmarks(with_mirror(with_methods(experiment)))
    except UserError as error:
        sys.exit(f"error: {error}")


def settings():
    """Plain settings and where they are from: a whole experiment given by --configfile, or config/<experiment>.yaml.

    Other keys of --config override the file's. There is no `configfile:` directive, because snakemake would merge the arms of that file into those of --configfile.
    """
    changes = {key: value for key, value in config.items() if key not in OWN_KEYS}
    if "arms" in changes:
        return changes, "configuration"
    name = str(config.get("experiment", "mini"))
    experiment = load_configfile(str(typed.experiment_file(Path(workflow.basedir, "config"), name)))
    update_config(experiment, changes)
    return experiment, f"config/{name}.yaml"


def with_methods(experiment):
    """Keep the arms that --config methods=a,b names by their name or their method's, and the reference arm.

    A method without an arm gets one with the method's defaults.
    """
    words = [word for word in str(config.get("methods", "")).replace(" ", "").split(",") if word]
    arms = dict(experiment.arms)
    kept = {experiment.evaluation.reference} if words else set(arms)
    for word in words:
        matches = {word} & set(arms) or {name for name, arm in arms.items() if arm.method == word}
        if not matches:
            arms[word] = typed.Arm(method=word)
        kept |= matches or {word}
    chosen = {name: arm for name, arm in arms.items() if name in kept}
    known = list(method_files())
    for name, arm in chosen.items():
        if arm.method not in known:
            raise UserError(f"arms.{name}: no method is named {arm.method!r}{typed.nearest(arm.method, known)}")
    return experiment.model_copy(update={"arms": chosen})


def with_mirror(experiment):
    """Fill in the folder of real rows: --config mirror=..., else the experiment's own, else DAGRPO_MIRROR."""
    given = config.get("mirror")
    if experiment.problems.kind == "mini":
        if given:
            raise UserError(f"mirror: experiment {experiment.name!r} makes its problems itself; leave `mirror` out")
        return experiment
    folder = given or experiment.problems.mirror or os.environ.get("DAGRPO_MIRROR")
    # Absolute, so that two spellings of one folder are one setting and nothing is run again.
    mirror = Path(folder).expanduser().resolve() if folder else None
    return experiment.model_copy(update={"problems": experiment.problems.model_copy(update={"mirror": mirror})})


def with_benchmarks(experiment):
    """Resolve the groups of the section `benchmarks`, and fill in the mirror of the problems."""
    asked = experiment.benchmarks
    if asked is None:
        return experiment
    mirror = asked.mirror or getattr(experiment.problems, "mirror", None) or os.environ.get("DAGRPO_MIRROR")
    resolved = {
        "tasks": choose(",".join(asked.tasks)),
        "samples": {name: k for group, k in asked.samples.items() for name in choose(group)},
        "mirror": Path(mirror).expanduser().resolve() if mirror else None,
        "arms": None if asked.arms is None else tuple(name for name in asked.arms if name in experiment.arms),
    }
    return experiment.model_copy(update={"benchmarks": asked.model_copy(update=resolved)})


def method_files():
    """The file that registers each method, found by its text: importing it would import torch (seconds)."""
    files = []
    for entry in entry_points(group="dagrpo.methods"):
        spec = find_spec(entry.module)
        files += [Path(spec.origin)] if spec and spec.origin else []
        files += [
            path
            for folder in (spec and spec.submodule_search_locations) or ()
            for path in sorted(Path(folder).glob("*.py"))
        ]
    registered = re.compile(r"""^@method\(\s*["'](\w+)["']""", re.MULTILINE)
    return {name: os.path.relpath(path) for path in files for name in registered.findall(path.read_text())}


def method_file(wildcards):
    """The file whose change makes an arm's runs out of date."""
    return method_files()[EXPERIMENT.arms[wildcards.arm].method]


def spec_text(wildcards):
    """What one job is told, as JSON; the models are in dagrpo/config/specs.py."""
    kind, _, arm = wildcards.spec.partition("/")
    if kind == "problems":
        spec = typed.ProblemsSpec(problems=EXPERIMENT.problems)
    elif kind == "bases":
        base, _, seed = arm.rpartition(".seed")
        spec = typed.base_spec(EXPERIMENT, base, int(seed))
    elif kind == "arms":
        spec = typed.train_spec(EXPERIMENT, arm)
    elif kind == "profile":
        spec = typed.profile_spec(EXPERIMENT)
    elif kind == "evaluation":
        spec = typed.evaluation_spec(EXPERIMENT)
    elif kind == "trial":
        spec = typed.trial_spec(EXPERIMENT)
    elif kind == "trial_benchmarks":
        spec = typed.trial_benchmarks_spec(EXPERIMENT)
    elif kind == "benchmarks":
        spec = typed.benchmarks_spec(EXPERIMENT)
    elif kind == "judge":
        spec = typed.judge_check_spec(EXPERIMENT)
    elif kind == "probe":
        spec = typed.probe_spec(EXPERIMENT)
    elif kind == "rating":
        spec = typed.rating_spec(EXPERIMENT)
    elif kind == "contamination":
        spec = typed.contamination_spec(EXPERIMENT)
    else:
        spec = EXPERIMENT
    return spec.model_dump_json(indent=1)


def gpus(processes=1):
    """GPUs that a job which runs a model claims: one for each of its processes."""
    used = EXPERIMENT.device == "cuda" or (EXPERIMENT.device == "auto" and shutil.which("nvidia-smi") is not None)
    return processes * used


def gpu_slot(processes=1):
    """What stands before a job's command where it needs GPUs, so that it has these for itself."""
    return f"dagrpo gpu-slot --count {gpus(processes)} -- " if gpus() else ""


def slot():
    """What stands before and after the number of GPUs of a job, where that is not the same for all jobs of a rule; on a
    machine without GPUs it is nothing but a variable of the job's."""
    return ("dagrpo gpu-slot --count ", " -- ") if gpus() else ("env GPUS=", " ")


def train_command():
    """What starts a training run, on one process or several, and where its metrics are told."""
    processes = f" --processes {EXPERIMENT.processes}" if EXPERIMENT.processes > 1 else ""
    logger = f" --logger {EXPERIMENT.logger}" if EXPERIMENT.logger else ""
    return f"dagrpo train{processes}{logger}"


@cache
def served_judges():
    """The GPUs that the judges of arms want for themselves; torch is imported only where one is served.

    Where there is no torch, as in an environment that only submits, whoever may ask a judge is taken for one that does.
    """
    scorers = {name: arm.scorer or EXPERIMENT.scorer for name, arm in EXPERIMENT.arms.items()}
    served = {name: scorer.options["serve"] for name, scorer in scorers.items() if scorer.options.get("serve")}
    if not served or find_spec("torch") is None:
        return {name: serve.get("gpus", 1) for name, serve in served.items()}
    from dagrpo.plan.judge import judges

    return {arm: judge.serve.gpus for arm, judge in judges(EXPERIMENT).items() if judge.serve}


def train_gpus(wildcards):
    """The GPUs of a run, and those of its judge."""
    return gpus(EXPERIMENT.processes + served_judges().get(wildcards.arm, 0))


def judging_gpus(wildcards):
    """A GPU of a job that may ask any judge, and those of the judge."""
    return gpus(1 + max(served_judges().values(), default=0))


def judge_checks(wildcards):
    """What the judges say of the first base's own groups, before an arm that may ask one is trained."""
    asked = wildcards.arm in typed.judged_arms(EXPERIMENT)
    return [f"<results>/judge/{wildcards.base}.txt"] if asked else []


def share_imports():
    """Let the jobs of this run share one process's imports: where they run on this machine, and on no GPU, for whose
    long jobs seconds are nothing."""
    if workflow.local_exec and not gpus():
        start_host(Path(f"results/{EXPERIMENT.name}/logs/host.log"))


def base_threads(wildcards):
    return getattr(EXPERIMENT.bases[wildcards.base], "threads", 2)


def train_threads(wildcards):
    return EXPERIMENT.processes * EXPERIMENT.train_of(wildcards.arm).threads


def base_of(wildcards):
    """The checkpoint that a training run starts from."""
    return f"<results>/bases/{{base}}/seed{EXPERIMENT.base_seed(int(wildcards.seed))}"


def first_base(wildcards):
    """The checkpoint that describes a corpus: that of the first base seed."""
    return f"<results>/bases/{{base}}/seed{EXPERIMENT.base_seeds[0]}"


def trials(wildcards):
    """What the first base of a corpus did on a few rows, before any arm is trained on that corpus."""
    files = ["samples.jsonl"] if EXPERIMENT.benchmarks is None else ["samples.jsonl", "benchmarks.jsonl"]
    return [f"<results>/trial/{wildcards.base}/{name}" for name in files]


def base_evaluations(wildcards):
    """What the whole evaluation says of the checkpoint that a run starts from, before the run."""
    kinds = ["samples"] if EXPERIMENT.benchmarks is None else ["samples", "benchmarks"]
    seed = EXPERIMENT.base_seed(int(wildcards.seed))
    return [f"<results>/{kind}/{wildcards.base}/base/seed{seed}.jsonl" for kind in kinds]


def trials_of_base(wildcards):
    """The trial on a few rows that comes before the whole evaluation of a base."""
    return trials(wildcards)[:1] if wildcards.arm == "base" else []


def asks_alike():
    """Whether the benchmarks ask as the experiment's evaluation does, so that they take its samples."""
    return EXPERIMENT.benchmarks is not None and EXPERIMENT.benchmarks.prompt == "experiment"


def evaluated(wildcards):
    """Samples of a checkpoint that its benchmarks take."""
    return ["<results>/samples/{base}/{arm}/seed{seed}.jsonl"] if asks_alike() else []


def tried(wildcards):
    """Samples of a corpus' first base that the benchmarks' trial takes."""
    return ["<results>/trial/{base}/samples.jsonl"] if asks_alike() else []


def model_of(wildcards):
    """The checkpoint that an arm's samples come from."""
    if wildcards.arm == "base":
        return "<results>/bases/{base}/seed{seed}"
    return "<results>/runs/{base}/{arm}/seed{seed}/model"


def results_folder(wildcards, output):
    """The folder of the whole experiment, as seen from a page or folder at its top."""
    return Path(output[0]).parent


def runs(pattern):
    """A path of every training run."""
    return [
        pattern.format(base=base, arm=arm, seed=seed)
        for base in EXPERIMENT.bases
        for arm in EXPERIMENT.arms
        for seed in EXPERIMENT.seeds_of(arm)
    ]


def snapshot_runs(pattern):
    """A path of every training run that keeps snapshots."""
    return [
        pattern.format(base=base, arm=arm, seed=seed)
        for base in EXPERIMENT.bases
        for arm in EXPERIMENT.arms
        if EXPERIMENT.train_of(arm).snapshots
        for seed in EXPERIMENT.seeds_of(arm)
    ]


def benchmark_runs(pattern):
    """A path of every checkpoint that the benchmarks are run over; none where the experiment has none."""
    if EXPERIMENT.benchmarks is None:
        return []
    arms = EXPERIMENT.benchmarks.arms or EXPERIMENT.arms
    seeds = {"base": EXPERIMENT.base_seeds, **{arm: EXPERIMENT.seeds_of(arm) for arm in arms}}
    return [
        pattern.format(base=base, arm=arm, seed=seed)
        for base in EXPERIMENT.bases
        for arm in seeds
        for seed in seeds[arm]
    ]


def probed(pattern):
    """A path of every base whose own gradients are measured."""
    return expand(pattern, base=EXPERIMENT.bases if EXPERIMENT.probe else [])


def contamination(path):
    """The comparison of training with evaluation, where that has real questions."""
    return [path] if EXPERIMENT.benchmarks is not None or EXPERIMENT.problems.kind != "mini" else []


def bases(pattern):
    """A path of every base checkpoint."""
    return expand(pattern, base=EXPERIMENT.bases, seed=EXPERIMENT.base_seeds)
