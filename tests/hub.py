"""A model hub on the loopback interface, for the real download clients to be tested against.

It serves folders through the HTTP interfaces of both Hugging Face and ModelScope: as much of
them as `huggingface_hub.snapshot_download` and `modelscope_hub.HubApi` need. Weights are answered
with a redirect to a second port, as both hubs redirect to a CDN on another host. A test makes it
fail by setting `Hub.fault`. `python tests/hub.py OWNER/NAME=FOLDER` serves until it is killed.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import hashlib
import json
import re
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from email.message import Message
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, quote, unquote, urlsplit

BLOCK = 256 * 1024
LFS_SUFFIXES = (".safetensors", ".model", ".bin")
EVERYTHING, INFO, LISTING, FILES = "everything", "info", "listing", "files"
BODY_KINDS = ("close", "reset", "unsized", "short", "flip")
LISTING_KINDS = ("no-hashes", "name")
KINDS = (*BODY_KINDS, *LISTING_KINDS, "drip", "status")


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong, set as `Hub.fault`.

    kind: "close" and "reset" end the connection (FIN, RST) after `at` bytes of a body; "unsized"
        does as "close", with no Content-Length; "short" serves a file as if it were `at` bytes
        long; "flip" changes the byte at offset `at` of a file; "drip" sends `rate` bytes per
        second; "status" answers `status`; "no-hashes" leaves the hashes out of listings;
        "name" lists one more file, called `name`.
    on: EVERYTHING, INFO (the commit of a revision, on Hugging Face), LISTING, FILES or a file's
        path; the last two kinds are always on listings.
    times: how many requests are hit, None for all. One that the fault cannot change, such as for
        a file shorter than `at`, does not count.
    method: "GET" or "HEAD" to spare the other. "short" else shortens the size in a HEAD too.
    code: the X-Error-Code of "status", such as "GatedRepo", "RepoNotFound", "RevisionNotFound" or
        "EntryNotFound".
    """

    kind: str
    on: str = FILES
    times: int | None = None
    method: str | None = None
    at: int = 0
    rate: int = 0
    status: int = 500
    code: str = ""
    retry_after: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}, not {self.kind!r}")

    def fits(self, start: int, end: int) -> bool:
        """Whether it changes anything in a reply with the bytes from start to end of a file."""
        if self.kind == "flip":
            return start <= self.at < end
        if self.kind == "short":
            return self.at < end
        return self.kind not in BODY_KINDS or self.at < end - start


@dataclass(frozen=True)
class Request:
    """A request that was answered; `headers.get` ignores case, `path` has the query."""

    method: str
    path: str
    headers: Message
    status: int


@dataclass(frozen=True)
class Entry:
    """A file of a repository; stored by Git LFS, as weights are, or in git itself."""

    path: str
    source: Path
    size: int
    modified: int

    @property
    def lfs(self) -> bool:
        return self.path.endswith(LFS_SUFFIXES)

    @property
    def sha256(self) -> str:
        return _hashes(self)[0]

    @property
    def pointer(self) -> bytes:
        """What git itself holds of a file in LFS."""
        spec = "version https://git-lfs.github.com/spec/v1"
        return f"{spec}\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @property
    def oid(self) -> str:
        """The git blob id."""
        if self.lfs:
            return hashlib.sha1(b"blob %d\0" % len(self.pointer) + self.pointer).hexdigest()
        return _hashes(self)[1]


@functools.cache
def _hashes(entry: Entry) -> tuple[str, str]:
    """The content's sha256 and git blob id, computed again only when size or date change."""
    sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % entry.size)
    with entry.source.open("rb") as file:
        while block := file.read(BLOCK):
            sha256.update(block)
            blob.update(block)
    return sha256.hexdigest(), blob.hexdigest()


