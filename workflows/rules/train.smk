"""The base checkpoint, and one run for each arm and seed.

Resumable state is not declared, since snakemake deletes the outputs of a failed job. Jobs are started with `exec`, so
that a signal to a job reaches the program and not a shell around it.
"""


rule base:
    input:
        checked=ancient("<results>/specs/checked"),
        spec="<results>/specs/base.json",
    output:
        directory("<results>/base"),
    log:
        "<logs>/base.log",
    benchmark:
        "<benchmarks>/base.tsv"
    threads: getattr(EXPERIMENT.base, "threads", 2)
    resources:
        gpu=gpus(),
    params:
        state=f"results/{EXPERIMENT.name}/state/base",
    message:
        "base model"
    shell:
        "exec dagrpo base --spec {input.spec:q} --out {output:q} --state {params.state:q} > {log:q} 2>&1"


rule train:
    input:
        spec="<results>/specs/arms/{arm}.json",
        method=method_file,
        base="<results>/base",
        problems="<results>/problems/train.jsonl",
    output:
        model=directory("<results>/runs/{arm}/seed{seed}/model"),
        metrics="<results>/runs/{arm}/seed{seed}/metrics.jsonl",
        timings="<results>/runs/{arm}/seed{seed}/timings.jsonl",
        card="<results>/runs/{arm}/seed{seed}/run.json",
    log:
        "<logs>/train/{arm}.seed{seed}.log",
    benchmark:
        "<benchmarks>/train/{arm}.seed{seed}.tsv"
    priority: 10
    threads: train_threads
    resources:
        gpu=gpus(),
    params:
        out=lambda wildcards, output: Path(output.card).parent,
        state=f"results/{EXPERIMENT.name}/state/train/{{arm}}.seed{{seed}}",
    message:
        "train {wildcards.arm}, seed {wildcards.seed}"
    shell:
        "exec dagrpo train --spec {input.spec:q} --seed {wildcards.seed} --base {input.base:q} --problems {input.problems:q}"
        " --out {params.out:q} --state {params.state:q} > {log:q} 2>&1"
