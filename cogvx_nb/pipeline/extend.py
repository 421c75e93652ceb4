"""A clip and the frames that go on from it, made as a chain of clips."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..media import pixels
from ..planning.extension import FIELD, SHARP_AMONG, overlap, seed_of, takes_image
from ..planning.request import VideoRequest
from ..planning.step_cache import GUARDED
from ..progress import Event, Listener, StageStarted, Step
from ..results.generated import Generated

Make = Callable[[VideoRequest, Listener, np.ndarray], Generated]
"""Makes one clip of a chain, from its request and the frames that it begins with."""

SHARP_SHARE = 0.8
"""Of the sharpness of the sharpest of some frames: the last that has it is taken, since each frame
after it is lost. Frames of one object in motion differ by up to a tenth in the embedded
checkpoint's clips, those of a cut or a blurred end by far more."""

MOST_GAIN = 1.25
"""By how much the contrast of a new clip may be raised, and lowered by its inverse, to be that of
the frames that it repeats: more is no drift but another picture."""

MOST_OFFSET = 16
"""Of 255, by how much its brightness may be moved; for the same reason."""


def extend_frames(request: VideoRequest, make: Make, emit: Listener) -> Generated:
    """The frames of a clip and those that go on from it; ``Generated.frames`` has both.

    Each clip of the chain begins with the last frames before it, or with the last sharp one where
    the checkpoint takes an image. Its colours are matched to these frames, which are then dropped.
    """
    size = (request.height, request.width, request.fit)
    source = pixels.clip_pixels(request.extend, request.source_frames, request.fps, *size)
    frames, kept = source, []
    for number, count in enumerate(request.pieces):
        before, known = _known_frames(frames, request)
        told = _renumbered(emit, number, len(request.pieces))
        made = make(piece_of(request, number, count), told, known)
        frames = np.concatenate([before, matched(made.frames, known)[len(known) :]])
        kept.append(made)
    return replace(
        kept[0],
        frames=frames,
        request=request,
        plan=replace(kept[-1].plan, step_cache=_chain_cache(kept)),
        seconds=_total_seconds(kept),
        input_hashes={FIELD: hashlib.sha256(source).hexdigest()},
        attention_share=float(np.mean([made.attention_share for made in kept])),
    )


def piece_of(request: VideoRequest, number: int, count: int) -> VideoRequest:
    """The request of one clip of a chain.

    Args:
        number: of the clip, from 0.
        count: its frames, the known ones included.
    """
    seeds = {name: seed_of(seed, number) for name, seed in request.seeds.items()}
    # Other frames than asked for would leave a gap.
    return replace(request, frames=count, pieces=(count,), fallback="", **seeds)


def sharp_frame(frames: np.ndarray) -> int:
    """Index of the last sharp frame among the last ``SHARP_AMONG``.

    Args:
        frames: uint8 (frames, height, width, 3).
    """
    first = max(0, len(frames) - SHARP_AMONG)
    found = [sharpness(frame) for frame in frames[first:]]
    return first + max(i for i, value in enumerate(found) if value >= SHARP_SHARE * max(found))


def sharpness(frame: np.ndarray) -> float:
    """Variance of the Laplacian of a frame's mean channel, a common measure of focus (Pech-Pacheco
    et al., 2000)."""
    grey = frame.astype(np.float32).mean(axis=2)
    middle = grey[1:-1, 1:-1]
    around = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
    return float(np.var(around - 4 * middle))


def matched(made: np.ndarray, known: np.ndarray) -> np.ndarray:
    """A new clip with the colours of the frames that it repeats.

    Mean and deviation of each channel are compared on these frames alone. They show the same in
    both clips, while whole clips don't: an object that leaves the picture would change the
    background.

    Args:
        made: uint8 (frames, height, width, 3), the first of which show ``known`` again.
    """
    again = made[: len(known)].astype(np.float32)
    spread, wanted = again.std(axis=(0, 1, 2)), known.astype(np.float32).std(axis=(0, 1, 2))
    gain = np.clip(wanted / np.maximum(spread, 1e-3), 1 / MOST_GAIN, MOST_GAIN)
    gain = np.where(spread < 1, np.float32(1), gain)  # a plain colour
    middle, moved = again.mean(axis=(0, 1, 2)), known.astype(np.float32).mean(axis=(0, 1, 2))
    offset = np.clip(moved - middle, -MOST_OFFSET, MOST_OFFSET)
    table = np.arange(256, dtype=np.float32)[:, None]
    table = np.clip(np.rint(gain * (table - middle) + middle + offset), 0, 255).astype(np.uint8)
    return np.stack([table[made[..., channel], channel] for channel in range(3)], axis=-1)


def _known_frames(frames: np.ndarray, request: VideoRequest) -> tuple[np.ndarray, np.ndarray]:
    """(the frames up to where the next clip begins, those that it begins with)."""
    checkpoint = request.model.checkpoint
    end = sharp_frame(frames) + 1 if takes_image(checkpoint) else len(frames)
    return frames[:end], frames[end - overlap(checkpoint) : end]


def _renumbered(emit: Listener, number: int, count: int) -> Listener:
    """A listener that makes of the events of one clip those of a chain: steps are counted through,
    and what comes between the steps of two clips is no stage of its own."""

    def told(event: Event) -> None:
        if isinstance(event, Step):
            done = number * event.steps
            event = replace(event, step=done + event.step, steps=count * event.steps)
        between = "decode" if number + 1 < count else ""
        hidden = (between,) if number == 0 else ("text", "encode", "compile", "denoise", between)
        if not (isinstance(event, StageStarted) and event.stage in hidden):
            emit(event)

    return told


def _chain_cache(made: list[Generated]) -> str:
    """The step cache to record: what the guard decided on all clips; where it decided differently,
    ``GUARDED``, by which each is decided on again when the chain is reproduced."""
    kinds = {one.plan.step_cache for one in made}
    return kinds.pop() if len(kinds) == 1 else GUARDED


def _total_seconds(made: list[Generated]) -> dict[str, float]:
    stages = dict.fromkeys(stage for one in made for stage in one.seconds)
    once = {"load": made[0].seconds["load"]} if "load" in stages else {}
    return {stage: sum(one.seconds.get(stage, 0.0) for one in made) for stage in stages} | once
