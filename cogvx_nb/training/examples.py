"""Clips and pictures with captions, from a folder. No torch."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..checkpoints.registry import Checkpoint
from ..errors import RequestError, did_you_mean
from ..hashing import sha256
from ..media import clips, pictures
from ..media.kinds import Unusable, file_kind, guess_kind
from ..media.pixels import CROP, fitted
from ..paths import read_bounded, user_path
from ..text import plain_line

CAPTIONS = "captions.csv"
"""File of a folder with the columns ``file`` and ``caption``."""

MOST_EXAMPLES = 1000

CAPTION_BYTES, CSV_BYTES = 20_000, 4_000_000


@dataclass(frozen=True, slots=True)
class Example:
    """A clip or a picture."""

    path: Path
    caption: str
    sha256: str


def read_examples(folder: str | Path, caption: str = "", trigger: str = "") -> list[Example]:
    """The clips and pictures of a folder, in the order of their names.

    A caption is that of ``captions.csv``, else of a text file of the same name, else ``caption``.

    Args:
        trigger: a phrase that comes before each caption that hasn't got it.

    Raises:
        RequestError: if there are none, one has no caption, or ``captions.csv`` names another file.
    """
    path = user_path(folder, "data", folder=True)
    if not path.is_dir():
        raise RequestError("data", str(path), "is no folder: name one of clips or pictures")
    listed = _read_csv(path / CAPTIONS)
    found = [each for each in sorted(path.iterdir()) if guess_kind(each) is not None]
    if not 0 < len(found) <= MOST_EXAMPLES:
        remedy = f"holds {len(found)} clips and pictures: 1 to {MOST_EXAMPLES} are taken"
        raise RequestError("data", str(path), f"{remedy}, 20 to 50 are usual")
    names = [each.name for each in found]
    if stray := next((name for name in listed if name not in names), None):
        remedy = f"of {CAPTIONS} is no clip or picture of {path}: give a file's name as it is there"
        raise RequestError("data", stray, remedy + did_you_mean(stray, names))
    return [Example(f, _caption(f, listed, caption, trigger), sha256(f)) for f in found]


def _read_csv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        text = read_bounded(path, CSV_BYTES).decode("utf-8-sig")
        rows = list(csv.DictReader(io.StringIO(text)))
        listed = {row["file"]: row["caption"] or "" for row in rows}
    except (OSError, ValueError, csv.Error, KeyError) as error:
        remedy = "must be a CSV file in UTF-8 with the columns file and caption"
        raise RequestError("data", str(path), remedy) from error
    if wide := next((row for row in rows if None in row), None):
        remedy = f"of {CAPTIONS} has more cells than columns: put captions with commas in quotes"
        raise RequestError("data", f"the row of {wide['file']}", remedy)
    return listed


def _caption(path: Path, listed: dict[str, str], default: str, trigger: str) -> str:
    text = listed.get(path.name, "")
    beside = path.with_suffix(".txt")
    if not text and beside.is_file():
        try:
            text = read_bounded(beside, CAPTION_BYTES).decode("utf-8-sig")
        except (OSError, ValueError) as error:
            remedy = f"must be text in UTF-8 of at most {CAPTION_BYTES:,} bytes"
            raise RequestError("data", str(beside), remedy) from error
    text = plain_line(" ".join(text.split())) or default
    if trigger and trigger.lower() not in text.lower():
        text = f"{trigger}, {text}" if text else trigger
    if not text:
        remedy = f"has no caption: write one to {beside.name}, or give caption"
        raise RequestError("data", path.name, remedy)
    return text


def check_example(example: Example, checkpoint: Checkpoint, frames: int) -> None:
    """Raise RequestError if ``read_pixels`` would, as far as its kind and length tell."""
    try:
        if _moves(example.path):
            _read_clip(example.path, checkpoint, frames)
    except Unusable as error:
        raise RequestError("data", example.path.name, str(error)) from error


def _read_clip(path: Path, checkpoint: Checkpoint, frames: int) -> tuple[clips.Clip, Sequence[int]]:
    """A clip and the numbers of the frames that are wanted of it."""
    clip = clips.read_clip(path)
    numbers = clip.frames_at(checkpoint.fps, 0.0, frames)
    if len(numbers) < frames:
        has = f"has {len(numbers)} frames at {checkpoint.fps} fps, not {frames}"
        raise Unusable(f"{has}: leave it out, or train with fewer frames")
    return clip, numbers


def read_pixels(example: Example, checkpoint: Checkpoint, frames: int) -> np.ndarray:
    """uint8 (frames, height, width, 3) of a clip from its beginning, at the checkpoint's rate and
    size; a picture is one frame, as in the joint training of CogVideoX (arXiv 2408.06072, 3.1).

    Raises:
        RequestError: if it can't be used.
    """
    size = checkpoint.height, checkpoint.width, CROP
    try:
        if not _moves(example.path):
            picture, _ = pictures.read_picture(example.path)
            return np.asarray(fitted(picture, *size))[None].copy()
        clip, numbers = _read_clip(example.path, checkpoint, frames)
        shown = clips.read_frames(example.path, clip, numbers)
        return np.stack([np.asarray(fitted(frame, *size)) for frame in shown])
    except Unusable as error:
        raise RequestError("data", example.path.name, str(error)) from error


def _moves(path: Path) -> bool:
    if not file_kind(path).is_picture:
        return True
    with pictures.opened(path) as picture:
        # Of several pictures, a phone's (MPO) or pages, the first is taken, as elsewhere.
        several = getattr(picture, "is_animated", False)
        return several and picture.format not in ("MPO", "TIFF")
