"""What the jobs are told, and the problems that they work on."""


localrules:
    spec,
    profile_problems,


rule spec:
    output:
        "<results>/specs/{spec}.json",
    wildcard_constraints:
        spec=r"problems|evaluation|benchmarks|contamination|profile|judge|probe|rating|trial|trial_benchmarks|report|bases/[^/]+|arms/[^/]+",
    priority: 100
    params:
        text=spec_text,
    message:
        "what the job is told: {output}"
    shell:
        "printf '%s\\n' {params.text:q} > {output:q}"


rule check:
    input:
        "<results>/specs/report.json",
    output:
        touch("<results>/specs/checked"),
    log:
        "<logs>/check.log",
    message:
        "check the options of all methods"
    shell:
        "exec dagrpo check --spec {input:q} > {log:q} 2>&1"


rule problems:
    input:
        # Ancient: a change of one arm is checked again, and makes nothing of the others out of date.
        checked=ancient("<results>/specs/checked"),
        spec="<results>/specs/problems.json",
    output:
        train="<results>/problems/train.jsonl",
        evaluation="<results>/problems/evaluation.jsonl",
        about="<results>/problems/about.json",
    log:
        "<logs>/problems.log",
    priority: 100
    params:
        out=lambda wildcards, output: Path(output.train).parent,
    message:
        "problems"
    shell:
        "exec dagrpo problems --spec {input.spec:q} --out {params.out:q} > {log:q} 2>&1"


rule profile_problems:
    input:
        "<results>/problems/train.jsonl",
    output:
        "<results>/problems/profile.jsonl",
    log:
        "<logs>/profile_problems.log",
    params:
        lines=EXPERIMENT.evaluation.profile_problems,
    message:
        "the first {params.lines} training problems, to describe the base on"
    shell:
        "head -n {params.lines} {input:q} > {output:q} 2> {log:q}"
