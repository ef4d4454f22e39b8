"""What samples."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dagrpo.config.reading import Strict


class TorchEmbedded(Strict):
    """The project's own engine, in plain torch, on the very weights that are trained."""

    kind: Literal["torch"] = "torch"


class VllmColocated(Strict):
    """vLLM in the same process (`make setup-vllm`); on a GPU it sleeps while the policy learns."""

    kind: Literal["vllm"] = "vllm"
    memory: float = Field(
        0.4,
        gt=0,
        lt=1,
        description="Share of the memory: on a GPU weights and cache, beside a training; on CPU the cache alone.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Of weights and arithmetic; auto: bfloat16 on a GPU, float32 on CPU."
    )
    eager: bool = Field(False, description="No compilation and no CUDA graphs: starts sooner, samples slower.")


class VllmServer(Strict):
    """vLLM as a server of its own, which this run alone uses."""

    kind: Literal["vllm_server"] = "vllm_server"
    url: str = Field(pattern=r"^https?://[^/]+/?$", description="Its address, such as http://127.0.0.1:8000.")
    exchange: Path | None = Field(
        None, description="Folder that both sides see, for new weights; the system's temporary one where null."
    )


EngineOptions = Annotated[TorchEmbedded | VllmColocated | VllmServer, Field(discriminator="kind")]
