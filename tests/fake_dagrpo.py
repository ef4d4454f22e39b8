"""Stands in for the command line where a test is about the workflow: takes the same words, writes the same files.

It notes each call in calls.jsonl, and in gpus.jsonl when it held which device where it was given one. While a file
named `interrupt` holds a word of a call, that call is "interrupted": it leaves state behind and ends as the real one
does. A call that finds such state goes on from it to the end. While a file named `fail` holds a verb, each
call of it fails.
"""

import json
import os
import sys
import time
from pathlib import Path

from dagrpo.errors import EXIT_INTERRUPTED, EXIT_USER_ERROR
from dagrpo.processes.gpu_slot import VISIBLE

MADE = {
    "problems": ("train.jsonl", "evaluation.jsonl", "about.json"),
    "base": ("config.json",),
    "train": ("model/config.json", "snapshots/about", "metrics.jsonl", "timings.jsonl", "run.json"),
    "tables": ("mini/main.csv", "../timing/mini.csv"),
    "figures": ("accuracy.svg",),
    "excerpts": ("lens.json", "samples.json"),
}


def main() -> None:
    if sys.argv[1] == "gpu-slot":
        os.execv(sys.executable, [sys.executable, "-m", "dagrpo.cli", *sys.argv[1:]])
    started = time.monotonic()
    verb, options = sys.argv[1], dict(zip(sys.argv[2::2], sys.argv[3::2], strict=True))
    with Path("calls.jsonl").open("a") as calls:
        calls.write(json.dumps([verb, options]) + "\n")
    interrupt = Path("interrupt")
    state = Path(options.get("--state", ""), "step1")
    if interrupt.exists() and interrupt.read_text() in str(state.parent) and not state.exists():
        state.parent.mkdir(parents=True, exist_ok=True)
        state.touch()
        sys.exit(EXIT_INTERRUPTED)
    if Path("fail").exists() and Path("fail").read_text() == verb:
        sys.exit(EXIT_USER_ERROR)
    if verb == "check":
        return
    out = Path(options["--out"])
    files = [out / name for name in MADE[verb]] if verb in MADE else [out]
    if verb in ("evaluate", "trial"):
        files.append(out.with_suffix(".meta.json"))
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>" if file.suffix == ".svg" else "{}\n")
    if device := os.environ.get(VISIBLE):
        time.sleep(0.5)
        with Path("gpus.jsonl").open("a") as intervals:
            intervals.write(json.dumps([verb, device, started, time.monotonic()]) + "\n")


main()
