"""The work behind the widgets: the job queue, predictions, and live previews of the latents.

There is one session per process, so that a page that is shown again finds the running job.
"""

from __future__ import annotations

import functools
import io
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import files, leftovers, settings, workflow
from ..checkpoints.registry import Model
from ..planning import cost, planner, probe
from ..progress import Event, FramesDone, Listener, Note, Step
from ..results.catalogue import Catalogue
from ..results.result import Result
from .jobs import Job, JobQueue, Prediction

log = logging.getLogger(__name__)

PREVIEW_WIDTH = 180
"""Pixels."""

PREVIEW_SHARE = 0.01
"""Previews take at most this share of the denoising time."""

SHORTEST_PAUSE = 0.4
"""Seconds between previews, however cheap they are."""

FINISHED_KEPT = 100
"""Finished jobs that the session remembers; all results are in the catalogue."""

COLOURS_FORMAT = 1

RIDGE = 1e-3
"""L2 penalty relative to latents of unit variance: a single plain clip would underdetermine it."""

PENALTY = np.diag([1.0] * 16 + [0.0])
"""The ridge penalises the weights of the 16 channels, not the constant."""

FADING = 0.98
"""Weight of a result relative to the next one, so that the fit follows the last fifty or so."""


@dataclass(frozen=True)
class ColourMap:
    """A linear map from latents to RGB, as the sums of a least-squares fit over results."""

    gram: np.ndarray  # (17, 17): sums of products of the 16 channels and a constant
    cross: np.ndarray  # (17, 3): sums of their products with RGB in 0 … 1

    @property
    def fitted(self) -> bool:
        return self.gram[-1, -1] > 0

    def frames(self, latents: np.ndarray) -> np.ndarray:
        """Map latents to pixels; to gray by the channels' mean before the first fit.

        Args:
            latents: float (latent frames, 16, height / 8, width / 8).

        Returns:
            uint8 (latent frames, height / 8, width / 8, 3), RGB.
        """
        cells = np.moveaxis(np.asarray(latents, np.float64), 1, -1)
        if self.fitted:
            weights = np.linalg.solve(self.gram + RIDGE * self.gram[-1, -1] * PENALTY, self.cross)
            rgb = cells @ weights[:-1] + weights[-1]
        else:
            gray = cells.mean(axis=-1, keepdims=True)
            spread = max(float(gray.std()), 1e-6)
            rgb = np.repeat(0.5 + 0.2 * (gray - gray.mean()) / spread, 3, axis=-1)
        return (rgb.clip(0, 1) * 255).round().astype(np.uint8)

    def learn(self, latents: np.ndarray, frames: np.ndarray) -> ColourMap:
        """The map that is also fitted to another decoded video.

        Args:
            latents: float (latent frames, 16, height / 8, width / 8), clean.
            frames: uint8 (4 · latent frames - 3, height, width, 3), RGB.
        """
        count, channels, height, width = latents.shape
        pixels = frames.reshape(len(frames), height, 8, width, 8, 3).mean(axis=(2, 4)) / 255
        # The first latent frame is one frame, each further one is four.
        later = pixels[1:].reshape(count - 1, 4, height, width, 3).mean(axis=1)
        colours = np.concatenate([pixels[:1], later]).reshape(-1, 3)
        cells = np.moveaxis(latents.astype(np.float64), 1, -1).reshape(-1, channels)
        cells = np.hstack([cells, np.ones((len(cells), 1))])
        gram, cross = cells.T @ cells / len(cells), cells.T @ colours / len(cells)
        return ColourMap(FADING * self.gram + gram, FADING * self.cross + cross)


NEUTRAL = ColourMap(np.zeros((17, 17)), np.zeros((17, 3)))


def preview_animation(frames: np.ndarray, fps: float) -> bytes:
    """Encode frames (frames, height, width, 3) as an endless WebP of ``PREVIEW_WIDTH``."""
    size = (PREVIEW_WIDTH, round(PREVIEW_WIDTH * frames.shape[1] / frames.shape[2]))
    pictures = [Image.fromarray(f).resize(size, Image.Resampling.BICUBIC) for f in frames]
    data = io.BytesIO()
    pictures[0].save(
        data,
        "WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / fps),
        loop=0,
        quality=70,
        method=0,
    )
    return data.getvalue()


def load_colours(path: Path) -> ColourMap:
    """A stored map; ``NEUTRAL`` if there is none, or it can't be read."""
    try:
        sums = json.loads(path.read_text())
        gram, cross = np.array(sums["gram"], float), np.array(sums["cross"], float)
        return ColourMap(gram.reshape(17, 17), cross.reshape(17, 3))
    except (OSError, ValueError, KeyError, TypeError):
        return NEUTRAL


