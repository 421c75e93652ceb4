"""The work behind a panel: the whole road for one request, with previews on the way.

One studio a process: it has the queue, so that a panel that is shown again finds the running job.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import preview, settings
from .checkpoints.store import Model
from .errors import DoesNotFit, RequestError
from .jobs import Job, Queue
from .planning import machine, planner, timing
from .progress import Done, Event, Listener, Noted, Step
from .results import result
from .results.catalogue import Catalogue

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


class Studio:
    """The queue, its work, the results so far, and who listens to it."""

    def __init__(self) -> None:
        self.queue = Queue(self._work, self._tell, _free_memory)
        self.catalogue = Catalogue()
        self.finished: list[Job] = []
        self.preview: bytes = b""
        self.grid = None
        self._listeners: list[Listen] = []
        self._pause = _Pause()
        # Beside the worker's thread, so that the GPU goes on meanwhile.
        self._drawer = ThreadPoolExecutor(1, thread_name_prefix="cogvx preview")

    def listen(self, listener: Listen) -> Callable[[], None]:
        """Have each change told; returns what ends that."""
        self._listeners.append(listener)
        return functools.partial(self._forget, listener)

    def predict(self, model: Model, frames: int, steps: int, speed: str = "exact") -> str:
        """Time and memory of a video of the model's own size, in a few words."""
        here = machine.probe()
        try:
            fitted = planner.foresee(model, here, frames, speed, steps)
        except DoesNotFit:
            return "does not fit here"
        except RequestError as error:
            return str(error)
        self.catalogue.refresh()
        # What was measured is of exact ones, mostly: the others are foretold by their plans.
        known = self.catalogue.paces(model.name, fitted.device) if speed == "exact" else {}
        seconds = timing.predict_seconds(fitted, here, steps, known)
        time_said = "time known after the first" if seconds is None else f"about {spell(seconds)}"
        return f"{time_said}, {fitted.peak_bytes / planner.GIB:.1f} GiB"

    def _work(self, job: Job, listener: Listener) -> result.Result:
        from .pipeline import generate, loader

        latest: list[Step] = []

        def listen(event: Event) -> None:
            if isinstance(event, Step):
                latest[:] = [event]
                self._show(event, job)
            elif isinstance(event, Done) and latest:
                self._learn(latest[0], event)
            listener(event)

        if job.original:
            return self._remake(job, listen)
        fitted = planner.fit(job.request, machine.probe(), job.speed)
        for text in fitted.approximations:
            listen(Noted(f"approximate: {text}"))
        made = generate.generate_frames(job.request, loader.load(fitted), listen, job.cancelled)
        return result.save(made, on_event=listener)

    def _remake(self, job: Job, listener: Listener) -> result.Result:
        """The original, with a note on whether it came out the same."""
        from . import workflow

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
            colours = preview.load(_colours_of(job.request.model))
            drawn = preview.animation(colours.frames(latents), job.request.fps / 4)
            if self.queue.running is job:
                self.preview = drawn
                self._tell(job, Previewed(drawn))
        except Exception:  # a video without a preview is still a video
            log.exception("a preview could not be drawn")
        finally:
            self._pause.end()

    def _learn(self, last: Step, done: Done) -> None:
        """Fit the colours of previews to a result."""
        path = _colours_of(done.generated.request.model)
        latents = last.latents[0].float().cpu().numpy()
        preview.store(path, preview.load(path).learn(latents, done.generated.frames))

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


class _Pause:
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


def spell(seconds: float) -> str:
    """A length of time as people say it: ``8 s``, ``2 min``."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _free_memory() -> None:
    """Give back what a job took, also one that was cancelled; the model stays loaded."""
    from .pipeline import optimization

    optimization.free_memory()


def _colours_of(model: Model) -> Path:
    return settings.outputs_dir() / ".previews" / f"{model.name}.json"


@functools.cache
def studio() -> Studio:
    """The studio of this process."""
    return Studio()
