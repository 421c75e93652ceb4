"""LoRAs of a request: the text that names them, read and written.

``outline:0.8, "a, b.safetensors":-0.5@alpha=16`` names two files with their weights. Once it is
read, each is named by its content too, ``outline#<SHA-256>:0.8``, and found again by that wherever
it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import RequestError
from ..text import full_number, plain_line

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


def join_loras(texts: Iterable[str], folder: Path | None = None) -> str:
    """One text of several, each of one LoRA or of several.

    Args:
        folder: where relative paths start, by default the current one.
    """
    entries: list[LoraEntry] = []
    for text in texts:
        if not isinstance(text, str):
            raise _bad(text, "must be text")
        one = parse_entry(text) if text.strip() else None
        if one and _is_file(one.file, folder or Path()):  # also with a comma in its name
            entries.append(one)
        else:
            entries += parse_loras(text)
    return write_loras(entries)


def _is_file(name: str, folder: Path) -> bool:
    try:
        return folder.joinpath(Path(name).expanduser()).is_file()
    except (OSError, ValueError, RuntimeError):  # no name that a file can have
        return False


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
