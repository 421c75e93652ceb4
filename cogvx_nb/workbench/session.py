"""The work behind a panel: the whole road for one request, with previews on the way.

One studio a process: it has the queue, so that a panel that is shown again finds the running job.
"""

from __future__ import annotations

import functools
import io
import json
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .. import settings, workflow
from ..checkpoints.store import Model
from ..errors import DoesNotFit, RequestError
from ..planning import machine, planner, timing
from ..progress import Event, FramesDone, Listener, Noted, Step
from ..results import result
from ..results.catalogue import Catalogue
from .jobs import Job, JobQueue

PREVIEW_WIDTH = 180
"""Pixels of a preview's width."""

COLOURS_FORMAT = 1


@dataclass(frozen=True)
class ColourMap:
    """A map from latents to RGB, as the sums of a least-squares fit over many results.

    Attributes:
        gram: (17, 17), products of the cells' channels with each other; the last is constant.
        cross: (17, 3), their products with the colours, 0 … 1.
    """

    gram: np.ndarray
    cross: np.ndarray

    @property
    def fitted(self) -> bool:
        return self.gram[-1, -1] > 0

    def frames(self, latents: np.ndarray) -> np.ndarray:
        """uint8 (latent frames, height / 8, width / 8, 3) of latents (latent frames, 16, …).

        Gray by the channels' mean until there was something to fit to.
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
        """The map that also comes near to another decoded video.

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

RIDGE = 1e-3
"""Pull of the weights to zero, beside latents of unit variance: a single plain clip fixes few."""

PENALTY = np.diag([1.0] * 16 + [0.0])
"""The constant is free."""

FADING = 0.98
"""What a result counts after the next one: some fifty are remembered."""


def preview_animation(frames: np.ndarray, fps: float) -> bytes:
    """An endless WebP of small frames, (frames, height, width, 3), enlarged to ``PREVIEW_WIDTH``."""
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
    """A map that was stored; the neutral one where there is none, or none that can be read."""
    try:
        found = json.loads(path.read_text())
        gram, cross = np.array(found["gram"], float), np.array(found["cross"], float)
        return ColourMap(gram.reshape(17, 17), cross.reshape(17, 3))
    except (OSError, ValueError, KeyError, TypeError):
        return NEUTRAL


