"""Published totals of whole runs, and what the plan says of the same runs."""

import json
from dataclasses import dataclass
from pathlib import Path

from dagrpo.algorithm import find_method, methods
from dagrpo.config import HubBase, Train, VllmColocated
from dagrpo.plan.devices import DEVICES
from dagrpo.plan.hours import Lengths, arm_seconds
from dagrpo.plan.memory import BF16, Setup, load_of
from dagrpo.plan.shapes import shape_of
from dagrpo.plan.taken import PROMPT_TOKENS, SHARE_OF_BUDGET, SHARE_OF_DEMONSTRATION

_FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True, slots=True)
class Comparison:
    """Hours of one method's run on the same GPUs: as published, and as planned."""

    method: str
    published: float
    planned: float


def held_against_published() -> tuple[str, list[Comparison]]:
    """The source, and a comparison for each of its methods that is registered here."""
    told = json.loads(_FILE.read_text())
    train = Train.model_validate(told["train"])
    budget = train.max_new_tokens
    lengths = Lengths(PROMPT_TOKENS, round(SHARE_OF_BUDGET * budget), round(SHARE_OF_DEMONSTRATION * budget), budget)
    load = load_of(PROMPT_TOKENS, budget, train.micro_tokens, train.rollout_rows)
    setup = Setup(told["gpus"], BF16, train.recompute, engine=VllmColocated.model_validate(told["engine"]))
    shape, device = shape_of(HubBase(model=told["base"])), DEVICES[told["gpu"]]
    known = methods()
    return told["source"], [
        Comparison(
            name,
            hours,
            arm_seconds(find_method(name).algorithm({}, name), train, shape, setup, load, lengths, device).hours,
        )
        for name, hours in told["hours"].items()
        if name in known
    ]
