"""Turn the rows of a sweep into runs: checked, identified and costed before the first starts."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import pickle
import subprocess
from collections.abc import Callable, Iterator

from .. import settings
from ..checkpoints import registry, store
from ..checkpoints.registry import Model
from ..errors import CogvxError, ParameterError, SpecError
from ..notebooks.cell_reader import Parameter
from ..notebooks.template import NotebookTemplate
from ..notebooks.value_types import is_plain_value
from ..planning import cost, enrich, model_choice, planner, request
from ..planning.cells import read_cell
from ..planning.fields import FIELDS, RANDOM_SEED, SEEDS
from ..planning.machine import Machine
from ..planning.request import VideoRequest
from ..planning.rows import ParameterRow
from ..planning.yaml_loading import explain_value
from ..results.catalogue import Catalogue
from .expected import ExpectedVideo
from .folder import VIDEO, SweepRun
from .spec import SweepSpec

ID_DIGITS = 16
"""Hexadecimal digits of a run's id; 64 bits keep 100,000 runs distinct."""

VIDEO_BYTES = 0.2
"""Bytes of an mp4 per pixel and frame: four times the 0.05 measured with the embedded checkpoint's
plain pictures at 13 and 49 frames, so that the estimate is rather too large."""

EMBEDDED_BYTES = 1_340_000
"""Upper bound of a video inside a notebook: ``display.MOST_EMBEDDED_BYTES`` in base64."""

NOTEBOOK_BYTES = 80_000
"""An executed notebook without its video, but with its strip of frames. Measured."""

PROBE = """
import pickle
from cogvx_nb.planning import probe
print("\\n" + pickle.dumps(probe.probe_machine()).hex())
"""
"""Runs in a child process: probing a GPU takes memory on it until the process ends."""