def store_colours(path: Path, colours: ColourMap) -> None:
    """Store a map, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    sums = {"gram": colours.gram.tolist(), "cross": colours.cross.tolist()}
    temporary.write_text(json.dumps({"format": COLOURS_FORMAT, **sums}))
    temporary.replace(path)


log = logging.getLogger(__name__)

PREVIEW_SHARE = 0.01
"""Most of the time of denoising that previews may take."""

SHORTEST_PAUSE = 0.4
"""Seconds between previews where they cost next to nothing."""

FINISHED_KEPT = 100
"""Jobs of this process that are remembered; all results are in the catalogue."""


@dataclass(frozen=True, slots=True)
class Previewed:
    """A new preview of the running job: an animated WebP."""

    data: bytes


Listen = Callable[[Job, Event | Previewed | None], None]


class Session:
    """The queue, its work, the results so far, and who listens to it."""

    def __init__(self) -> None:
        self.queue = JobQueue(self._work, self._tell, _free_memory)
        self.catalogue = Catalogue()
        self.finished: list[Job] = []
        self.preview: bytes = b""
        self.grid = None
        self._listeners: list[Listen] = []
        self._pause = RateLimit()
        # Beside the worker's thread, so that the GPU goes on meanwhile.
        self._drawer = ThreadPoolExecutor(1, thread_name_prefix="cogvx preview")

    def listen(self, listener: Listen) -> Callable[[], None]:
        """Have each change told; returns what ends that."""
        self._listeners.append(listener)
        return functools.partial(self._forget, listener)

    def predict(self, model: Model, frames: int, steps: int, speed: str = "exact") -> str:
        """Time and memory of a video of the model's own size, in a few words."""
        here = machine.probe_machine()
        try:
            fitted = planner.predict_plan(model, here, frames, speed, steps)
        except DoesNotFit:
            return "does not fit here"
        except RequestError as error:
            return str(error)
        self.catalogue.refresh()
        # What was measured is of exact ones, mostly: the others are foretold by their plans.
        known = self.catalogue.paces(model.name, fitted.device) if speed == "exact" else {}
        seconds = timing.predict_seconds(fitted, here, steps, known)
        time_said = (
            "time known after the first"
            if seconds is None
            else f"about {format_short_duration(seconds)}"
        )
        return f"{time_said}, {fitted.peak_bytes / planner.GIB:.1f} GiB"

    def _work(self, job: Job, listener: Listener) -> result.Result:
        latest: list[Step] = []

        def listen(event: Event) -> None:
            if isinstance(event, Step):
                latest[:] = [event]
                self._show(event, job)
            elif isinstance(event, FramesDone) and latest:
                self._learn(latest[0], event)
            listener(event)

        if job.original:
            return self._remake(job, listen)
        return workflow.make_video(job.request, on_event=listen, cancel=job.cancelled)

    def _remake(self, job: Job, listener: Listener) -> result.Result:
        """The original, with a note on whether it came out the same."""
        listener(Noted(str(workflow.reproduce(job.original, listener, job.cancelled))))
        return job.original

    def _show(self, step: Step, job: Job) -> None:
        """A preview of a step, if the last one is long enough ago."""
        if self._pause.active:
            return
        self._pause.begin()
        self._drawer.submit(self._draw, step.latents[0].float().cpu().numpy(), job)

    def _draw(self, latents: np.ndarray, job: Job) -> None:
        try:
            colours = load_colours(_colours_path(job.request.model))
            drawn = preview_animation(colours.frames(latents), job.request.fps / 4)
            if self.queue.running is job:
                self.preview = drawn
                self._tell(job, Previewed(drawn))
        except Exception:  # a video without a preview is still a video
            log.exception("a preview could not be drawn")
        finally:
            self._pause.end()

    def _learn(self, last: Step, done: FramesDone) -> None:
        """Fit the colours of previews to a result."""
        path = _colours_path(done.generated.request.model)
        latents = last.latents[0].float().cpu().numpy()
        store_colours(path, load_colours(path).learn(latents, done.generated.frames))

    def _tell(self, job: Job, event: Event | Previewed | None) -> None:
        if event is None and job.over and job not in self.finished:
            self.finished = [*self.finished, job][-FINISHED_KEPT:]
            self.preview = b""
        for listener in tuple(self._listeners):
            try:
                listener(job, event)
            except Exception:  # the worker must outlive what a page can't show
                log.exception("a listener failed")

    def _forget(self, listener: Listen) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)


class RateLimit:
    """Between previews: so long that they take no more than their share of the time."""

    def __init__(self) -> None:
        self._start, self._until, self._cost = 0.0, 0.0, None

    @property
    def active(self) -> bool:
        return time.monotonic() < self._until

    def begin(self) -> None:
        self._start, self._until = time.monotonic(), float("inf")

    def end(self) -> None:
        end = time.monotonic()
        if self._cost is None:
            self._cost = 0.0  # the first one pays for imports, and says little of the next
        else:
            self._cost = end - self._start
        self._until = end + max(SHORTEST_PAUSE, self._cost / PREVIEW_SHARE)


def format_short_duration(seconds: float) -> str:
    """A length of time as people say it: ``8 s``, ``2 min``."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _free_memory() -> None:
    """Give back what a job took, also one that was cancelled; the model stays loaded."""
    from ..pipeline import optimization

    optimization.free_memory()


def _colours_path(model: Model) -> Path:
    return settings.outputs_dir() / ".previews" / f"{model.name}.json"


@functools.cache
def current_session() -> Session:
    """The studio of this process."""
    return Session()
