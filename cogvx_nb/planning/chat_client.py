"""Query an OpenAI-compatible chat endpoint with the ``openai`` client.

Each failure is one line that never holds the key, and at most a sentence of the endpoint's answer.
"""

from __future__ import annotations

import time

from .. import __version__, settings
from ..errors import (
    BadAnswer,
    ChatBusy,
    ChatDenied,
    ChatFailed,
    ChatUnreachable,
    EnrichError,
    optional_import,
)

CONNECT_SECONDS = 10.0

RETRIES = 1
"""Retries after a lost connection or a failure of the endpoint."""

MAX_ANSWER_BYTES = 1024 * 1024

# By the last one the library knows, when the answer comes, that it is to be streamed.
SENT_HEADERS = ("host", "accept", "content-type", "content-length", "x-stainless-raw-response")


def ask_chat_model(endpoint: settings.Chat, messages: list[dict], timeout_seconds: float) -> bytes:
    """The body of the endpoint's answer to ``messages``.

    A lost connection, a missing answer and a failure of the endpoint are retried once.

    Args:
        timeout_seconds: for the answer to begin, and again for reading it.

    Raises:
        EnrichError: if the ``openai`` package is missing, or the endpoint gives no answer.
    """
    openai = optional_import("openai", "enrich", "enriching", make_error=EnrichError)
    try:
        with _make_client(openai, endpoint, timeout_seconds) as client:
            create = client.chat.completions.with_streaming_response.create
            with create(model=endpoint.model, messages=messages) as response:
                return _read_body(response, endpoint, time.monotonic() + timeout_seconds)
    except EnrichError:
        raise
    except Exception as error:  # of the library, its transport or the proxy's settings
        failure = _translate_errors(error, endpoint, timeout_seconds)
    # Outside of the block, so that a traceback shows no cause: the library's errors hold the
    # endpoint's answer, and some endpoints repeat the key in it.
    raise failure


def _make_client(openai, endpoint: settings.Chat, timeout_seconds: float):
    """A client that reads no account from the environment and follows no redirect."""
    timeout = openai.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds))
    hooks = {"request": [_set_headers], "response": [_skip_long_wait]}
    return openai.OpenAI(
        # With None the library would read OPENAI_API_KEY and others. The real key is added in
        # _set_headers, so that the library never holds it.
        api_key="none",
        admin_api_key="",
        organization="",
        project="",
        webhook_secret="",
        base_url=endpoint.base_url,
        timeout=timeout,
        max_retries=RETRIES,
        http_client=openai.DefaultHttpxClient(
            event_hooks=hooks, follow_redirects=False, timeout=timeout
        ),
    )


def _set_headers(request) -> None:
    """Send only ``SENT_HEADERS`` and the key: no facts about this machine, which the library adds,
    and none of ``OPENAI_CUSTOM_HEADERS``, which may be for another endpoint."""
    headers = {name: value for name, value in request.headers.items() if name in SENT_HEADERS}
    headers["user-agent"] = f"cogvx-nb/{__version__}"
    if settings.chat_key():
        headers["authorization"] = f"Bearer {settings.chat_key()}"
    request.headers = type(request.headers)(headers)


def _skip_long_wait(response) -> None:
    """If the endpoint asks to wait, fail at once: the library would sleep up to two minutes."""
    if "retry-after" in response.headers or "retry-after-ms" in response.headers:
        response.headers["x-should-retry"] = "false"


def _read_body(response, endpoint: settings.Chat, deadline: float) -> bytes:
    """The body of a response, limited in size and time."""
    body = b""
    for block in response.iter_bytes():
        body += block
        if len(body) > MAX_ANSWER_BYTES:
            raise BadAnswer(
                f"{endpoint.base_url} answered with more than {MAX_ANSWER_BYTES // 1024} KiB, "
                "which is no prompt: correct COGVX_CHAT_BASE_URL, or set COGVX_CHAT_MODEL to "
                "another model"
            )
        if time.monotonic() > deadline:
            raise ChatUnreachable(
                f"{endpoint.base_url} was still answering when the time was up: try again, or set "
                "COGVX_CHAT_MODEL to a faster model"
            )
    return body


def _translate_errors(
    error: Exception, endpoint: settings.Chat, timeout_seconds: float
) -> EnrichError:
    """The one-line error for an exception of the library."""
    import httpx2  # the library's transport
    import openai

    if isinstance(error, openai.APIStatusError):
        return _status_error(error, endpoint)
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
        return ChatUnreachable(
            f"{endpoint.base_url} did not answer within {timeout_seconds:g} s: try again, or set "
            "COGVX_CHAT_MODEL to a faster model"
        )
    cause = error.__cause__ or error
    reason = _safe_line(str(cause)) or type(cause).__name__
    return ChatUnreachable(
        f"no answer from {endpoint.base_url} ({reason}): see that its server runs and that "
        "COGVX_CHAT_BASE_URL is right"
    )


def _status_error(error, endpoint: settings.Chat) -> EnrichError:
    """The one-line error for an HTTP status."""
    status, url, model = error.status_code, endpoint.base_url, endpoint.model
    if status in (401, 403):  # their texts often hold part of the key: not shown
        if not settings.chat_key():
            return ChatDenied(f"{url} wants a key ({status}): set COGVX_CHAT_KEY")
        return ChatDenied(
            f"{url} refuses the key, or {model} to it ({status}): correct COGVX_CHAT_KEY"
        )
    reason = ", ".join(filter(None, [str(status), _endpoint_message(error.body)]))
    if status == 404:
        return ChatFailed(
            f"{url} has no model {model!r}, or is no chat endpoint ({reason}): correct "
            "COGVX_CHAT_MODEL, or COGVX_CHAT_BASE_URL (most end in /v1)"
        )
    if status == 429:
        seconds = error.response.headers.get("retry-after", "")
        wait = f" {seconds} s" if seconds.isdecimal() else ""  # else a date
        return ChatBusy(f"{url} asks to wait{wait} ({reason}): try again then, or check your quota")
    if status < 400:
        return ChatFailed(
            f"{url} sends elsewhere ({status}), which is not followed: set COGVX_CHAT_BASE_URL to "
            "the address that answers itself"
        )
    if status >= 500:
        return ChatFailed(f"{url} failed ({reason}): try again later")
    return ChatFailed(f"{url} refused the request ({reason}): check COGVX_CHAT_MODEL")


def _endpoint_message(body: object) -> str:
    """The message in an endpoint's answer about a failure; empty if there is none."""
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail")
    if not isinstance(body, str) or body.lstrip().startswith("<"):
        return ""
    return _safe_line(body)


def _safe_line(text: str) -> str:
    """Untrusted text made fit for a message: one short line without the key."""
    key = settings.chat_key()
    if key:
        text = text.replace(key, "…")
    text = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return text if len(text) <= 120 else f"{text[:119]}…"
