"""Make the stand-ins, serve the judge, and run a command while it is up."""

import json
import os
import signal
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from dagrpo.config import Experiment, load, load_experiment
from dagrpo.errors import UserError
from dagrpo.files.checkpoints import write_atomically
from dagrpo.processes.signals import STOPS
from eval.rehearsal.judge import stand_in_judge
from eval.rehearsal.replace import Place, judges, rehearsed

CONFIGFILE = "experiment.yaml"


def rehearse(configs: Sequence[Path], out: Path, mirror: Path | None, command: Sequence[str]) -> int:
    """Write ``experiment.yaml`` and the stand-ins into ``out``, print what is replaced, and run the command.

    What a rehearsal that was cut off has made stays as it is, the address of the judge too, so that the command finds
    its own work again.

    Returns:
        the command's exit code.

    Raises:
        UserError: the file is no experiment, or the stand-ins cannot be made.
    """
    experiment = load_experiment(configs)
    if experiment.rehearsal:
        raise UserError(f"{configs[0]}: is a rehearsal already; name the experiment's own file")
    with ExitStack() as stack:
        url = stack.enter_context(stand_in_judge(_port(out)))
        place = Place(out.absolute(), url)
        short, replaced = rehearsed(experiment, place)
        _make(experiment, place, mirror)
        settings = short.model_dump(mode="json") | {"processes": short.processes}
        text = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
        write_atomically(out / CONFIGFILE, text.encode())
        print(f"A dress rehearsal of {' + '.join(map(str, configs))}. It replaces:")
        print("\n".join(f"  {one}" for one in replaced), flush=True)
        keys = {options["api_key_env"]: "stand-in" for _, options in judges(experiment) if options.get("api_key_env")}
        return _run(command, keys)


def _port(out: Path) -> int:
    """The port that an earlier rehearsal's judge had, if it is free; else any."""
    try:
        before = load(Experiment, out / CONFIGFILE)
        port = next((urlsplit(options["base_url"]).port or 0 for _, options in judges(before)), 0)
        with socket.create_server(("127.0.0.1", port)):
            return port
    except (UserError, OSError):
        return 0


def _make(experiment: Experiment, place: Place, mirror: Path | None) -> None:
    """Make the stand-ins, unless they are there already as they would be made now."""
    from eval.rehearsal import standins

    code = sha256(Path(standins.__file__).read_bytes()).hexdigest()
    told = json.dumps([experiment.model_dump(mode="json"), str(mirror), code])
    stamp = place.folder / "made.json"
    if stamp.is_file() and stamp.read_text() == told:
        return
    standins.make(experiment, place, mirror)
    write_atomically(stamp, told.encode())


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    """Run a command to its end. A stop is the command's to obey: a terminal's Ctrl-C reaches it by itself."""
    try:
        child = subprocess.Popen(list(command), env={**os.environ, **environment})
    except FileNotFoundError:
        raise UserError(f"rehearse: there is no command {command[0]!r}; name one that PATH finds") from None
    before = {number: signal.getsignal(number) for number in STOPS}
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: child.send_signal(number))
    try:
        return child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
