"""A video of several prompts: pieces that are results of their own, and the whole joined of them.

A piece whose request and source are those of a result that is there is taken from there: after a
change of one prompt only that piece is made again, and those that go on from it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from . import leftovers, settings
from .errors import Cancelled, CogvxError, RequestError, SpecError
from .events import MADE, MAKING, TAKEN, PieceReached
from .planning.extension import FIELD, seed_of
from .planning.fields import FIELDS, RANDOM_SEED, complete_values
from .planning.inputs import task_of
from .planning.model_choice import find_model
from .planning.probe import probe_machine
from .planning.request import VideoRequest
from .planning.storyboards import Shot, read_storyboard, shots_of
from .planning.transitions import CONTINUE
from .progress import CancelToken, Listener, Note
from .results import result, video
from .results.catalogue import Catalogue
from .results.found import find_made
from .results.joined import Piece, describe_joined, joined_frames
from .results.output import check_output
from .results.result import Result
from .workflow import make_video, prepare_request


@dataclass(frozen=True, slots=True)
class MadePiece:
    """A piece of a storyboard, on disk."""

    result: Result
    transition: str
    made: bool  # now; else it was there


@dataclass(frozen=True, slots=True)
class Storyboard:
    """A storyboard that was made."""

    result: Result  # the whole
    pieces: tuple[MadePiece, ...]


def make_storyboard(
    rows: str | Path | Iterable[Mapping[str, object]],
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    on_event: Listener | None = None,
    cancel: CancelToken | None = None,
    **values: object,
) -> Storyboard:
    """Make a video of several prompts, one piece after another.

    Args:
        rows: a file (YAML, JSON, JSONL, CSV, TSV), or mappings of fields of a request to values,
            each with a ``prompt`` and a ``transition``: ``cut`` (the default), ``continue`` or
            ``fade``.
        output: path of the whole; by default a new name in ``outputs/<date>/``. Pieces always have
            such names.
        overwrite: replace a video of that name.
        on_event: called with each event of ``progress``; a ``PieceReached`` and a ``Note`` tell
            which piece is at work.
        cancel: takes effect at the next step; the pieces that are done stay.
        **values: fields of a request for all rows that don't give them.

    Raises:
        SpecError: with the row that can't be used, and the remedy.
        CogvxError: as ``generate_video``.
    """
    leftovers.begin(settings.outputs_dir())
    check_output(output, overwrite=overwrite)
    video.try_ffmpeg()
    is_file = isinstance(rows, str | Path)
    shots = read_storyboard(rows) if is_file else shots_of(rows)
    emit = on_event or (lambda event: None)
    shots = _completed(shots, values)
    _check(shots)
    pieces: list[MadePiece] = []
    for number, shot in enumerate(shots, 1):
        told = f"piece {number} of {len(shots)}"
        emit(PieceReached(number, len(shots), MAKING))
        try:
            if cancel is not None and cancel.is_set():
                raise Cancelled
            pieces.append(_made(shot, pieces, told, emit, cancel))
        except Cancelled as error:  # which says that nothing was written
            there = f"cancelled; {len(pieces)} of {len(shots)} pieces are there"
            raise Cancelled(there) from error
        emit(PieceReached(number, len(shots), MADE if pieces[-1].made else TAKEN))
    whole = _join(pieces, output, overwrite, emit)
    return Storyboard(whole, tuple(pieces))


def check_rows(rows: Iterable[Mapping[str, object]], **values: object) -> None:
    """Refuse what can be known of rows before they are made; see ``make_storyboard``."""
    _check(_completed(shots_of(rows), values))


def _completed(shots: tuple[Shot, ...], values: Mapping[str, object]) -> list[Shot]:
    """The rows with what all have in common. Pieces of a chain have seeds of their own, since with
    the same noise each would begin alike."""
    completed, at = [], 0
    for shot in shots:
        at = at + 1 if shot.transition == CONTINUE else 0
        given = {**values, **shot.values}
        seed = given.get("seed", FIELDS["seed"].default)
        if at and "seed" not in shot.values and seed != RANDOM_SEED:
            given["seed"] = seed_of(seed, at)
        completed.append(replace(shot, values=given))
    return completed


def _check(shots: list[Shot]) -> None:
    """Refuse what can be known before the work: bad values, sizes and rates that differ."""
    first: VideoRequest | None = None
    for shot in shots:
        with _naming(shot):
            if shot.transition == CONTINUE:
                _check_continued(shot)
                continue
            prepared, _ = prepare_request(shot.values["prompt"], **_rest(shot))
            first = first or prepared
            size, wanted = _size(prepared), _size(first)
            if size != wanted:
                remedy = f"makes {size}, and the rows before {wanted}: use one size and rate"
                raise RequestError("model", prepared.model.name, remedy)


def _check_continued(shot: Shot) -> None:
    """The same of a row whose clip isn't there yet."""
    values, given = complete_values(shot.values), (FIELD,)
    model, _ = find_model(values["model"], probe_machine, values["frames"], given, values["lora"])
    task_of(model.checkpoint, given)


def _size(prepared: VideoRequest) -> str:
    return f"{prepared.height} × {prepared.width} at {prepared.fps} fps"


def _made(
    shot: Shot, before: list[MadePiece], told: str, emit: Listener, cancel: CancelToken | None
) -> MadePiece:
    """The piece of a row: found, or made now."""
    values = _rest(shot)
    if shot.transition == CONTINUE:
        values[FIELD] = str(before[-1].result.path)
    with _naming(shot):
        prepared, note = prepare_request(shot.values["prompt"], on_event=emit, **values)
        catalogue = Catalogue()
        catalogue.refresh()
        if found := find_made(prepared, catalogue):
            emit(Note(f"{told}: there already, {found.path.name}"))
            return MadePiece(found, shot.transition, made=False)
        emit(Note(f"{told}: {prepared.prompt}"))
        made = make_video(prepared, on_event=emit, cancel=cancel, model_note=note)
    return MadePiece(made, shot.transition, made=True)


def _join(
    pieces: list[MadePiece], output: str | Path | None, overwrite: bool, emit: Listener
) -> Result:
    transitions = [piece.transition for piece in pieces]
    paths = [piece.result.path for piece in pieces]
    frames = joined_frames(paths, transitions, pieces[0].result.settings.shown.fps)
    described = describe_joined([Piece(p.result, p.transition) for p in pieces], frames)
    emit(Note(f"{len(frames)} frames of {len(pieces)} pieces"))
    return result.write_result(frames, described, output, overwrite)


def _rest(shot: Shot) -> dict[str, object]:
    return {name: value for name, value in shot.values.items() if name != "prompt"}


@contextlib.contextmanager
def _naming(shot: Shot) -> Iterator[None]:
    """Put a row's number before an error of it."""
    try:
        yield
    except (Cancelled, SpecError):
        raise
    except CogvxError as error:
        raise SpecError(f"{shot.origin}: {error}", error.exit_code) from error
