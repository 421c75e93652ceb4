"""The request that is being written: its values as typed, whether valid or not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from ..checkpoints.registry import Model
from ..errors import CogvxError, RequestError
from ..planning import request
from ..planning.fields import CHECKS, FIELDS, FRAMES, PLAN, names_deciding
from ..planning.request import VideoRequest
from ..results.records import Sidecar

NAMES = names_deciding(FRAMES, PLAN, CHECKS)
"""Fields that ``make_request`` takes; ``model`` is the draft's own, ``enrich`` has a button."""


class Draft:
    """Values of a request's fields, by name.

    Args:
        models: the checkpoints that can be chosen.
        model: the one that is.
        values: initial values of fields, by name, and ``enriched_from``.

    Raises:
        RequestError: for a value that its field doesn't accept.
    """

    def __init__(self, models: Iterable[Model], model: Model, values: Mapping[str, object]) -> None:
        self.models = {known.name: known for known in (*models, model)}
        self.model = model
        self.values: dict[str, object] = {name: FIELDS[name].default for name in NAMES}
        self.values |= checked_values({name: values[name] for name in NAMES if name in values})
        self.values["enriched_from"] = str(values.get("enriched_from", ""))

    def edit(self, values: Mapping[str, object]) -> None:
        """Take values as they are typed; they are checked by ``request``.

        Raises:
            RequestError: for an unknown field or checkpoint.
        """
        values = dict(values)
        name = values.pop("model", self.model.name)
        if name not in self.models:
            raise RequestError("model", name, "is not on this machine")
        unknown = values.keys() - self.values.keys()
        if unknown:
            raise RequestError(min(unknown), values[min(unknown)], "is no field of a request")
        self.model = self.models[name]
        self.values |= values

    def request(self, **changes: object) -> VideoRequest:
        """The request with some values changed.

        Raises:
            CogvxError: if it isn't valid; see ``request.make_request``.
        """
        return request.make_request(self.model, **self.filled | changes)

    @property
    def filled(self) -> dict[str, object]:
        """The values, with a default where a field is left empty; the prompt may be."""
        return {
            name: FIELDS[name].default if name in FIELDS and value in ("", None) else value
            for name, value in self.values.items()
            if name != "prompt"
        } | {"prompt": self.values["prompt"] or ""}

    def load(self, sidecar: Sidecar) -> str:
        """Take over the settings of a result.

        Returns:
            What could not be taken over, in one line, or an empty string.

        Raises:
            RequestError: for a recorded value that its field doesn't accept.
        """
        values, name = checked_values(recorded_values(sidecar)), sidecar.checkpoint.name
        self.values |= values | {"enriched_from": sidecar.enriched_from}
        missing = name not in self.models
        self.model = self.models.get(name, self.model)
        return f"{name} is not here: {self.model.name} stays" if missing else ""

    def as_json(self) -> dict[str, object]:
        """The values and the checkpoint's name."""
        return self.values | {"model": self.model.name}


def recorded_values(sidecar: Sidecar) -> dict[str, object]:
    """The fields of a result: how its frames, plan and checks were asked for.

    Older sidecars don't record the plan's fields as asked; those are as planned.
    """
    values, content = {name: FIELDS[name].default for name in NAMES}, sidecar.as_json()
    for part in ("plan", "asked", "request"):
        values |= {name: content[part][name] for name in NAMES if name in content[part]}
    return values | dict.fromkeys(sidecar.allowed, True)


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
