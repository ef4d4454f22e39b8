"""Problems and base models -> trained arms -> graded samples -> tables, figures and one report page.

snakemake --cores all                                   config/mini.yaml
snakemake --cores all --config experiment=smollm2       config/smollm2.yaml
snakemake --cores all --configfile FILE                 an experiment of your own
"""

from snakemake.utils import min_version

min_version("9.27")


include: "workflows/rules/common.smk"


EXPERIMENT = load_experiment()
# No parameters of the rules, so that what was made on a machine with a GPU is not made again on one without.
GPU_SLOT = gpu_slot()
SLOT = slot()
TRAIN = train_command()


pathvars:
    results=f"results/{EXPERIMENT.name}",
    logs=f"results/{EXPERIMENT.name}/logs",


wildcard_constraints:
    base=r"[a-z0-9][a-z0-9_.]*",
    arm=r"[a-z0-9][a-z0-9_.]*",
    seed=r"\d+",


report: "workflows/report/workflow.rst"


include: "workflows/rules/data.smk"
include: "workflows/rules/train.smk"
include: "workflows/rules/evaluate.smk"
include: "workflows/rules/benchmarks.smk"
include: "workflows/rules/diagnose.smk"
include: "workflows/rules/report.smk"


rule all:
    default_target: True
    input:
        "<results>/report.html",


onstart:
    share_imports()


onsuccess:
    if Path(f"results/{EXPERIMENT.name}/report.html").is_file():
        print(f"The report: results/{EXPERIMENT.name}/report.html")


onerror:
    print("Not finished. What is done is kept: run the same command again to go on from here.")
