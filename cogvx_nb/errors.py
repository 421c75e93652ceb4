"""Every exception that a user can meet.

::

    CogvxError                 exit code 1
    ├── RequestError           a request value is wrong                            (2)
    │   ├── PromptUnknown      the checkpoint can't read the prompt                (2)
    │   └── ParameterError     a notebook has no such parameter, or can't use it   (2)
    ├── SpecError              a sweep's file, or one of its rows, is wrong        (2)
    ├── SweepBusy              another process is working on the sweep
    ├── PathError              the system can't take the name of a file or folder   (2)
    ├── SettingsError          the folders can't be found
    ├── ModelError             the weights are not usable
    │   ├── ModelMissing       they are not there
    │   ├── ModelIncomplete    a file is missing
    │   ├── ModelCorrupt       a file is cut short or unreadable
    │   └── PickledWeights     they are pickles, which can run code
    ├── DownloadError          a checkpoint can't be fetched
    │   ├── HubUnreachable     no connection, unknown host, proxy
    │   ├── HubDenied          the hub wants a token, or an agreement to a licence
    │   ├── HubNotFound        the hub has no such repository, revision or file
    │   ├── HubBusy            the hub asks to wait
    │   ├── HubFailed          the hub failed
    │   ├── BadDownload        a file differs from the hub's listing
    │   └── UnsafeName         the hub lists a file outside of the checkpoint's folder
    ├── EnrichError            a prompt can't be enriched; the original one stands
    │   ├── ChatUnreachable    no connection to the chat endpoint, or no answer in time
    │   ├── ChatDenied         it wants a key, or another one
    │   ├── ChatBusy           it asks to wait
    │   ├── ChatFailed         it failed, or has no such model
    │   └── BadAnswer          its answer is no prompt
    ├── DoesNotFit             no plan fits this machine
    ├── OutOfMemory            memory ran out at the last plan
    ├── DeviceFailed           the GPU, its driver or torch failed
    ├── BadFrames              the frames are NaN or black
    ├── FfmpegError            ffmpeg doesn't work
    ├── OutputError            the video can't be written
    │   ├── OutputExists       something is there already
    │   └── DiskFull           there is no room for it
    ├── ResultError            a file is no result of this workbench
    ├── NotebookError          a notebook run failed
    └── Cancelled              somebody cancelled it                               (130)

Each message is one line with the value and the remedy. In a notebook that line is all that is
shown; ``%tb`` shows the traceback.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Iterable
from types import ModuleType

MOST_CHARACTERS = 298
"""Of the message on a value, if the remedy leaves room: it stays one line."""


class CogvxError(Exception):
    """Base of all errors that the user can fix."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """What IPython shows, which calls this: one line while the error is being handled, the
        traceback where it is asked for later (``%tb``)."""
        if sys.exc_info()[1] is self:
            return [error_line(type(self).__name__, " ".join(str(self).splitlines()))]
        shell = sys.modules["IPython"].get_ipython()
        return shell.InteractiveTB.structured_traceback(type(self), self, self.__traceback__)


def error_line(name: str, message: str) -> str:
    """An error as one line for a notebook, its name in red."""
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
    return f"\x1b[31m{name}\x1b[0m: {plain}"


class RequestError(CogvxError):
    """A value of a request is not acceptable: ``value`` of ``field``."""

    exit_code = 2

    def __init__(self, field: str, value: object, remedy: str) -> None:
        self.field, self.value, self.remedy = field, value, remedy
        name = _printable(str(field)[:40])[:40]
        room = max(20, min(80, MOST_CHARACTERS - len(f"{name} = : {remedy}")))
        super().__init__(f"{name} = {_shown(value, room)}: {remedy}")


def _printable(line: str) -> str:
    return line if line.isprintable() else ascii(line)[1:-1]


def _shown(value: object, room: int) -> str:
    """A value of any kind as one line of so many characters."""
    try:
        shown = repr(value[:room] if isinstance(value, str) else value)
    except Exception:  # such as a whole number of more digits than Python prints
        shown = f"<{type(value).__name__}>"
    shown = _printable(shown)
    return shown if len(shown) <= room else f"{shown[: room - 3]}..."


class PromptUnknown(RequestError):
    """More than half of the prompt's tokens are unknown to the checkpoint's tokenizer."""


class ParameterError(RequestError):
    """A notebook has no parameter of that name, or the value isn't of its type."""


