"""The loopback hub serves the real download clients, and fails where it is told to."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import hub as hub_module
import pytest
from hub import EVERYTHING, INFO, LISTING, Fault, Hub

REPO = "THUDM/CogVideoX-5b"
WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
CONFIG = "transformer/config.json"
SIZE = 3_000_001

HUGGINGFACE = """
import sys
from huggingface_hub import snapshot_download
repo, url, folder, token = sys.argv[1:]
snapshot_download(repo, local_dir=folder, endpoint=url, token=token or False)
"""
MODELSCOPE = """
import sys
from modelscope_hub import HubApi
repo, url, folder, token = sys.argv[1:]
api = HubApi(endpoint=url, token=token)
listed = [file for file in api.list_repo_files(repo, "model") if not file.is_dir]
assert all(file.sha256 for file in listed)
rows = [{"Path": file.path, "Size": file.size, "Sha256": file.sha256} for file in listed]
api.download_repo(repo, "model", local_dir=folder, file_list=rows)
"""
WHOLE_MODELSCOPE = """
import sys
from modelscope import snapshot_download
repo, url, folder, token = sys.argv[1:]
snapshot_download(repo, local_dir=folder, endpoint=url, token=token)
"""
clients = pytest.mark.parametrize(
    "client", [HUGGINGFACE, MODELSCOPE], ids=["huggingface", "modelscope"]
)


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """A repository with the kinds of file that matter: text, weights, empty, odd names."""
    content = {
        "model_index.json": b'{"_class_name": "CogVideoXPipeline"}\n',
        "README 说明.md": "# 说明\n".encode(),
        "empty.txt": b"",
        CONFIG: b'{"num_layers": 2}\n',
        "tokenizer/spiece.model": random.Random(1).randbytes(70_000),
        WEIGHTS: random.Random(2).randbytes(SIZE),
    }
    folder = tmp_path_factory.mktemp("origin")
    for name, data in content.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def hub(origin):
    with Hub({REPO: origin}) as running:
        yield running


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, but for the notes that a client keeps in .cache."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.relative_to(folder).parts
    }


def fetch(client: str, hub: Hub, folder: Path, token: str = "") -> subprocess.CompletedProcess:
    """A real client in a process of its own, for it reads the environment when imported."""
    home = folder.parent
    settings = {
        "HF_HOME": str(home / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_UPDATE_CHECK": "1",
        "HF_HUB_DISABLE_XET": "1",
        "MODELSCOPE_CACHE": str(home / "ms"),
        "MODELSCOPE_DOWNLOAD_INTRA_CLOUD": "0",
        "MODELSCOPE_HOME": str(home / "ms-home"),
        "NO_PROXY": "127.0.0.1",
    }
    return subprocess.run(
        [sys.executable, "-c", client, REPO, hub.url, str(folder), token],
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def ask(hub: Hub, path: str, method: str = "GET", **headers: str):
    """One plain request, to the end of its redirects: the reply and its body."""
    address = path if path.startswith("http") else hub.url + path
    host, _, rest = address.removeprefix("http://").partition("/")
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        connection.request(method, f"/{rest}", headers=headers)
        reply = connection.getresponse()
        body = reply.read()
        if reply.status == 302 and method == "GET":
            return ask(hub, reply.headers["Location"], **headers)
        return reply, body
    finally:
        connection.close()


def hf_path(name: str) -> str:
    return f"/{REPO}/resolve/main/{name}"


def ms_path(name: str) -> str:
    return f"/api/v1/models/{REPO}/repo?Revision=master&FilePath={name}"


TREE = f"/api/models/{REPO}/tree/main?recursive=true&expand=false"
TABLE = f"/api/v1/models/{REPO}/repo/files?Revision=master&Recursive=True"
both = pytest.mark.parametrize("path_of", [hf_path, ms_path], ids=["huggingface", "modelscope"])


@pytest.mark.parametrize(
    "client",
    [HUGGINGFACE, MODELSCOPE, WHOLE_MODELSCOPE],
    ids=["huggingface", "modelscope", "modelscope's own listing"],
)
def test_a_client_fetches_a_repository_whole(hub, origin, client, tmp_path):
    done = fetch(client, hub, tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "copy") == contents(origin)
    sizes = {name: len(data) for name, data in contents(origin).items() if data}
    assert {name: count for name, count in hub.served.items() if count} == sizes
    weights = [one for one in hub.requests if one.path.startswith(f"/cdn/{REPO}/transformer/")]
    assert [one.status for one in weights] == [200]
    assert all(one.headers["User-Agent"] for one in hub.requests)


@clients
def test_a_client_resumes_after_a_cut(hub, client, tmp_path):
    size, cut = 12_000_000, 11_000_000  # huggingface_hub resumes at multiples of 10 MiB
    hub.repos[REPO] = tmp_path / "origin"
    hub.repos[REPO].mkdir()
    (hub.repos[REPO] / "model.safetensors").write_bytes(random.Random(3).randbytes(size))
    hub.fault = Fault("close", at=cut, times=1)
    done = fetch(client, hub, tmp_path / "copy")
    assert done.returncode == 0, done.stderr
    assert contents(tmp_path / "copy") == contents(tmp_path / "origin")
    assert size <= hub.served["model.safetensors"] < size + cut
    assert [one.status for one in hub.requests if one.path.startswith("/cdn/")] == [200, 206]


@clients
def test_a_client_needs_the_token(origin, client, tmp_path):
    with Hub({REPO: origin}, token="hub_secret") as hub:
        done = fetch(client, hub, tmp_path / "copy", "hub_other")
        assert done.returncode != 0
        assert {one.status for one in hub.requests} == {401}
        assert not hub.served
        hub.forget()
        done = fetch(client, hub, tmp_path / "copy", "hub_secret")
        assert done.returncode == 0, done.stderr
        assert contents(tmp_path / "copy") == contents(origin)
        at_hub = [one for one in hub.requests if not one.path.startswith("/cdn/")]
        assert {one.headers["Authorization"] for one in at_hub} == {"Bearer hub_secret"}
        at_cdn = [one for one in hub.requests if one.path.startswith("/cdn/")]
        assert {one.headers["Authorization"] for one in at_cdn} == {None}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer other"}, 401),
        ({"Authorization": "Bearer secret"}, 200),
        ({"Cookie": "m_session_id=secret"}, 200),
    ],
    ids=["none", "wrong", "header", "cookie"],
)
def test_modelscope_takes_the_token_as_a_header_or_a_cookie(origin, headers, status):
    with Hub({REPO: origin}, token="secret") as hub:
        reply, _ = ask(hub, TABLE, **headers)
        assert reply.status == status
        assert {one.headers.get("cookie") for one in hub.requests} == {headers.get("Cookie")}


def test_a_revision_names_a_commit_that_changes_with_the_files(hub, origin, tmp_path):
    _, body = ask(hub, f"/api/models/{REPO}/revision/main")
    commit = json.loads(body)["sha"]
    assert len(bytes.fromhex(commit)) == 20
    reply, _ = ask(hub, f"/{REPO}/resolve/{commit}/{CONFIG}", "HEAD")
    assert reply.headers["X-Repo-Commit"] == commit
    (tmp_path / "one.txt").write_text("1")
    hub.repos[REPO] = tmp_path
    _, body = ask(hub, f"/api/models/{REPO}/revision/main")
    assert json.loads(body)["sha"] != commit


def test_the_listings_give_sizes_and_hashes(hub, origin):
    expected = contents(origin)
    rows = {row["path"]: row for row in json.loads(ask(hub, TREE)[1])}
    assert {name for name, row in rows.items() if row["type"] == "file"} == set(expected)
    assert rows["transformer"]["type"] == "directory"
    assert rows[WEIGHTS]["lfs"]["oid"] == hashlib.sha256(expected[WEIGHTS]).hexdigest()
    config = b"blob %d\0" % len(expected[CONFIG]) + expected[CONFIG]
    assert rows[CONFIG]["oid"] == hashlib.sha1(config).hexdigest()
    rows = {row["Path"]: row for row in json.loads(ask(hub, TABLE)[1])["Data"]["Files"]}
    assert rows["tokenizer"]["Type"] == "tree"
    for name, data in expected.items():
        assert rows[name]["Sha256"] == hashlib.sha256(data).hexdigest()
        assert rows[name]["Size"] == len(data)


def test_weights_are_redirected_to_another_host(hub, origin):
    reply, _ = ask(hub, hf_path(WEIGHTS), "HEAD")
    assert reply.status == 302
    assert reply.headers["Location"].startswith(hub.cdn)
    assert reply.headers["X-Linked-Size"] == str(SIZE)
    sha256 = hashlib.sha256((origin / WEIGHTS).read_bytes()).hexdigest()
    assert reply.headers["X-Linked-ETag"] == f'"{sha256}"'
    reply, _ = ask(hub, hf_path(CONFIG), "HEAD")
    assert reply.status == 200
    assert reply.headers["Content-Length"] == str((origin / CONFIG).stat().st_size)


@both
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=10-19", 10, 20), ("bytes=2999000-", 2_999_000, SIZE), ("bytes=0-9999999", 0, SIZE)],
)
def test_a_range_is_served_alone(hub, origin, path_of, asked, start, end):
    reply, body = ask(hub, path_of(WEIGHTS), Range=asked)
    assert reply.status == 206
    assert reply.headers["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert body == (origin / WEIGHTS).read_bytes()[start:end]
    assert hub.served == {WEIGHTS: end - start}


@both
def test_a_range_past_the_end_is_refused(hub, path_of):
    reply, _ = ask(hub, path_of(WEIGHTS), Range=f"bytes={SIZE}-")
    assert reply.status == 416
    assert reply.headers["Content-Range"] == f"bytes */{SIZE}"


@both
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize(
    ("kind", "error"),
    [("close", http.client.IncompleteRead), ("reset", ConnectionResetError), ("unsized", None)],
)
def test_a_connection_is_cut_as_often_as_told(hub, origin, path_of, name, kind, error):
    hub.fault = Fault(kind, on=name, at=10, times=2)
    for _ in range(2):
        if error:
            with pytest.raises(error):
                ask(hub, path_of(name))
        else:
            reply, body = ask(hub, path_of(name))
            assert "Content-Length" not in reply.headers
            assert body == (origin / name).read_bytes()[:10]
    assert hub.served == {name: 20}
    assert ask(hub, path_of(name))[1] == (origin / name).read_bytes()


@both
def test_a_body_is_short_and_says_so(hub, origin, path_of):
    hub.fault = Fault("short", on=WEIGHTS, at=1000)
    reply, body = ask(hub, path_of(WEIGHTS))
    assert reply.headers["Content-Length"] == "1000"
    assert body == (origin / WEIGHTS).read_bytes()[:1000]
    assert ask(hub, hf_path(WEIGHTS), "HEAD")[0].headers["X-Linked-Size"] == "1000"
    hub.fault = Fault("short", on=WEIGHTS, at=1000, method="GET")
    assert ask(hub, hf_path(WEIGHTS), "HEAD")[0].headers["X-Linked-Size"] == str(SIZE)


@both
def test_one_byte_is_wrong(hub, origin, path_of):
    hub.fault = Fault("flip", on=WEIGHTS, at=2_000_000)
    right = (origin / WEIGHTS).read_bytes()
    _, body = ask(hub, path_of(WEIGHTS))
    assert len(body) == SIZE
    assert [place for place in range(SIZE) if body[place] != right[place]] == [2_000_000]
    assert ask(hub, path_of(WEIGHTS), Range="bytes=2000001-")[1] == right[2_000_001:]
    assert ask(hub, path_of(CONFIG))[1] == (origin / CONFIG).read_bytes()


@both
@pytest.mark.parametrize("name", [CONFIG, WEIGHTS])
@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", status=401),
        Fault("status", status=403),
        Fault("status", status=403, code="GatedRepo"),
        Fault("status", status=404, code="EntryNotFound"),
        Fault("status", status=429, retry_after=7),
        Fault("status", status=500),
    ],
    ids=lambda fault: f"{fault.status}{fault.code}",
)
def test_files_are_refused(hub, path_of, name, fault):
    hub.fault = fault
    reply, _ = ask(hub, path_of(name))
    assert reply.status == fault.status
    assert reply.headers.get("X-Error-Code", "") == fault.code
    assert reply.headers.get("Retry-After") == ("7" if fault.retry_after else None)
    assert not hub.served
    assert ask(hub, TREE)[0].status == ask(hub, TABLE)[0].status == 200


@pytest.mark.parametrize(
    ("on", "refused"),
    [(INFO, [True, False, False]), (LISTING, [False, True, True]), (EVERYTHING, [True] * 3)],
)
def test_a_refusal_hits_what_it_is_on(hub, on, refused):
    hub.fault = Fault("status", on=on, status=404, code="RevisionNotFound")
    replies = [ask(hub, path)[0] for path in (f"/api/models/{REPO}/revision/main", TREE, TABLE)]
    assert [reply.status == 404 for reply in replies] == refused


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/models/no/such/revision/main", "RepoNotFound"),
        (f"/api/models/{REPO}/revision/v9", "RevisionNotFound"),
        (hf_path("no-such.json"), "EntryNotFound"),
        (hf_path("../../etc/passwd"), "EntryNotFound"),
        (ms_path("../../etc/passwd"), "EntryNotFound"),
        ("/no-such-page", None),
    ],
)
def test_what_is_not_there_is_not_found(hub, path, code):
    reply, _ = ask(hub, path)
    assert (reply.status, reply.headers["X-Error-Code"]) == (404, code)


def test_a_fault_can_spare_a_method(hub):
    hub.fault = Fault("status", status=500, method="GET")
    assert ask(hub, hf_path(CONFIG), "HEAD")[0].status == 200
    assert ask(hub, hf_path(CONFIG))[0].status == 500


def test_faults_can_be_combined_and_taken_back(hub, origin):
    hub.fault = (Fault("no-hashes"), Fault("drip", rate=1_000_000), Fault("flip", on=CONFIG, at=3))
    assert not [row for row in json.loads(ask(hub, TREE)[1]) if row["oid"] or "lfs" in row]
    rows = json.loads(ask(hub, TABLE)[1])["Data"]["Files"]
    assert not [row for row in rows if "Sha256" in row]
    assert ask(hub, hf_path(CONFIG))[1] != (origin / CONFIG).read_bytes()
    hub.fault = None
    assert ask(hub, hf_path(CONFIG))[1] == (origin / CONFIG).read_bytes()
    assert "Sha256" in ask(hub, TABLE)[1].decode()


def test_a_drip_sends_small_blocks(hub, origin, monkeypatch):
    waits = []
    monkeypatch.setattr(hub.closing, "wait", waits.append)
    hub.fault = Fault("drip", on="tokenizer/spiece.model", rate=35_000)
    _, body = ask(hub, hf_path("tokenizer/spiece.model"))
    assert body == (origin / "tokenizer/spiece.model").read_bytes()
    assert waits == [0.1] * 20


@pytest.mark.parametrize("name", ["../evil.txt", "/abs/evil.txt"])
def test_a_listing_names_a_file_outside(hub, name):
    hub.fault = Fault("name", name=name)
    assert name in [row["path"] for row in json.loads(ask(hub, TREE)[1])]
    assert name in [row["Path"] for row in json.loads(ask(hub, TABLE)[1])["Data"]["Files"]]
    reply, body = ask(hub, ms_path(name))
    assert reply.status == 200
    assert body


def test_closing_ends_a_reply_under_way(origin):
    with Hub({REPO: origin}) as hub:
        hub.fault = Fault("drip", rate=1000)
        connection = http.client.HTTPConnection("127.0.0.1", hub.port, timeout=20)
        connection.request("GET", hf_path(WEIGHTS))
        location = connection.getresponse().headers["Location"]
        cdn = http.client.HTTPConnection(location.split("/")[2], timeout=20)
        cdn.request("GET", "/" + location.split("/", 3)[3])
        reply = cdn.getresponse()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        reply.read()
    assert connection.sock.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        ask(hub, TREE)


def test_an_unknown_kind_of_fault_is_refused():
    with pytest.raises(ValueError, match="'slow'"):
        Fault("slow")


def test_it_serves_as_a_program(origin):
    command = [sys.executable, hub_module.__file__, f"{REPO}={origin}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            url = server.stdout.readline().strip()
            _, body = ask(None, url + hf_path(CONFIG))
        finally:
            server.kill()
    assert body == (origin / CONFIG).read_bytes()
