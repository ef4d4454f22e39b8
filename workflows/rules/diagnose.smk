"""Gradient conflict, measured on what the runs kept of chosen steps, and on the groups of the base itself."""


rule conflict:
    input:
        spec="<results>/specs/arms/{arm}.json",
        snapshots="<results>/runs/{base}/{arm}/seed{seed}/snapshots",
    output:
        "<results>/conflict/{base}/{arm}/seed{seed}.jsonl",
    log:
        "<logs>/conflict/{base}.{arm}.seed{seed}.log",
    threads: train_threads
    resources:
        gpu=judging_gpus,
        devices=judging_gpus,
    message:
        "conflict of {wildcards.arm} from {wildcards.base}, seed {wildcards.seed}"
    shell:
        "exec {SLOT[0]}{resources.devices}{SLOT[1]}dagrpo conflict --spec {input.spec:q} --snapshots {input.snapshots:q}"
        " --out {output:q} > {log:q} 2>&1"


rule probe:
    input:
        spec="<results>/specs/probe.json",
        model=first_base,
        problems="<results>/problems/train.jsonl",
    output:
        groups="<results>/probe/{base}/groups.jsonl",
        products="<results>/probe/{base}/products.jsonl",
        meta="<results>/probe/{base}/meta.json",
    log:
        "<logs>/probe/{base}.log",
    threads: EXPERIMENT.probe.threads if EXPERIMENT.probe else 1
    resources:
        gpu=gpus(),
    params:
        out=lambda wildcards, output: Path(output.groups).parent,
        state=f"results/{EXPERIMENT.name}/state/probe/{{base}}",
    message:
        "gradients of the groups of base {wildcards.base}"
    shell:
        "exec {GPU_SLOT}dagrpo probe --spec {input.spec:q} --model {input.model:q} --problems {input.problems:q}"
        " --out {params.out:q} --state {params.state:q} > {log:q} 2>&1"


rule rate_probe:
    input:
        spec="<results>/specs/rating.json",
        model=first_base,
        groups="<results>/probe/{base}/groups.jsonl",
        products="<results>/probe/{base}/products.jsonl",
    output:
        "<results>/probe/{base}.jsonl",
    log:
        "<logs>/rate_probe/{base}.log",
    threads: EXPERIMENT.probe.threads if EXPERIMENT.probe else 1
    resources:
        gpu=gpus(),
    params:
        probe=lambda wildcards, input: Path(input.groups).parent,
    message:
        "scores and gradients of the groups of base {wildcards.base}"
    shell:
        "exec {GPU_SLOT}dagrpo rate-probe --spec {input.spec:q} --probe {params.probe:q} --model {input.model:q}"
        " --out {output:q} > {log:q} 2>&1"
