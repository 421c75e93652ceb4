"""What a page can ask for: an action with typed arguments, and the reply to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

from ..errors import CogvxError, RequestError
from ..results.typed import FieldError, read_as
from ..text import error_line
from .wording import Sentence, explain_error

log = logging.getLogger(__name__)


PIECE = 512 * 1024
"""Bytes of a reply. A Jupyter server drops what a kernel sends beyond 1 MB/s, averaged over three
seconds (``iopub_data_rate_limit``), so the page asks for one piece after another."""


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to an action."""

    data: object = None  # JSON
    buffers: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an action was not done."""

    sentence: Sentence


@dataclass(frozen=True, slots=True)
class Action:
    """Something that a page can ask for.

    Actions run one at a time, in the kernel's main thread or in the one that JupyterLab has for
    messages of widgets while cells run: one that takes longer than about 0.2 s returns a future.
    """

    arguments: type  # a frozen dataclass, read with ``typed.read_as``
    run: Callable[..., Reply | Future[Reply]]  # of the desk and the arguments
    takes_data: bool = False  # and of the bytes that the page sends


@dataclass(frozen=True, slots=True)
class NoArguments:
    """Of an action that takes none."""


@dataclass(frozen=True, slots=True)
class Paths:
    """Some results."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Named:
    """A result."""

    path: str


Answer = Callable[[Reply | Refusal], None]


def perform(
    actions: Mapping[str, Action],
    desk: object,
    message: Mapping[str, object],
    data: bytes,
    answer: Answer,
) -> None:
    """Do what a page asks for, and answer: at once, or from another thread where it takes long.

    Args:
        desk: what the actions work on, a ``desk.Desk``.
        message: JSON from outside: anything, with ``action`` and ``arguments``.
        data: the bytes that came with it.
    """
    try:
        name = message.get("action")
        action = actions.get(name) if isinstance(name, str) else None
        if action is None:
            raise RequestError("action", name, "is unknown here: run the workbench's cell again")
        arguments = read_as(action.arguments, message.get("arguments", {}))
        extra = (data,) if action.takes_data else ()
        reply = action.run(desk, arguments, *extra)
    except Exception as error:  # whatever is wrong, the page gets an answer
        answer(_refusal(error))
        return
    if isinstance(reply, Future):
        reply.add_done_callback(lambda done: answer(_outcome(done)))
    else:
        answer(reply)


def _outcome(done: Future[Reply]) -> Reply | Refusal:
    error = done.exception()
    return done.result() if error is None else _refusal(error)


def _refusal(error: BaseException) -> Refusal:
    if isinstance(error, CogvxError):
        return Refusal(explain_error(error))
    if isinstance(error, FieldError):
        return Refusal(Sentence(f"The page sent something unexpected: {error}"))
    log.error("an action of the workbench failed", exc_info=error)
    return Refusal(Sentence(f"Internal error: {error_line(error)} (please report it)"))
