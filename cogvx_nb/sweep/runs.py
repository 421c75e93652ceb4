"""Turn the rows of a sweep into runs: checked, identified and costed before the first starts."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace

from .. import settings
from ..checkpoints import registry, store
from ..checkpoints.registry import Model
from ..errors import CogvxError, ParameterError, SpecError
from ..loras.given import placed_text
from ..notebooks.template import NotebookTemplate
from ..planning import enrich, model_choice, planner
from ..planning.fields import FIELDS, INPUTS, RANDOM_SEED, SEEDS
from ..planning.inputs import absolute_name, given_names
from ..planning.machine import Machine
from ..planning.paces import MeasuredPace, predict_seconds
from ..planning.request import VideoRequest
from ..planning.rows import ParameterRow
from ..results.catalogue import Catalogue
from ..results.source_prompt import request_from
from .child_probe import probe_in_child
from .expected import ExpectedVideo
from .folder import VIDEO, SweepFolder, SweepRun
from .given_files import GivenFiles, KeptFile
from .given_loras import GivenLoras, LoraEntry, LoraFiles
from .spec import SweepSpec
from .typed_rows import typed_row_or_explain

ID_DIGITS = 16
"""Hexadecimal digits of a run's id; 64 bits keep 100,000 runs distinct."""

VIDEO_BYTES = 0.2
"""Bytes of an mp4 per pixel and frame: four times the 0.05 measured with the embedded checkpoint's
plain pictures at 13 and 49 frames, so that the estimate is rather too large."""

EMBEDDED_BYTES = 1_340_000
"""Upper bound of a video inside a notebook: ``display.MOST_EMBEDDED_BYTES`` in base64."""

NOTEBOOK_BYTES = 80_000
"""An executed notebook without its video, but with its strip of frames. Measured."""


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
    with probe_in_child("model" in book.declared) as probe:
        fixed = typed_row_or_explain(ParameterRow(spec.parameters), book, spec.folder, "parameters")
        typed = [
            [(typed_row_or_explain(row, book, spec.folder), row.origin) for row in factor]
            for factor in factors
        ]
        recorded = SweepFolder(spec.name).recorded_inputs()
        files, loras = GivenFiles(recorded), LoraFiles(recorded)
        run_planner = _RunPlanner(book, probe, files, loras)
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
    return _with_file_names(list(runs.values()), files.labels(), loras)


def _with_file_names(
    runs: list[SweepRun], labels: dict[str, str], loras: LoraFiles
) -> list[SweepRun]:
    """The runs, whose varied pictures, clips and LoRAs are shown by what a person calls them."""
    return [
        replace(
            run,
            varied={
                key: labels.get(value, value) if key in INPUTS else value
                for key, value in loras.shown(run.varied).items()
            },
        )
        for run in runs
    ]