def store_colours(path: Path, colours: ColourMap) -> None:
    """Store a map, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sums = {"gram": colours.gram.tolist(), "cross": colours.cross.tolist()}
    content = json.dumps({"format": COLOURS_FORMAT, **sums}).encode()
    files.write_whole(path, content, sync=False)


@dataclass(frozen=True, slots=True)
class PreviewReady:
    """A new preview of the running job."""

    data: bytes  # an animated WebP


SessionListener = Callable[[Job, Event | PreviewReady | None], None]
"""Called with a job and what happened to it; None if its state or place in the queue changed."""


class Session:
    """The queue, the jobs it finished, the catalogue of results, and the listeners."""

    def __init__(self) -> None:
        leftovers.begin(settings.outputs_dir())
        self.queue = JobQueue(self._work, self._notify, _free_memory)
        self.catalogue = Catalogue()
        self.finished: list[Job] = []
        self.preview: bytes = b""  # the latest of the running job
        self.grid = None  # the latest ``grid.Grid``
        self._listeners: list[SessionListener] = []
        self._limit = RateLimit()
        # In a thread, so that the GPU continues while a preview is drawn.
        self._drawer = ThreadPoolExecutor(1, thread_name_prefix="cogvx preview")

    def listen(self, listener: SessionListener) -> Callable[[], None]:
        """Add a listener; returns a function that removes it."""
        self._listeners.append(listener)
        return functools.partial(self._remove_listener, listener)

    def predict(self, model: Model, frames: int, steps: int, speed: str = "exact") -> Prediction:
        """Time and memory of a video in the model's native size.

        Raises:
            DoesNotFit: if no plan fits this machine.
            RequestError: if a package that the speed needs is missing.
        """
        local = probe.probe_machine()
        plan = planner.predict_plan(model, local, frames, speed, steps)
        self.catalogue.refresh()
        # Most measured paces are of exact videos; other speeds are predicted from their plans.
        known = self.catalogue.paces(model.name, plan.device) if speed == "exact" else {}
        return Prediction(cost.predict_seconds(plan, local, steps, known), plan.peak_bytes)

    def _work(self, job: Job, listener: Listener) -> Result:
        latest: list[Step] = []

        def listen(event: Event) -> None:
            if isinstance(event, Step):
                latest[:] = [event]
                self._start_preview(event, job)
            elif isinstance(event, FramesDone) and latest:
                self._fit_colours(latest[0], event)
            listener(event)

        if job.original:
            reproduction = workflow.reproduce(job.original, listen, job.cancelled)
            listener(Note(str(reproduction)))
            return job.original
        return workflow.make_video(job.request, on_event=listen, cancel=job.cancelled)

    def _start_preview(self, step: Step, job: Job) -> None:
        """Start a preview of a step, if the rate limit allows one."""
        if self._limit.active:
            return
        self._limit.begin()
        self._drawer.submit(self._draw_preview, step.latents[0].float().cpu().numpy(), job)

    def _draw_preview(self, latents: np.ndarray, job: Job) -> None:
        try:
            colours = load_colours(_colours_path(job.request.model))
            preview = preview_animation(colours.frames(latents), job.request.fps / 4)
            if self.queue.running is job:
                self.preview = preview
                self._notify(job, PreviewReady(preview))
        except Exception:  # a video without a preview is still a video
            log.exception("a preview could not be drawn")
        finally:
            self._limit.end()

    def _fit_colours(self, last: Step, done: FramesDone) -> None:
        """Fit the preview colours to a finished video."""
        path = _colours_path(done.generated.request.model)
        latents = last.latents[0].float().cpu().numpy()
        store_colours(path, load_colours(path).learn(latents, done.generated.frames))

    def _notify(self, job: Job, event: Event | PreviewReady | None) -> None:
        if event is None and job.over and job not in self.finished:
            self.finished = [*self.finished, job][-FINISHED_KEPT:]
            self.preview = b""
        for listener in tuple(self._listeners):
            try:
                listener(job, event)
            except Exception:  # a page that can't show something must not end the worker
                log.exception("a listener failed")

    def _remove_listener(self, listener: SessionListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)


class RateLimit:
    """Spaces previews so that they take at most ``PREVIEW_SHARE`` of the time."""

    def __init__(self) -> None:
        self._start, self._until, self._cost = 0.0, 0.0, None

    @property
    def active(self) -> bool:
        """Whether it is too early for another preview."""
        return time.monotonic() < self._until

    def begin(self) -> None:
        self._start, self._until = time.monotonic(), float("inf")

    def end(self) -> None:
        end = time.monotonic()
        if self._cost is None:
            self._cost = 0.0  # the first one includes imports: not representative
        else:
            self._cost = end - self._start
        self._until = end + max(SHORTEST_PAUSE, self._cost / PREVIEW_SHARE)


def _free_memory() -> None:
    """Free what a job allocated, also a cancelled one; the pipeline stays loaded."""
    from ..pipeline import optimization

    optimization.free_memory()


def _colours_path(model: Model) -> Path:
    return settings.outputs_dir() / ".previews" / f"{model.name}.json"


@functools.cache
def current_session() -> Session:
    """The session of this process."""
    return Session()
