"""Give a command a GPU of its own: one lock a device, held for as long as the command lives.

The lock is the kernel's (flock) on a file that the command inherits across ``exec``. So there is no wrapper that could
die before its command, and whatever ends the command, ``kill -9`` included, frees the device; a worker that it leaves
behind keeps it, as it keeps the device's memory. (Lock libraries hold the lock in a process beside the command, which
frees the device while an orphan still uses it.)
"""

import fcntl
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dagrpo.errors import UserError

VISIBLE = "CUDA_VISIBLE_DEVICES"
FOLDER = "DAGRPO_GPU_LOCKS"
_POLL = 1.0  # seconds


def lock_folder() -> Path:
    """The folder of the locks: ``DAGRPO_GPU_LOCKS``, else one of this user on this node; never on a shared disk.

    Where Slurm has given this job its devices, the folder is the job's own: no other job uses them, and index 0 may be
    another device in each job. The commands of one job still keep apart.
    """
    named = os.environ.get(FOLDER)
    if named:
        return Path(named)
    job = f"-job{os.environ['SLURM_JOB_ID']}" if "SLURM_GPUS_ON_NODE" in os.environ else ""
    return Path(tempfile.gettempdir()) / f"dagrpo-gpus-{os.getuid()}{job}"


def visible_devices() -> dict[str, str]:
    """The devices that this process may use, as ``CUDA_VISIBLE_DEVICES`` spells them, each with the name of its lock.

    That name is the UUID where ``nvidia-smi`` tells it: in a container or a cluster's job, index 0 is whichever device
    was given to it.

    Raises:
        UserError: there is no device.
    """
    uuids = _uuids()
    listed = os.environ.get(VISIBLE)
    words = list(uuids) if listed is None else [word.strip() for word in listed.split(",") if word.strip()]
    if not words:
        raise UserError(f"gpu-slot: no GPU is visible; set {VISIBLE}, or run on a machine where nvidia-smi lists one")
    return {word: uuids.get(word, word) for word in words}


def _uuids() -> dict[str, str]:
    query = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(query, capture_output=True, text=True, check=True, timeout=60).stdout
    except FileNotFoundError:
        return {}
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise UserError(f"gpu-slot: nvidia-smi does not answer ({error}); repair the driver") from None
    return dict(re.findall(r"^(\d+), *(\S+)$", listed, re.MULTILINE))


def take(devices: dict[str, str], count: int, folder: Path) -> tuple[list[str], list[int]] | None:
    """Lock ``count`` free devices, or none of them: their words and the open locks, or None where too few are free."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    words: list[str] = []
    locks: list[int] = []
    for word, name in devices.items():
        lock = os.open(folder / f"{re.sub(r'[^A-Za-z0-9-]', '_', name)}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        words, locks = [*words, word], [*locks, lock]
        if len(words) == count:
            return words, locks
    for lock in locks:  # else two commands that need two devices could each wait for the other's one
        os.close(lock)
    return None


def run_in_slot(command: Sequence[str], count: int) -> None:
    """Wait for ``count`` free devices and become the command, with ``CUDA_VISIBLE_DEVICES`` naming these alone.

    Raises:
        UserError: fewer devices are visible than wanted, or the command does not exist.
    """
    devices = visible_devices()
    if count > len(devices):
        raise UserError(f"gpu-slot: {count} GPUs are wanted and {len(devices)} visible; ask for fewer")
    waiting = False
    while (taken := take(devices, count, lock_folder())) is None:
        if not waiting:
            print(f"gpu-slot: waiting for {count} of {', '.join(devices)}", file=sys.stderr, flush=True)
            waiting = True
        time.sleep(_POLL)
    words, locks = taken
    for lock in locks:
        os.set_inheritable(lock, True)
    print(f"gpu-slot: {VISIBLE}={','.join(words)}", file=sys.stderr, flush=True)
    with suppress(FileNotFoundError):
        os.execvpe(command[0], list(command), {**os.environ, VISIBLE: ",".join(words)})
    raise UserError(f"gpu-slot: there is no command {command[0]!r}; name one that PATH finds")
