"""What comes from the Hugging Face hub, and its pins: a name without a commit may be something else tomorrow."""

from dataclasses import dataclass
from pathlib import Path

from dagrpo.config import Experiment, HubBase, HubProblems
from dagrpo.errors import UserError


def check_pins(experiment: Experiment) -> None:
    """Refuse an experiment that reads from the hub what no commit pins. Raises :class:`UserError`."""
    if isinstance(experiment.problems, HubProblems):
        require_pin(experiment.problems.dataset, experiment.problems.revision, "problems")
    for name, base in experiment.bases.items():
        if isinstance(base, HubBase):
            require_pin(base.model, base.revision, f"bases.{name}")


def require_pin(source: str, revision: str | None, where: str) -> None:
    """Refuse a name on the hub without a commit; a local path needs none. Raises :class:`UserError`."""
    if revision is None and not Path(source).expanduser().exists():
        kind = "datasets/" if where == "problems" else ""
        raise UserError(
            f"{where}: {source} is not pinned; set {where}.revision to a commit (40 digits) of its history at "
            f"https://huggingface.co/{kind}{source}/commits/main, or give a local path"
        )


@dataclass(frozen=True, slots=True)
class Source:
    """A repository of the hub that an experiment reads; ``kind`` is the hub's word for what it holds."""

    name: str
    revision: str | None
    kind: str


def wanted(experiment: Experiment) -> list[Source]:
    """All repositories that an experiment reads; local paths are none."""
    sources = [Source(base.model, base.revision, "model") for base in experiment.bases.values() if base.kind == "hub"]
    if isinstance(experiment.problems, HubProblems):
        sources.append(Source(experiment.problems.dataset, experiment.problems.revision, "dataset"))
    return [source for source in sources if not Path(source.name).expanduser().exists()]


def at_hand(source: Source) -> bool:
    """Whether the hub's cache on this machine holds any file of a repository at its commit; nothing is fetched."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        snapshot_download(source.name, repo_type=source.kind, revision=source.revision, local_files_only=True)
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError):
        return False
    return True


def endpoint() -> str | None:
    """The address of the hub, or of the mirror of it that HF_ENDPOINT names; ``None`` where HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    return None if constants.HF_HUB_OFFLINE else str(constants.ENDPOINT)
