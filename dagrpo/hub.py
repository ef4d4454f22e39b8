"""Pins of what comes from the Hugging Face hub: a name without a commit may be something else tomorrow."""

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
