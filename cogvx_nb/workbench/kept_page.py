"""What a page keeps on disk between kernels: the form as it was left, and the film roll."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .. import settings
from ..errors import CogvxError
from ..files import translate_errors, write_whole
from ..paths import read_json
from ..results.typed import FieldError, read_as

FORMAT = 1

MOST_BYTES = 2**18
"""Of the file: two prompts of 2,000 characters and the paths of the film roll."""

ROLL_LENGTH = 200
"""Results on the film roll; the gallery has all."""


@dataclass(frozen=True, slots=True)
class KeptPage:
    """The content of the file."""

    format: int = FORMAT
    given: dict[str, object] = field(default_factory=dict)  # the notebook's parameters at that time
    form: dict[str, object] = field(default_factory=dict)  # see ``Draft.as_json``
    names: dict[str, str] = field(default_factory=dict)  # of given files, see ``Draft.names``
    roll: tuple[str, ...] = ()  # mp4s relative to the outputs folder, newest first

    def values_for(self, given: Mapping[str, object]) -> dict[str, object]:
        """The form's values for a notebook with these parameters: as they were left, but for the
        parameters that were changed since."""
        changed = {name: v for name, v in given.items() if name not in self.given}
        changed |= {name: v for name, v in given.items() if self.given.get(name, v) != v}
        return self.form | changed if self.form else dict(given)


def kept_path() -> Path:
    """The file."""
    return settings.outputs_dir() / ".workbench.json"


def read_page() -> KeptPage:
    """What the last page left; empty where there is none, or it can't be read."""
    try:
        kept = read_as(KeptPage, read_json(kept_path(), MOST_BYTES))
    except (OSError, ValueError, FieldError, CogvxError):
        return KeptPage()
    return kept if kept.format == FORMAT else KeptPage()


def write_page(kept: KeptPage) -> None:
    """Keep a page, whole or not at all.

    Raises:
        OutputError: if it can't be written.
    """
    content = {
        "format": kept.format,
        "given": kept.given,
        "form": kept.form,
        "names": kept.names,
        "roll": list(kept.roll[:ROLL_LENGTH]),
    }
    path = kept_path()
    with translate_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content).encode(), sync=False)
