"""The request that is being written: its values as typed, whether valid or not."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from ..checkpoints.registry import Model
from ..errors import CogvxError, RequestError
from ..media.given import Given
from ..planning import inputs
from ..planning.field import CHECKS, FRAMES, PLAN
from ..planning.fields import FIELDS, INPUTS, names_deciding
from ..planning.request import VideoRequest
from ..results.records import Sidecar
from ..results.source_prompt import request_from
from ..text import plain_line

MOST_NAME = 80
"""Characters of a file's name that are kept."""

NAMES = names_deciding(FRAMES, PLAN, CHECKS)
"""Fields that ``make_request`` takes; ``model`` is the draft's own, ``enrich`` has a button."""


class Draft:
    """Values of a request's fields, by name.

    Args:
        models: the checkpoints that can be chosen.
        model: the one that is.
        values: initial values of fields, by name, and ``enriched_from``.
        names: of files for people, by the names under which they are kept.

    Raises:
        RequestError: for a value that its field doesn't accept.
    """

    def __init__(
        self,
        models: Iterable[Model],
        model: Model,
        values: Mapping[str, object],
        names: Mapping[str, str] | None = None,
    ) -> None:
        self.models = {known.name: known for known in (*models, model)}
        self.model = model
        self.values: dict[str, object] = {name: FIELDS[name].default for name in NAMES}
        self.values |= checked_values({name: values[name] for name in NAMES if name in values})
        self.values["enriched_from"] = str(values.get("enriched_from", ""))
        self.names: dict[str, str] = dict(names or {})
        self._lock, self._revision = threading.Lock(), 0  # the number of changes

    def edit(self, values: Mapping[str, object]) -> None:
        """Take values as they are typed; they are checked by ``request``.

        Raises:
            RequestError: for an unknown field or checkpoint.
        """
        if "model" in values and values["model"] not in self.models:
            raise RequestError("model", values["model"], "is not on this machine")
        unknown = values.keys() - self.values.keys() - {"model"}
        if unknown:
            raise RequestError(min(unknown), values[min(unknown)], "is no field of a request")
        with self._lock:
            self._revision += 1
            self.values |= {name: value for name, value in values.items() if name != "model"}
            self.model = self.models[values["model"]] if "model" in values else self.model

    def copy(self) -> Draft:
        """Another draft, as this one is now."""
        with self._lock:
            model, values, names = self.model, dict(self.values), dict(self.names)
        copied = Draft(self.models.values(), model, {}, names)
        copied.values = values
        return copied

    def request(self, **changes: object) -> VideoRequest:
        """The request with some values changed.

        Raises:
            CogvxError: if it isn't valid; see ``planning.request.make_request``.
        """
        return request_from(self.model, self.named(self.filled | changes))

    def named(self, values: Mapping[str, object]) -> dict[str, object]:
        """Values with the name that people know each kept file by: messages and results have it."""
        files = {name: values[name] for name in inputs.given_names(values)}
        return dict(values) | {
            name: inputs.named_value(kept, self.names[kept])
            for name, kept in files.items()
            if isinstance(kept, str) and kept in self.names
        }

    def read_inputs(self) -> dict[str, Given]:
        """The pictures and clips that are given, by field, whatever else is typed.

        Raises:
            RequestError: if the checkpoint does nothing with them, or one can't be used.
        """
        inputs.task_of(self.model.checkpoint, inputs.given_names(self.filled))
        return inputs.read_inputs(self.filled)

    def take(self, field: str, given: Given, name: str) -> str:
        """Start from a picture or a clip, and choose a checkpoint that does.

        A picture and a clip exclude each other: the other one goes.

        Args:
            name: of the file, for people.

        Returns:
            What else that changed, in one line, or an empty string.
        """
        others = [other for other in INPUTS if FIELDS[other].media != FIELDS[field].media]
        with self._lock:
            self._revision += 1
            self.values |= dict.fromkeys(others, "") | {field: given.value}
            self.values["video_start"] = FIELDS["video_start"].default  # that of another clip
            self.names[given.value] = name
            able = self.able_models()
            if not able or self.model.name in able:
                return ""
            before, self.model = self.model, self.models[able[0]]
        return f"{able[0]} is chosen, since {before.name} doesn't start from it."

    def able_models(self) -> list[str]:
        """Names of the checkpoints here that start from what is given, the likeliest first: those
        as small or as large as the chosen one."""
        tasks = set(inputs.tasks_with(inputs.given_names(self.filled)))
        able = [known for known in self.models.values() if tasks & set(known.checkpoint.tasks)]
        embedded = self.model.checkpoint.is_embedded
        able.sort(key=lambda known: known.checkpoint.is_embedded != embedded)
        return [known.name for known in able]

    @property
    def filled(self) -> dict[str, object]:
        """The values, with a default where a field is left empty, but for the prompt, or tunes what
        isn't given: such a one isn't shown."""
        filled = dict(self.values)
        for name, field in FIELDS.items():
            idle = field.tunes and not any(self.values.get(tuned) for tuned in field.tunes)
            if name in filled and (idle or filled[name] in ("", None)):
                filled[name] = field.default
        return filled

    def load(self, sidecar: Sidecar) -> str:
        """Take over the settings of a result.

        Returns:
            What could not be taken over, in one line, or an empty string.

        Raises:
            RequestError: for a recorded value that its field doesn't accept.
        """
        values, name = checked_values(recorded_values(sidecar)), sidecar.checkpoint.name
        missing = name not in self.models
        with self._lock:
            self._revision += 1
            self.values |= values | {"enriched_from": sidecar.enriched_from}
            self.names |= input_names(sidecar)
            self.model = self.models.get(name, self.model)
        return f"{name} is not here: {self.model.name} stays" if missing else ""

    def as_json(self) -> dict[str, object]:
        """The values and the checkpoint's name."""
        return self.values | {"model": self.model.name}

    def state(self) -> dict[str, object]:
        """The same as ``form``, and as ``revision`` how many changes there have been until then: a
        page takes in the newest."""
        with self._lock:
            return {"form": self.as_json(), "revision": self._revision}


