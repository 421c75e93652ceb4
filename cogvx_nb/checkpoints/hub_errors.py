"""Exceptions of the hubs' clients and of what they connect through, translated into ours."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from .. import settings
from ..errors import (
    BadDownload,
    CogvxError,
    DownloadError,
    HubBusy,
    HubDenied,
    HubFailed,
    HubNotFound,
    HubUnreachable,
)
from ..files import DISK_FULL_ERRNOS, disk_error
from ..text import first_line, hide_secrets


class Hub(Protocol):
    """Where a client connects to."""

    endpoint: str  # its address
    shown: str  # the address for messages, without a password


OFFLINE = {
    "ConnectError",
    "ConnectTimeout",
    "ConnectionError",
    "NetworkError",
    "ReadError",
    "ReadTimeout",
    "RemoteProtocolError",
    "Timeout",
    "TimeoutException",
}
"""Class names of the clients' and their transports' exceptions for a failed connection."""

DISK_ERRNOS = (*DISK_FULL_ERRNOS, errno.EACCES, errno.EPERM, errno.EROFS)
"""Errors of this machine's disk, not of the connection."""

UNKNOWN_HOST = ("Name or service not known", "getaddrinfo", "name resolution", "nodename nor")


UNUSABLE_PROXY = {"InvalidProxyURL", "InvalidSchema", "InvalidURL", "LocationParseError"}
"""Class names for an address of a proxy that the client can't read. httpx raises a ValueError."""

SHOWN = 300
"""Characters of a client's own message."""


@contextlib.contextmanager
def translate_errors(hub: Hub, what: str, folder: Path | None = None) -> Iterator[None]:
    """Raise a client's exception as one of ours, by its root cause.

    Args:
        what: repository, or file in it.
        folder: that the client writes to.
    """
    try:
        yield
    except CogvxError:
        raise
    except Exception as error:
        chain = _error_chain(error)
        for cause in chain:
            if isinstance(cause, OSError) and cause.errno in DISK_ERRNOS:
                raise disk_error(
                    cause,
                    cause.filename or folder or what,
                    kind=DownloadError,
                    remedy="check its permissions, or choose another --models-dir",
                    full_remedy="make room and start again, it goes on there",
                ) from error
        raise _translate(chain, hub, what) from error


def _error_chain(error: BaseException) -> list[BaseException]:
    """An exception, its causes and contexts, and those of the failed files that it lists."""
    chain: list[BaseException] = []
    pending = [error]
    while pending:
        cause = pending.pop()
        if cause is None or cause in chain:
            continue
        chain.append(cause)
        failed_files = getattr(cause, "failed_files", {}).values()
        pending += [cause.__cause__, cause.__context__, *failed_files]
    return chain


def _translate(chain: list[BaseException], hub: Hub, what: str) -> CogvxError:
    """The exception for a client's, by class names, texts and HTTP statuses in its chain."""
    names = {kind.__name__ for error in chain for kind in type(error).__mro__}
    responses = (getattr(error, "response", None) for error in chain)
    response = next((r for r in responses if r is not None), None)
    statuses = (getattr(holder, "status_code", None) for holder in (response, *chain))
    status = next(filter(None, statuses), None)
    if status is not None:
        return status_error(status, getattr(response, "headers", {}) or {}, hub.shown, what)
    if "FileIntegrityError" in names and "FileSizeMismatchError" not in names:
        return BadDownload(
            f"{what} came from {hub.shown} with another hash than announced, again and again: try "
            "another --source"
        )
    if reason := _connection_problem(names, " ".join(map(str, chain)), hub):
        return HubUnreachable(reason)
    reason = hide_secrets(first_line(chain[0]))[:SHOWN]
    return HubFailed(
        f"{what} did not come from {hub.shown} ({reason}): try again, or another --source"
    )


def _connection_problem(names: set[str], text: str, hub: Hub) -> str:
    """Why there is no connection; empty if there was one.

    Args:
        names: of the exceptions' classes.
        text: their messages.
    """
    if "OfflineModeIsEnabled" in names:
        variable = settings.offline_variable()
        return f"{variable} forbids Hugging Face's client to connect: unset it, or try --source"
    variable, proxy = settings.proxy_for(hub.endpoint)
    if "SOCKS" in text:
        # httpx sets up the proxies of all variables, also those that this address doesn't take.
        variable = settings.socks_variable() or variable
        return (
            f"{variable} names a SOCKS proxy, for which a package is missing: "
            "pip install socksio pysocks, or name an http proxy"
        )
    if names & UNUSABLE_PROXY or "proxy URL" in text:
        variables = variable or " and ".join(settings.proxy_variables())
        return f"{variables} can't be used as a proxy for {hub.shown}: set http://HOST:PORT"
    if variable and ("ProxyError" in names or names & OFFLINE):
        return (
            f"no connection to {hub.shown} through the proxy {proxy or '(not shown)'}: check "
            f"{variable}, which names it, or put the host into NO_PROXY"
        )
    if any(words in text for words in UNKNOWN_HOST):
        return f"{hub.shown} is an unknown host: check the address and the network"
    if names & OFFLINE:
        return f"no connection to {hub.shown}: check the network and start again"
    return ""


def status_error(status: int, headers, shown: str, what: str) -> CogvxError:
    """The exception for an HTTP status."""
    if status == 401:
        return HubDenied(
            f"{shown} wants a token for {what} (401): set HF_TOKEN or MODELSCOPE_API_TOKEN, or "
            "log in with 'hf auth login' or 'modelscope login'; a mirror gets it with --send-token"
        )
    if status == 403 or "GatedRepo" in headers.get("X-Error-Code", ""):
        return HubDenied(
            f"{shown} refuses {what} (403): agree to the model's terms on its page there, with "
            "the account that the token belongs to"
        )
    if status == 404:
        return HubNotFound(f"{shown} has no {what} (404): check the address, or try --source")
    if status == 429:
        wait = headers.get("Retry-After", "")[:20]
        return HubBusy(f"{shown} asks to wait{f' {wait} s' if wait else ''} (429): start later")
    return HubFailed(f"{shown} failed at {what} ({status}): try again, or another --source")
