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
from .events import MADE, MAKING, TAKEN, PieceReached, StageStarted
from .media.given import Given
from .planning.extension import FIELD, seed_of
from .planning.fields import FIELDS, RANDOM_SEED
from .planning.request import VideoRequest, make_request
from .planning.storyboards import Shot, read_storyboard, shots_of
from .planning.transitions import CONTINUE
from .progress import CancelToken, Listener, Note
from .results import result, video
from .results.catalogue import Catalogue
from .results.found import find_made
from .results.joined import Piece, describe_joined, joined_frames
from .results.output import check_output, check_room
from .results.result import Result
from .results.source_prompt import prompt_note, with_notes
from .text import format_bytes
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


@dataclass(frozen=True, slots=True)
class _Row:
    """A row that can be made. One that goes on has a request whose clip isn't there yet."""

    shot: Shot
    request: VideoRequest
    note: str  # why this checkpoint
    notes: tuple[str, ...]  # whose prompt it has

    @property
    def new_frames(self) -> int:
        """Frames that the whole has of it, at most."""
        goes_on = self.shot.transition == CONTINUE
        return self.request.frames if goes_on else self.request.all_frames


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
            ``fade``. One that goes on without a prompt has that of the row before.
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
    path = check_output(output, overwrite=overwrite)
    video.try_ffmpeg()
    is_file = isinstance(rows, str | Path)
    shots = read_storyboard(rows) if is_file else shots_of(rows)
    emit = on_event or (lambda event: None)
    ready = _prepared(_completed(shots, values), emit)
    first = ready[0].request
    check_room(path, sum(row.new_frames for row in ready) * first.height * first.width)
    pieces: list[MadePiece] = []
    for number, row in enumerate(ready, 1):
        told = f"piece {number} of {len(ready)}"
        emit(PieceReached(number, len(ready), MAKING))
        try:
            if cancel is not None and cancel.is_set():
                raise Cancelled
            pieces.append(_made(row, pieces, told, emit, cancel))
        except Cancelled as error:  # which says that nothing was written
            there = f"cancelled; {len(pieces)} of {len(ready)} pieces are there"
            raise Cancelled(there) from error
        emit(PieceReached(number, len(ready), MADE if pieces[-1].made else TAKEN))
    whole = _join(pieces, output, overwrite, emit)
    return Storyboard(whole, tuple(pieces))


def check_rows(rows: Iterable[Mapping[str, object]], **values: object) -> tuple[VideoRequest, ...]:
    """The requests of rows; refuses what can be known of them before they are made, see
    ``make_storyboard``."""
    ready = _prepared(_completed(shots_of(rows), values), lambda event: None)
    return tuple(row.request for row in ready)


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


def _prepared(shots: list[Shot], emit: Listener) -> list[_Row]:
    """The rows as requests; refuses before the work what can be known: bad values, sizes and rates
    that differ, and more frames than are joined in RAM."""
    rows: list[_Row] = []
    for shot in shots:
        with _naming(shot):
            coming, notes = None, ()
            if shot.transition == CONTINUE:
                coming = _coming(rows[-1].request)
                shot, notes = _with_prompt(shot, rows[-1])
            made, note = prepare_request(shot.values["prompt"], emit, coming, **_rest(shot))
            rows.append(_Row(shot, with_notes(made, notes), note, notes))
            size, wanted = _size(made), _size(rows[0].request)
            if size != wanted:
                remedy = f"makes {size}, and the rows before {wanted}: use one size and rate"
                raise RequestError("model", made.model.name, remedy)
            size_bytes = sum(row.new_frames for row in rows) * made.height * made.width * 3
            if size_bytes > video.MAX_DECODED_BYTES:
                most = (
                    f"{format_bytes(size_bytes)}, more than {format_bytes(video.MAX_DECODED_BYTES)}"
                )
                remedy = f"brings the frames of the whole to {most}: end the storyboard before it"
                raise RequestError("frames", made.frames, remedy)
    return rows


def _with_prompt(shot: Shot, before: _Row) -> tuple[Shot, tuple[str, ...]]:
    """(the row, notes): without a prompt it has the one that was used for the row before, which is
    not enriched once more."""
    if shot.values["prompt"]:
        return shot, ()
    prompt = before.request.prompt
    values = shot.values | {"prompt": prompt, "enrich": False}
    return replace(shot, values=values), (prompt_note(before.shot.origin, prompt),)


def _coming(before: VideoRequest) -> Given:
    """The clip of a piece that isn't made yet, for the one that goes on from it."""
    count, fps = before.all_frames, before.fps
    size = before.height, before.width
    return Given("coming", "the piece before", *size, count, fps, count / fps)


def _size(prepared: VideoRequest) -> str:
    return f"{prepared.height} × {prepared.width} at {prepared.fps} fps"


def _made(
    row: _Row, before: list[MadePiece], told: str, emit: Listener, cancel: CancelToken | None
) -> MadePiece:
    """The piece of a row: found, or made now."""
    shot, prepared = row.shot, row.request
    with _naming(shot):
        if shot.transition == CONTINUE:
            values = _rest(shot, "model") | prepared.texts | prepared.seeds
            prepared = make_request(
                prepared.model,
                enriched_from=prepared.enriched_from,
                templates=prepared.templates,
                **values | {FIELD: str(before[-1].result.path)},
            )
            prepared = with_notes(prepared, row.notes)
        catalogue = Catalogue()
        catalogue.refresh()
        if found := find_made(prepared, catalogue):
            emit(Note(f"{told}: there already, {found.path.name}"))
            return MadePiece(found, shot.transition, made=False)
        emit(Note(f"{told}: {prepared.prompt}"))
        made = make_video(prepared, on_event=emit, cancel=cancel, model_note=row.note)
    return MadePiece(made, shot.transition, made=True)


def _join(
    pieces: list[MadePiece], output: str | Path | None, overwrite: bool, emit: Listener
) -> Result:
    emit(StageStarted("write"))
    transitions = [piece.transition for piece in pieces]
    paths = [piece.result.path for piece in pieces]
    frames = joined_frames(paths, transitions, pieces[0].result.settings.shown.fps)
    described = describe_joined([Piece(p.result, p.transition) for p in pieces], frames)
    emit(Note(f"{len(frames)} frames of {len(pieces)} pieces"))
    return result.write_or_keep(frames, described, output, overwrite)


def _rest(shot: Shot, *without: str) -> dict[str, object]:
    """The values of a row without the prompt, and without others."""
    return {name: value for name, value in shot.values.items() if name not in ("prompt", *without)}


@contextlib.contextmanager
def _naming(shot: Shot) -> Iterator[None]:
    """Put a row's number before an error of it."""
    try:
        yield
    except (Cancelled, SpecError):
        raise
    except CogvxError as error:
        raise SpecError(f"{shot.origin}: {error}", error.exit_code) from error
