"""Jobs of the workflow share a process that holds the imports: torch and transformers take seconds to load.

One host a run of the workflow (:mod:`dagrpo.jobs.host`) loads them once and forks itself for each job. A job's command
finds it through ``DAGRPO_JOB`` and passes on its words, folder, environment and streams
(:mod:`dagrpo.jobs.client`). Without a host, or where none answers, a job loads what it needs by itself.
"""
