"""Prompts that were submitted from the page: the last 500 distinct ones, in the outputs folder."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from .. import settings
from ..errors import OutputError
from ..files import translate_errors, write_whole
from ..paths import read_json
from ..results.columns import fold_text
from ..results.records import Moment
from ..results.typed import FieldError, Range, read_as

FORMAT = 1

MOST = 500

MOST_BYTES = 2**24
"""Of the file: 500 pairs of 2,000 characters of four bytes take 8 MB."""


@dataclass(frozen=True, slots=True)
class PastPrompt:
    """A prompt that was submitted."""

    prompt: str
    negative_prompt: str
    at: Moment  # ISO 8601, of the last time

    def is_of(self, prompt: str, negative_prompt: str) -> bool:
        return (self.prompt, self.negative_prompt) == (prompt, negative_prompt)


@dataclass(frozen=True, slots=True)
class _File:
    format: Annotated[int, Range(FORMAT, FORMAT)]
    prompts: tuple[PastPrompt, ...]


def remember_prompt(prompt: str, negative_prompt: str = "") -> None:
    """Put a prompt in front of the others; where that can't be written, it is not remembered.

    Two kernels that write at the same moment keep the prompt of one of them.
    """
    at = datetime.now().astimezone().isoformat(timespec="seconds")
    others = [past for past in read_prompts() if not past.is_of(prompt, negative_prompt)]
    with contextlib.suppress(OutputError):  # the video is more important
        _write([PastPrompt(prompt, negative_prompt, at), *others][:MOST])


def forget_prompt(prompt: str, negative_prompt: str = "") -> None:
    """Delete a prompt.

    Raises:
        OutputError: if the file can't be written.
    """
    _write([past for past in read_prompts() if not past.is_of(prompt, negative_prompt)])


def read_prompts(search: str = "") -> tuple[PastPrompt, ...]:
    """The prompts that have all words of a search, in any case and width, newest first."""
    words = fold_text(search).split()
    return tuple(
        past
        for past in _read()
        if all(word in fold_text(f"{past.prompt}\n{past.negative_prompt}") for word in words)
    )


def _path() -> Path:
    return settings.outputs_dir() / ".prompts.json"


def _read() -> tuple[PastPrompt, ...]:
    """What the file holds; one that can't be read is renamed, and nothing is known."""
    path = _path()
    try:
        return read_as(_File, read_json(path, MOST_BYTES)).prompts[:MOST]
    except FileNotFoundError:
        pass
    except (OSError, ValueError, FieldError):
        with contextlib.suppress(OSError):
            path.replace(path.with_name(f"{path.name}.damaged"))
    return ()


def _write(prompts: list[PastPrompt]) -> None:
    path, content = _path(), {"format": FORMAT, "prompts": [asdict(past) for past in prompts]}
    with translate_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content, ensure_ascii=False).encode(), sync=False)
