"""The base checkpoints, and one run for each base, arm and seed.

Resumable state is not declared, since snakemake deletes the outputs of a failed job. Jobs are started with `exec`, so
that a signal to a job reaches the program and not a shell around it.
"""


rule base:
    input:
        checked=ancient("<results>/specs/checked"),
        spec="<results>/specs/bases/{base}.seed{seed}.json",
    output:
        directory("<results>/bases/{base}/seed{seed}"),
    log:
        "<logs>/bases/{base}.seed{seed}.log",
    benchmark:
        "<benchmarks>/bases/{base}.seed{seed}.tsv"
    priority: 20
    threads: base_threads
    resources:
        gpu=gpus(),
    params:
        state=f"results/{EXPERIMENT.name}/state/bases/{{base}}.seed{{seed}}",
    message:
        "base {wildcards.base}, seed {wildcards.seed}"
    shell:
        "exec {GPU_SLOT}dagrpo base --spec {input.spec:q} --out {output:q} --state {params.state:q} > {log:q} 2>&1"


rule train:
    input:
        spec="<results>/specs/arms/{arm}.json",
        method=method_file,
        base=base_of,
        problems="<results>/problems/train.jsonl",
    output:
        model=directory("<results>/runs/{base}/{arm}/seed{seed}/model"),
        snapshots=directory("<results>/runs/{base}/{arm}/seed{seed}/snapshots"),
        metrics="<results>/runs/{base}/{arm}/seed{seed}/metrics.jsonl",
        timings="<results>/runs/{base}/{arm}/seed{seed}/timings.jsonl",
        card="<results>/runs/{base}/{arm}/seed{seed}/run.json",
    log:
        "<logs>/train/{base}.{arm}.seed{seed}.log",
    benchmark:
        "<benchmarks>/train/{base}.{arm}.seed{seed}.tsv"
    priority: 10
    threads: train_threads
    resources:
        gpu=gpus(EXPERIMENT.processes),
    params:
        out=lambda wildcards, output: Path(output.card).parent,
        state=f"results/{EXPERIMENT.name}/state/train/{{base}}.{{arm}}.seed{{seed}}",
    message:
        "train {wildcards.arm} from {wildcards.base}, seed {wildcards.seed}"
    shell:
        "exec {TRAIN} --spec {input.spec:q} --seed {wildcards.seed} --base {input.base:q} --problems {input.problems:q}"
        " --out {params.out:q} --state {params.state:q} > {log:q} 2>&1"
