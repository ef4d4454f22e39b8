"""The real benchmarks, and whether training has seen their questions. Each job of `benchmarks` loads one checkpoint, once."""


rule benchmarks:
    input:
        spec="<results>/specs/benchmarks.json",
        model=model_of,
        evaluated=evaluated,
    output:
        samples="<results>/benchmarks/{base}/{arm}/seed{seed}.jsonl",
        meta="<results>/benchmarks/{base}/{arm}/seed{seed}.meta.json",
        results="<results>/benchmarks/{base}/{arm}/seed{seed}.lm_eval.json",
    log:
        "<logs>/benchmarks/{base}.{arm}.seed{seed}.log",
    threads: EXPERIMENT.benchmarks.threads if EXPERIMENT.benchmarks else 1
    resources:
        gpu=gpus(),
    params:
        state=f"results/{EXPERIMENT.name}/state/benchmarks/{{base}}.{{arm}}.seed{{seed}}",
        evaluated=lambda wildcards, input: [f"--evaluated={path}" for path in input.get("evaluated", [])],
    message:
        "benchmarks of {wildcards.arm} from {wildcards.base}, seed {wildcards.seed}"
    shell:
        "exec {GPU_SLOT}dagrpo evaluate-benchmarks --spec {input.spec:q} --model {input.model:q} --seed {wildcards.seed}"
        " --out {output.samples:q} --state {params.state:q} {params.evaluated:q} > {log:q} 2>&1"


rule contamination:
    input:
        spec="<results>/specs/contamination.json",
        train="<results>/problems/train.jsonl",
    output:
        pairs="<results>/contamination/pairs.csv",
        summary="<results>/contamination/summary.csv",
    log:
        "<logs>/contamination.log",
    params:
        out=lambda wildcards, output: Path(output.pairs).parent,
    message:
        "training questions that are questions of the evaluation"
    shell:
        "exec dagrpo contamination --spec {input.spec:q} --train {input.train:q} --out {params.out:q} > {log:q} 2>&1"
