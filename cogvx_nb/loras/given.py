"""LoRAs of a request: the text that names them, and the files that it means.

``outline:0.8, "a, b.safetensors":-0.5@alpha=16`` names two files with their weights. Once it is
read, each is named by its content too, ``outline#<SHA-256>:0.8``, and found again by that wherever
it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ..checkpoints.registry import Checkpoint
from ..errors import RequestError
from ..text import full_number, plain_line
from . import library
from .modules import linear_shapes
from .reader import LoraLayer, read_lora
from .scales import NONE

MOST_WEIGHT = 10.0
"""Of either sign, as of ComfyUI's sliders (comfyui, ``LoraLoader``: -100 to 100; CogVideoXWrapper,
``CogVideoLoraSelect``: -10 to 10)."""

MOST_FILES = 16
MOST_NAME = 80

ENDING = ".safetensors"

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TAIL = rf"(?:#(?P<sha256>[0-9a-f]{{64}}))?(?::(?P<weight>{_NUMBER}))?(?:@alpha=(?P<alpha>[^@]*))?"
_ENTRY = re.compile(rf'(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>.+?)){_TAIL}', re.DOTALL)
_PIECE = re.compile(r'\s*((?:"(?:[^"]|"")+"[^,]*|[^,]+))(?:,|$)')


@dataclass(frozen=True, slots=True)
class LoraEntry:
    """A LoRA as a text names it."""

    file: str  # a path, or the name of a file of the library
    sha256: str = ""  # of the file, where it was read before
    weight: float = 1.0
    alpha: float | None = None  # instead of the file's own

    @property
    def name(self) -> str:
        """What people call it."""
        return short_name(self.file)

    def __str__(self) -> str:
        plain = self.file and not re.search(r'[,"]|^\s|\s$|:[^/]*$|@alpha=', self.file)
        file = self.file if plain else '"{}"'.format(self.file.replace('"', '""'))
        kept = f"#{self.sha256}" * bool(self.sha256)
        alpha = "" if self.alpha is None else f"@alpha={full_number(self.alpha)}"
        return f"{file}{kept}:{full_number(self.weight)}{alpha}"


@dataclass(frozen=True, slots=True)
class UsedLora:
    """A LoRA that was read for a checkpoint, at its weight."""

    name: str
    sha256: str
    path: Path
    weight: float
    alpha: float | None  # instead of the file's own
    layers: tuple[LoraLayer, ...]  # with that alpha
    format: str  # of the file's names, for people

    def __str__(self) -> str:
        return f"{self.name} {full_number(self.weight)}"

    @property
    def key(self) -> tuple:
        """What decides the change that it makes."""
        return self.sha256, self.weight, self.alpha

    @property
    def rank(self) -> int:
        """The largest of its layers."""
        return max(layer.rank for layer in self.layers)


def short_name(file: str) -> str:
    """A file's name without folders and ending, in one line."""
    return plain_line(Path(file).name.removesuffix(ENDING))[:MOST_NAME] or "lora"


def parse_loras(text: str) -> tuple[LoraEntry, ...]:
    """The LoRAs that a text names.

    Raises:
        RequestError: for a part that names none, a bad weight or alpha, or a file that is there
            twice.
    """
    entries = tuple(map(parse_entry, _pieces(text)))
    if len(entries) > MOST_FILES:
        raise _bad(text, f"names {len(entries)} files; at most {MOST_FILES}")
    for number, entry in enumerate(entries):
        for other in entries[:number]:
            if (entry.sha256 or entry.file) == (other.sha256 or other.file):
                raise _bad(entry.name, "is given twice: give it once, with the sum of the weights")
    return entries


def parse_entry(text: str) -> LoraEntry:
    """A LoRA as ``NAME[:WEIGHT][@alpha=ALPHA]``; see ``parse_loras``."""
    found = _ENTRY.fullmatch(text.strip())
    if not found:
        raise _bad(text, "names no LoRA: write NAME, NAME:WEIGHT or NAME:WEIGHT@alpha=ALPHA")
    file = found["plain"] or found["quoted"].replace('""', '"')
    weight = float(found["weight"] or 1)
    if not abs(weight) <= MOST_WEIGHT:
        raise _bad(text, f"its weight must be between -{MOST_WEIGHT:g} and {MOST_WEIGHT:g}")
    return LoraEntry(file, found["sha256"] or "", weight, _alpha(text, found["alpha"]))


