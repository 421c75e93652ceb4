"""Make a result again from its settings, and say whether it is the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .checkpoints import store
from .errors import ModelError
from .pipeline import generate, loader
from .planning import planner, request
from .planning.machine import probe_machine
from .progress import CancelToken, Listener
from .results import result, video
from .results.result import Generated, Result


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A result made again.

    Attributes:
        original: what was to be reproduced.
        generated: what came of it now.
        identical: whether the frames are the same, bit by bit.
        psnr: decibels between the new frames and the original mp4's, which is compressed.
        differences: what was not as then: versions, machine, checkpoint files, plan.
    """

    original: Result
    generated: Generated
    identical: bool
    psnr: float
    differences: tuple[str, ...]

    def __str__(self) -> str:
        path = self.original.path
        if self.identical:
            count = len(self.generated.frames)
            return f"identical: all {count} frames of {path} came out the same"
        reasons = self.differences or ("nothing that was recorded differs",)
        return "\n  ".join([f"not identical: {self.psnr:.1f} dB from {path}", *reasons])


def reproduce(
    original: Result, on_event: Listener | None = None, cancel: CancelToken | None = None
) -> Reproduction:
    """Run a result's request once more, on its plan where this machine can.

    Args:
        on_event, cancel: as for ``generate.generate_frames``.

    Raises:
        ModelError: if its checkpoint is not on this machine, or not whole.
        CogvxError: whatever making a video can raise.
    """
    import torch

    then, threads = original.settings, torch.get_num_threads()
    wanted = request_of(then)
    loaded = loader.load_pipeline(planner.replay_plan(wanted, probe_machine(), then["plan"]))
    torch.set_num_threads(then["machine"]["threads"])
    try:
        generated = generate.generate_frames(wanted, loaded, on_event, cancel)
    finally:
        torch.set_num_threads(threads)
    now = result.describe_video(generated)
    return Reproduction(
        original=original,
        generated=generated,
        identical=now["frame_hash"] == then["frame_hash"],
        psnr=_psnr(generated.frames, video.decode_video(original.path)),
        differences=_differences(then, now),
    )


def request_of(then: dict) -> request.VideoRequest:
    """The request that a sidecar records.

    Raises:
        ModelError: if its checkpoint is not on this machine, or not whole.
        RequestError: if it is no longer valid.
    """
    run = dict(then["request"])
    del run["fps"]
    permitted = dict.fromkeys(then["allowed"], True)
    typed = then.get("enriched_from", "")  # kept, never enriched anew
    return request.make_request(
        _recorded_model(then["checkpoint"]), **run, **permitted, enriched_from=typed
    )


def _recorded_model(checkpoint: dict) -> store.Model:
    """The checkpoint that has the recorded files, or else the one of that name."""
    found = []
    for name in (checkpoint["folder"], checkpoint["name"]):
        try:
            model = store.locate_checkpoint(name)
        except ModelError as error:  # it is gone, or not whole any more
            missing = error
            continue
        if store.file_hashes(model) == checkpoint["sha256"]:
            return model
        found.append(model)
    if not found:
        raise missing
    return found[-1]


def _differences(then: dict, now: dict) -> tuple[str, ...]:
    found = []
    for part in ("versions", "machine", "plan"):
        ignored = ("reasons", "peak_bytes", "ram_bytes")
        for name in (then[part].keys() | now[part].keys()) - set(ignored):
            before, after = then[part].get(name), now[part].get(name)
            if before != after:
                found.append(f"{part} {name}: {before} then, {after} now")
    before, after = then["checkpoint"]["sha256"], now["checkpoint"]["sha256"]
    changed = sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f))
    found += [f"checkpoint file {name} differs" for name in changed]
    return tuple(sorted(found))


def _psnr(frames: np.ndarray, others: np.ndarray) -> float:
    """Decibels between two uint8 clips of one shape; NaN for different shapes."""
    if frames.shape != others.shape:
        return float("nan")
    error = np.mean((frames.astype(np.float32) - others.astype(np.float32)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")
