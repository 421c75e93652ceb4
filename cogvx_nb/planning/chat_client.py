"""Ask an OpenAI-compatible chat endpoint, through the ``openai`` client.

Each failure is one line that never holds the key, and of what the endpoint said at most a sentence.
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
"""Tries after the first one, where the connection broke or the endpoint failed."""

MAX_ANSWER_BYTES = 1024 * 1024

# By the last one the library knows, when the answer comes, that it is to be read bit by bit.
SENT_HEADERS = ("host", "accept", "content-type", "content-length", "x-stainless-raw-response")


def ask_chat_model(endpoint: settings.Chat, messages: list[dict], timeout_seconds: float) -> bytes:
    """The body of the endpoint's answer to ``messages``.

    Args:
        timeout_seconds: for waiting for an answer, and again for reading it. A lost connection, a
            missing answer and a failure of the endpoint are tried once more, all else isn't.

    Raises:
        EnrichError: if the ``openai`` package is missing, or the endpoint gives no answer.
    """
    openai = optional_import("openai", "enrich", "enriching", make_error=EnrichError)
    try:
        with _make_client(openai, endpoint, timeout_seconds) as client:
            create = client.chat.completions.with_streaming_response.create
            with create(model=endpoint.model, messages=messages) as response:
                return _read(response, endpoint, time.monotonic() + timeout_seconds)
    except EnrichError:
        raise
    except Exception as error:  # the library's, its transport's, those of a proxy's settings
        failure = _translate_errors(error, endpoint, timeout_seconds)
    # Outside of the block, so that a traceback shows no cause: the library's errors repeat what
    # the endpoint said, and some endpoints say the key.
    raise failure


def _make_client(openai, endpoint: settings.Chat, timeout_seconds: float):
    """The library's client, which takes no account from the environment, follows no redirect."""
    timeout = openai.Timeout(timeout_seconds, connect=min(CONNECT_SECONDS, timeout_seconds))
    hooks = {"request": [_tidy_request], "response": [_spare_waiting]}
    return openai.OpenAI(
        # None would stand for OPENAI_API_KEY and the like. The real key comes in at the last
        # moment, in _dress, so that the library never holds it.
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


def _tidy_request(request) -> None:
    """Send only these headers: not the library's facts about this machine, and none that
    ``OPENAI_CUSTOM_HEADERS`` holds for another endpoint."""
    kept = {name: value for name, value in request.headers.items() if name in SENT_HEADERS}
    kept["user-agent"] = f"cogvx-nb/{__version__}"
    if settings.chat_key():
        kept["authorization"] = f"Bearer {settings.chat_key()}"
    request.headers = type(request.headers)(kept)


def _spare_waiting(response) -> None:
    """Where the endpoint names a wait, give up at once: the library would sleep two minutes."""
    if "retry-after" in response.headers or "retry-after-ms" in response.headers:
        response.headers["x-should-retry"] = "false"


def _read(response, endpoint: settings.Chat, deadline: float) -> bytes:
    """A body, as long as it is neither endless nor without end in sight."""
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
    """One line for what the library raised."""
    import httpx2  # the library's transport
    import openai

    if isinstance(error, openai.APIStatusError):
        return _refused(error, endpoint)
    if isinstance(error, openai.APITimeoutError | httpx2.TimeoutException):
        return ChatUnreachable(
            f"{endpoint.base_url} did not answer within {timeout_seconds:g} s: try again, or set "
            "COGVX_CHAT_MODEL to a faster model"
        )
    cause = error.__cause__ or error
    reason = _shown(str(cause)) or type(cause).__name__
    return ChatUnreachable(
        f"no answer from {endpoint.base_url} ({reason}): see that its server runs and that "
        "COGVX_CHAT_BASE_URL is right"
    )


def _refused(error, endpoint: settings.Chat) -> EnrichError:
    """One line for an answer with a status of failure."""
    status, url, model = error.status_code, endpoint.base_url, endpoint.model
    if status in (401, 403):  # what they say often holds part of the key: not repeated
        if not settings.chat_key():
            return ChatDenied(f"{url} wants a key ({status}): set COGVX_CHAT_KEY")
        return ChatDenied(
            f"{url} refuses the key, or {model} to it ({status}): correct COGVX_CHAT_KEY"
        )
    said = ", ".join(filter(None, [str(status), _said(error.body)]))
    if status == 404:
        return ChatFailed(
            f"{url} has no model {model!r}, or is no chat endpoint ({said}): correct "
            "COGVX_CHAT_MODEL, or COGVX_CHAT_BASE_URL (most end in /v1)"
        )
    if status == 429:
        seconds = error.response.headers.get("retry-after", "")
        wait = f" {seconds} s" if seconds.isdecimal() else ""  # else a date
        return ChatBusy(f"{url} asks to wait{wait} ({said}): try again then, or check your quota")
    if status < 400:
        return ChatFailed(
            f"{url} sends elsewhere ({status}), which is not followed: set COGVX_CHAT_BASE_URL to "
            "the address that answers itself"
        )
    if status >= 500:
        return ChatFailed(f"{url} failed ({said}): try again later")
    return ChatFailed(f"{url} refused the request ({said}): check COGVX_CHAT_MODEL")


def _said(body: object) -> str:
    """What an endpoint says of a failure, if that is a sentence."""
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail")
    if not isinstance(body, str) or body.lstrip().startswith("<"):
        return ""
    return _shown(body)


def _shown(text: str) -> str:
    """Foreign text, fit for a message: short, one line, and without the key."""
    key = settings.chat_key()
    if key:
        text = text.replace(key, "…")
    text = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return text if len(text) <= 120 else f"{text[:119]}…"
