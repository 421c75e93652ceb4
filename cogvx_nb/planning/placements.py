"""Where a pipeline's components are kept while it runs. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import RequestError

COMPONENTS = frozenset({"text_encoder", "transformer", "vae"})


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a pipeline's components are kept while it runs, and how they reach the GPU."""

    name: str
    description: str
    on_gpu: frozenset[str] = frozenset()  # components that stay on the device
    streamed: frozenset[str] = frozenset()  # components under group offload
    from_disk: bool = False  # group offload from the files instead of pinned RAM
    hooks: str = ""  # CPU offload of the others: "model" moves whole ones, "sequential" layers
    compiles: bool = True  # the transformer's blocks can be compiled
    quantizes: bool = False  # they can have 8-bit weights: quantized on the GPU, kept in memory
    splits: bool = False  # several GPUs can share a step
    reversible: bool = False  # a loaded pipeline can change from and to it

    @property
    def offloads(self) -> bool:
        return self.on_gpu != COMPONENTS


NO_OFFLOAD, MODEL_OFFLOAD = "no_offload", "model_offload"

_ROWS = (
    Placement(
        NO_OFFLOAD,
        "every component stays on the device",
        on_gpu=COMPONENTS,
        quantizes=True,
        splits=True,
        reversible=True,
    ),
    Placement(
        "text_encoder_offload",
        "the text encoder streams from RAM, the rest stays on the GPU",
        on_gpu=COMPONENTS - {"text_encoder"},
        streamed=frozenset({"text_encoder"}),
        quantizes=True,
        splits=True,
    ),
    Placement(
        MODEL_OFFLOAD,
        "one component at a time moves to the GPU",
        hooks="model",
        quantizes=True,
        reversible=True,
    ),
    Placement(
        "group_offload",
        "blocks stream from pinned RAM as they are needed",
        on_gpu=frozenset({"vae"}),
        streamed=COMPONENTS - {"vae"},
        quantizes=True,
    ),
    Placement(
        "disk_offload",
        "blocks stream from their files as they are needed",
        on_gpu=frozenset({"vae"}),
        streamed=COMPONENTS - {"vae"},
        from_disk=True,
    ),
    Placement(
        "sequential_offload",
        "one layer at a time moves to the GPU",
        on_gpu=frozenset({"vae"}),
        hooks="sequential",
        compiles=False,  # the hooks exchange weights that compiled code would hold
    ),
)

PLACEMENTS = {row.name: row for row in _ROWS}
"""By name, in the order of the GPU memory that they need, most first."""

FORMER_PLACEMENTS = {
    "resident": NO_OFFLOAD,
    "text_out": "text_encoder_offload",
    "streamed": "group_offload",
    "disk": "disk_offload",
    "sequential": "sequential_offload",
}
"""Names in older sidecars and benchmark files, still accepted."""


def placement_named(name: str) -> Placement:
    """The placement of a name, or of a former one.

    Raises:
        RequestError: if there is none.
    """
    placement = PLACEMENTS.get(FORMER_PLACEMENTS.get(name, name))
    if placement is None:
        raise RequestError("placement", name, f"use one of {', '.join(PLACEMENTS)}")
    return placement
