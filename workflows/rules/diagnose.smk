"""Gradient conflict, measured on what the runs kept of chosen steps."""


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
        gpu=gpus(),
    message:
        "conflict of {wildcards.arm} from {wildcards.base}, seed {wildcards.seed}"
    shell:
        "exec {GPU_SLOT}dagrpo conflict --spec {input.spec:q} --snapshots {input.snapshots:q} --out {output:q} > {log:q} 2>&1"
