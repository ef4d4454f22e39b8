"""Where a base checkpoint comes from."""

from pathlib import Path

from transformers import PreTrainedConfig

from dagrpo.config import BaseSpec, GgufBase, HubBase, MiniBase, MiniProblems, SmolLM2Base, WarmedBase
from dagrpo.errors import UserError
from dagrpo.hub import require_pin
from dagrpo.policy.checkpoint import load_policy, save_policy
from dagrpo.policy.convert import convert_gguf, find_smollm2
from dagrpo.policy.device import resolve_device
from dagrpo.policy.pretrain import pretrain
from dagrpo.processes.signals import ShouldStop


def make_base(spec: BaseSpec, out: Path, state: Path, should_stop: ShouldStop) -> None:
    """Write an ordinary Hugging Face checkpoint to ``out``.

    Raises:
        UserError: the source cannot be had, or does not go with the problems.
        Interrupted: ``should_stop`` became true; a later call continues from ``state``.
    """
    match spec.base:
        case MiniBase():
            if not isinstance(spec.problems, MiniProblems):
                raise UserError(
                    "base.kind mini learns the procedural families; set problems.kind to mini, or choose another base"
                )
            pretrain(spec.base, spec.seed, spec.problems, out, state, should_stop)
        case SmolLM2Base():
            convert_gguf(find_smollm2(), out)
        case GgufBase():
            convert_gguf(spec.base.file.expanduser(), out)
        case WarmedBase():
            from dagrpo.trainer.warm import warm  # the trainer, which other bases do without

            source = state / "source"
            if not source.is_dir():
                make_base(spec.model_copy(update={"base": spec.base.source}), source, state / "making", should_stop)
            warm(spec.base, spec, source, out, state, should_stop)
        case HubBase():
            require_pin(spec.base.model, spec.base.revision, "base")
            policy = load_policy(spec.base.model, resolve_device("cpu"), revision=spec.base.revision)
            widen(policy.model.config, spec.base)
            save_policy(policy, out)


def widen(config: PreTrainedConfig, base: HubBase) -> None:
    """Write a longer window and the base of the rotary positions that goes with it into a model's configuration.

    Raises:
        UserError: the model has no rotary positions.
    """
    if base.window is not None:
        config.max_position_embeddings = base.window
    if base.rope_theta is not None:
        if not getattr(config, "rope_parameters", None):
            raise UserError(f"base.rope_theta: {config.model_type} has no rotary positions; leave it out")
        config.rope_parameters["rope_theta"] = base.rope_theta
