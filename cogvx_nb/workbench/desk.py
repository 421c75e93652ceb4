"""What a page works on, without a page: the form, the queue, the results."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import settings
from ..checkpoints import store
from ..checkpoints.registry import Model
from ..errors import CogvxError, PathError, RequestError
from ..finishing.work import predict_seconds
from ..media.kinds import guess_kind
from ..paths import user_path
from ..planning.fields import FIELDS, RANDOM_SEED
from ..planning.inputs import read_input
from ..planning.request import VideoRequest
from ..results.records import Sidecar
from ..results.result import Result, read_result
from .draft import Draft, kept_values
from .jobs import DONE, Job
from .kept_page import ROLL_LENGTH, KeptPage, read_page, write_page
from .session import Session
from .wording import label_of

SAVE_DELAY = 0.5
"""Seconds after the last change until the page is kept on disk."""


class Desk:
    """The form, the film roll and the session of a page.

    Args:
        model: the checkpoint to begin with.
        session: runs the jobs.
        given: the notebook's parameters, by name; the form is as it was left, but for those that
            were changed since.

    Raises:
        RequestError: for a value that its field doesn't accept.
    """

    def __init__(self, model: Model, session: Session, given: Mapping[str, object]) -> None:
        self.session, self._given = session, dict(given)
        models, kept = store.available_checkpoints(), read_page()
        values = kept.values_for(self._given)
        unchanged = kept.form and kept.given.get("model") == self._given.get("model")
        if unchanged:
            named = values.get("model")
            model = next((known for known in models if known.name == named), model)
        if not kept.form and values.get("seed", FIELDS["seed"].default) == FIELDS["seed"].default:
            values["seed"] = RANDOM_SEED  # who iterates wants another one each time
        changed = {name: v for name, v in self._given.items() if values.get(name) == v}
        typed = {"enriched_from": str(values.get("enriched_from", ""))}
        self.form = Draft(models, model, kept_values(values) | changed | typed, kept.names)
        self.dropped = bytearray()  # of a file that is being dropped
        self._lock = threading.Lock()
        self._roll: dict[str, Result] = {}  # newest first
        self._taken_off: set[str] = set()  # names of results that were on it
        self._timer: threading.Timer | None = None
        self._helpers = ThreadPoolExecutor(2, thread_name_prefix="cogvx page")
        self._read_roll(kept)

    def path_of(self, text: str) -> Path:
        """The mp4 that a page names.

        Raises:
            PathError: if it isn't in the outputs folder.
        """
        outputs = settings.outputs_dir()
        path = user_path(text, "video", start=outputs)
        if ".." in path.parts or not path.is_relative_to(outputs):
            raise PathError(f"video {text!r:.80}: it isn't in the outputs folder")
        return path

    def name_of(self, path: Path) -> str:
        """What a page calls an mp4: its path in the outputs folder."""
        return path.relative_to(settings.outputs_dir()).as_posix()

    def in_background(self, work: Any, *arguments: object) -> Future:
        """Call a function in a thread: the future can be an action's reply."""
        return self._helpers.submit(work, *arguments)

    # --- the form ---------------------------------------------------------------------------------

    def edit(self, values: Mapping[str, object]) -> None:
        """Take what is typed into the form.

        Raises:
            RequestError: for an unknown field or checkpoint.
        """
        self.form.edit(values)
        self.save_soon()

    def take_file(self, path: Path, name: str, field: str = "") -> dict[str, object]:
        """Start from a picture or a clip, which is kept.

        Args:
            name: what it is called.
            field: that it is given for; by default the first picture or the clip, by what it is.

        Returns:
            The form's ``state``, and a note.

        Raises:
            RequestError: if it can't be used, with the remedy.
        """
        problems = []
        for wanted in (field,) if field else ("image", "video"):
            try:
                given = read_input(wanted, str(path))
            except RequestError as error:  # names the file as it lies here, which nobody knows
                problems.append(RequestError(error.field, name, error.remedy))
                continue
            chosen = self.form.take(wanted, given, name)
            self.save_soon()
            note = f"{label_of(wanted)}: {name}. {chosen}".strip()
            return self.form.state() | {"note": note}
        kind = guess_kind(path)
        raise problems[0 if kind and kind.is_picture else -1]

    def draft_of(self, sidecar: Sidecar) -> Draft:
        """Another form, with the settings of a result; with the chosen checkpoint where its own
        isn't here."""
        draft = Draft(self.form.models.values(), self.form.model, {})
        draft.load(sidecar)
        return draft

    def predict_seconds(self, request: VideoRequest) -> float | None:
        """Predicted seconds of a request; None if nothing is known, or it doesn't fit."""
        with contextlib.suppress(CogvxError):
            return self.session.predict_request(request).seconds
        return None

    def predict_finish(self, job: Job) -> float | None:
        """The same of a job that finishes a result, or makes a finished one again."""
        settings = job.original.settings
        if job.finish is None:
            return sum(settings.seconds.values())
        shown = settings.shown
        with contextlib.suppress(CogvxError):
            size = shown.height, shown.width
            return predict_seconds(shown.frames, *size, shown.fps, job.finish)
        return None

    def find_equal(self, request: VideoRequest) -> str:
        """The name of a video that was made of an equal request; empty if there is none."""
        self.session.catalogue.refresh()
        for entry in self.session.catalogue.find(seed=request.seed, model=request.model.name):
            if entry.finished:  # its request made the frames that it is of
                continue
            with contextlib.suppress(CogvxError):
                recorded = read_result(entry.path).settings
                if recorded.derived:
                    continue
                same = {name: getattr(recorded.request, name) for name in request.settings}
                if same == request.settings and recorded.plan.speed == request.speed:
                    return self.name_of(entry.path)
        return ""

    # --- the film roll ----------------------------------------------------------------------------

    @property
    def roll(self) -> list[tuple[str, Result]]:
        """The results on the film roll by the page's names for them, newest first."""
        with self._lock:
            return list(self._roll.items())

    def add_finished(self, job: Job) -> bool:
        """Put a job's video on the film roll; False if it has none, or it is there already."""
        if job.state != DONE or job.compares:
            return False
        with contextlib.suppress(ValueError):  # a video outside of the outputs folder
            name = self.name_of(job.result.path)
            with self._lock:
                if name in self._roll:
                    return False
                self._roll = {name: job.result} | self._roll
                self._roll = dict(list(self._roll.items())[:ROLL_LENGTH])
            self.save_soon()
            return True
        return False

    def take_off(self, name: str) -> None:
        """Take a result off the film roll; its files stay."""
        with self._lock:
            if self._roll.pop(name, None) is not None:
                self._taken_off.add(name)
        self.save_soon()

    def put_back(self, name: str) -> None:
        """Put a result on the film roll, at its place by time, if it was taken off."""
        if name not in self._taken_off:
            return
        result = read_result(self.path_of(name))
        with self._lock:
            entries = {**self._roll, name: result}.items()
            ordered = sorted(entries, key=lambda entry: entry[1].settings.made, reverse=True)
            self._roll = dict(ordered)
        self.save_soon()

    def _read_roll(self, kept: KeptPage) -> None:
        for name in kept.roll[:ROLL_LENGTH]:
            with contextlib.suppress(CogvxError):  # moved to the trash, or deleted
                self._roll[name] = read_result(self.path_of(name))
        for job in self.session.finished:  # oldest first
            self.add_finished(job)

    # --- on disk ----------------------------------------------------------------------------------

    def save_soon(self) -> None:
        """Keep form and film roll on disk, once nothing has changed for a moment."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._timer = threading.Timer(SAVE_DELAY, self.save)
            self._timer.daemon = True
            self._timer.start()

    def save(self) -> None:
        """Keep form and film roll on disk; where that fails, the next change tries again."""
        with self._lock:
            form = self.form.as_json()
            # Of what was given before there are none: those files can be removed as unused.
            names = {k: n for k, n in dict(self.form.names).items() if k in form.values()}
            kept = KeptPage(form=form, names=names, roll=tuple(self._roll))
        with contextlib.suppress(CogvxError):
            write_page(replace(kept, given=self._given))

    def close(self) -> None:
        """Save, and end the threads."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
        self.save()
        self._helpers.shutdown(wait=False, cancel_futures=True)
