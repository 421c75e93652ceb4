"""What a video is expected to take, from the results so far, as the event that begins its work."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping

from ..planning.cost import step_shares
from ..planning.paces import MeasuredPace
from ..planning.plan import Plan
from ..planning.probe import probe_machine
from ..planning.request import VideoRequest
from ..planning.speedups import AUTO
from ..planning.stages import expected_seconds
from ..progress import Planned
from ..time_left import STAGES
from .catalogue import Catalogue

Paces = Callable[[str, str, int], Mapping[int, MeasuredPace]]
"""How fast videos were made so far, from the name of a checkpoint, a device and the number of GPUs
that shared a step, by number of frames."""

PIPELINE = "cogvx_nb.pipeline.loader"
"""Imports torch and diffusers, and holds the loaded checkpoint."""


REPEATED = ("encode", "denoise", "decode")
"""Stages of each clip of a chain; the prompt is encoded once, and the model loaded."""


def announce(
    prepared: VideoRequest,
    plan: Plan,
    model_note: str = "",
    paces: Paces | None = None,
    stages: Collection[str] = STAGES,
) -> Planned:
    """The event that a video is planned, with the seconds that each stage is expected to take.

    Args:
        paces: by default from all results on disk.
        stages: those that there will be.
    """
    known = paces_for(plan, prepared.attention, paces or measured_paces)
    expected = expected_seconds(
        plan,
        probe_machine(),
        prepared.done_steps,
        known,
        loaded=_is_loaded(prepared),
        imported=PIPELINE in sys.modules,
    )
    clips = len(prepared.pieces) or 1
    expected |= {stage: clips * expected[stage] for stage in REPEATED if stage in expected}
    shares = step_shares(plan, prepared.done_steps) * clips
    return Planned(
        prepared,
        plan,
        model_note,
        {stage: seconds for stage, seconds in expected.items() if stage in stages},
        shares if sum(shares) < len(shares) else (),
    )


def paces_for(plan: Plan, attention: str, paces: Paces) -> Mapping[int, MeasuredPace]:
    """Those that hold for a plan: they are of exact videos, whose steps others may cache, but not
    quantize; empty where seconds are predicted from the plan instead."""
    usual = attention == AUTO and not plan.quantized
    return paces(plan.model.name, plan.device, len(plan.devices)) if usual else {}


def measured_paces(model: str, device: str, gpus: int = 1) -> dict[int, MeasuredPace]:
    """How fast the videos in the outputs folder were made; see ``Catalogue.paces``."""
    catalogue = Catalogue()
    catalogue.refresh()
    return catalogue.paces(model, device, gpus)


def _is_loaded(prepared: VideoRequest) -> bool:
    """Whether this process has a request's checkpoint in memory."""
    loader = sys.modules.get(PIPELINE)  # not imported for this question
    return loader is not None and loader.is_loaded(prepared.model)
