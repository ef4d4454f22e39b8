"""Graded samples of every checkpoint."""


rule evaluate:
    input:
        spec="<results>/specs/evaluation.json",
        model=model_of,
        problems="<results>/problems/evaluation.jsonl",
        trials=ancient(trials_of_base),
    output:
        samples="<results>/samples/{base}/{arm}/seed{seed}.jsonl",
        meta="<results>/samples/{base}/{arm}/seed{seed}.meta.json",
    log:
        "<logs>/evaluate/{base}.{arm}.seed{seed}.log",
    threads: EXPERIMENT.evaluation.threads
    resources:
        gpu=gpus(),
    params:
        state=f"results/{EXPERIMENT.name}/state/evaluate/{{base}}.{{arm}}.seed{{seed}}",
    message:
        "evaluate {wildcards.arm} from {wildcards.base}, seed {wildcards.seed}"
    shell:
        "exec {GPU_SLOT}dagrpo evaluate --spec {input.spec:q} --model {input.model:q} --problems {input.problems:q}"
        " --seed {wildcards.seed} --out {output.samples:q} --state {params.state:q} > {log:q} 2>&1"


rule profile:
    input:
        spec="<results>/specs/profile.json",
        model=first_base,
        problems="<results>/problems/profile.jsonl",
    output:
        samples="<results>/samples/{base}/profile.jsonl",
        meta="<results>/samples/{base}/profile.meta.json",
    log:
        "<logs>/evaluate/{base}.profile.log",
    threads: EXPERIMENT.evaluation.threads
    resources:
        gpu=gpus(),
    params:
        state=f"results/{EXPERIMENT.name}/state/evaluate/{{base}}.profile",
    message:
        "evaluate base {wildcards.base} on training problems"
    shell:
        "exec {GPU_SLOT}dagrpo evaluate --spec {input.spec:q} --model {input.model:q} --problems {input.problems:q}"
        " --seed 0 --out {output.samples:q} --state {params.state:q} > {log:q} 2>&1"
