"""LoRAs of a sweep: named by a text or by columns of weights, read once, and known by content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ParameterError, RequestError, SpecError
from ..loras import library
from ..loras.entries import (
    MOST_WEIGHT,
    LoraEntry,
    parse_entry,
    parse_loras,
    short_name,
    write_loras,
)
from ..loras.given import alpha_beside, placed_entry
from ..planning.cells import read_cell
from ..planning.rows import LORA_WEIGHTS
from ..text import full_number, telling_end


def is_weight_column(name: str) -> bool:
    """Whether a parameter of a row is the weight of one LoRA, such as ``lora:outline``."""
    return name.startswith(LORA_WEIGHTS)


def weight_entry(name: str, value: object, folder: Path, delimiter: str = "") -> LoraEntry | None:
    """The LoRA of a column at the weight of a row; None for a cell without a value.

    Args:
        name: of the column.
        value: as YAML or JSON reads it, or a cell.
        folder: where relative paths start.
        delimiter: between the columns of the table that the cell is of; empty for typed values.

    Raises:
        ParameterError: if the value is no weight.
        RequestError: if the column names no LoRA.
    """
    entry = parse_entry(name.removeprefix(LORA_WEIGHTS))
    remedy = f"must be a number between {-MOST_WEIGHT:g} and {MOST_WEIGHT:g}: the LoRA's weight"
    if delimiter:
        try:
            value = read_cell(str(value), "float", delimiter)
        except ValueError as error:
            raise ParameterError(name, value, str(error)) from error
        if value is None:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ParameterError(name, value, remedy)
    if not abs(value) <= MOST_WEIGHT:  # false for NaN too
        raise ParameterError(name, value, remedy)
    return replace(placed_entry(entry, folder), weight=float(value))


DIGITS = 64
"""Of a SHA-256 in hexadecimal; pictures and clips have the names of files there."""

GONE = "lora: {} is gone from where the sweep names it: the file of that content is used"


@dataclass(frozen=True, slots=True)
class FoundLora:
    """A LoRA that rows name."""

    asked: LoraEntry  # what a request is given: a path, or a name and the content
    kept: LoraEntry  # what a run is given: the name and the content
    path: Path
    note: str = ""  # what the user should know of it
    alpha: float | None = None  # of peft's configuration beside it, which nodes don't get


@dataclass(frozen=True, slots=True)
class GivenLoras:
    """The LoRAs of a run."""

    asked: str  # the text that its request is made of
    kept: str  # the parameter's value: the same files wherever they are
    files: dict[str, str]  # what each is kept as, by what the row calls it
    notes: tuple[str, ...]


class LoraFiles:
    """Finds and hashes the LoRAs that rows name, each once.

    Args:
        recorded: what files were kept as when the sweep was started before.
    """

    def __init__(self, recorded: Mapping[str, str]) -> None:
        self._recorded = recorded
        self._found: dict[tuple[str, str], FoundLora] = {}

    def read(self, text: str, columns: Iterable[LoraEntry]) -> GivenLoras:
        """The LoRAs of a text and of columns, whose weights count.

        Raises:
            RequestError: if one can't be found or read.
            SpecError: if two columns are the same one.
        """
        entries = {self.find(entry).kept.sha256: entry for entry in parse_loras(text)}
        alphas = {digest: entry.alpha for digest, entry in entries.items()}
        seen: dict[str, LoraEntry] = {}
        for entry in columns:
            digest = self.find(entry).kept.sha256
            if digest in seen:
                names = f"{seen[digest].file[-60:]!r} and {entry.file[-60:]!r}"
                raise SpecError(f"{names} are columns of one LoRA: leave one of them out")
            seen[digest] = entry
            alpha = alphas.get(digest) if entry.alpha is None else entry.alpha
            entries[digest] = replace(entry, alpha=alpha)
        pairs = [(self.find(entry), entry) for entry in entries.values()]
        return GivenLoras(
            write_loras(_weighted(found.asked, entry, found.alpha) for found, entry in pairs),
            write_loras(_weighted(found.kept, entry, found.alpha) for found, entry in pairs),
            {entry.file: f"{found.kept.name}#{found.kept.sha256}" for found, entry in pairs},
            tuple(found.note for found, _ in pairs if found.note),
        )

    def find(self, entry: LoraEntry) -> FoundLora:
        """The file of an entry.

        Raises:
            RequestError: if it can't be found or read.
        """
        key = entry.file, entry.sha256
        if key not in self._found:
            self._found[key] = self._look_for(entry)
        return self._found[key]

    def _look_for(self, entry: LoraEntry) -> FoundLora:
        if not entry.sha256:
            try:
                path = library.find_lora(entry.file)
            except RequestError:
                name, digest = split_kept(self._recorded_as(entry.file))
                if not name:
                    raise
                kept = LoraEntry(name, digest)
                path, note = library.find_lora(name, digest), GONE.format(name)
                return FoundLora(kept, kept, path, note)
            kept = LoraEntry(short_name(path.name), library.file_hash(path))
            return FoundLora(LoraEntry(str(path)), kept, path, alpha=alpha_beside(path))
        kept = LoraEntry(entry.name, entry.sha256)
        return FoundLora(kept, kept, library.find_lora(kept.file, kept.sha256))

    def _recorded_as(self, file: str) -> str:
        """What a file that rows name was kept as; empty if it wasn't."""
        named = file, f"{file}{library.ENDING}"
        bare = Path(file).name == file
        kept = (
            value
            for path, value in self._recorded.items()
            if is_lora(value) and (path in named or (bare and Path(path).name in named))
        )
        return next(kept, "")

    def labels(self) -> dict[str, str]:
        """What a person calls each LoRA, by its hash: its name, after the folders that tell it
        from others of that name."""
        parts = {
            found.kept.sha256: found.path.with_name(found.kept.name).parts
            for found in self._found.values()
        }
        return {digest: telling_end(own, parts.values()) for digest, own in parts.items()}

    def shown(self, varied: Mapping[str, object]) -> dict[str, object]:
        """A run's varied values as people read them: LoRAs by their labels.

        Args:
            varied: values of a row, with a column's entry in place of its weight.
        """
        labels = self.labels()
        found: dict[str, object] = {}
        for name, value in varied.items():
            if isinstance(value, LoraEntry):
                found[f"{LORA_WEIGHTS}{labels[self.find(value).kept.sha256]}"] = value.weight
            elif name == "lora" and isinstance(value, str):
                found[name] = ", ".join(
                    f"{labels[self.find(one).kept.sha256]} {full_number(one.weight)}"
                    for one in parse_loras(value)
                )
            else:
                found[name] = value
        return found


def split_kept(value: str) -> tuple[str, str]:
    """(name, SHA-256) of what a LoRA is kept as in the records of a sweep."""
    name, _, digest = value.rpartition("#")
    return name, digest


def is_lora(value: str) -> bool:
    """Whether what a run is given is a LoRA; else it is a picture or a clip."""
    return len(split_kept(value)[1]) == DIGITS


def is_missing(value: str) -> bool:
    """Whether no file on this machine has a LoRA's content."""
    try:
        library.find_lora(*split_kept(value))
    except RequestError:
        return True
    return False


def _weighted(found: LoraEntry, given: LoraEntry, alpha: float | None) -> LoraEntry:
    alpha = alpha if given.alpha is None else given.alpha
    return replace(found, weight=given.weight, alpha=alpha)