def plan_runs(spec: SweepSpec, book: NotebookTemplate) -> list[SweepRun]:
    """All runs of a sweep in order, without duplicates.

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
    with _probe_in_child("model" in book.declared) as probe:
        fixed = _typed_row_or_explain(ParameterRow(spec.parameters), book, "parameters")
        typed = [
            [(_typed_row_or_explain(row, book, row.origin), row.origin) for row in factor]
            for factor in factors
        ]
        run_planner = _RunPlanner(book, probe)
        runs: dict[str, SweepRun] = {}
        total = math.prod(map(len, factors))
        for number, rows in enumerate(itertools.product(*typed), 1):
            values = dict(fixed)
            for row, _ in rows:
                values.update(row)
            try:
                run = run_planner.plan_run(number, values, varied)
            except CogvxError as error:
                origin = ", ".join(origin for _, origin in rows if origin)
                where = f"run {number} of {total}" + (f" ({origin})" if origin else "")
                raise SpecError(f"{where}: {error}", error.exit_code) from error
            runs.setdefault(run.id, run)
    return list(runs.values())


class _RunPlanner:
    """Makes runs of parameter values. Each checkpoint, plan and pace is looked up once.

    Args:
        probe: returns the machine.
    """

    def __init__(self, book: NotebookTemplate, probe: Callable[[], Machine]) -> None:
        self._book, self._probe = book, probe
        self._fields = [name for name in FIELDS if name in book.declared and name != "model"]
        self._models: dict[tuple, tuple[Model | None, str, dict]] = {}
        self._costs: dict[tuple, tuple[float | None, int, int]] = {}
        self._paces: dict[tuple, dict] = {}

    def plan_run(self, number: int, values: dict[str, object], varied: set[str]) -> SweepRun:
        """The run of a row's values.

        Raises:
            CogvxError: if it can't be run.
        """
        book = self._book
        if book.makes_video and "output" in values:
            value = values["output"]
            raise SpecError(f"output = {value!r}: each run writes {VIDEO} into a folder of its own")
        model, name, hashes = self._find_model(values)
        parameters = values | ({"model": name} if name and book.makes_video else {})
        deciding = {
            key: value
            for key, value in parameters.items()
            if not (key == "model" and name and book.makes_video)
            and not (key in book.defaults and _is_same_value(value, book.defaults[key]))
        }
        run_id = _hash_json([book.code_hash, deciding, hashes])[:ID_DIGITS]
        shown = {key: value for key, value in values.items() if key in varied}
        if not book.makes_video:
            return SweepRun(run_id, number, parameters, shown, disk_bytes=NOTEBOOK_BYTES)
        prepared, expected = self._prepare_request(model, hashes, book.defaults | values)
        costs = self._predict_costs(prepared)
        parameters |= {"output": VIDEO}
        return SweepRun(run_id, number, parameters, shown, expected, *costs, prepared.notes)

    def _prepare_request(
        self, model: Model, hashes: dict[str, str], values: dict[str, object]
    ) -> tuple[VideoRequest, ExpectedVideo]:
        """(the request that the notebook will make, what its video's sidecar must say).

        A prompt that a chat model will rewrite isn't sent to it yet: costs don't depend on it.
        """
        asked = {name: values[name] for name in self._fields if name in values}
        enriches = asked.get("enrich") is True
        read_anyway = {"allow_unknown": True} if enriches else {}  # it reads the rewritten prompt
        prepared = request.make_request(model, **asked | read_anyway)
        if enriches:
            enrich.check_prompt(prepared.prompt, model.checkpoint)
            settings.chat()  # raises if the endpoint's variables are wrong
        expected = ExpectedVideo(
            request=prepared.settings,
            sha256=hashes,
            enriched_from=prepared.prompt if enriches else "",
            drawn=[name for name in SEEDS if prepared.asked[name] == RANDOM_SEED],  # as it runs
            may_reduce=bool(prepared.fallback),
        )
        return prepared, expected

    def _find_model(self, values: dict[str, object]) -> tuple[Model | None, str, dict[str, str]]:
        """(checkpoint, its name as a parameter, hashes of its files); None and empty without one.

        The name replaces that of the row, so that ``auto`` is decided once for all runs and a
        folder is found from any current directory.
        """
        name = values.get("model", self._book.defaults.get("model"))
        frames = values.get("frames", self._book.defaults.get("frames", 13))
        for key, value, kind in (("model", name, str), ("frames", frames, int)):
            if not isinstance(value, kind):
                if self._book.makes_video:
                    must_be = {str: "text", int: "a whole number"}[kind]
                    raise ParameterError(key, value, f"must be {must_be}")
                return None, "", {}
        if (name, frames) not in self._models:
            self._models[name, frames] = self._locate_model(name, frames)
        return self._models[name, frames]

    def _locate_model(self, name: str, frames: int) -> tuple[Model | None, str, dict[str, str]]:
        try:
            model, _ = model_choice.find_model(name, self._probe, frames)
        except CogvxError:
            if self._book.makes_video:
                raise
            return None, "", {}  # what a notebook of the user's own calls a model
        by_name = name.strip().lower() == "auto" or registry.find_checkpoint(name)
        return model, model.name if by_name else str(model.folder), store.file_hashes(model)

    def _predict_costs(self, prepared: VideoRequest) -> tuple[float | None, int, int]:
        """(seconds, peak bytes of device memory, bytes on disk)."""
        size = (prepared.frames, prepared.height, prepared.width)
        key = (str(prepared.model.folder), *size, prepared.guidance > 1, prepared.done_steps)
        key += (prepared.speed, prepared.attention)
        if key not in self._costs:
            plan = planner.plan_request(prepared, self._probe())
            paces = self._measured_paces(prepared.model.name, plan.device)
            seconds = cost.predict_seconds(plan, self._probe(), prepared.done_steps, paces)
            video = int(VIDEO_BYTES * math.prod(size))
            disk = NOTEBOOK_BYTES + video + min(4 * video // 3, EMBEDDED_BYTES)
            self._costs[key] = seconds, plan.peak_bytes, disk
        return self._costs[key]

    def _measured_paces(self, model: str, device: str) -> dict[int, cost.MeasuredPace]:
        if (model, device) not in self._paces:
            catalogue = Catalogue()
            catalogue.refresh()
            self._paces[model, device] = catalogue.paces(model, device)
        return self._paces[model, device]


def _seed_rows(spec: SweepSpec, book: NotebookTemplate) -> list[tuple[ParameterRow, ...]]:
    """Consecutive seeds, from the fixed one or else the notebook's default."""
    if not spec.seeds:
        return []
    first = spec.parameters.get("seed", book.defaults.get("seed", 0))
    if not isinstance(first, int) or first == RANDOM_SEED:
        raise SpecError(f"seeds counts from the seed {first!r}: give a whole number of 0 or more")
    return [tuple(ParameterRow({"seed": first + n}) for n in range(spec.seeds))]


def _typed_row_or_explain(
    row: ParameterRow, book: NotebookTemplate, origin: str
) -> dict[str, object]:
    """``typed_row``, whose error says where the row is from."""
    try:
        return typed_row(row, book)
    except CogvxError as error:
        where = f"{origin}: " if origin else ""
        raise SpecError(f"{where}{error}{_hint(error, row, book)}", error.exit_code) from error


def _hint(error: CogvxError, row: ParameterRow, book: NotebookTemplate) -> str:
    """What YAML made of a value that the notebook can't use, as the end of a message."""
    parameter = isinstance(error, ParameterError) and error.field in book.declared
    if row.delimiter or not parameter:
        return ""
    hint = explain_value(error.value, book.declared[error.field].kind)
    return f" ({hint})" if hint else ""


def _hash_json(content: object) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_same_value(value: object, default: object) -> bool:
    return repr(value) == repr(default)  # 1, 1.0 and True are equal, but not the same


@contextlib.contextmanager
def _probe_in_child(needed: bool) -> Iterator[Callable[[], Machine]]:
    """Probe the machine in a child process while rows are read; yields a function that waits."""
    if not needed:
        yield lambda: None
        return
    command = settings.child_python(PROBE)
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    machines: list[Machine] = []

    def wait_for_machine() -> Machine:
        if not machines:
            output, errors = child.communicate()
            if child.returncode:
                reason = (errors.strip().splitlines() or ["no reason"])[-1]
                raise SpecError(f"this machine can't be probed: {reason}", 1)
            machines.append(pickle.loads(bytes.fromhex(output.splitlines()[-1])))
        return machines[0]

    try:
        yield wait_for_machine
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()


def typed_row(row: ParameterRow, book: NotebookTemplate) -> dict[str, object]:
    """A row's values, converted to the types that the notebook declares.

    Raises:
        ParameterError: if the notebook has no such parameter, or can't use the value.
    """
    values = {}
    for name in row.values:
        parameter = book.cell.find(name, book.path.name)
        value = _plain_value(row, name, parameter)
        if value is None and row.delimiter:
            continue  # a cell such as NaN, which sets nothing
        values[name] = parameter.fit(value)
        if not is_plain_value(values[name]):  # a date, say
            raise ParameterError(name, value, "quote it, or use plain values, with names of text")
    return values


def _plain_value(row: ParameterRow, name: str, parameter: Parameter) -> object:
    """A value of a row as the notebook's type writes it; None for a cell without one."""
    value, kind = row.values[name], parameter.kind
    if row.delimiter and kind in ("int", "float", "bool"):
        try:
            return read_cell(value, kind, row.delimiter)
        except ValueError as error:
            raise ParameterError(name, value, str(error)) from error
    if row.delimiter:
        return parameter.parse(value)
    whole = row.from_file and kind == "int" and isinstance(value, float) and value.is_integer()
    return int(value) if whole else value  # pandas writes 42.0 into a column with gaps