def reads_files(values: Mapping[str, object]) -> bool:
    """Whether a request of some values reads files that may be large: pictures, clips, LoRAs."""
    return bool(inputs.given_names(values) or values.get("lora"))


def recorded_values(sidecar: Sidecar) -> dict[str, object]:
    """The fields of a result: how its frames, plan and checks were asked for.

    Older sidecars don't record the plan's fields as asked; those are as planned.
    """
    values, content = {name: FIELDS[name].default for name in NAMES}, sidecar.as_json()
    for part in ("plan", "asked", "request"):
        values |= {name: content[part][name] for name in NAMES if name in content[part]}
    return values | dict.fromkeys(sidecar.allowed, True)


def input_names(sidecar: Sidecar) -> dict[str, str]:
    """Names of the files that a result was made from, by the names under which they are kept."""
    files = {field: getattr(sidecar.request, field) for field in INPUTS}
    return {
        kept: plain_line(sidecar.inputs[field].name)[:MOST_NAME]
        for field, kept in files.items()
        if kept and field in sidecar.inputs
    }


def file_name(name: str) -> str:
    """The last part of a file's name from outside, to be shown and stored."""
    last = Path(plain_line(name)).name[-MOST_NAME:]
    return "a file" if last in ("", "..") else last


def checked_values(values: Mapping[str, object]) -> dict[str, object]:
    """Values that their fields accept; the prompt may still be empty.

    Raises:
        RequestError: for one that isn't.
    """
    return {name: replace(FIELDS[name], required=False).check(v) for name, v in values.items()}


def kept_values(values: Mapping[str, object]) -> dict[str, object]:
    """Those of some values that their fields accept, from a file that anything may be in."""
    good = {}
    for name in values.keys() & set(NAMES):
        try:
            good |= checked_values({name: values[name]})
        except CogvxError:
            continue
    return good
