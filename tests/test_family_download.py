"""Downloads of the whole family: files that are on the disk already are not fetched again."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from conftest import run_cogvx
from family_hub import HOSTED, T5, VAE, family_repositories
from hub import Fault, Hub

from cogvx_nb.check import run
from cogvx_nb.checkpoints import download, manifest, registry, store, transfer, verification
from cogvx_nb.cli.main import main
from cogvx_nb.errors import (
    BadDownload,
    DownloadError,
    HubNotFound,
    ModelCorrupt,
    RequestError,
)
from cogvx_nb.progress import Note

BASE, I2V, LONG = registry.COGVIDEOX_5B, registry.COGVIDEOX_5B_I2V, registry.COGVIDEOX_15_5B
SHARDS = tuple(f"transformer/diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2))
SHARED = (*T5, VAE)
REUSED = 4990 + 4534 + 4 * 216
"""Bytes of the text encoder and the VAE, which the 5B models share."""

both = pytest.mark.parametrize("source", ["modelscope", "huggingface"])


@pytest.fixture(scope="module")
def repositories(tmp_path_factory) -> dict[str, Path]:
    return family_repositories(tmp_path_factory.mktemp("family"))


@pytest.fixture
def hub(repositories):
    with Hub(repositories) as running:
        yield running


@pytest.fixture
def models(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("COGVX_MODELS_DIR", str(tmp_path / "models"))
    return tmp_path / "models"


@pytest.fixture
def plan(hub, models):
    def plan(known=I2V, source="huggingface", **options):
        return download.prepare_download(known, source, hub.url, models, **options)

    return plan


@pytest.fixture
def fetch(plan):
    """Download a checkpoint; what was planned and what was said."""

    def fetch(known=I2V, source="huggingface", **options):
        said, planned = [], plan(known, source, **options)
        transfer.fetch_checkpoint(planned, said.append, patience=1.0)
        return planned, [event.text for event in said if isinstance(event, Note)]

    return fetch


def contents(folder: Path) -> dict[str, bytes]:
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != manifest.NAME}


def is_one_file(first: Path, second: Path) -> bool:
    return first.stat().st_ino == second.stat().st_ino


def flip(path: Path, keep_date: bool) -> None:
    """Change a byte of a file in place."""
    before, content = path.stat(), bytearray(path.read_bytes())
    content[-1] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    if keep_date:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        later = before.st_mtime_ns + 10**10
        os.utime(path, ns=(later, later))


def problems(model: str | Path) -> list[tuple[str, str]]:
    return [(p.path, p.kind) for p in verification.verify_checkpoint(str(model)).problems]


@both
def test_all_are_fetched_what_they_share_once(source, hub, fetch, models, repositories):
    there = [known for known in HOSTED if getattr(known, source)]
    for known in there:
        fetch(known, source)
        assert contents(models / known.name) == contents(repositories[getattr(known, source)])
        assert store.locate_checkpoint(str(models / known.name)).checkpoint is known
    assert [hub.served[name] for name in T5] == [4990, 4534]
    assert hub.served[VAE] == 2 * 4 * 216 + 2 * 216  # of the 5B, of the 2B, and a short one
    kinds = {
        (models / known.name / T5[0]).stat().st_ino
        for known in there
        if known not in (LONG, registry.COGVIDEOX_15_5B_I2V)
    }
    assert len(kinds) == 1
    shutil.rmtree(models / BASE.name)
    assert not any(problems(models / known.name) for known in there[1:])


def test_the_listing_says_what_comes_from_where(hub, fetch, plan, models):
    assert "on the disk" not in str(plan()).replace("free on the disk", "")
    fetch(BASE)
    planned = plan()
    lines = str(planned).splitlines()
    assert f"     5.0 kB  {T5[0]}, linked from CogVideoX-5b" in lines
    assert f"      864 B  {VAE}, linked from CogVideoX-5b" in lines
    assert f"     9.9 kB  {SHARDS[0]}" in lines
    left = planned.total_bytes - REUSED
    assert (planned.left_bytes, planned.room_bytes) == (left, left)
    summary = "here already: 0 B; on the disk in other folders: 10.4 kB; to fetch: 12.8 kB; free"
    assert lines[-2].startswith(summary), lines[-2]
    hub.forget()
    fetch()
    assert hub.served.total() == left
    assert not set(SHARED) & {name for name, count in hub.served.items() if count}
    assert all(is_one_file(models / BASE.name / n, models / I2V.name / n) for n in SHARED)
    assert not is_one_file(models / BASE.name / SHARDS[0], models / I2V.name / SHARDS[0])
    small = "text_encoder/config.json"  # which somebody may edit
    assert not is_one_file(models / BASE.name / small, models / I2V.name / small)


def test_a_folder_without_a_manifest_helps_too(hub, fetch, plan, models):
    fetch(BASE)
    manifest.remove_manifest(models / BASE.name)
    flip(models / BASE.name / T5[1], keep_date=False)
    assert plan().twins.keys() == {T5[0], VAE}
    blob = models / BASE.name / "blob"  # as in the cache of Hugging Face's client
    (models / BASE.name / T5[0]).rename(blob)
    (models / BASE.name / T5[0]).symlink_to(blob)
    fetch()
    assert is_one_file(models / I2V.name / T5[0], blob)
    assert not (models / I2V.name / T5[0]).is_symlink()
    shutil.rmtree(models / I2V.name)
    (models / BASE.name / manifest.NAME).write_text("{")
    assert not plan().twins
    hub.forget()
    fetch()
    assert not problems(models / I2V.name)
    assert hub.served[T5[0]] == 4990


def test_an_unfinished_download_helps_too(hub, fetch, models):
    hub.fault = Fault("status", on="README.md", status=404, code="EntryNotFound")
    with pytest.raises(HubNotFound):
        fetch(BASE)
    hub.fault = None
    hub.forget()
    planned, _ = fetch()
    assert f"{T5[0]}, linked from .incomplete/CogVideoX-5b" in str(planned)
    assert not hub.served[T5[0]] + hub.served[T5[1]] + hub.served[VAE]
    fetch(BASE)
    assert not hub.served[T5[0]] + hub.served[T5[1]] + hub.served[VAE]
    assert not problems(models / BASE.name) + problems(models / I2V.name)


@both
def test_a_damaged_file_is_not_taken(source, hub, fetch, models):
    fetch(BASE, source)
    damaged = models / BASE.name / T5[0]
    flip(damaged, keep_date=True)  # as a disk does, behind the manifest's back
    bad = damaged.read_bytes()
    hub.forget()
    planned, notes = fetch(I2V, source)
    assert planned.twins.keys() == set(SHARED)
    assert notes == [f"{damaged} is damaged, so {T5[0]} is fetched"]
    assert (hub.served[T5[0]], hub.served[T5[1]]) == (4990, 0)
    assert not problems(models / I2V.name)
    assert damaged.read_bytes() == bad
    verified = verification.verify_checkpoint(str(damaged.parents[1]))
    hub.forget()
    verification.repair_checkpoint(verified, hub.url)  # by a link, the other way
    assert not hub.served.total()
    assert is_one_file(damaged, models / I2V.name / T5[0])
    assert not problems(models / BASE.name)


def test_an_edited_file_is_not_even_planned(fetch, plan, models):
    fetch(BASE)
    flip(models / BASE.name / T5[0], keep_date=False)
    assert plan().twins.keys() == {T5[1], VAE}


def test_a_repair_leaves_the_other_as_it_is(hub, fetch, models):
    fetch(BASE)
    fetch()
    base, other = models / BASE.name / T5[0], models / I2V.name / T5[0]
    flip(other, keep_date=True)  # in place, so that it is the same in both
    assert problems(models / BASE.name) == problems(models / I2V.name) == [(T5[0], "hash")]
    bad = base.read_bytes()
    hub.forget()
    said, verified = [], verification.verify_checkpoint(str(other.parents[1]))
    verification.repair_checkpoint(verified, hub.url, on_event=said.append)
    assert not [event for event in said if isinstance(event, Note)], "it isn't its own twin"
    assert dict(hub.served) == {T5[0]: 4990}
    assert not problems(models / I2V.name)
    assert base.read_bytes() == bad
    verification.repair_checkpoint(verification.verify_checkpoint(str(base.parents[1])), hub.url)
    assert dict(hub.served) == {T5[0]: 4990}
    assert is_one_file(base, other)
    content = base.read_bytes()
    other.unlink()
    other.write_bytes(b"cut short")
    verification.repair_checkpoint(verification.verify_checkpoint(str(other.parents[1])), hub.url)
    assert dict(hub.served) == {T5[0]: 4990}
    assert base.read_bytes() == other.read_bytes() == content
    shutil.rmtree(models / BASE.name)
    assert not problems(models / I2V.name)


def test_what_is_on_another_disk_is_copied(hub, fetch, models, tmp_path):
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no other disk here")
    fetch(BASE)
    with tempfile.TemporaryDirectory(dir=shm) as elsewhere:
        shutil.move(models / BASE.name, elsewhere)
        (models / BASE.name).symlink_to(Path(elsewhere) / BASE.name)
        hub.forget()
        planned, _ = fetch()
        assert f"{T5[0]}, copied from CogVideoX-5b" in str(planned)
        assert planned.room_bytes == planned.total_bytes
        assert planned.left_bytes == hub.served.total() == planned.total_bytes - REUSED
        assert not is_one_file(models / BASE.name / VAE, models / I2V.name / VAE)
    assert not problems(models / I2V.name)
    assert not list(models.rglob("*.partial"))


@both
def test_an_interrupted_one_goes_on_with_its_links(source, hub, fetch, plan, models):
    fetch(BASE, source)
    hub.fault = Fault("status", on=SHARDS[0], status=404, code="EntryNotFound")
    with pytest.raises(HubNotFound):
        fetch(I2V, source)
    assert is_one_file(models / BASE.name / VAE, models / manifest.UNFINISHED / I2V.name / VAE)
    shutil.rmtree(models / BASE.name)
    hub.fault = None
    hub.forget()
    assert not plan(I2V, source).twins
    fetch(I2V, source)
    assert not set(SHARED) & {name for name, count in hub.served.items() if count}
    assert not problems(models / I2V.name)


def test_one_that_goes_away_meanwhile_is_fetched(hub, fetch, plan, models):
    fetch(BASE)
    planned = plan()
    twin = planned.twins[VAE]
    shutil.rmtree(models / BASE.name)
    twin.place(models / "x" / "copy", lambda count: None)
    assert not (models / "x" / "copy").exists()
    transfer.fetch_checkpoint(planned)
    assert not problems(models / I2V.name)


def test_one_hub_only(hub, models, monkeypatch):
    known = registry.INTERPOLATION
    with pytest.raises(DownloadError, match="Interpolation is not on modelscope: use --source hug"):
        download.prepare_download(known, "modelscope", hub.url, models)
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    planned = download.prepare_download(known, "auto", "", models)
    assert (planned.offer.listing.source, planned.offer.note) == ("huggingface", "")
    assert str(planned).splitlines()[-1].startswith("licence: none stated – ")


def text_encoder(folder: Path) -> dict[str, bytes]:
    return contents(folder / "text_encoder")


@both
@pytest.mark.parametrize("present", [False, True], ids=["alone", "beside it"])
def test_a_text_encoder_of_another(present, source, hub, fetch, plan, models, repositories):
    if present:
        fetch(BASE, source)
    hint = f"--text-encoder-from {BASE.name}"
    assert hint in str(plan(LONG, source))
    hub.forget()
    planned, _ = fetch(LONG, source, text_encoder_from="5b")
    shown, folder = str(planned), models / LONG.name
    origin = f"{getattr(BASE, source)} (revision "
    assert f"with the text encoder of CogVideoX-5b instead of its own, from {origin}" in shown
    assert hint not in shown
    assert [hub.served[name] for name in T5] == ([0, 0] if present else [4990, 4534])
    assert text_encoder(folder) == text_encoder(repositories[BASE.huggingface])
    model = store.locate_checkpoint(str(folder))
    assert (model.checkpoint, set(T5) - store.file_hashes(model).keys()) == (LONG, set())
    written = manifest.read_manifest(folder).text_encoder_from
    assert (written.name, written.repo) == (BASE.name, getattr(BASE, source))
    assert str(verification.verify_checkpoint(str(folder))).endswith(
        " files are right, its text encoder is CogVideoX-5b's"
    )
    assert run._folder_row("model", folder, False, "fail").found.endswith("is CogVideoX-5b's")
    (folder / T5[1]).unlink()
    hub.forget()
    verification.repair_checkpoint(verification.verify_checkpoint(str(folder)), hub.url)
    assert hub.served.total() == (0 if present else 4534)
    assert manifest.read_manifest(folder).text_encoder_from == written
    assert not problems(folder)


def test_the_own_text_encoder_again(fetch, plan, models, repositories):
    fetch(LONG)
    own = text_encoder(models / LONG.name)
    extra = models / LONG.name / "text_encoder" / "notes.txt"
    extra.write_text("mine")
    fetch(LONG, text_encoder_from=BASE.name)
    assert (
        text_encoder(models / LONG.name).keys() - {"notes.txt"}
        == text_encoder(repositories[BASE.huggingface]).keys()
    )
    extra.unlink()
    fetch(LONG)
    assert text_encoder(models / LONG.name) == own
    assert manifest.read_manifest(models / LONG.name).text_encoder_from is None


@pytest.mark.parametrize("name", ["tiny", "1.5", "nobody"])
def test_a_text_encoder_that_does_not_fit(name, plan):
    with pytest.raises(RequestError, match=rf"^text_encoder_from = '{name}': use one of CogVideoX"):
        plan(LONG, text_encoder_from=name)


@pytest.mark.parametrize("part", ["text_encoder", "vae"])
def test_a_repository_without_a_part(part, repositories, plan, hub, fetch, models, tmp_path):
    folder = tmp_path / "partial"
    shutil.copytree(repositories[I2V.huggingface], folder)
    shutil.rmtree(folder / part)
    hub.repos = hub.repos | {I2V.huggingface: folder}
    with pytest.raises(BadDownload, match=f"no .safetensors of its {part}, so nothing was"):
        plan()
    if part == "text_encoder":
        fetch(text_encoder_from="5b")
        assert store.locate_checkpoint(str(models / I2V.name)).checkpoint is I2V


@pytest.mark.parametrize(
    "lender",
    [
        1,
        "5b",
        {"name": "x"},
        {"name": "a\nb", "repo": "x", "revision": "y"},
        {"name": 1, "repo": "x", "revision": "y"},
    ],
)
def test_a_manifest_with_something_else_for_a_lender(lender, tmp_path):
    content = {"source": "s", "repo": "r", "revision": "v", "files": {}}
    (tmp_path / manifest.NAME).write_text(json.dumps(content | {"text_encoder_from": lender}))
    with pytest.raises(ModelCorrupt, match="can't be read: delete it"):
        manifest.read_manifest(tmp_path)


def test_only_what_is_in_the_folder_is_removed(fetch, models, tmp_path):
    fetch(BASE)
    outside = models / "mine.json"
    outside.write_text("{}")
    path = models / BASE.name / manifest.NAME
    content = json.loads(path.read_text())
    entry = {"bytes": 2, "sha256": ""}
    content["files"] |= {"../mine.json": entry, str(outside): entry, "vae/old.json": entry}
    path.write_text(json.dumps(content))
    (models / BASE.name / "vae" / "old.json").write_text("{}")
    fetch(BASE)
    assert outside.is_file()
    assert not (models / BASE.name / "vae" / "old.json").exists()


def test_check_counts_what_a_download_takes(models):
    row = run._disk_rows(run.ModelChoice(LONG, None, "", True))[0]
    assert row.needed == "31.3 GB more for CogVideoX1.5-5B"


def test_models_says_what_is_here(fetch, plan, models, capsys):
    fetch(BASE)
    (models / manifest.UNFINISHED / LONG.name).mkdir(parents=True)
    (models / I2V.name).mkdir()
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(registry.CHECKPOINTS)
    assert f"{BASE.name:<31}yes         21.5 GB   text, clip, extend           CogVideoX" in lines
    assert f"{I2V.name:<31}damaged     21.5 GB   image, extend                CogVideoX" in lines
    assert f"{LONG.name:<31}unfinished  31.1 GB   text, clip, extend           CogVideoX" in lines
    assert lines[6].split() == [
        "CogvideoX-Interpolation",
        "no",
        "21.5",
        "GB",
        "frames",
        "none",
        "stated",
    ]


def test_the_command_takes_a_text_encoder_of_another(hub, models, tmp_path):
    flags = ["1.5", "--text-encoder-from", "5b", "--endpoint", hub.url, "--yes"]
    done = run_cogvx("download", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(models / LONG.name)
    assert "with the text encoder of CogVideoX-5b instead of its own" in done.stderr
    done = run_cogvx("verify", cwd=tmp_path)
    assert done.stdout.endswith("files are right, its text encoder is CogVideoX-5b's\n")