class SpecError(CogvxError):
    """A sweep's file, or one of its rows, is wrong."""

    def __init__(self, message: str, exit_code: int = 2) -> None:
        self.exit_code = exit_code  # that of the error in the row, if there is one
        super().__init__(message)


class SweepBusy(CogvxError):
    """Another process is working on the sweep."""


class PathError(CogvxError):
    """The name of a file or folder can't be used on this system."""

    exit_code = 2


class SettingsError(CogvxError):
    """The workbench's folders can't be found."""


class ModelError(CogvxError):
    """The weights of a checkpoint are not usable."""


class ModelMissing(ModelError):
    """There is no such checkpoint on this machine."""


class ModelIncomplete(ModelError):
    """A file of the checkpoint is missing."""


class ModelCorrupt(ModelError):
    """A file of the checkpoint is cut short or unreadable."""


class PickledWeights(ModelError):
    """The weights are pickles, which can run any code when they are opened."""


class DownloadError(CogvxError):
    """A checkpoint can't be fetched."""


class HubUnreachable(DownloadError):
    """There is no connection to the hub."""


class HubDenied(DownloadError):
    """The hub wants a token, another one, or an agreement to the model's terms."""


class HubNotFound(DownloadError):
    """The hub has no such repository, revision or file."""


class HubBusy(DownloadError):
    """The hub asks to wait."""


class HubFailed(DownloadError):
    """The hub failed, in a way that may pass."""


class BadDownload(DownloadError):
    """A file differs from the hub's listing."""


class UnsafeName(DownloadError):
    """The hub lists a file that would be outside of the checkpoint's folder."""


class EnrichError(CogvxError):
    """A prompt can't be enriched; the original one stands."""


class ChatUnreachable(EnrichError):
    """There is no connection to the chat endpoint, or it didn't answer in time."""


class ChatDenied(EnrichError):
    """The chat endpoint wants a key, or another one."""


class ChatBusy(EnrichError):
    """The chat endpoint asks to wait."""


class ChatFailed(EnrichError):
    """The chat endpoint failed, or has no such model."""


class BadAnswer(EnrichError):
    """The chat endpoint's answer is no prompt."""


class DoesNotFit(CogvxError):
    """No placement of the model fits this machine's memory."""


class OutOfMemory(CogvxError):
    """Memory ran out, and there is no smaller plan left to try."""


class DeviceFailed(CogvxError):
    """The GPU, its driver or torch failed while it worked."""


class BadFrames(CogvxError):
    """The decoded frames hold NaN, or all of them are black."""


class FfmpegError(CogvxError):
    """ffmpeg can't be started, or can't encode and decode."""


class OutputError(CogvxError):
    """The video can't be written where it was asked for."""


class OutputExists(OutputError):
    """There is a file already, and overwriting was not asked for."""


class DiskFull(OutputError):
    """The disk is full."""


class ResultError(CogvxError):
    """A file is no video of this workbench, or can't be read."""


class NotebookError(CogvxError):
    """A notebook run failed."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        self.exit_code = exit_code  # that of the error that ended the notebook, if it has one
        super().__init__(message)


class Cancelled(CogvxError):
    """The work was cancelled; nothing was written."""

    exit_code = 130


def optional_import(
    module: str,
    extra: str,
    purpose: str,
    package: str = "",
    make_error: Callable[[str], CogvxError] = CogvxError,
) -> ModuleType:
    """Import a module of an optional package.

    Args:
        extra: of this distribution, which installs the package.
        purpose: what needs it, such as ``measuring videos``.
        package: its name in the message; by default the module's. What it lacks itself has its own.
        make_error: makes the exception from its message.

    Raises:
        CogvxError: as ``make_error`` makes it, if the module can't be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        root, lacking = module.partition(".")[0], (error.name or module).partition(".")[0]
        package = (package or root) if lacking == root else lacking
        raise make_error(missing_package(package, extra, purpose)) from None


def missing_package(package: str, extra: str, purpose: str) -> str:
    """The message that something needs an optional package, with the command to install it."""
    return (
        f'{purpose} needs the {package} package: pip install -e ".[{extra}]" in the workbench\'s '
        "folder"
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown word: the nearest known one; empty if none is near."""
    names = {name.lower(): name for name in known}
    near = difflib.get_close_matches(word.lower(), names, 1)
    return f", did you mean {names[near[0]]!r}?" if near else ""
