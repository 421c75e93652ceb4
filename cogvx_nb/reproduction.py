"""From a video on disk to the same video again, and what of the two is the same."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from .checkpoints import registry, store
from .errors import CogvxError, ModelMissing, RequestError
from .files import temporary_folder, translate_errors
from .finishing.again import finish_again
from .planning import planner, request
from .planning.field import CHECKS
from .planning.fields import FIELDS, SEEDS, names_deciding
from .planning.former_names import upgrade_choices
from .planning.inputs import named_value
from .planning.probe import probe_machine
from .planning.request import VideoRequest
from .progress import CancelToken, Listener, StageStarted
from .results import video
from .results.forecast import announce
from .results.joined import join_again
from .results.made_again import MadeAgain
from .results.records import RecordedCheckpoint, Sidecar, used_inputs
from .results.result import Generated, Result, describe_video

PREDICTIONS = ("reasons", "peak_bytes", "ram_bytes")
"""Parts of a plan that don't affect the frames."""


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A result made again."""

    original: Result
    generated: Generated  # the new frames
    same_frames: bool  # whether they are, bit by bit, those that were made then
    same_file: bool  # whether the mp4 holds what encoding the frames of then gives
    psnr: float  # decibels between the new frames and the mp4's, which is compressed
    file_shape: tuple[int, ...]  # (frames, height, width, 3) of the mp4, read to one frame too many
    differences: tuple[str, ...]  # in versions, machine, checkpoint files or plan

    @property
    def identical(self) -> bool:
        """Whether the new frames are those of then, and the mp4 still shows them."""
        return self.same_frames and self.same_file

    def __str__(self) -> str:
        path, count = self.original.path, len(self.generated.frames)
        if self.identical:
            return f"identical: all {count} frames of {path} came out the same"
        if self.same_frames:
            return (
                f"changed: all {count} frames came out as they were made then, but {path} holds "
                f"others ({self._distance()}): {self._reason_for_change()}"
            )
        reasons = self.differences or ("nothing that was recorded differs",)
        if not self.same_file and self.original.settings.content_hash:
            reasons = (*reasons, "the file itself was changed since it was made, too")
        return "\n  ".join([f"not identical: {self._distance()} from {path}", *reasons])

    def _distance(self) -> str:
        if self.file_shape == self.generated.frames.shape:
            return f"{self.psnr:.1f} dB"
        count, height, width, _ = self.file_shape
        most = len(self.generated.frames)
        frames = f"{count} frames" if count <= most else f"more than {most} frames"
        return f"{frames} of {height} × {width}"

    def _reason_for_change(self) -> str:
        if self.original.settings.content_hash:
            return "it was cut, encoded again or replaced since"
        return (
            "it was cut, encoded again or replaced since, or another ffmpeg, or one on another "
            "number of cores, encoded it"
        )


def reproduce(
    original: Result, on_event: Listener | None = None, cancel: CancelToken | None = None
) -> Reproduction | MadeAgain:
    """Run a result's request once more, on its plan where this machine can, and compare the frames
    with those of then and with those in the mp4; a finished video is made again of
    its source, a joined one of its pieces.

    Args:
        on_event, cancel: as for ``generate.generate_frames``.

    Raises:
        ResultError: if its mp4 can't be read, or the source of a finished one is gone.
        ModelError: if its checkpoint is not on this machine, or not whole.
        CogvxError: whatever making a video can raise.
    """
    if original.settings.finished:
        return finish_again(original, on_event, cancel)
    if original.settings.pieces:
        return join_again(original)
    from .pipeline import generate, loader

    video.try_ffmpeg()
    recorded, content = request_of(original.settings), original.sidecar_json()
    decoded = video.decode_video(original.path, recorded.all_frames + 1)
    plan = planner.replay_plan(recorded, probe_machine(), content["plan"])
    if on_event is not None:
        on_event(announce(recorded, plan, stages=("load", "text", "encode", "denoise", "decode")))
        on_event(StageStarted("load"))
    loaded = loader.load_pipeline(plan)
    with _cpu_threads(original.settings.machine.threads):
        generated = generate.generate_frames(recorded, loaded, on_event, cancel)
    return _compare(original, generated, decoded)


def request_of(sidecar: Sidecar) -> VideoRequest:
    """The request that a sidecar records; its prompt is never enriched or expanded a second time.

    Raises:
        ModelError: if its checkpoint is not on this machine, or not whole.
        RequestError: if it is no longer valid, or would have to be adjusted.
    """
    values = {n: value for n, value in asdict(sidecar.request).items() if n in FIELDS}
    values |= {used.field: named_value(used.value, used.name) for used in used_inputs(sidecar)}
    permitted = dict.fromkeys(set(sidecar.allowed) & set(names_deciding(CHECKS)), True)
    repeated = request.make_request(
        _recorded_model(sidecar.checkpoint),
        **values | permitted,
        enriched_from=sidecar.enriched_from,
        templates=sidecar.templates,
    )
    if repeated.seeds != {name: values[name] for name in SEEDS}:
        seed = sidecar.request.seed
        raise RequestError("seed", seed, "is that of no video: a random seed is drawn first")
    if repeated.adjustments:  # else another video would be made
        first = repeated.adjustments[0]
        raise RequestError(first.field, first.asked, first.reason)
    return repeated


def _recorded_model(checkpoint: RecordedCheckpoint) -> registry.Model:
    """The checkpoint that has the recorded files, or else the one of that name."""
    models, missing = [], ModelMissing("no checkpoint is recorded of this video")
    for name in filter(None, (checkpoint.folder, checkpoint.name)):
        try:
            model = store.locate_checkpoint(name)
        except CogvxError as error:  # it is gone, not whole any more, or was never a name
            missing = error
            continue
        if store.file_hashes(model) == checkpoint.sha256:
            return model
        models.append(model)
    if not models:
        raise missing
    return models[-1]


@contextlib.contextmanager
def _cpu_threads(count: int | None) -> Iterator[None]:
    """torch computes with so many CPU threads: their number can change the last bit."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(count or threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _compare(original: Result, generated: Generated, decoded: np.ndarray) -> Reproduction:
    """Compare new frames with a result on disk.

    Args:
        decoded: the frames of its mp4, uint8 (frames, height, width, 3), RGB.

    Raises:
        OutputError: if the temporary folder can't be written.
        FfmpegError: if ffmpeg doesn't work.
    """
    sidecar = describe_video(generated)
    same_frames = sidecar.frame_hash == original.frame_hash
    same_file = _is_as_written(original) or (same_frames and _is_encoding_of(decoded, generated))
    return Reproduction(
        original=original,
        generated=generated,
        same_frames=same_frames,
        same_file=same_file,
        psnr=_psnr(generated.frames, decoded),
        file_shape=decoded.shape,
        differences=_differences(original.sidecar_json(), sidecar.as_json()),
    )


