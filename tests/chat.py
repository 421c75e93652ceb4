"""A chat endpoint on the loopback interface, for the real client to be tested against.

It answers `POST /v1/chat/completions` as OpenAI's interface does, and goes wrong as a test tells it
to by setting `Endpoint.reply`. `python tests/chat.py` serves until it is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import struct
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BETTER = (
    "A red kite climbs over a wide green meadow under a pale morning sky. Its long tail ripples in "
    "the wind while the camera, low in the grass, slowly tilts up after it."
)


@dataclass(frozen=True)
class Reply:
    """What a request is answered with.

    text: the prompt; `{prompt}` and `{key}` in it stand for what was sent.
    finish: the finish_reason.
    refusal: what stands in the message's field of that name.
    body: the whole body, in place of the JSON that holds `text`.
    status: from 400 on, `text` is the message of an error.
    headers: some more of them.
    wait: seconds before the answer begins.
    pause: seconds between the bytes of the body.
    hang_up: "close" or "reset" (FIN, RST) in place of an answer.
    times: how many requests are answered so, None for all; those after them succeed.
    """

    text: str = BETTER
    finish: str = "stop"
    refusal: str | None = None
    body: bytes | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    wait: float = 0
    pause: float = 0
    hang_up: str = ""
    times: int | None = None


@dataclass(frozen=True)
class Request:
    """A request that came in; `headers.get` ignores case."""

    path: str
    headers: Message
    body: dict

    @property
    def prompt(self) -> str:
        """What the user typed."""
        return self.body["messages"][-1]["content"]

    @property
    def key(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")


class Endpoint:
    """Answers with `reply` while used as a context manager."""

    def __init__(self, port: int = 0) -> None:
        self.requests: list[Request] = []
        self.closing = threading.Event()
        self.reply = Reply()
        self._server = _Server(self, port)
        self.origin = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.origin}/v1"

    def __enter__(self) -> Endpoint:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def take(self, request: Request) -> Reply:
        """Note a request, and say how it is to be answered."""
        self.requests.append(request)
        used_up = self.reply.times is not None and len(self.requests) > self.reply.times
        return Reply() if used_up else self.reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, endpoint: Endpoint, port: int) -> None:
        self.endpoint = endpoint
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that ends early is what the tests are about: not worth a traceback."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a short body waits 40 ms for the headers' ACK
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        request = Request(self.path, self.headers, body)
        reply = self.server.endpoint.take(request)
        if self.server.endpoint.closing.wait(reply.wait) or reply.hang_up:
            self._hang_up(reset=reply.hang_up == "reset")
        elif self.path == "/v1/chat/completions":
            self._send(reply, _body(reply, request))
        else:
            self._send(Reply(status=404), b'{"detail": "Not Found"}')

    def _send(self, reply: Reply, body: bytes) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        step = 1 if reply.pause else len(body) or 1
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            if reply.pause and self.server.endpoint.closing.wait(reply.pause):
                return

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        if reset:  # closed here, for the server would send a FIN first
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.rfile.close()
            self.connection.close()

    def log_message(self, *_arguments: object) -> None:
        """The tests look at `Endpoint.requests`."""


def _body(reply: Reply, request: Request) -> bytes:
    if reply.body is not None:
        return reply.body
    text = reply.text.replace("{prompt}", request.prompt).replace("{key}", request.key)
    if reply.status >= 400:
        return json.dumps({"error": {"message": text, "code": "failed"}}).encode()
    message = {"role": "assistant", "content": text, "refusal": reply.refusal}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish}
    return json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    with Endpoint(parser.parse_args().port) as endpoint, contextlib.suppress(KeyboardInterrupt):
        print(endpoint.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
