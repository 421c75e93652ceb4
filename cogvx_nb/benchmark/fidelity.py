"""Measures how far videos of each speed and placement lie from those of ``exact``, on a user's
weights and machine: same prompts, same seeds."""

from __future__ import annotations

import base64
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..checkpoints.registry import Checkpoint, Model
from ..errors import PathError, RequestError, SpecError
from ..files import temporary_folder
from ..paths import user_path
from ..planning import planner, request
from ..planning.plan import Plan
from ..planning.probe import probe_machine
from ..planning.prompt_files import read_prompt_file
from ..planning.request import VideoRequest
from ..planning.requirements import missing_speed_ups
from ..progress import Event, Step
from ..results.fidelity import (
    MOST_CLIPS,
    REFERENCE,
    ClipDistance,
    FidelityRow,
    computing_choices,
    device_name,
)
from ..results.generated import Generated
from ..results.pictures import filmstrip
from . import distances, inputs, storage
from .progress import BenchProgress
from .report import Report
from .setups import Setup, make_setups, new_report, row_error

COMPARED = ("fast", "turbo")
"""Speeds that are compared with ``exact`` by default."""

PROMPTS = (
    "a golden retriever runs along a sunny beach, waves breaking behind it, shallow depth of field",
    "a street in Tokyo at night in the rain, neon signs mirrored in puddles, people with umbrellas",
    "close-up of a potter's hands shaping a clay bowl on a spinning wheel, warm workshop light",
    "aerial view of a river winding through an autumn forest, morning mist, slow forward flight",
)
"""Compared where none are given: fine texture, small moving parts, a close-up, a moving camera."""

SHAPES = (
    "a red circle moving right on a black background",
    "a green star growing on a navy background",
    "a yellow square moving down on a purple background",
    "a white triangle moving left on a teal background",
)
"""The same of checkpoints that draw nothing but shapes."""

SEED = 42

MOST_STRIPS = 8
"""Clips of a row whose frames are kept; all others count in its measures."""

STRIP_FRAMES = 5
"""Frames in a strip, evenly spread."""


