"""Files that are dropped on the page, or chosen: they come in pieces. The settings in a file of
ours go into the form; from any other picture or clip a video starts; a LoRA is kept and used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from ..errors import RequestError, ResultError
from ..files import temporary_folder
from ..loras.library import keep_lora
from ..media.kinds import guess_kind
from ..planning.fields import INPUTS
from ..results.dropped import read_dropped
from ..results.typed import OneOf, Range
from .actions import Action, Reply
from .desk import Desk
from .draft import file_name
from .lora_rows import add_file, check_lora, is_lora_name, written_names

MOST_BYTES = 100_000_000
"""Of a file: a video of 49 frames has about 2 MB. Of a larger clip one can type the path."""

MOST_LORA_BYTES = 1_000_000_000
"""Of a LoRA: one of rank 128 for all layers of a block of CogVideoX-5b has about 500 MB."""

MOST_NAME_BYTES = 200
"""Of the name under which it is written to be read: file systems take at most 255."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a dropped file; the bytes come with it."""

    name: str
    size: Annotated[int, Range(0, 2**53)]  # bytes of the whole
    offset: Annotated[int, Range(0, MOST_LORA_BYTES)]
    # That it is given for; empty: its settings are, if it carries some, else what is in it.
    field: Annotated[str, OneOf(("", *INPUTS, "lora"))] = ""


def take_piece(desk: Desk, arguments: Piece, data: bytes) -> Reply:
    """Take a piece; after the last one the form has the settings, or the picture or clip.

    Replies with None, and after the last piece with the form's ``state`` and a note; where a file
    with settings can be started from too, with ``start_as``, the field that it can be given for;
    and for a LoRA with ``lora``, its name and what a text names it by, since the page's list may
    have been edited meanwhile.
    """
    name = file_name(arguments.name)
    is_lora = arguments.field == "lora" or is_lora_name(name)
    most = MOST_LORA_BYTES if is_lora else MOST_BYTES
    if arguments.size > most:
        larger = "LoRA" if is_lora else "clip"
        remedy = f"drop files of up to {most // 1_000_000}, or type the path of a larger {larger}"
        raise ResultError(f"{name} has {arguments.size / 1e6:.0f} MB: {remedy}")
    if arguments.offset == 0:
        desk.dropped = bytearray()
    if arguments.offset != len(desk.dropped):
        raise ResultError(f"{name} came in parts that don't fit together: drop it again")
    desk.dropped += data[: arguments.size - arguments.offset]
    if len(desk.dropped) < arguments.size and data:
        return Reply()
    content, desk.dropped = desk.dropped, bytearray()
    if is_lora:
        return desk.in_background(_take_lora, desk, name, content)
    return desk.in_background(_take_whole, desk, name, content, arguments.field)


def _take_lora(desk: Desk, name: str, content: bytearray) -> Reply:
    """Keep a LoRA in the library, and give it to the form."""
    with temporary_folder() as folder:
        path = folder / short_file_name(name)
        path.write_bytes(content)
        check_lora(path, name)
    kept = keep_lora(content, path.name)
    text = add_file(str(desk.form.values["lora"]), kept)
    desk.edit({"lora": text})
    added = {"file": kept.name, "written": written_names(text)[-1]}
    note = f"LoRA: {name} is kept in {kept.parent.parent.name}/{kept.parent.name}."
    return Reply(desk.form.state() | {"note": note, "lora": added})


def short_file_name(name: str) -> str:
    """A file's name that file systems take; its end, which tells its kind, stays."""
    return name.encode()[-MOST_NAME_BYTES:].decode(errors="ignore")


def _take_whole(desk: Desk, name: str, content: bytearray, field: str) -> Reply:
    with temporary_folder() as folder:
        path = folder / short_file_name(name)
        path.write_bytes(content)
        if field:
            return Reply(desk.take_file(path, name, field))
        try:
            sidecar = read_dropped(path, name)
        except ResultError as no_settings:
            return _take_other(desk, path, name, no_settings)
        start_as = _field_for(path)
    note = desk.form.load(sidecar)
    desk.save_soon()
    return Reply(desk.form.state() | {"note": note, "start_as": start_as})


def _take_other(desk: Desk, path: Path, name: str, no_settings: ResultError) -> Reply:
    """Start from a file without settings."""
    try:
        return Reply(desk.take_file(path, name))
    except RequestError:
        if _field_for(path):
            raise
        raise no_settings from None


def _field_for(path: Path) -> str:
    """The field that a file can be given for by what is in it; empty for other files."""
    kind = guess_kind(path)
    return "" if kind is None else "image" if kind.is_picture else "video"


ACTIONS = {"drop.piece": Action(Piece, take_piece, takes_data=True)}
