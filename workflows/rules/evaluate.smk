"""Graded samples of every checkpoint."""


rule evaluate:
    input:
        spec="<results>/specs/evaluation.json",
        model=model_of,
        problems="<results>/problems/evaluation.jsonl",
    output:
        samples="<results>/samples/{arm}/seed{seed}.jsonl",
        meta="<results>/samples/{arm}/seed{seed}.meta.json",
    log:
        "<logs>/evaluate/{arm}.seed{seed}.log",
    benchmark:
        "<benchmarks>/evaluate/{arm}.seed{seed}.tsv"
    threads: EXPERIMENT.evaluation.threads
    resources:
        gpu=gpus(),
    params:
        state=f"results/{EXPERIMENT.name}/state/evaluate/{{arm}}.seed{{seed}}",
    message:
        "evaluate {wildcards.arm}, seed {wildcards.seed}"
    shell:
        "exec dagrpo evaluate --spec {input.spec:q} --model {input.model:q} --problems {input.problems:q}"
        " --seed {wildcards.seed} --out {output.samples:q} --state {params.state:q} > {log:q} 2>&1"


rule profile:
    input:
        spec="<results>/specs/profile.json",
        model="<results>/base",
        problems="<results>/problems/profile.jsonl",
    output:
        samples="<results>/samples/profile.jsonl",
        meta="<results>/samples/profile.meta.json",
    log:
        "<logs>/evaluate/profile.log",
    benchmark:
        "<benchmarks>/evaluate/profile.tsv"
    threads: EXPERIMENT.evaluation.threads
    resources:
        gpu=gpus(),
    params:
        state=f"results/{EXPERIMENT.name}/state/evaluate/profile",
    message:
        "evaluate the base on training problems"
    shell:
        "exec dagrpo evaluate --spec {input.spec:q} --model {input.model:q} --problems {input.problems:q}"
        " --seed 0 --out {output.samples:q} --state {params.state:q} > {log:q} 2>&1"