def write_loras(entries: Iterable[LoraEntry]) -> str:
    """The text that ``parse_loras`` reads as these."""
    return ", ".join(map(str, entries))


def join_loras(texts: Iterable[str]) -> str:
    """One text of several, each of one LoRA or of several."""
    entries: list[LoraEntry] = []
    for text in texts:
        if not isinstance(text, str):
            raise _bad(text, "must be text")
        one = parse_entry(text) if text.strip() else None
        if one and Path(one.file).expanduser().is_file():  # also with a comma in its name
            entries.append(one)
        else:
            entries += parse_loras(text)
    return write_loras(entries)


def shown_loras(text: str) -> str:
    """The text for people, without hashes; as it is where it can't be read."""
    try:
        return ", ".join(f"{one.name} {full_number(one.weight)}" for one in parse_loras(text))
    except RequestError:
        return plain_line(text)


def is_kept(text: str) -> bool:
    """Whether a text names each LoRA by its content, and none by a path."""
    try:
        return all(one.sha256 and one.file == one.name for one in parse_loras(text))
    except RequestError:
        return False


def read_loras(text: str, checkpoint: Checkpoint) -> tuple[UsedLora, ...]:
    """Find and read the LoRAs that a text names.

    Raises:
        RequestError: for one that isn't there, or can't be used with the checkpoint.
    """
    return tuple(read_entry(entry, checkpoint) for entry in parse_loras(text))


def read_entry(entry: LoraEntry, checkpoint: Checkpoint) -> UsedLora:
    """Find and read one; see ``read_loras``."""
    path = library.find_lora(entry.file, entry.sha256)
    file = read_lora(path, checkpoint)
    layers, alpha = file.layers, entry.alpha
    if alpha is not None:
        layers = tuple(replace(layer, alpha=alpha, alpha_from="given") for layer in layers)
    # The name as it was given: files are renamed and copied.
    name = entry.name if entry.sha256 else short_name(path.name)
    return UsedLora(name, file.sha256, path, entry.weight, alpha, layers, file.format)


def changed_weights(loras: Iterable[UsedLora], checkpoint: Checkpoint) -> int:
    """Weights of the layers that some LoRAs change."""
    shapes = linear_shapes(checkpoint)
    modules = {layer.module for one in loras if one.weight for layer in one.layers}
    return sum(shapes[module][0] * shapes[module][1] for module in modules)


def kept_text(loras: Iterable[UsedLora]) -> str:
    """The text that names LoRAs by their content."""
    return write_loras(LoraEntry(one.name, one.sha256, one.weight, one.alpha) for one in loras)


def lora_notes(loras: Iterable[UsedLora]) -> Iterator[str]:
    """What the user should know of each."""
    for one in loras:
        if not one.weight:
            yield f"{one.name} has no effect at weight 0"
        elif any(layer.alpha_from == NONE for layer in one.layers):
            yield (
                f"{one.name} doesn't say its alpha, which is taken for its rank, {one.rank}; if "
                f"that is too strong, try {one.name}:{full_number(one.weight)}@alpha=1"
            )


def _pieces(text: str) -> Iterator[str]:
    position = 0
    while position < len(text):
        found = _PIECE.match(text, position)
        if not found:  # nothing between two commas
            position = text.find(",", position) + 1 or len(text)
            continue
        if found[1].strip():
            yield found[1].strip()
        position = found.end()


def _alpha(text: str, written: str | None) -> float | None:
    if written is None:
        return None
    try:
        value = float(written)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise _bad(text, "its alpha must be a number above 0")
    return value


def _bad(value: object, remedy: str) -> RequestError:
    return RequestError("lora", value, remedy)
