"""A job in the host is like one in a process of its own: streams, folder, environment, signals and how it ends."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dagrpo.jobs.environment import LARGE_PAGES, SPIN, with_defaults
from dagrpo.jobs.wire import ADDRESS

ROOT = Path(__file__).parent.parent
HOST = "import dagrpo.jobs.host as host; host._IMPORTS = (); host.main()"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a host is started on Linux alone")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A host that has imported nothing, which is all the same to its jobs."""
    path = tmp_path_factory.mktemp("host") / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)
        host = subprocess.Popen(
            [sys.executable, "-c", HOST, str(listener.fileno()), str(os.getpid())],
            cwd=ROOT,
            pass_fds=[listener.fileno()],
        )
    yield path
    host.kill()
    host.wait()


def command(script: str) -> list[str]:
    """A verb that becomes a shell: whatever runs it, the shell sees its streams, folder, environment and signals."""
    return [sys.executable, "-m", "dagrpo.cli", "gpu-slot", "--", "sh", "-c", script]


def environment(address: Path | str, folder: Path) -> dict[str, str]:
    names = {ADDRESS: str(address), "CUDA_VISIBLE_DEVICES": "0", "DAGRPO_GPU_LOCKS": str(folder / "locks")}
    return {**os.environ, "PYTHONPATH": str(ROOT), **names}


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("hosted", [True, False])
def test_a_job_has_its_streams_folder_environment_and_exit_code(address: Path, tmp_path: Path, hosted: bool) -> None:
    done = subprocess.run(
        command("pwd; echo $WORD; umask; cat; echo $PPID; echo $GOMP_SPINCOUNT; echo wrong >&2; exit 7"),
        env=environment(address if hosted else "", tmp_path) | {"WORD": "a word"},
        cwd=tmp_path,
        input="read\n",
        capture_output=True,
        text=True,
        umask=0o027,
        check=False,
    )
    folder, word, mask, read, ppid, spin = done.stdout.split("\n")[:6]
    assert (folder, word, mask, read, spin) == (str(tmp_path), "a word", "0027", "read", SPIN)
    assert done.stderr.endswith("wrong\n") and done.returncode == 7
    assert (int(ppid) != os.getpid()) is hosted  # the shell takes the place of the command, or of the worker


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_reaches_the_work(address: Path, tmp_path: Path, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo stopped; exit 75' {name}; touch ready; while :; do sleep 0.02; done"
    job = subprocess.Popen(command(script), env=environment(address, tmp_path), cwd=tmp_path, stdout=subprocess.PIPE)
    wait_for((tmp_path / "ready").exists)
    job.send_signal(number)
    said, _ = job.communicate(timeout=30)
    assert (said, job.returncode) == (b"stopped\n", 75)


def test_a_killed_command_takes_its_work_along(address: Path, tmp_path: Path) -> None:
    script = "sleep 60 & echo $! > child; echo $$ > worker.new; mv worker.new worker; wait"
    job = subprocess.Popen(command(script), env=environment(address, tmp_path), cwd=tmp_path)
    wait_for((tmp_path / "worker").exists)
    pids = [int((tmp_path / name).read_text()) for name in ("worker", "child")]
    assert parent(pids[0]) != job.pid
    job.kill()
    job.wait()
    wait_for(lambda: not any(alive(pid) for pid in pids))


def alive(pid: int) -> bool:
    """Whether a process runs; one that is dead and not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_ends_by_the_signal_that_its_work_ended_by(address: Path, tmp_path: Path) -> None:
    for name in ("KILL", "TERM", "SEGV"):
        done = subprocess.run(
            command(f"kill -{name} $$"), env=environment(address, tmp_path), cwd=tmp_path, check=False
        )
        assert done.returncode == -getattr(signal, f"SIG{name}")


def test_jobs_run_beside_each_other(address: Path, tmp_path: Path) -> None:
    """Each waits for what the other does."""
    scripts = ["touch a; until test -e b; do sleep 0.02; done", "until test -e a; do sleep 0.02; done; touch b"]
    jobs = [
        subprocess.Popen(command(script), env=environment(address, tmp_path / str(i)), cwd=tmp_path)
        for i, script in enumerate(scripts)
    ]
    assert [job.wait(timeout=30) for job in jobs] == [0, 0]


def test_without_a_host_a_job_runs_by_itself(tmp_path: Path) -> None:
    names = environment(tmp_path / "gone", tmp_path)
    done = subprocess.run(command("echo $PPID; exit 3"), env=names, cwd=tmp_path, capture_output=True, check=False)
    assert int(done.stdout) == os.getpid() and done.returncode == 3


def test_a_host_whose_imports_fail_leaves_its_jobs_to_themselves(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)
        broken = HOST.replace("()", "('no.such.module',)", 1)
        host = subprocess.Popen(
            [sys.executable, "-c", broken, str(listener.fileno()), str(os.getpid())],
            cwd=ROOT, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL,
        )  # fmt: skip
    done = subprocess.run(command("exit 3"), env=environment(path, tmp_path), cwd=tmp_path, check=False)
    assert done.returncode == 3 and host.wait(30) == 1 and not path.exists()


def test_what_a_user_has_set_stays() -> None:
    assert with_defaults({}) == {"GLIBC_TUNABLES": LARGE_PAGES, "GOMP_SPINCOUNT": SPIN}
    for name in ("GOMP_SPINCOUNT", "GLIBC_TUNABLES"):
        assert with_defaults({name: "theirs"})[name] == "theirs"
    assert "GOMP_SPINCOUNT" not in with_defaults({"OMP_WAIT_POLICY": "ACTIVE"})


def test_a_host_ends_with_the_workflow_that_started_it(tmp_path: Path) -> None:
    workflow = (
        "import os, time; from pathlib import Path; from dagrpo.jobs import start;"
        f"start.start_host(Path('host.log')); print(os.environ['{ADDRESS}'], flush=True); time.sleep(60)"
    )
    own = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "GLIBC_TUNABLES")}
    names = {**own, "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "ACTIVE"}
    job = subprocess.Popen([sys.executable, "-c", workflow], cwd=tmp_path, env=names, stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    path = Path(job.stdout.readline().strip())
    assert path.exists()
    (host,) = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    told = Path(f"/proc/{host}/environ").read_text().split("\0")
    assert f"GLIBC_TUNABLES={LARGE_PAGES}" in told and f"GOMP_SPINCOUNT={SPIN}" not in told
    job.kill()
    job.wait()
    wait_for(lambda: not path.parent.exists())
    assert (tmp_path / "host.log").read_text() == ""