def default_prompts(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What a checkpoint is compared on where no prompts are given."""
    return SHAPES if checkpoint.demonstration else PROMPTS


def read_prompts(file: str) -> list[str]:
    """The prompts of a file, as ``planning.prompt_files`` reads them; none without a file.

    Raises:
        RequestError: if it can't be read, or gives anything but prompts.
    """
    if not file:
        return []
    try:
        path = user_path(file, "prompts")
        rows = read_prompt_file(path)
    except (PathError, SpecError, OSError, ValueError) as error:
        raise RequestError("prompts", file, getattr(error, "strerror", None) or error) from error
    for row in rows:
        if others := sorted(set(row.values) - {"prompt"}):
            raise RequestError("prompts", file, f"{row.origin} gives {others[0]}: prompts only")
    if not rows:
        raise RequestError("prompts", file, "holds no prompt")
    return [str(row.values["prompt"]) for row in rows]


def measure_fidelity(
    model: Model,
    prompts: Sequence[str] = (),
    seeds: Sequence[int] = (),
    frames: Sequence[int] = (),
    steps: int = 50,
    speeds: Sequence[str] = COMPARED,
    placements: Sequence[str] = ("auto",),
    path: Path | None = None,
    progress: BenchProgress | None = None,
    task: str = "",
    lora: str = "",
    report: Report | None = None,
) -> Report:
    """Make the videos of each prompt and seed with ``exact``, then with each speed and placement,
    and compare their frames before they are compressed.

    Args:
        prompts: by default ``default_prompts``.
        seeds: each with each prompt; by default ``SEED``.
        frames: counts; by default the fewest that the checkpoint offers.
        speeds: with each of ``placements``; nothing is measured where there are none.
        path: written after each row, so that an interruption keeps what was done.
        task: one of the checkpoint's; by default its first.
        report: the rows are added to; by default a new one of this machine.

    Returns:
        A report whose ``fidelity`` begins, for each frame count, with the row of ``exact``.

    Raises:
        RequestError: if an argument is invalid.
        CogvxError: if a package is missing (extra ``fidelity``), or the videos of ``exact`` can't
            be made.
    """
    machine = probe_machine()  # first: it sets environment variables that torch reads on import
    report = report or new_report(machine, {})
    if not speeds:
        return report
    setups = [Setup(*REFERENCE), *_compared_setups(speeds, placements, steps)]
    kinds = _requests(model, task, prompts, seeds, frames, steps, lora)
    distances.import_libraries()
    with temporary_folder() as scratch, progress or BenchProgress() as shown:
        count = len(next(iter(kinds.values())))
        shown.plan([size for _ in setups for size in kinds], count * steps)
        comparison = _Comparison(scratch, shown.step)
        for setup in setups:
            for videos in kinds.values():
                shown.begin_kind(f"{model.name}, {count} prompts, {setup.speed}, {setup.placement}")
                row = comparison.row(setup, videos)
                shown.end_kind(f"{row.frames} frames, {row}")
                report = replace(report, fidelity=(*report.fidelity, row))
                if path is not None:
                    storage.save_report(report, path)
    return report


def _compared_setups(speeds: Sequence[str], placements: Sequence[str], steps: int) -> list[Setup]:
    setups = make_setups(speeds, placements, steps)
    compared = [setup for setup in setups if setup != Setup(*REFERENCE)]
    if not compared:
        raise RequestError("speed", "exact", "is what others are compared with: name another one")
    return compared


def _requests(
    model: Model,
    task: str,
    prompts: Sequence[str],
    seeds: Sequence[int],
    frames: Sequence[int],
    steps: int,
    lora: str,
) -> dict[int, list[VideoRequest]]:
    """Requests of each frame count."""
    checkpoint, task = model.checkpoint, task or model.checkpoint.tasks[0]
    if model.folder is None:
        raise RequestError("weights", "random", "makes no videos to compare: use files")
    if task not in checkpoint.tasks:
        raise RequestError("task", task, f"{model.name} does {', '.join(checkpoint.tasks)}")
    prompts, seeds = list(prompts) or default_prompts(checkpoint), list(seeds) or [SEED]
    if len(prompts) * len(seeds) > MOST_CLIPS:
        count = f"{len(prompts)} with {len(seeds)} seeds"
        raise RequestError("prompts", count, f"at most {MOST_CLIPS} videos of a kind")
    kinds: dict[int, list[VideoRequest]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for count in dict.fromkeys(frames or checkpoint.frames[:1]):
            values = inputs.task_values(
                task or checkpoint.tasks[0], checkpoint, count, Path(folder)
            )
            values |= {"frames": count, "steps": steps, "strict": True, "lora": lora}
            kinds[count] = [
                request.make_request(model, prompt, seed=seed, **values)
                for prompt in prompts
                for seed in seeds
            ]
    return kinds


@dataclass(slots=True)
class _Reference:
    """How ``exact`` makes videos of a length here, and what it made."""

    device: str
    choices: dict[str, object]
    clips: list[Path]  # arrays of frames


class _Comparison:
    """Makes the videos of each setup; keeps those of ``exact`` on disk while it lasts."""

    def __init__(self, scratch: Path, after_step: Callable[[], None]) -> None:
        self._scratch, self._after_step = scratch, after_step
        self._references: dict[int, _Reference] = {}

    def row(self, setup: Setup, videos: Sequence[VideoRequest]) -> FidelityRow:
        """The row of a setup; that of ``exact`` comes first.

        Raises:
            CogvxError: if a video of ``exact`` can't be made; of others the row has the error.
        """
        first = videos[0]
        size = (first.frames, first.height, first.width, first.steps)
        kind = (*size, setup.speed, setup.placement, first.task, first.lora)
        row = FidelityRow(first.model.name, "", *kind)
        try:
            return self._measured(row, [replace(video, speed=row.speed) for video in videos])
        except Exception as error:
            if row.is_reference:
                raise
            device = self._references[row.frames].device
            return replace(row, device=device, error=row_error(error))

    def _measured(self, row: FidelityRow, videos: Sequence[VideoRequest]) -> FidelityRow:
        from . import measure

        measure.clear_process_state()
        machine = probe_machine()
        plan = planner.plan_request(videos[0], machine, videos=len(videos))
        if row.placement != "auto":
            plan = planner.with_placement(plan, row.placement, machine, row.steps)
        note = missing_speed_ups(plan.speed, plan.speed_ups, plan.reasons)
        row = replace(row, device=device_name(plan, machine), note=note)
        row = replace(row, plan=computing_choices(plan))
        reference = self._references.get(row.frames)
        if reference and reference.choices == row.plan:
            return replace(row, same_plan=True, note=note or "planned as exact is")
        clips, seconds = [], []
        for number, made in enumerate(self._made(videos, plan)):
            row = replace(row, plan=computing_choices(made.plan))
            seconds.append(made.seconds["denoise"])
            if reference is None:
                self._keep(row, number, made)
            beside = np.load(self._references[row.frames].clips[number], mmap_mode="r")
            strip = _strip(made.frames) if number < MOST_STRIPS else ""
            clips.append(_distance(made, beside, strip))
        return replace(row, seconds=statistics.median(seconds), clips=tuple(clips))

    def _made(self, videos: Sequence[VideoRequest], plan: Plan) -> Iterator[Generated]:
        from .. import workflow

        def listen(event: Event) -> None:
            if isinstance(event, Step):
                self._after_step()

        for video in videos:
            yield workflow.make_frames(video, plan=plan, on_event=listen)

    def _keep(self, row: FidelityRow, number: int, made: Generated) -> None:
        kept = self._references.setdefault(row.frames, _Reference(row.device, row.plan, []))
        path = self._scratch / f"{row.frames}-{number}.npy"
        np.save(path, made.frames)
        kept.clips.append(path)


def _distance(made: Generated, beside: np.ndarray, strip: str) -> ClipDistance:
    return ClipDistance(
        made.request.prompt,
        made.request.seed,
        psnr=distances.psnr(beside, made.frames),
        ssim=distances.ssim(beside, made.frames, made.plan.device),
        flip=distances.flip(beside, made.frames),
        strip=strip,
    )


def _strip(frames: np.ndarray) -> str:
    return base64.b64encode(filmstrip(frames, STRIP_FRAMES)).decode()
