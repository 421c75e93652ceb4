"""The work behind a panel: the whole road for one request, with previews on the way.

One studio a process: it has the queue, so that a panel that is shown again finds the running job.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import machine, plan, preview, result, settings
from .events import Done, Event, Listener, Step
from .jobs import Job, Queue
from .request import VideoRequest
from .weights import Model

PREVIEW_SHARE = 0.01
"""Most of the time of denoising that previews may take."""

SHORTEST_PAUSE = 0.4
"""Seconds between previews where they cost next to nothing."""


@dataclass(frozen=True, slots=True)
class Previewed:
    """A new preview of the running job: an animated WebP."""

    data: bytes


Listen = Callable[[Job, Event | Previewed | None], None]


class Studio:
    """The queue, its work, and who listens to it."""

    def __init__(self) -> None:
        self.queue = Queue(self._work, self._tell)
        self.finished: list[Job] = []
        self.step_seconds: dict[tuple[str, int], float] = {}
        self.preview: bytes = b""
        self._listeners: list[Listen] = []
        self._pause = _Pause()

    def listen(self, listener: Listen) -> Callable[[], None]:
        """Have each change told; returns what ends that."""
        self._listeners.append(listener)
        return functools.partial(self._forget, listener)

    def predict(self, model: Model, frames: int) -> str:
        """Memory by the plan, and seconds a step as far as one was made in this process."""
        try:
            peak = plan.foresee(model, machine.probe(), frames).peak_bytes / plan.GIB
        except plan.DoesNotFit:
            return "does not fit here"
        seconds = self.step_seconds.get((model.name, frames))
        pace = f"{seconds:.2g} s a step" if seconds else "time not measured yet"
        return f"about {peak:.1f} GiB, {pace}"

    def _work(
        self, request: VideoRequest, listener: Listener, cancel: threading.Event
    ) -> result.Result:
        from . import generate, pipeline  # late: they load torch, and a panel should open at once

        fitted = plan.fit(request, machine.probe())
        loaded = pipeline.load(fitted)
        latest: list[Step] = []

        def listen(event: Event) -> None:
            if isinstance(event, Step):
                latest[:] = [event]
                self._show(event, request, loaded.plan.device)
            elif isinstance(event, Done):
                self._learn(latest, event)
            listener(event)

        made = generate.run(request, loaded, listen, cancel)
        return result.save(made, on_event=listener)

    def _show(self, step: Step, request: VideoRequest, device: str) -> None:
        """A preview of a step, if the last one is long enough ago."""
        if self._pause.active:
            return
        from . import pipeline

        pipeline.synchronize(device)  # the wait for the step itself is not the preview's
        with self._pause:
            colours = preview.load(_colours_of(request.model))
            latents = step.latents[0].float().cpu().numpy()
            self.preview = preview.animation(colours.frames(latents), request.fps / 4)
        self._tell(self.queue.running, Previewed(self.preview))

    def _learn(self, latest: list[Step], done: Done) -> None:
        """Fit the colours of previews to a result; note how fast its steps were."""
        made = done.generated
        name, count = made.request.model.name, made.request.frames
        self.step_seconds[name, count] = made.seconds["denoise"] / made.request.steps
        if latest:
            path = _colours_of(made.request.model)
            latents = latest[0].latents[0].float().cpu().numpy()
            preview.store(path, preview.load(path).learn(latents, made.frames))

    def _tell(self, job: Job, event: Event | Previewed | None) -> None:
        if event is None and job.state not in ("waiting", "running") and job not in self.finished:
            self.finished.append(job)
        for listener in tuple(self._listeners):
            listener(job, event)

    def _forget(self, listener: Listen) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)


class _Pause:
    """Between previews: so long that they take no more than their share of the time."""

    def __init__(self) -> None:
        self._until, self._cost = 0.0, None

    @property
    def active(self) -> bool:
        return time.monotonic() < self._until

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *exception: object) -> None:
        end = time.monotonic()
        if self._cost is None:
            self._cost = 0.0  # the first one pays for imports, and says little of the next
        else:
            self._cost = end - self._start
        self._until = end + max(SHORTEST_PAUSE, self._cost / PREVIEW_SHARE)


def _colours_of(model: Model) -> Path:
    return settings.outputs_dir() / ".previews" / f"{model.name}.json"


@functools.cache
def studio() -> Studio:
    """The studio of this process."""
    return Studio()
