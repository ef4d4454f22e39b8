"""What is read: tables, figures and one page, all computed from stored samples and metrics alone."""


rule tables:
    input:
        spec="<results>/specs/report.json",
        base=bases("<results>/samples/{base}/base/seed{seed}.jsonl"),
        profile=expand("<results>/samples/{base}/profile.jsonl", base=EXPERIMENT.bases),
        samples=runs("<results>/samples/{base}/{arm}/seed{seed}.jsonl"),
        cards=runs("<results>/runs/{base}/{arm}/seed{seed}/run.json"),
        metrics=runs("<results>/runs/{base}/{arm}/seed{seed}/metrics.jsonl"),
        timings=runs("<results>/runs/{base}/{arm}/seed{seed}/timings.jsonl"),
        probe=probed("<results>/probe/{base}.jsonl"),
        conflict=snapshot_runs("<results>/conflict/{base}/{arm}/seed{seed}.jsonl"),
        benchmarks=benchmark_runs("<results>/benchmarks/{base}/{arm}/seed{seed}.jsonl"),
        contamination=contamination("<results>/contamination/summary.csv"),
        published=PUBLISHED,
    output:
        tables=report(
            directory("<results>/tables"),
            patterns=["{name}.csv"],
            caption="../report/table.rst",
            category="Tables",
        ),
        timing=expand("<results>/timing/{base}.csv", base=EXPERIMENT.bases),
    log:
        "<logs>/tables.log",
    params:
        results=results_folder,
    message:
        "tables"
    shell:
        "exec dagrpo tables --spec {input.spec:q} --results {params.results:q} --published {input.published:q}"
        " --out {output.tables:q} > {log:q} 2>&1"


rule figures:
    input:
        spec="<results>/specs/report.json",
        tables="<results>/tables",
        metrics=runs("<results>/runs/{base}/{arm}/seed{seed}/metrics.jsonl"),
    output:
        report(
            directory("<results>/figures"),
            patterns=["{name}.svg"],
            caption="../report/figure.rst",
            category="Figures",
        ),
    log:
        "<logs>/figures.log",
    params:
        results=results_folder,
    message:
        "figures"
    shell:
        "exec dagrpo figures --spec {input.spec:q} --results {params.results:q} --out {output:q} > {log:q} 2>&1"


rule excerpts:
    input:
        spec="<results>/specs/report.json",
        problems="<results>/problems/evaluation.jsonl",
        base=bases("<results>/samples/{base}/base/seed{seed}.jsonl"),
        samples=runs("<results>/samples/{base}/{arm}/seed{seed}.jsonl"),
        benchmarks=benchmark_runs("<results>/benchmarks/{base}/{arm}/seed{seed}.jsonl"),
        snapshots=snapshot_runs("<results>/runs/{base}/{arm}/seed{seed}/snapshots"),
        conflict=snapshot_runs("<results>/conflict/{base}/{arm}/seed{seed}.jsonl"),
    output:
        lens="<results>/excerpts/lens.json",
        samples="<results>/excerpts/samples.json",
    log:
        "<logs>/excerpts.log",
    params:
        results=lambda wildcards, output: Path(output.lens).parent.parent,
        out=lambda wildcards, output: Path(output.lens).parent,
    message:
        "groups and samples to look at"
    shell:
        "exec dagrpo excerpts --spec {input.spec:q} --results {params.results:q} --out {params.out:q} > {log:q} 2>&1"


rule report:
    input:
        spec="<results>/specs/report.json",
        tables="<results>/tables",
        timing=expand("<results>/timing/{base}.csv", base=EXPERIMENT.bases),
        figures="<results>/figures",
        excerpts=rules.excerpts.output,
        published=PUBLISHED,
    output:
        "<results>/report.html",
    log:
        "<logs>/report.log",
    params:
        results=results_folder,
    message:
        "report"
    shell:
        "exec dagrpo report --spec {input.spec:q} --results {params.results:q} --published {input.published:q}"
        " --out {output:q} > {log:q} 2>&1"