class Hub:
    """Serves `repos`, from repository id to folder, while used as a context manager.

    With a `token`, requests without it are answered 401, except to the CDN, whose addresses are
    signed on the real hubs. `served` counts the bytes of content sent, by path of the file.
    """

    def __init__(self, repos: Mapping[str, Path], token: str | None = None, port: int = 0) -> None:
        self.repos = {repo: Path(folder) for repo, folder in repos.items()}
        self.token = token
        self.requests: list[Request] = []
        self.served: Counter[str] = Counter()
        self.closing = threading.Event()
        self.connections: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.fault = None
        self._servers = [_Server(self, port), _Server(self, 0)]
        self.port, cdn_port = (server.server_port for server in self._servers)
        self.url = f"http://127.0.0.1:{self.port}"
        self.cdn = f"http://127.0.0.1:{cdn_port}/cdn"

    def __enter__(self) -> Hub:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop, and drop the connections that clients still hold."""
        self.closing.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        with self.lock:
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    @property
    def fault(self) -> Fault | tuple[Fault, ...] | None:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault | tuple[Fault, ...] | None) -> None:
        """One fault, several at once, or None; setting it starts the counts anew."""
        with self.lock:
            self._fault = fault
            self._hits: Counter[Fault] = Counter()

    def forget(self) -> None:
        """Start `served` and `requests` anew."""
        with self.lock:
            self.served.clear()
            self.requests.clear()

    def take(
        self, kinds: Iterable[str], on: str, path: str, method: str, *span: int
    ) -> Fault | None:
        """The fault of these kinds that hits a request, if one does; this counts as a hit."""
        with self.lock:
            for fault in self._faults():
                left = fault.times is None or self._hits[fault] < fault.times
                meant = fault.kind in LISTING_KINDS or fault.on in (EVERYTHING, on, path)
                meant = meant and fault.kind in kinds and fault.method in (None, method)
                if left and meant and (not span or fault.fits(*span)):
                    self._hits[fault] += 1
                    return fault
        return None

    def has(self, kind: str, name: str = "") -> bool:
        return any(fault.kind == kind and fault.name == name for fault in self._faults())

    def _faults(self) -> tuple[Fault, ...]:
        return (self._fault,) if isinstance(self._fault, Fault) else self._fault or ()

    def entries(self, repo: str) -> list[Entry]:
        """The files as they are now, without what a download client has left beside them."""
        folder, entries = self.repos[repo], []
        for source in sorted(folder.rglob("*")):
            path = source.relative_to(folder)
            if source.is_file() and ".cache" not in path.parts:
                stat = source.stat()
                entries.append(Entry(path.as_posix(), source, stat.st_size, stat.st_mtime_ns))
        return entries

    def commit(self, repo: str) -> str:
        """A commit id that changes with the files, from their dates so that nothing is read."""
        return hashlib.sha1(repr((repo, self.entries(repo))).encode()).hexdigest()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, hub: Hub, port: int) -> None:
        self.hub = hub
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that ends early is what the tests are about: not worth a traceback."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Refused(Exception):
    """A request is to be answered with a status of failure."""

    def __init__(self, status: int, code: str = "", retry_after: int | None = None) -> None:
        super().__init__(f"{status} {code}".strip())
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": str(self)} if code else {}
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a short body waits 40 ms for the headers' ACK
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.hub = self.server.hub
        with self.hub.lock:
            self.hub.connections.add(self.connection)

    def finish(self) -> None:
        super().finish()
        with self.hub.lock:
            self.hub.connections.discard(self.connection)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        with self.hub.lock:
            self.hub.requests.append(Request(self.command, self.path, self.headers, int(code)))

    def log_message(self, *_arguments: object) -> None:
        """Keep the test's output free of one line per request."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(address.query).items()}
        try:
            for pattern, answer in _ROUTES:
                if match := re.fullmatch(pattern, address.path):
                    self._check_token()
                    answer(self, *(unquote(part or "") for part in match.groups()))
                    return
            raise _Refused(404)
        except _Refused as refused:
            self._send_refusal(refused)

    do_HEAD = do_GET

    # What both interfaces share

    def _check_token(self) -> None:
        """Hugging Face's clients send a header, ModelScope's that and a cookie."""
        token = self.hub.token
        if token is None or self.path.startswith("/cdn/"):
            return
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("m_session_id")
        by_cookie = cookie and cookie.value == token and self.path.startswith("/api/v1/")
        if self.headers.get("Authorization") != f"Bearer {token}" and not by_cookie:
            raise _Refused(401)

    def _check(self, on: str, repo: str, revision: str, path: str = "") -> None:
        if fault := self.hub.take(["status"], on, path, self.command):
            raise _Refused(fault.status, fault.code, fault.retry_after)
        if repo not in self.hub.repos:
            raise _Refused(404, "RepoNotFound")
        if revision not in ("main", "master", self.hub.commit(repo)):
            raise _Refused(404, "RevisionNotFound")

    def _entry(self, repo: str, path: str) -> Entry:
        """A file by its listed path, never by a path on this machine."""
        entries = self.hub.entries(repo)
        if self.hub.has("name", path):
            return replace(entries[0], path=path)
        for entry in entries:
            if entry.path == path:
                return entry
        raise _Refused(404, "EntryNotFound")

    def _list(self, repo: str, folder: str) -> dict[str, Entry | None]:
        """All paths below a folder, each with its file, or None for a folder."""
        entries: dict[str, Entry | None] = {}
        for entry in self.hub.entries(repo):
            entries |= dict.fromkeys(map(str, PurePosixPath(entry.path).parents[-2::-1]))
            entries[entry.path] = entry
        prefix = f"{folder.strip('/')}/".removeprefix("/")
        entries = {path: entry for path, entry in entries.items() if path.startswith(prefix)}
        if fault := self.hub.take(["name"], LISTING, "", "GET"):
            entries[fault.name] = self._entry(repo, fault.name)
        return entries

    def _send_json(self, content: object, status: int = 200, **headers: str) -> None:
        body = json.dumps(content).encode()
        self._send_head(status, {**headers, "Content-Type": "application/json"}, len(body))
        if self.command == "GET":
            self.wfile.write(body)

    def _send_head(self, status: int, headers: Mapping[str, str], length: int | None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if length is None:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _send_refusal(self, refused: _Refused) -> None:
        reason = str(refused)
        content = {"error": reason, "Code": refused.status, "Message": reason, "Success": False}
        self._send_json(content, refused.status, **refused.headers)

    def _send_file(self, entry: Entry, headers: Mapping[str, str]) -> None:
        """The file, or the range that is asked for, with what is to go wrong in it."""
        size = entry.size
        _, start, end = self._range(size)
        kinds = BODY_KINDS if self.command == "GET" else ["short"]
        fault = self.hub.take(kinds, FILES, entry.path, self.command, start, end)
        if fault and fault.kind == "short":
            size = fault.at
        partial, start, end = self._range(size)
        headers = {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if start > end or (partial and start == end):
            self._send_head(416, {"Content-Range": f"bytes */{size}"}, 0)
            return
        if partial:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        length = None if fault and fault.kind == "unsized" else end - start
        self._send_head(206 if partial else 200, headers, length)
        if self.command == "GET":
            self._send_bytes(entry, start, end, fault)

    def _range(self, size: int) -> tuple[bool, int, int]:
        """Whether a part is asked for, and from where to where; the clients ask for one at most."""
        byte_range = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not byte_range:
            return False, 0, size
        first, last = byte_range.groups()
        return True, int(first), min(size, int(last) + 1) if last else size

    def _send_bytes(self, entry: Entry, start: int, end: int, fault: Fault | None) -> None:
        cut = fault is not None and fault.kind in ("close", "reset", "unsized")
        stop = start + fault.at if cut else end
        drip = self.hub.take(["drip"], FILES, entry.path, self.command)
        step = min(BLOCK, max(1, drip.rate // 10)) if drip else BLOCK
        with entry.source.open("rb") as file:
            file.seek(start)
            while start < stop and (block := file.read(min(step, stop - start))):
                if fault and fault.kind == "flip" and start <= fault.at < start + len(block):
                    place = fault.at - start
                    block = block[:place] + bytes([block[place] ^ 0xFF]) + block[place + 1 :]
                if self.hub.closing.wait(len(block) / drip.rate if drip else 0):
                    break
                with self.hub.lock:  # first, so that a client that has it all finds it counted
                    self.hub.served[entry.path] += len(block)
                self.wfile.write(block)
                start += len(block)
        if start < end:
            self._hang_up(reset=cut and fault.kind == "reset")

    def _hang_up(self, reset: bool) -> None:
        self.close_connection = True
        if reset:
            # Closed here, for the server would send a FIN first. What the client has not yet
            # received may be lost, as it is when a real connection breaks.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.rfile.close()
            self.connection.close()

    def _redirect(self, repo: str, entry: Entry, headers: Mapping[str, str]) -> None:
        location = f"{self.hub.cdn}/{quote(repo)}/{quote(entry.path)}"
        self._send_head(302, {**headers, "Location": location}, 0)

    def cdn_file(self, repo: str, path: str) -> None:
        self._check(FILES, repo, "main", path)
        entry = self._entry(repo, path)
        headers = {"ETag": f'"{entry.sha256}"'}
        if not self.hub.has("no-hashes"):  # ModelScope's client would take the hash from here
            headers["X-Linked-ETag"] = headers["ETag"]
        self._send_file(entry, headers)

    # Hugging Face

    def hf_info(self, repo: str, revision: str = "main") -> None:
        self._check(INFO, repo, revision)
        siblings = [{"rfilename": entry.path} for entry in self.hub.entries(repo)]
        self._send_json({"id": repo, "sha": self.hub.commit(repo), "siblings": siblings})

    def hf_tree(self, repo: str, revision: str, folder: str) -> None:
        self._check(LISTING, repo, revision)
        hashes = not self.hub.take(["no-hashes"], LISTING, "", "GET")
        rows = []
        for path, entry in self._list(repo, folder).items():
            row = {"type": "directory", "path": path, "size": 0, "oid": ""}
            if entry is not None:
                row |= {"type": "file", "size": entry.size}
            if entry is not None and hashes:
                row["oid"] = entry.oid  # empty if not: the client fails where it is absent
                if entry.lfs:
                    size = {"size": entry.size, "pointerSize": len(entry.pointer)}
                    row["lfs"] = {"oid": entry.sha256, **size}
            rows.append(row)
        self._send_json(rows)

    def hf_file(self, repo: str, revision: str, path: str) -> None:
        self._check(FILES, repo, revision, path)
        entry = self._entry(repo, path)
        headers = {"X-Repo-Commit": self.hub.commit(repo), "ETag": f'"{entry.oid}"'}
        if not entry.lfs:
            self._send_file(entry, headers)
            return
        short = None
        if self.command == "HEAD":
            short = self.hub.take(["short"], FILES, path, "HEAD", 0, entry.size)
        headers["X-Linked-Size"] = str(short.at if short else entry.size)
        headers["X-Linked-ETag"] = f'"{entry.sha256}"'
        self._redirect(repo, entry, headers)

    # ModelScope

    def ms_listing(self, repo: str) -> None:
        self._check(LISTING, repo, self.query.get("Revision", "master"))
        hashes = not self.hub.take(["no-hashes"], LISTING, "", "GET")
        rows = []
        for path, entry in self._list(repo, self.query.get("Root", "")).items():
            row = {"Path": path, "Name": PurePosixPath(path).name, "Type": "tree", "Size": 0}
            if entry is not None:
                row |= {"Type": "blob", "Size": entry.size, "IsLFS": entry.lfs}
            if entry is not None and hashes:
                row["Sha256"] = entry.sha256
            rows.append(row)
        self._send_json({"Code": 200, "Data": {"Files": rows}, "Success": True})

    def ms_file(self, repo: str) -> None:
        path = self.query.get("FilePath", "")
        self._check(FILES, repo, self.query.get("Revision", "master"), path)
        entry = self._entry(repo, path)
        if entry.lfs:
            self._redirect(repo, entry, {})
        else:
            self._send_file(entry, {})


_REPO = "([^/]+/[^/]+)"
_ROUTES = (
    (f"/cdn/{_REPO}/(.+)", _Handler.cdn_file),
    (f"/api/v1/models/{_REPO}/repo/files", _Handler.ms_listing),
    (f"/api/v1/models/{_REPO}/repo", _Handler.ms_file),
    (f"/api/models/{_REPO}", _Handler.hf_info),
    (f"/api/models/{_REPO}/revision/([^/]+)", _Handler.hf_info),
    (f"/api/models/{_REPO}/tree/([^/]+)(/.*)?", _Handler.hf_tree),
    (f"/{_REPO}/resolve/([^/]+)/(.+)", _Handler.hf_file),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repos", nargs="+", metavar="REPO=FOLDER")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token")
    options = parser.parse_args()
    repos = {
        repo: Path(folder) for repo, _, folder in (entry.partition("=") for entry in options.repos)
    }
    with Hub(repos, options.token, options.port) as hub, contextlib.suppress(KeyboardInterrupt):
        print(hub.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
