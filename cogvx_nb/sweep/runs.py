"""A sweep's rows as runs: checked, identified, and with what they will take, before the first."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..checkpoints import registry, store
from ..checkpoints.store import Model
from ..errors import CogvxError, ParameterError, SpecError
from ..notebooks import notebook
from ..notebooks.notebook import NotebookTemplate, fit_value, is_plain_value
from ..planning import planner, request, timing
from ..planning.fields import FIELDS
from ..planning.machine import Machine
from ..results.catalogue import Catalogue
from .spec import ParameterRow, SweepSpec

VIDEO = "video.mp4"
"""What a run of notebook 03 makes, in its folder."""

ID_DIGITS = 16
"""Hexadecimal digits of a run's name; 64 bits tell 100,000 runs apart."""

VIDEO_BYTES = 0.2
"""Of an mp4, for each pixel of each frame: four times what the embedded checkpoint's plain pictures
take (0.05, measured at 13 and 49 frames), so that a disk is rather thought too small."""

EMBEDDED_BYTES = 1_340_000
"""Most that an executed notebook takes for its video: ``display.MOST_EMBEDDED_BYTES`` in base64."""

NOTEBOOK_BYTES = 80_000
"""Of an executed notebook without its video, but with its strip of frames. Measured."""

PROBE = """
import pickle, sys
sys.path[:] = pickle.loads(bytes.fromhex(sys.argv[1]))
from cogvx_nb.planning import machine
print("\\n" + pickle.dumps(machine.probe_machine()).hex())
"""
"""In a process of its own: looking at a GPU takes memory there until the process ends."""


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One execution of the notebook.

    Attributes:
        id: hash of what decides its result, and the name of its folder.
        number: of its row, from 1.
        parameters: what the notebook is given.
        varied: those of them that differ between runs.
        expected: ``request`` and ``sha256`` that its sidecar must have; None where no video is
            asked for.
        seconds: predicted, its model loaded; None where nothing is known.
        peak_bytes: predicted peak on its device; None where nothing is known.
        disk_bytes: predicted.
    """

    id: str
    number: int
    parameters: dict[str, object]
    varied: dict[str, object]
    expected: dict | None = field(default=None, repr=False)
    seconds: float | None = None
    peak_bytes: int | None = None
    disk_bytes: int = NOTEBOOK_BYTES


def plan_runs(spec: SweepSpec, book: NotebookTemplate) -> list[SweepRun]:
    """All runs of a sweep in order, each once.

    Raises:
        SpecError: with the first row that can't be run, and why.
    """
    factors = (*spec.factors, *_seed_rows(spec, book))
    varied = {
        name
        for factor in factors
        for name in {name for row in factor for name in row.values}
        if len({repr(row.values.get(name)) for row in factor}) > 1
    }
    with _probe_meanwhile("model" in book.declared) as probed:
        fixed = _typed_row(ParameterRow(spec.parameters), book, "parameters")
        typed = [
            [(_typed_row(row, book, row.origin), row.origin) for row in one] for one in factors
        ]
        maker = _RunFactory(book, probed)
        found: dict[str, SweepRun] = {}
        total = math.prod(map(len, factors))
        for number, rows in enumerate(itertools.product(*typed), 1):
            values = dict(fixed)
            for row, _ in rows:
                values.update(row)
            try:
                run = maker.make(number, values, varied)
            except CogvxError as error:
                origin = ", ".join(origin for _, origin in rows if origin)
                where = f"run {number} of {total}" + (f" ({origin})" if origin else "")
                raise SpecError(f"{where}: {error}", error.exit_code) from error
            found.setdefault(run.id, run)
    return list(found.values())


class _RunFactory:
    """Makes runs of values. Each checkpoint, plan and pace is looked up once.

    Args:
        probed: hands out the machine.
    """

    def __init__(self, book: NotebookTemplate, probed) -> None:
        self._book, self._probed = book, probed
        self._names = [name for name in FIELDS if name in book.declared and name != "model"]
        self._models: dict[tuple, tuple[Model | None, str, dict]] = {}
        self._foreseen: dict[tuple, tuple[float | None, int, int]] = {}
        self._paces: dict[tuple, dict] = {}

    def make(self, number: int, values: dict[str, object], varied: set[str]) -> SweepRun:
        """The run of a row's values.

        Raises:
            CogvxError: if it can't be run.
        """
        book = self._book
        if book.makes_video and "output" in values:
            value = values["output"]
            raise SpecError(f"output = {value!r}: each run writes {VIDEO} into a folder of its own")
        model, name, hashes = self._model(values)
        parameters = values | ({"model": name} if name and book.makes_video else {})
        deciding = {
            key: value
            for key, value in parameters.items()
            if not (key == "model" and name and book.makes_video)
            and not (key in book.defaults and _is_same_value(value, book.defaults[key]))
        }
        told = json.dumps([book.code_hash, deciding, hashes], sort_keys=True, ensure_ascii=False)
        identity = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:ID_DIGITS]
        shown = {key: value for key, value in values.items() if key in varied}
        if not book.makes_video:
            return SweepRun(identity, number, parameters, shown)
        effective = book.defaults | values
        wanted = request.make_request(
            model, **{name: effective[name] for name in self._names if name in effective}
        )
        foreseen = self._foresee(wanted)
        expected = {"request": wanted.settings, "sha256": hashes}
        parameters = parameters | {"output": VIDEO}
        return SweepRun(identity, number, parameters, shown, expected, *foreseen)

    def _model(self, values: dict[str, object]) -> tuple[Model | None, str, dict[str, str]]:
        """(checkpoint, what to call it, its files' hashes); None and empty where there is none.

        The notebook is told the checkpoint that was found here, so that ``auto`` stays what it was
        and a folder is found from everywhere.
        """
        named = values.get("model", self._book.defaults.get("model"))
        frames = values.get("frames", self._book.defaults.get("frames", 13))
        key = (named, frames)
        if not isinstance(named, str) or not isinstance(frames, int):
            if self._book.makes_video:
                name, value, kind = ("model", named, "text")
                if isinstance(named, str):
                    name, value, kind = ("frames", frames, "a whole number")
                raise ParameterError(name, value, f"must be {kind}")
            return None, "", {}
        if key not in self._models:
            self._models[key] = self._found(named, frames)
        return self._models[key]

    def _found(self, named: str, frames: int) -> tuple[Model | None, str, dict[str, str]]:
        try:
            model, _ = planner.find_model(named, self._probed(), frames)
        except CogvxError:
            if self._book.makes_video:
                raise
            return None, "", {}  # a model of the user's own
        chosen = named.strip().lower() == "auto" or registry.find_checkpoint(named)
        return model, model.name if chosen else str(model.folder), store.file_hashes(model)

    def _foresee(self, wanted: request.VideoRequest) -> tuple[float | None, int, int]:
        """(seconds, peak bytes, bytes on disk)."""
        size = (wanted.frames, wanted.height, wanted.width)
        key = (str(wanted.model.folder), *size, wanted.guidance > 1, wanted.steps)
        key += (wanted.speed, wanted.attention)
        if key not in self._foreseen:
            fitted = planner.plan_request(wanted, self._probed())
            known = self._known(wanted.model.name, fitted.device)
            seconds = timing.predict_seconds(fitted, self._probed(), wanted.steps, known)
            video = int(VIDEO_BYTES * math.prod(size))
            disk = NOTEBOOK_BYTES + video + min(4 * video // 3, EMBEDDED_BYTES)
            self._foreseen[key] = seconds, fitted.peak_bytes, disk
        return self._foreseen[key]

    def _known(self, model: str, device: str) -> dict[int, timing.MeasuredPace]:
        if (model, device) not in self._paces:
            catalogue = Catalogue()
            catalogue.refresh()
            self._paces[model, device] = catalogue.paces(model, device)
        return self._paces[model, device]


def _seed_rows(spec: SweepSpec, book: NotebookTemplate) -> list[tuple[ParameterRow, ...]]:
    """Seeds that are counted, from the one that is fixed or else the notebook's own."""
    if not spec.seeds:
        return []
    first = spec.parameters.get("seed", book.defaults.get("seed", 0))
    if not isinstance(first, int):
        raise SpecError(f"seeds counts from the seed {first!r}, which must be a whole number")
    return [tuple(ParameterRow({"seed": first + n}) for n in range(spec.seeds))]


def _typed_row(row: ParameterRow, book: NotebookTemplate, origin: str) -> dict[str, object]:
    try:
        return typed_row(row, book)
    except CogvxError as error:
        where = f"{origin}: " if origin else ""
        raise SpecError(f"{where}{error}", error.exit_code) from error


def _is_same_value(value: object, default: object) -> bool:
    return repr(value) == repr(default)  # 1, 1.0 and True are equal, and not the same


@contextlib.contextmanager
def _probe_meanwhile(wanted: bool) -> Iterator:
    """Looks at the machine meanwhile; hands out what waits for the answer."""
    if not wanted:
        yield lambda: None
        return
    command = [sys.executable, "-c", PROBE, pickle.dumps(sys.path).hex()]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found: list[Machine] = []

    def answer() -> Machine:
        if not found:
            told, errors = child.communicate()
            if child.returncode:
                reason = (errors.strip().splitlines() or ["no reason"])[-1]
                raise SpecError(f"this machine can't be looked at: {reason}", 1)
            found.append(pickle.loads(bytes.fromhex(told.splitlines()[-1])))
        return found[0]

    try:
        yield answer
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()


def typed_row(row: ParameterRow, book: NotebookTemplate) -> dict[str, object]:
    """A row's values as the notebook declares them.

    Raises:
        ParameterError: if the notebook has no such parameter, or can't use the value.
    """
    found = {}
    for name, value in row.values.items():
        if name not in book.declared:
            known = ", ".join(book.declared) or "none"
            remedy = f"{book.path.name} has no such one; known: {known}"
            raise ParameterError("parameter", name, remedy)
        if row.texts:
            value = notebook.parse_parameter(name, value, book.declared[name])
        found[name] = fit_value(name, value, book.declared[name])
        if not is_plain_value(found[name]):  # a date, say
            raise ParameterError(name, value, "quote it, or use plain values, with names of text")
    return found