class _RunPlanner:
    """Makes runs of parameter values. Each file, checkpoint, plan and pace is looked up once.

    Args:
        probe: returns the machine.
    """

    def __init__(
        self,
        book: NotebookTemplate,
        probe: Callable[[], Machine],
        files: GivenFiles,
        loras: LoraFiles,
    ) -> None:
        self._book, self._probe, self._files, self._loras = book, probe, files, loras
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
        given = self._read_files(values) if book.makes_video else {}
        values = values | {field: file.given.value for field, file in given.items()}
        shown = {key: value for key, value in values.items() if key in varied}
        values, loras = self._read_loras(values) if book.makes_video else (values, None)
        model, name, hashes = self._find_model(values)
        deciding = {
            key: value
            for key, value in values.items()
            if not (key == "model" and name and book.makes_video)
            and not (key in book.defaults and _is_same_value(value, book.defaults[key]))
        }
        run_id = _hash_json([book.code_hash, deciding, hashes])[:ID_DIGITS]
        if not book.makes_video:
            return SweepRun(run_id, number, values, shown, disk_bytes=NOTEBOOK_BYTES)
        named = {field: file.value for field, file in given.items()}
        asked = book.defaults | values | named | ({"lora": loras.asked} if loras else {})
        prepared, expected = self._prepare_request(model, hashes, asked)
        if "seed" not in expected.drawn:
            shown |= {name: prepared.texts[name] for name in prepared.templates}
        return SweepRun(
            run_id,
            number,
            values | named | {"model": name, "output": VIDEO},
            shown,
            expected,
            *self._predict_costs(prepared),
            notes=(
                *prepared.remarks,
                *(file.note for file in given.values() if file.note),
                *(loras.notes if loras else ()),
            ),
            inputs={file.path: file.value for file in given.values()}
            | (loras.files if loras else {}),
        )

    def _read_files(self, values: dict[str, object]) -> dict[str, KeptFile]:
        """The pictures and clips of a row, by field."""
        files = {}
        for field in INPUTS:
            path = values.get(field, self._book.defaults.get(field))
            if not isinstance(path, str) or not path:
                continue
            if field not in values:
                path = absolute_name(field, path, self._book.path.parent)
            files[field] = self._files.read(field, path)
        return files

    def _read_loras(self, values: dict) -> tuple[dict[str, object], GivenLoras | None]:
        """(values whose LoRAs are one text as it is kept, those LoRAs); None where there are none.

        Args:
            values: of a row; columns of weights have the entry of their LoRA.
        """
        columns = [value for value in values.values() if isinstance(value, LoraEntry)]
        plain = {key: value for key, value in values.items() if not isinstance(value, LoraEntry)}
        text = plain.get("lora")
        if text is None and isinstance(default := self._book.defaults.get("lora"), str):
            text = placed_text(default, self._book.path.parent)
        if not (text or columns):
            return plain, None
        loras = self._loras.read(text or "", columns)
        return plain | {"lora": loras.kept}, loras

    def _prepare_request(
        self, model: Model, hashes: dict[str, str], values: dict[str, object]
    ) -> tuple[VideoRequest, ExpectedVideo]:
        """(the request that the notebook will make, what its video's sidecar must say).

        A prompt that a chat model will rewrite isn't sent to it yet: costs don't depend on it.
        """
        asked = {name: values[name] for name in self._fields if name in values}
        enriches = asked.get("enrich") is True
        read_anyway = {"allow_unknown": True} if enriches else {}  # it reads the rewritten prompt
        prepared = request_from(model, asked | read_anyway)
        if enriches:
            enrich.check_prompt(prepared.prompt, model.checkpoint)
            settings.chat()  # raises if the endpoint's variables are wrong
        expected = ExpectedVideo(
            request=prepared.settings,
            sha256=hashes,
            enriched_from=prepared.prompt if enriches else "",
            templates=prepared.templates,
            drawn=[name for name in SEEDS if prepared.asked[name] == RANDOM_SEED],  # as it runs
            may_reduce=bool(prepared.fallback),
        )
        return prepared, expected

    def _find_model(self, values: dict[str, object]) -> tuple[Model | None, str, dict[str, str]]:
        """(checkpoint, its name as a parameter, hashes of its files); None and empty without one.

        The name replaces that of the row, so that ``auto`` is decided once for all runs of a task,
        and a folder is found from any current directory.
        """
        name = values.get("model", self._book.defaults.get("model"))
        frames = values.get("frames", self._book.defaults.get("frames", 13))
        given = given_names(self._book.defaults | values)
        lora = str(values.get("lora") or "")
        for key, value, kind in (("model", name, str), ("frames", frames, int)):
            if not isinstance(value, kind):
                if self._book.makes_video:
                    must_be = {str: "text", int: "a whole number"}[kind]
                    raise ParameterError(key, value, f"must be {must_be}")
                return None, "", {}
        if (name, frames, given, lora) not in self._models:
            self._models[name, frames, given, lora] = self._locate_model(name, frames, given, lora)
        return self._models[name, frames, given, lora]

    def _locate_model(
        self, name: str, frames: int, given: tuple[str, ...], lora: str
    ) -> tuple[Model | None, str, dict[str, str]]:
        try:
            model, _ = model_choice.find_model(name, self._probe, frames, given, lora)
        except CogvxError:
            if self._book.makes_video:
                raise
            return None, "", {}  # what a notebook of the user's own calls a model
        by_name = name.strip().lower() == "auto" or registry.find_checkpoint(name)
        return model, model.name if by_name else str(model.folder), store.file_hashes(model)

    def _predict_costs(self, prepared: VideoRequest) -> tuple[float | None, int, int]:
        """(seconds, peak bytes of device memory, bytes on disk)."""
        size = (prepared.all_frames, prepared.height, prepared.width)
        key = (str(prepared.model.folder), *size, prepared.guidance > 1, prepared.done_steps)
        key += (prepared.guiding,)
        key += (prepared.speed, prepared.attention, prepared.gpus, prepared.encoded_frames)
        key += tuple(one.sha256 for one in prepared.loras if one.weight)
        if key not in self._costs:
            plan = planner.plan_request(prepared, self._probe())
            paces = self._measured_paces(prepared.model.name, plan.device, len(plan.devices))
            seconds = predict_seconds(plan, self._probe(), prepared.done_steps, paces)
            seconds = seconds and seconds * (len(prepared.pieces) or 1)
            video = int(VIDEO_BYTES * math.prod(size))
            disk = NOTEBOOK_BYTES + video + min(4 * video // 3, EMBEDDED_BYTES)
            self._costs[key] = seconds, plan.peak_bytes, disk
        return self._costs[key]

    def _measured_paces(self, *key: object) -> dict[int, MeasuredPace]:
        """Those of a model, a device and a number of GPUs."""
        if key not in self._paces:
            catalogue = Catalogue()
            catalogue.refresh()
            self._paces[key] = catalogue.paces(*key)
        return self._paces[key]


def _seed_rows(spec: SweepSpec, book: NotebookTemplate) -> list[tuple[ParameterRow, ...]]:
    """Consecutive seeds, from the fixed one or else the notebook's default."""
    if not spec.seeds:
        return []
    first = spec.parameters.get("seed", book.defaults.get("seed", 0))
    if not isinstance(first, int) or first == RANDOM_SEED:
        raise SpecError(f"seeds counts from the seed {first!r}: give a whole number of 0 or more")
    return [tuple(ParameterRow({"seed": first + n}) for n in range(spec.seeds))]


def _hash_json(content: object) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _is_same_value(value: object, default: object) -> bool:
    return repr(value) == repr(default)  # 1, 1.0 and True are equal, but not the same
