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


rule trial:
    input:
        spec="<results>/specs/trial.json",
        source="<results>/specs/problems.json",
        model=first_base,
        train="<results>/problems/train.jsonl",
        problems="<results>/problems/evaluation.jsonl",
    output:
        samples="<results>/trial/{base}/samples.jsonl",
        meta="<results>/trial/{base}/samples.meta.json",
    log:
        "<logs>/trial/{base}.log",
    priority: 30
    threads: EXPERIMENT.evaluation.threads
    resources:
        gpu=gpus(),
    message:
        "try base {wildcards.base} on a few problems, before any training"
    shell:
        "exec {GPU_SLOT}dagrpo trial --spec {input.spec:q} --model {input.model:q} --train {input.train:q}"
        " --problems {input.problems:q} --source {input.source:q} --out {output.samples:q} > {log:q} 2>&1"


rule trial_benchmarks:
    input:
        spec="<results>/specs/trial_benchmarks.json",
        model=first_base,
        evaluated=tried,
    output:
        samples="<results>/trial/{base}/benchmarks.jsonl",
        meta="<results>/trial/{base}/benchmarks.meta.json",
        results="<results>/trial/{base}/benchmarks.lm_eval.json",
    log:
        "<logs>/trial/{base}.benchmarks.log",
    priority: 30
    threads: EXPERIMENT.benchmarks.threads if EXPERIMENT.benchmarks else 1
    resources:
        gpu=gpus(),
    params:
        state=f"results/{EXPERIMENT.name}/state/trial/{{base}}",
        evaluated=lambda wildcards, input: [f"--evaluated={path}" for path in input.get("evaluated", [])],
    message:
        "try base {wildcards.base} on a question of each benchmark, before any training"
    shell:
        "exec {GPU_SLOT}dagrpo evaluate-benchmarks --spec {input.spec:q} --model {input.model:q} --seed 0"
        " --out {output.samples:q} --state {params.state:q} {params.evaluated:q} > {log:q} 2>&1"


rule judge_check:
    input:
        spec="<results>/specs/judge.json",
        model=first_base,
        problems="<results>/problems/train.jsonl",
        trials=ancient(trials),
    output:
        "<results>/judge/{base}.txt",
    log:
        "<logs>/judge/{base}.log",
    priority: 30
    threads: EXPERIMENT.train.threads
    resources:
        gpu=judging_gpus,
        devices=judging_gpus,
    message:
        "ask the judge about groups of base {wildcards.base}, before any training"
    shell:
        "exec {SLOT[0]}{resources.devices}{SLOT[1]}dagrpo judge-base --spec {input.spec:q} --model {input.model:q}"
        " --problems {input.problems:q} --out {output:q} > {log:q} 2>&1"


rule train:
    input:
        spec="<results>/specs/arms/{arm}.json",
        method=method_file,
        base=base_of,
        problems="<results>/problems/train.jsonl",
        # Ancient: it must have gone well once, and changes nothing that is trained.
        trials=ancient(trials),
        evaluated=ancient(base_evaluations),
        judged=ancient(judge_checks),
    output:
        model=directory("<results>/runs/{base}/{arm}/seed{seed}/model"),
        snapshots=directory("<results>/runs/{base}/{arm}/seed{seed}/snapshots"),
        metrics="<results>/runs/{base}/{arm}/seed{seed}/metrics.jsonl",
        timings="<results>/runs/{base}/{arm}/seed{seed}/timings.jsonl",
        card="<results>/runs/{base}/{arm}/seed{seed}/run.json",
    log:
        "<logs>/train/{base}.{arm}.seed{seed}.log",
    priority: 10
    threads: train_threads
    resources:
        gpu=train_gpus,
        devices=train_gpus,  # `gpu` again, which snakemake cuts to what it may hand out
    params:
        out=lambda wildcards, output: Path(output.card).parent,
        state=f"results/{EXPERIMENT.name}/state/train/{{base}}.{{arm}}.seed{{seed}}",
    message:
        "train {wildcards.arm} from {wildcards.base}, seed {wildcards.seed}"
    shell:
        "exec {SLOT[0]}{resources.devices}{SLOT[1]}{TRAIN} --spec {input.spec:q} --seed {wildcards.seed}"
        " --base {input.base:q} --problems {input.problems:q}"
        " --out {params.out:q} --state {params.state:q} > {log:q} 2>&1"
