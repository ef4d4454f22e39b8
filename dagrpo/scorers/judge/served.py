"""A judge that vLLM serves beside a run, on this machine and for the time of the run, so that nothing leaves it."""

import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import gettempdir

import requests

from dagrpo.errors import UserError
from dagrpo.processes.signals import check
from dagrpo.scorers.judge.options import JudgeOptions
from dagrpo.scorers.registry import Tools

VISIBLE = "CUDA_VISIBLE_DEVICES"
_OF_TORCHRUN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun tells the processes of a run, and vLLM would take for its own."""
_POLL = 0.5  # seconds


class Served:
    """The server; started when it is first needed, by the process that leads, and ended by :meth:`close`."""

    def __init__(self, options: JudgeOptions, tools: Tools) -> None:
        self.options, self.tools = options, tools
        folder = tools.tally.folder or Path(gettempdir()) / f"dagrpo-judge-{os.getpid()}"
        self.log = folder / "judge-server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._url: str | None = None
        self._pid = 0

    def url(self) -> str:
        """The address of the running server. All processes of the world call this.

        Raises:
            Interrupted: a stop was asked for.
            UserError: vLLM is not installed, has no GPU, or does not come up.
        """
        if self._url is None:
            self._url, self._pid = self.tools.world.once(self._start)
        return self._url

    def check(self) -> None:
        """Raise :class:`UserError` if the server has ended."""
        if self._pid and not _lives(self._pid):
            raise self._failure("ended")

    def close(self) -> None:
        """End the server, if this process has started it."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _start(self) -> tuple[str, int]:
        serve = self.options.serve
        assert serve is not None
        environment = {name: value for name, value in os.environ.items() if name not in _OF_TORCHRUN}
        environment |= {"VLLM_NO_USAGE_STATS": "1"} | self._devices(serve.gpus)
        environment.pop("VLLM_ENABLE_V1_MULTIPROCESSING", None)  # of an engine in this process
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        print(f"the judge {self.options.model} is being started; {self.log} says how", file=sys.stderr, flush=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "dagrpo.scorers.judge.keeper", *command(self.options, port)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # a Ctrl-C at the terminal is for the run
            )
        self._pid = self._process.pid
        deadline = time.monotonic() + 60 * serve.minutes
        while not _is_up(port):
            check(self.tools.should_stop)
            self.check()
            if time.monotonic() > deadline:
                raise self._failure(f"did not come up within {serve.minutes:g} minutes")
            time.sleep(_POLL)
        return f"http://127.0.0.1:{port}/v1", self._pid

    def _devices(self, gpus: int) -> dict[str, str]:
        """The devices of the server: the last of those that the run may use, apart from its own where ``gpus`` says
        so."""
        import torch

        if not torch.cuda.is_available():
            return {}
        listed = os.environ.get(VISIBLE)
        words = [str(i) for i in range(torch.cuda.device_count())] if listed is None else listed.split(",")
        own = self.tools.world.size
        if gpus and len(words) < own + gpus:
            raise UserError(
                f"scorer.options.serve.gpus: the judge wants {gpus} GPUs beside the {own} of the run, and "
                f"{len(words)} are visible; ask for more, or set it to 0 for a share of the run's own"
            )
        return {VISIBLE: ",".join(words[own : own + gpus] if gpus else words[own - 1 : own])}

    def _failure(self, what: str) -> UserError:
        return UserError(
            f"the judge that scorer.options.serve asks for {what}; read the end of {self.log}, then run this again: "
            "what was done and answered so far is kept"
        )


def command(options: JudgeOptions, port: int) -> list[str]:
    """What starts the server. Raises :class:`UserError` where vLLM is not installed."""
    if find_spec("vllm") is None:
        raise UserError("scorer.options.serve: vLLM is not installed here; run make setup-vllm, then use VLLM=1")
    serve = options.serve
    assert serve is not None
    words = {
        "--model": str(Path(options.model).expanduser()) if _is_local(options.model) else options.model,
        "--served-model-name": options.model,
        "--host": "127.0.0.1",
        "--port": str(port),
        "--max-model-len": str(serve.window),
        "--gpu-memory-utilization": str(serve.memory),
        "--tensor-parallel-size": str(max(1, serve.gpus)),
    }
    if options.revision is not None:
        words |= {"--revision": options.revision, "--tokenizer-revision": options.revision}
    # Not `vllm serve`, which looks for a package of that very name, and that of the CPU build is another.
    started = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--enable-prefix-caching"]
    return [*started, *(word for pair in words.items() for word in pair), *serve.args]


def _lives(pid: int) -> bool:
    """Whether a process of this machine runs, and is not only waiting for its parent to notice its end."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def _is_local(model: str) -> bool:
    return Path(model).expanduser().is_dir()


def _is_up(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200
    except requests.RequestException:
        return False
