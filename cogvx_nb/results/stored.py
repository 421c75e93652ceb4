"""The settings of a video on disk: those in the mp4 itself, and the sidecar that repeats them.

The mp4's count: a sidecar can be edited, left behind, or another video's.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

from ..errors import ResultError
from ..paths import read_bounded
from .mp4 import TAG, find_tag, read_box
from .records import LATE_STAGES, MAX_BYTES, Sidecar, read_settings
from .typed import FieldError

DROPPED = "carries no settings (another program may have dropped them)"


@dataclass(frozen=True, slots=True)
class Source:
    """One of the two places of a video's settings."""

    name: str  # in messages
    content: object = None  # JSON; None where there is none, or it can't be read
    problem: str = ""  # why it can't be read

    def read(self, strict: bool = True) -> Sidecar | None:
        """The settings in it; None where there are none, or they can't be used."""
        if self.content is not None:
            with contextlib.suppress(FieldError):
                return read_settings(self.content, strict)
        return None

    def explain(self) -> str:
        """Why ``read`` returns None, after the name."""
        if not self.problem and self.content is not None:
            try:
                read_settings(self.content)
            except FieldError as error:
                return f"can't be used: {error}"
        return self.problem


def stored_settings(path: Path) -> tuple[Sidecar, str]:
    """The settings of a video, and a note where its sidecar or the mp4 itself doesn't agree.

    Raises:
        ResultError: if there is no such file, or neither has settings that can be used.
    """
    _check_is_file(path)
    tag, copy = _read_tag(path), _read_sidecar(path.with_suffix(".json"))
    if _is_copy(tag, copy) and (settings := copy.read()):
        return settings, ""
    own, copied = tag.read(), copy.read()
    if own is not None:
        return own, _note_on_sidecar(own, copied, copy)
    if copied is not None:
        return copied, f"{tag.name} {tag.explain()}; these are those of {copy.name}"
    beside = f", and {copy.name} {copy.explain()}" if copy.explain() else ""
    raise ResultError(f"{tag.name} {tag.explain()}{beside}")


def find_settings(path: Path) -> Sidecar | None:
    """The settings of a video for a list: where possible those of ``stored_settings``, else without
    values of a wrong type that a list can do without; None if there are none."""
    with contextlib.suppress(OSError):
        tag, copy = _read_tag(path), _read_sidecar(path.with_suffix(".json"))
        if _is_copy(tag, copy) and (settings := copy.read()):
            return settings
        for strict in (True, False):
            if settings := tag.read(strict) or copy.read(strict):
                return settings
    return None


def read_tag(path: Path) -> object:
    """The JSON content of a video's ``TAG``; None if it has none.

    Raises:
        ResultError: if the file is missing.
    """
    _check_is_file(path)
    return _read_tag(path).content


def _read_tag(path: Path) -> Source:
    try:
        box = find_tag(path, TAG)
        if box is None:
            return Source(str(path), problem=DROPPED)
        if box.end - box.start > MAX_BYTES:
            return Source(str(path), problem="carries settings that are too large")
        data = read_box(path, box)
    except OSError as error:
        return Source(str(path), problem=f"can't be read: {error.strerror}")
    return _parse(str(path), data, "carries settings that can't be read")


def _read_sidecar(path: Path) -> Source:
    try:
        return _parse(str(path), read_bounded(path, MAX_BYTES), "can't be read")
    except FileNotFoundError:
        return Source(str(path))
    except OSError as error:
        return Source(str(path), problem=f"can't be read: {error.strerror}")


def _parse(name: str, data: bytes, failed: str) -> Source:
    try:
        content = json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        return Source(name, problem=f"{failed}: it is nested too deeply")
    except ValueError as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeError) else f"no JSON: {error}"
        return Source(name, problem=f"{failed}: {reason}")
    if content is None:
        return Source(name, problem=f"{failed}: it holds nothing")
    return Source(name, content)


def _is_copy(tag: Source, copy: Source) -> bool:
    """Whether a sidecar says the same as the tag, as far as that goes: the tag is written first, so
    it lacks the times of ``LATE_STAGES``."""
    if not (isinstance(tag.content, dict) and isinstance(copy.content, dict)):
        return False
    seconds = copy.content.get("seconds")
    if isinstance(seconds, dict):
        seconds = {stage: value for stage, value in seconds.items() if stage not in LATE_STAGES}
    return copy.content | {"seconds": seconds} == tag.content


def _note_on_sidecar(own: Sidecar, copied: Sidecar | None, copy: Source) -> str:
    """What is wrong with the sidecar of an mp4 that has settings itself; empty if nothing."""
    if copied is None:
        problem = copy.explain()
        return f"{copy.name} {problem}; these are the settings in the video" if problem else ""
    late = {f"seconds.{stage}" for stage in LATE_STAGES}
    names = [name for name in differing_fields(own, copied) if name not in late]
    names.sort(key=lambda name: not name.startswith("request."))
    if not names:
        return ""
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{copy.name} differs from the settings in the video ({shown}); these are the video's"


def differing_fields(first: Sidecar, second: Sidecar) -> list[str]:
    """Names of the fields in which settings differ, those of a section as ``request.seed``."""
    pair = [_flat(sidecar.as_json()) for sidecar in (first, second)]
    names = dict.fromkeys([*pair[0], *pair[1]])
    return [name for name in names if pair[0].get(name) != pair[1].get(name)]


def _flat(content: dict) -> dict[str, object]:
    flat = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": part for inner, part in value.items()}
        else:
            flat[name] = value
    return flat


def _check_is_file(path: Path) -> None:
    if not path.is_file():
        missing = f"{path} is no regular file" if path.exists() else f"there is no file {path}"
        raise ResultError(missing)