def _is_as_written(original: Result) -> bool:
    """Whether an mp4 decodes to what it did when it was written, as far as that was recorded."""
    recorded = original.settings.content_hash
    return bool(recorded) and video.content_hash(original.path) == recorded


def _is_encoding_of(decoded: np.ndarray, generated: Generated) -> bool:
    """Whether decoded frames are those that encoding some frames gives on this machine."""
    folder = tempfile.gettempdir()
    with translate_errors(folder), temporary_folder() as inside:
        path = inside / "again.mp4"
        video.encode_video(generated.frames, path, generated.request.fps, "")
        return np.array_equal(video.decode_video(path), decoded)


def _differences(then: dict, now: dict) -> tuple[str, ...]:
    differences = []
    then, now = then | {"plan": _comparable(then["plan"])}, now | {"plan": _comparable(now["plan"])}
    for part in ("versions", "machine", "plan"):
        for name in (then[part].keys() | now[part].keys()) - set(PREDICTIONS):
            before, after = then[part].get(name), now[part].get(name)
            if before != after:
                differences.append(f"{part} {name}: {before} then, {after} now")
    before, after = then["checkpoint"]["sha256"], now["checkpoint"]["sha256"]
    changed = sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f))
    differences += [f"checkpoint file {name} differs" for name in changed]
    given, again = (part.get("inputs", {}) for part in (then, now))
    differences += [
        f"{name} has other pixels: it was read or fitted by other versions of Pillow or ffmpeg"
        for name in given.keys() & again.keys()
        if given[name]["pixels"] != again[name]["pixels"]
    ]
    return tuple(sorted(differences))


def _comparable(plan: dict) -> dict:
    """A sidecar's plan of any version; of the GPUs that share a step how many, not which."""
    complete = upgrade_choices(plan)
    return complete | {"gpus": 1 + len(complete.pop("peers"))}


def _psnr(frames: np.ndarray, others: np.ndarray) -> float:
    """Decibels between two uint8 clips of one shape; NaN for different shapes."""
    if frames.shape != others.shape:
        return float("nan")
    error = np.mean((frames.astype(np.float32) - others.astype(np.float32)) ** 2)
    return float(10 * np.log10(255**2 / error)) if error else float("inf")
