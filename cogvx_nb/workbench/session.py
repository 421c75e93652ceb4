"""The work behind the widgets: the job queue, predictions, and live previews of the latents.

There is one session per process, so that a page that is shown again finds the running job. It needs
no page, and its queue is on disk::

    session = Session()
    session.find_unfinished()  # sets session.unfinished: what processes that ended left
    session.resume()  # or session.discard()
    session.queue.submit(request)
    session.queue.wait()
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import leftovers, reproduction, settings, workflow
from ..checkpoints.registry import Model
from ..errors import CogvxError
from ..finishing.finish import finish_result
from ..loras.layers import UsedLora
from ..planning import paces, planner, probe
from ..planning.guidance import Guiding
from ..planning.machine import Machine
from ..planning.plan import Plan
from ..planning.request import VideoRequest
from ..planning.requirements import missing_speed_ups
from ..planning.speedups import AUTO
from ..progress import Event, FramesDone, Listener, Note, StageStarted, Step
from ..results import forecast
from ..results.catalogue import Catalogue
from ..results.measured_fidelity import MeasuredFidelity
from ..results.result import Result, save_result
from ..storyboard import make_storyboard
from .board import common_values
from .jobs import Job, JobQueue, Unwritten
from .kept_queue import KeptQueue, Unfinished, restore_job
from .prediction import Prediction
from .previews import RateLimit, load_colours, preview_animation, store_colours

log = logging.getLogger(__name__)

FINISHED_KEPT = 100
"""Finished jobs that the session remembers; all results are in the catalogue."""


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
        self._kept = KeptQueue()
        self.queue = JobQueue(
            self._work, self._notify, _free_memory, self._kept.keep, self._kept.forget
        )
        self.unfinished = Unfinished()  # of sessions that ended; see ``find_unfinished``
        self.catalogue = Catalogue()
        self.finished: list[Job] = []
        self.preview: bytes = b""  # the latest of the running job
        self._listeners: list[SessionListener] = []
        self._fidelity = MeasuredFidelity()
        self._limit = RateLimit()
        # In a thread, so that the GPU continues while a preview is drawn.
        self._drawer = ThreadPoolExecutor(1, thread_name_prefix="cogvx preview")

    def listen(self, listener: SessionListener) -> Callable[[], None]:
        """Add a listener; returns a function that removes it."""
        self._listeners.append(listener)
        return functools.partial(self._remove_listener, listener)

    def find_unfinished(self) -> None:
        """Look for the jobs that sessions left which ended; never started unasked."""
        try:
            self.unfinished = self._kept.unfinished()
        except CogvxError as error:
            self.unfinished = Unfinished(notes=(str(error),))

    def resume(self) -> tuple[str, ...]:
        """Put the unfinished jobs into the queue.

        Returns:
            A line for each that can't be made here; it stays unfinished.
        """
        left, self.unfinished, problems = self.unfinished.jobs, Unfinished(), []
        for kept in left:
            try:
                job = restore_job(kept)
                if self._kept.take(kept):
                    self.queue.add(job)
            except CogvxError as error:
                problems.append(f"{kept}: {error}")
        self.find_unfinished()
        return tuple(problems)

    def discard(self) -> None:
        """Delete the unfinished jobs.

        Raises:
            OutputError: if a file can't be deleted.
        """
        left, self.unfinished = self.unfinished.jobs, Unfinished()
        for kept in left:
            self._kept.discard(kept)

    def predict(
        self,
        model: Model,
        frames: int,
        steps: int,
        speed: str = "exact",
        attention: str = AUTO,
        encoded_frames: int = 0,
        loras: tuple[UsedLora, ...] = (),
        gpus: str = AUTO,
        guiding: Guiding | None = None,
        clips: int = 1,
    ) -> Prediction:
        """Time and memory of a video in the model's native size, and how far it would lie from one
        of ``exact``.

        Args:
            encoded_frames: of the pictures and the clip that it starts from.
            loras: which take RAM where the weights are streamed from files.
            gpus: that field of a request.
            guiding: by default the checkpoint's own.
            clips: of so many frames that the video is a chain of.

        Raises:
            DoesNotFit: if no plan fits this machine.
            RequestError: if a package that the speed needs is missing, or the attention or the GPUs
                aren't available.
        """
        local = probe.probe_machine()
        plan = planner.predict_plan(
            model, local, frames, speed, steps, attention, encoded_frames, loras, gpus, guiding
        )
        return self._priced(plan, local, steps, attention, clips)

    def predict_request(self, request: VideoRequest) -> Prediction:
        """The same of a request, in its own size; raises the same."""
        local = probe.probe_machine()
        plan, clips = planner.plan_request(request, local), len(request.pieces) or 1
        return self._priced(plan, local, request.done_steps, request.attention, clips)

    def _priced(
        self, plan: Plan, local: Machine, steps: int, attention: str, clips: int
    ) -> Prediction:
        known = forecast.paces_for(plan, attention, self._paces)
        seconds = paces.predict_seconds(plan, local, steps, known)
        seconds = seconds and seconds * clips
        missing = missing_speed_ups(plan.speed, plan.speed_ups, plan.reasons)
        beside = self._fidelity.find(plan, steps, local)
        return Prediction(seconds, plan.peak_bytes, missing, beside)

    def _work(self, job: Job, listener: Listener) -> Result | Unwritten:
        latest: list[Step] = []

        def listen(event: Event) -> None:
            if isinstance(event, Step):
                latest[:] = [event]
                self._start_preview(event, job)
            elif isinstance(event, FramesDone) and latest:
                self._fit_colours(latest[0], event)
            listener(event)

        if job.finish:
            how = dataclasses.asdict(job.finish)
            return finish_result(job.original, on_event=listener, cancel=job.cancelled, **how)
        if job.original:
            again = reproduction.reproduce(job.original, listen, job.cancelled)
            listener(Note(str(again).replace(str(job.original.path), job.original.path.name)))
            return job.original
        if job.board:
            rows, values = map(dataclasses.asdict, job.board), common_values(job.request)
            how = {"on_event": listen, "cancel": job.cancelled}
            return make_storyboard(rows, **how, **values).result
        generated = workflow.make_frames(
            job.request, on_event=listen, cancel=job.cancelled, paces=self._paces
        )
        listener(StageStarted("write"))
        return Unwritten(functools.partial(save_result, generated))

    def _paces(self, model: str, device: str, gpus: int) -> dict[int, paces.MeasuredPace]:
        self.catalogue.refresh()
        return self.catalogue.paces(model, device, gpus)

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
        if done.generated.request.pieces:  # the latents are of the last clip of a chain
            return
        try:
            path = _colours_path(done.generated.request.model)
            latents = last.latents[0].float().cpu().numpy()
            store_colours(path, load_colours(path).learn(latents, done.generated.frames))
        except Exception:  # such as a full disk: the video is still to be saved
            log.exception("the colours of previews could not be fitted")

    def _notify(self, job: Job, event: Event | PreviewReady | None) -> None:
        if event is None and job.over and job not in self.finished:
            self.finished = [*self.finished, job][-FINISHED_KEPT:]
        if event is None and self.queue.running in (None, job):
            self.preview = b""
        for listener in tuple(self._listeners):
            try:
                listener(job, event)
            except Exception:  # a page that can't show something must not end the worker
                log.exception("a listener failed")

    def _remove_listener(self, listener: SessionListener) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)


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
