"""Downloads through the real clients of both hubs, from a hub that fails as it is told to."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from conftest import CIRCLE, run_cogvx
from hub import FILES, INFO, LISTING, Fault, Hub

from cogvx_nb import progress
from cogvx_nb.checkpoints import download, manifest, registry, transfer, verification
from cogvx_nb.errors import (
    BadDownload,
    DiskFull,
    DownloadError,
    HubBusy,
    HubDenied,
    HubFailed,
    HubNotFound,
    HubUnreachable,
    ModelError,
    UnsafeName,
)

MODEL = registry.COGVIDEOX_5B
SHARD = "transformer/diffusion_pytorch_model.safetensors"
SHARD_BYTES = 12_000_003
"""More than the 10 MiB that Hugging Face's client writes at a time."""

UNWANTED = ("assets/a.png", "vae/diffusion_pytorch_model.bin", "vae/model.fp16.safetensors", "x.pt")
PATIENCE = 3.0

both = pytest.mark.parametrize("source", ["modelscope", "huggingface"])


def repositories(folder: Path) -> dict[str, Path]:
    return {MODEL.modelscope: folder, MODEL.huggingface: folder}


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Path:
    """A repository in the layout of a checkpoint, with noise for weights."""
    noise, folder = random.Random(1), tmp_path_factory.mktemp("origin")
    sizes = {SHARD: SHARD_BYTES, "vae/diffusion_pytorch_model.safetensors": 70_001}
    sizes |= {"tokenizer/spiece.model": 5000, "text_encoder/model.safetensors": 300_000}
    sizes |= dict.fromkeys(UNWANTED, 1000) | {"transformer/config.json": 300, "LICENSE": 900}
    for name, size in (sizes | {"model_index.json": 400, "tokenizer/added.json": 0}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(noise.randbytes(size))
    return folder


@pytest.fixture
def hub(origin):
    with Hub(repositories(origin)) as running:
        yield running


@pytest.fixture
def fetch(hub, tmp_path):
    """Download into the test's folder; the manifest and what was reported."""

    def run(source: str, patience: float = PATIENCE, **options):
        events = []
        planned = download.prepare_download(MODEL, source, hub.url, tmp_path / "models", **options)
        return transfer.fetch_checkpoint(planned, events.append, patience), events

    return run


def files_in(folder: Path) -> dict[str, Path]:
    return {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}


def assert_whole(models: Path, origin: Path) -> None:
    there = files_in(models / MODEL.name)
    expected = files_in(origin).keys() - set(UNWANTED)
    assert there.keys() == expected | {manifest.NAME}
    for name in expected:
        assert there[name].read_bytes() == (origin / name).read_bytes()
    listed = manifest.read_manifest(models / MODEL.name)
    assert listed.files.keys() == expected
    assert not manifest.find_problems(models / MODEL.name, listed, deep=True)
    assert not (models / manifest.UNFINISHED / MODEL.name).exists()


def assert_unfinished(models: Path) -> None:
    assert not (models / MODEL.name).exists()


@both
def test_a_download_is_whole_and_is_not_done_twice(source, hub, fetch, origin, tmp_path):
    fetched, events = fetch(source)
    assert_whole(tmp_path / "models", origin)
    assert (fetched.source, fetched.repo) == (source, getattr(MODEL, source))
    total = sum(file.bytes for file in fetched.files.values())
    assert hub.served.total() == total
    assert sum(event.count for event in events if isinstance(event, progress.Bytes)) == total
    hub.forget()
    again, _ = fetch(source)
    assert again == fetched
    assert not hub.served


@both
def test_the_plan_is_known_before_the_first_byte(source, hub, tmp_path):
    planned = download.prepare_download(MODEL, source, hub.url, tmp_path / "models")
    shown = str(planned)
    assert not hub.served
    assert not (tmp_path / "models").exists()
    assert "12.0 MB  transformer/diffusion_pytorch_model.safetensors" in shown
    assert "licence: CogVideoX License – free for research" in shown
    assert re.search(r"here already: 0 B; to fetch: 12\.4 MB; free on the disk: [\d.]+ GB", shown)
    assert not any(name in shown for name in UNWANTED)


PASSING = {
    "close": Fault("close", on=SHARD, at=11_000_000, times=1),
    "reset": Fault("reset", on=SHARD, at=11_000_000, times=1),
    "unsized": Fault("unsized", on=SHARD, at=11_000_000, times=1),
    "flip": Fault("flip", on=SHARD, at=5_000_000, times=1),
    "short": Fault("short", on=SHARD, at=11_000_000, times=1, method="GET"),
    "500": Fault("status", on=SHARD, status=500, times=1, method="GET"),
    "429": Fault("status", on=SHARD, status=429, retry_after=1, times=1, method="GET"),
}


@both
@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_is_survived(source, fault, hub, fetch, origin, tmp_path):
    hub.fault = PASSING[fault]
    fetch(source)
    assert_whole(tmp_path / "models", origin)


LASTING = [
    (Fault("flip", on=SHARD, at=5_000_000), BadDownload, "another hash"),
    (Fault("status", on=INFO, status=401), HubDenied, "HF_TOKEN or MODELSCOPE_API_TOKEN"),
    (Fault("status", on=LISTING, status=401), HubDenied, "HF_TOKEN or MODELSCOPE_API_TOKEN"),
    (Fault("status", on=SHARD, status=401), HubDenied, "wants a token"),
    (Fault("status", on=SHARD, status=403, code="GatedRepo"), HubDenied, "agree to the model's"),
    (Fault("status", on=FILES, status=404, code="EntryNotFound"), HubNotFound, "404"),
    (Fault("status", on=LISTING, status=404, code="RevisionNotFound"), HubNotFound, "404"),
    (Fault("no-hashes"), BadDownload, "gives no hash for"),
    (Fault("name", name="../evil.json"), UnsafeName, r"'\.\./evil\.json'"),
    (Fault("name", name="/tmp/evil.json"), UnsafeName, "outside the checkpoint's folder"),
]


@pytest.mark.slow
@both
@pytest.mark.parametrize(("fault", "kind", "words"), LASTING)
def test_a_fault_that_lasts_is_named(source, fault, kind, words, hub, fetch, origin, tmp_path):
    if fault.on == INFO and source == "modelscope":
        pytest.skip("ModelScope's client has no such request")
    hub.fault = fault
    with pytest.raises(kind, match=words) as caught:
        fetch(source)
    assert "\n" not in str(caught.value)
    assert_unfinished(tmp_path / "models")
    assert not list(tmp_path.rglob("evil*"))
    hub.fault = None
    fetch(source)
    assert_whole(tmp_path / "models", origin)


@pytest.mark.slow
def test_a_hub_that_keeps_failing_is_given_up(hub, fetch, tmp_path, monkeypatch):
    from huggingface_hub.utils import http_backoff

    # By default its client waits 1 … 8 s between its six tries.
    monkeypatch.setitem(http_backoff.__kwdefaults__, "base_wait_time", 0.05)
    hub.fault = Fault("status", on=SHARD, status=500)
    with pytest.raises(HubFailed, match=r"\(500\): try again"):
        fetch("huggingface")
    hub.fault = Fault("status", on=SHARD, status=429, retry_after=1)
    with pytest.raises(HubBusy, match=r"asks to wait.*\(429\)"):
        fetch("huggingface")
    assert_unfinished(tmp_path / "models")


@pytest.mark.slow
def test_a_dead_hub_is_named(tmp_path):
    with pytest.raises(HubUnreachable, match=r"no connection to http://127\.0\.0\.1:9: check"):
        download.prepare_download(MODEL, "huggingface", "http://127.0.0.1:9", tmp_path)


def test_a_proxy_that_refuses_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://user:s3cr3t@127.0.0.1:9")
    done = run_cogvx("download", "--source", "huggingface", "--yes", cwd=tmp_path)
    assert done.returncode == 1
    assert "to https://huggingface.co through the proxy 127.0.0.1:9: check" in done.stderr
    assert "s3cr3t" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_auto_takes_the_other_hub_and_says_so(hub, origin, tmp_path, monkeypatch):
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    planned = download.prepare_download(MODEL, "auto", "", tmp_path / "models")
    assert "no connection to http://127.0.0.1:9" in str(planned).splitlines()[0]
    assert "taking huggingface instead" in str(planned)
    transfer.fetch_checkpoint(planned)
    assert_whole(tmp_path / "models", origin)


@both
def test_a_token_goes_to_a_mirror_only_if_asked(source, origin, tmp_path, monkeypatch):
    monkeypatch.setenv("COGVX_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.setenv("HF_TOKEN", "hf_s3cr3t")
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "hf_s3cr3t")
    with Hub(repositories(origin), token="hf_s3cr3t") as hub:
        flags = ["--source", source, "--endpoint", hub.url, "--yes"]
        refused = run_cogvx("download", *flags, cwd=tmp_path)
        assert refused.returncode == 1
        assert "wants a token" in refused.stderr
        assert not any("hf_s3cr3t" in str(request.headers) for request in hub.requests)
        done = run_cogvx("download", *flags, "--send-token", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert_whole(tmp_path / "models", origin)
    assert "hf_s3cr3t" not in refused.stdout + refused.stderr + done.stdout + done.stderr
    written = [path for path in (tmp_path / "models").rglob("*") if path.is_file()]
    assert not [path for path in written if b"hf_s3cr3t" in path.read_bytes()]


@pytest.mark.slow
@both
def test_a_killed_download_goes_on(source, hub, origin, tmp_path):
    # Slowly enough that little is in flight to a modelscope client that is slow itself.
    rate = 2_000_000 if source == "modelscope" else 8_000_000
    hub.fault = Fault("drip", on=SHARD, rate=rate)
    command = [sys.executable, "-m", "cogvx_nb", "download", "--source", source, "--yes"]
    command += ["--endpoint", hub.url, "--models-dir", str(tmp_path / "models")]
    for share in (0.3, 0.6):
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        before, deadline = hub.served[SHARD], time.monotonic() + 300
        while hub.served[SHARD] < before + share * SHARD_BYTES / 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        running.kill()
        running.wait()
        assert_unfinished(tmp_path / "models")
    hub.fault = None
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "models" / MODEL.name)
    assert_whole(tmp_path / "models", origin)
    small = sum(n for name, n in hub.served.items() if name != SHARD)
    assert small <= 400_000  # what was whole was not fetched again
    if source == "modelscope":  # at most what was in flight, twice
        assert hub.served[SHARD] < SHARD_BYTES + 2 * 2**21


@pytest.mark.slow
def test_an_interrupted_download_says_one_line(hub, tmp_path):
    hub.fault = Fault("drip", on=SHARD, rate=1_000_000)
    command = [sys.executable, "-m", "cogvx_nb", "download", "--endpoint", hub.url, "--yes"]
    running = subprocess.Popen(
        [*command, "--models-dir", str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    while not hub.served[SHARD]:
        time.sleep(0.05)
    running.terminate()
    printed = running.communicate(timeout=120)[1]
    assert running.returncode == 143
    assert "Traceback" not in printed
    assert_unfinished(tmp_path)


@pytest.mark.slow
def test_two_downloads_at_once_fetch_once(hub, fetch, origin, tmp_path):
    hub.fault = Fault("drip", on=SHARD, rate=6_000_000)
    first = threading.Thread(target=fetch, args=("modelscope",))
    first.start()
    while not hub.served[SHARD]:
        time.sleep(0.01)
    _, events = fetch("modelscope")
    first.join()
    notes = [event.text for event in events if isinstance(event, progress.Note)]
    assert len(notes) == 1
    assert re.search(rf"fetched by process {os.getpid()} on \S+ since [\d:]+: waiting", notes[0])
    assert_whole(tmp_path / "models", origin)
    assert hub.served[SHARD] == SHARD_BYTES


def test_a_disk_that_is_too_small_is_refused(hub, small_disk):
    with pytest.raises(DiskFull, match=r"needs 12\.4 MB more at .* free: make room"):
        download.prepare_download(MODEL, "huggingface", hub.url, small_disk(1024))


@both
def test_a_disk_that_fills_up_is_named(source, hub, origin, small_disk):
    disk = small_disk(290_000)
    planned = download.prepare_download(MODEL, source, hub.url, disk)
    filler = disk / "filler"
    with filler.open("wb") as file:
        file.write(bytes(280_000 * 1024))
    with pytest.raises(DiskFull, match="is full: make room"):
        transfer.fetch_checkpoint(planned, patience=PATIENCE)
    assert_unfinished(disk)
    filler.unlink()
    transfer.fetch_checkpoint(planned, patience=PATIENCE)
    assert_whole(disk, origin)


def test_a_folder_that_cannot_be_written_is_named(hub, small_disk):
    disk = small_disk(400_000)
    planned = download.prepare_download(MODEL, "huggingface", hub.url, disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(DownloadError, match=r"can't be written \(Read-only file system\): choose"):
        transfer.fetch_checkpoint(planned)


@both
def test_a_flipped_byte_is_found_and_mended_alone(source, hub, fetch, origin, tmp_path):
    fetch(source)
    folder = tmp_path / "models" / MODEL.name
    with (folder / SHARD).open("r+b") as file:
        file.seek(777)
        byte = file.read(1)
        file.seek(777)
        file.write(bytes([byte[0] ^ 1]))
    verified = verification.verify_checkpoint(str(folder))
    assert [(problem.path, problem.kind) for problem in verified.problems] == [(SHARD, "hash")]
    hub.forget()
    verification.repair_checkpoint(verified, hub.url)
    assert_whole(tmp_path / "models", origin)
    assert dict(hub.served) == {SHARD: SHARD_BYTES}


def test_verify_names_missing_and_short_files(fetch, tmp_path, monkeypatch):
    monkeypatch.setenv("COGVX_MODELS_DIR", str(tmp_path / "models"))
    nothing = run_cogvx("verify", cwd=tmp_path)
    assert nothing.returncode == 1
    assert f"has a {manifest.NAME} yet" in nothing.stderr
    fetch("huggingface")
    folder = tmp_path / "models" / MODEL.name
    assert run_cogvx("verify", cwd=tmp_path).stdout == f"{folder}: all 8 files are right\n"
    (folder / "LICENSE").unlink()
    (folder / SHARD).write_bytes(b"short")
    done = run_cogvx("verify", "5b", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"{folder}/LICENSE is missing",
        f"{folder}/{SHARD} has 5 bytes of 12,000,003",
    ]
    assert "cogvx verify --repair" in done.stderr


def test_verify_says_what_it_cannot_compare(copy_of_tiny, tmp_path):
    (copy_of_tiny / manifest.NAME).unlink(missing_ok=True)
    with pytest.raises(ModelError, match=f"no {manifest.NAME} to compare with"):
        verification.verify_checkpoint(str(copy_of_tiny))
    assert not verification.verify_checkpoint("tiny").problems
    with pytest.raises(ModelError, match="came from no hub"):
        verification.repair_checkpoint(verification.verify_checkpoint("tiny"))


def test_the_embedded_one_is_not_downloaded():
    with pytest.raises(DownloadError, match="ships with the repository"):
        download.prepare_download(registry.TINY)


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (["nope"], 2, "model = 'nope': use one of CogVideoX-5b, CogVideoX-2b, CogVideoX-5b-I2V"),
        (["--endpoint", "HUB"], 2, "there is nobody to ask: add --yes"),
        (["2b", "--endpoint", "HUB", "--yes"], 1, "has no zai-org/CogVideoX-2b (404)"),
        (["--source", "ftp"], 2, "invalid choice"),
    ],
)
def test_bad_flags_say_one_line(flags, code, words, hub, tmp_path):
    flags = [hub.url if flag == "HUB" else flag for flag in flags]
    done = run_cogvx("download", *flags, "--models-dir", str(tmp_path / "models"), cwd=tmp_path)
    assert done.returncode == code
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models").exists()


@pytest.mark.slow
@both
def test_a_downloaded_copy_makes_a_video(source, tiny, tmp_path):
    with Hub(repositories(tiny.folder)) as hub:
        planned = download.prepare_download(MODEL, source, hub.url, tmp_path / "models")
        transfer.fetch_checkpoint(planned)
    flags = ["--prompt", CIRCLE, "--steps", "2", "--output", "a.mp4"]
    done = run_cogvx("generate", "--model", str(planned.folder), *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.mp4").stat().st_size > 1000
    shutil.rmtree(planned.folder)
