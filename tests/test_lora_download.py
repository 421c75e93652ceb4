"""LoRAs fetched through the real clients of both hubs."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from conftest import start, wait_for
from hub import LISTING, Fault, Hub
from safetensors.torch import save_file

from cogvx_nb.checkpoints.registry import TINY
from cogvx_nb.cli.main import main
from cogvx_nb.errors import (
    BadDownload,
    DownloadError,
    HubDenied,
    HubNotFound,
    RequestError,
    UnsafeName,
)
from cogvx_nb.loras import download, given, library
from cogvx_nb.loras.modules import linear_shapes
from cogvx_nb.sweep import given_loras
from cogvx_nb.workbench import lora_rows

LAYER = "transformer.transformer_blocks.3.attn1.to_q"
FILE = "pytorch_lora_weights.safetensors"

both = pytest.mark.parametrize("source", ["modelscope", "huggingface"])


@pytest.fixture
def origin(tmp_path):
    for name in ("one", "many", "pickled", "other"):
        (tmp_path / name / "deep").mkdir(parents=True)
    content = {f"{LAYER}.lora_A.weight": torch.ones(4, 256)}
    content[f"{LAYER}.lora_B.weight"] = torch.ones(256, 4)
    for path in (f"one/{FILE}", "many/a.safetensors", "many/deep/b.safetensors"):
        save_file(content, tmp_path / path)
    save_file({"w": torch.ones(2)}, tmp_path / "other/c.safetensors")
    (tmp_path / "pickled/a.bin").write_bytes(b"\x80\x04.")
    return tmp_path


@pytest.fixture
def hub(origin, monkeypatch):
    monkeypatch.setenv("COGVX_MODELS_DIR", str(origin / "models"))
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(origin / "outputs"))
    with Hub({f"me/{n}": origin / n for n in ("one", "many", "pickled", "other")}) as running:
        yield running


def fetch(hub, repo, wanted="", source="huggingface"):
    return download.fetch_lora(repo, wanted, source, hub.url, patience=1)


@both
def test_a_lora_is_fetched_once_under_the_name_of_its_repository(source, hub, origin):
    fetched = fetch(hub, "me/one", source=source)
    assert fetched.path == origin / "models/loras/one.safetensors"
    assert fetched.path.read_bytes() == (origin / "one" / FILE).read_bytes()
    assert "cogvideox-tiny" in fetched.fits
    kept = download.origins(fetched.path.parent)["one.safetensors"]
    assert (kept.source, kept.repo, kept.file) == (source, "me/one", FILE)
    assert kept.sha256 == fetched.file.sha256
    hub.forget()
    assert fetch(hub, "me/one", source=source).path == fetched.path
    assert not hub.served
    fetched.path.write_bytes(b"mine")
    with pytest.raises(DownloadError, match="there with other content"):
        fetch(hub, "me/one", source=source)
    assert fetched.path.read_bytes() == b"mine"


@both
def test_a_file_of_a_folder_is_named(source, hub, origin):
    with pytest.raises(BadDownload, match=r"2 files: name one of a\.saf.*, deep/b\.saf"):
        fetch(hub, "me/many", source=source)
    with pytest.raises(BadDownload, match=r"has no c: name one of a\.saf"):
        fetch(hub, "me/many", "c", source=source)
    assert fetch(hub, "me/many", "deep/b.safetensors", source).path.name == "b.safetensors"


LASTING = {
    "flip": (Fault("flip", on=FILE, at=500), BadDownload, "another hash"),
    "hashes": (Fault("no-hashes"), BadDownload, "gives no hash"),
    "gated": (Fault("status", on=LISTING, status=403, code="GatedRepo"), HubDenied, "agree to"),
}


@both
@pytest.mark.parametrize("fault", LASTING)
def test_a_fault_that_lasts_leaves_nothing(source, fault, hub, origin):
    hub.fault, kind, words = LASTING[fault]
    with pytest.raises(kind, match=words):
        fetch(hub, "me/one", source=source)
    assert not list((origin / "models").rglob("*.safetensors"))
    hub.fault = None
    assert fetch(hub, "me/one", source=source).path.is_file()


@both
def test_what_is_no_lora_is_not_kept(source, hub, origin):
    cases = (("pickled", BadDownload, "pickles"), ("other", RequestError, "no LoRA"))
    for name, kind, words in (*cases, ("none", HubNotFound, "404")):
        with pytest.raises(kind, match=words):
            fetch(hub, f"me/{name}", source=source)
    hub.fault = Fault("name", name="../evil.safetensors")
    with pytest.raises(UnsafeName, match="outside the folder"):
        fetch(hub, "me/one", "../evil.safetensors", source)
    assert not list(origin.rglob("evil*"))
    assert not list((origin / "models").rglob("*.safetensors"))


@pytest.mark.parametrize("repo", ["one", "me/..", "me/one/two", "/one", "me/", "../one"])
def test_what_is_no_repository_is_refused(repo):
    with pytest.raises(DownloadError, match="write OWNER/NAME"):
        download.fetch_lora(repo)


def test_the_command_prints_the_path(hub, origin, capsys):
    assert main(["lora", "download", "me/one", "--endpoint", hub.url]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip() == str(origin / "models/loras/one.safetensors")
    assert "fits cogvideox-tiny" in printed.err
    assert main(["lora", "download", "me/many", "--endpoint", hub.url]) == 1
    assert "name one of" in capsys.readouterr().err


def test_the_library_is_listed_with_origins(hub, origin, capsys):
    fetched = fetch(hub, "me/one")
    (fetched.path.parent / "bad.safetensors").write_bytes(b"hello")
    assert main(["lora", "list"]) == 0
    bad, one = capsys.readouterr().out.splitlines()
    assert "no safetensors file" in bad
    assert one.startswith("one  rank 4  cogvideox-tiny")
    assert one.endswith("from me/one at huggingface")
    content = {f"{LAYER}.lora_A.weight": torch.ones(2, 256)}
    save_file(content | {f"{LAYER}.lora_B.weight": torch.ones(256, 2)}, fetched.path)
    assert main(["lora", "list"]) == 0
    assert "changed since it was fetched" in capsys.readouterr().out


@both
def test_a_killed_download_goes_on(source, hub, origin):
    names = [f"transformer.{name}" for name in linear_shapes(TINY) if "attn1" in name]
    shapes = {"lora_A": (220, 256), "lora_B": (256, 220)}
    content = {f"{n}.{k}.weight": torch.randn(*s) for n in names for k, s in shapes.items()}
    save_file(content, path := origin / "one" / FILE)
    size = path.stat().st_size
    # Slowly enough that little is in flight to a modelscope client that is slow itself.
    rate = 2_000_000 if source == "modelscope" else 8_000_000
    hub.fault = Fault("drip", on=FILE, rate=rate)
    command = [sys.executable, "-m", "cogvx_nb", "lora", "download", "me/one"]
    with start([*command, "--source", source, "--endpoint", hub.url], origin) as running:
        wait_for(lambda: hub.served[FILE] > size / 2, running)
        running.kill()
    assert not list((origin / "models/loras").glob("**/*"))
    hub.fault = None
    fetched = fetch(hub, "me/one", source=source)
    assert fetched.path.read_bytes() == path.read_bytes()
    assert hub.served[FILE] < 2 * size
    if source == "modelscope":  # at most what was in flight, twice
        assert hub.served[FILE] < size + 2 * 2**21
    assert not list((origin / "models/.incomplete").glob("lora *"))


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@both
def test_fetched_loras_are_verified_and_repaired(source, hub, origin, capsys):
    fetched = fetch(hub, "me/one", source=source)
    whole = fetched.path.read_bytes()
    (fetched.path.parent / "mine.safetensors").write_bytes(whole)
    assert main(["verify"]) == 0
    assert capsys.readouterr().out == f"{fetched.path} is as {FILE} of me/one at {source}\n"
    damage(fetched.path)
    damaged = fetched.path.read_bytes()
    assert main(["verify", "one"]) == 1
    printed = capsys.readouterr()
    assert printed.out == f"{fetched.path} has other content than {FILE} of me/one at {source}\n"
    assert "cogvx verify --repair" in printed.err
    hub.forget()
    assert main(["verify", "--repair", "--endpoint", hub.url]) == 0
    printed = capsys.readouterr()
    assert printed.out.endswith(f"{fetched.path}: repaired\n")
    aside = fetched.path.with_stem(f"{fetched.path.stem}-2")
    assert f"kept as {aside.name}" in printed.out + printed.err
    assert aside.read_bytes() == damaged, "it may be the user's own"
    assert fetched.path.read_bytes() == whole
    assert dict(hub.served) == {FILE: len(whole)}
    assert main(["verify"]) == 0


def test_a_lora_that_its_hub_no_longer_has_stays(hub, origin, capsys):
    fetched = fetch(hub, "me/one", source="modelscope")
    damage(fetched.path)
    damaged = fetched.path.read_bytes()
    save_file({f"{LAYER}.lora_A.weight": torch.ones(4, 256)}, origin / "one" / FILE)
    assert main(["verify", "--repair", "--endpoint", hub.url]) == 1
    assert "has other content by now" in capsys.readouterr().err
    assert fetched.path.read_bytes() == damaged


def configured(origin, alpha):
    """Give the hub's LoRA a configuration of peft; its content."""
    content = json.dumps({"lora_alpha": alpha, "r": 4}).encode()
    (origin / "one" / "adapter_config.json").write_bytes(content)
    return content


@both
def test_the_configuration_next_to_a_lora_comes_with_it(source, hub, origin, capsys):
    content = configured(origin, 2)
    fetched = fetch(hub, "me/one", source=source)
    config = fetched.path.with_name("one.adapter_config.json")
    assert config.read_bytes() == content
    (used,) = given.read_loras("one", TINY)
    assert [(layer.scale, layer.alpha_from) for layer in used.layers] == [(0.5, "given")]
    assert lora_rows.kept_loras("one") == given.kept_text([used])
    hub.forget()
    fetch(hub, "me/one", source=source)
    assert not hub.served
    assert main(["verify", "one"]) == 0
    config.unlink()
    assert main(["verify", "one"]) == 1
    assert "has another one.adapter_config.json than" in capsys.readouterr().out
    fetch(hub, "me/one", source=source)
    assert config.read_bytes() == content
    assert FILE not in hub.served
    config.write_bytes(b"{}")
    with pytest.raises(DownloadError, match=r"adapter_config\.json is there with other"):
        fetch(hub, "me/one", source=source)
    assert main(["verify", "one", "--repair", "--endpoint", hub.url]) == 0
    assert config.read_bytes() == content
    assert FILE not in hub.served
    assert config.with_name("one.adapter_config-2.json").read_bytes() == b"{}"


@both
@pytest.mark.parametrize("kind", ["flip", "short"])
def test_a_damaged_configuration_leaves_nothing(source, kind, hub, origin):
    configured(origin, 2)
    hub.fault = Fault(kind, on="adapter_config.json", at=3)
    with pytest.raises(DownloadError):
        fetch(hub, "me/one", source=source)
    assert not list((origin / "models/loras").glob("*"))


def test_a_configuration_goes_with_a_lora_that_gets_another_name(hub, origin):
    content = configured(origin, 2)
    fetched = fetch(hub, "me/one")
    damage(fetched.path)
    assert main(["verify", "one", "--repair", "--endpoint", hub.url]) == 0
    names = {path.name for path in fetched.path.parent.glob("*.*") if path.name[0] != "."}
    both_names = {"one.safetensors", "one-2.safetensors"}
    assert names == both_names | {"one.adapter_config.json", "one-2.adapter_config.json"}
    for name in ("one", "one-2"):
        assert fetched.path.with_name(f"{name}.adapter_config.json").read_bytes() == content
    assert {one.alpha for one in given.read_loras("one, one-2", TINY)} == {2}


def test_a_configuration_without_its_lora_is_not_taken_for_that_of_another(hub, origin):
    configured(origin, 2)
    fetched = fetch(hub, "me/one")
    other = fetched.path.read_bytes()
    fetched.path.unlink()
    assert library.keep_lora(other, "one").name == "one-2.safetensors"
    (origin / "one" / "adapter_config.json").unlink()
    with pytest.raises(DownloadError, match=r"adapter_config\.json is there with other"):
        fetch(hub, "me/one")
    assert not fetched.path.exists()


def test_the_configuration_of_another_folder_is_not_taken(hub, origin):
    (origin / "many" / "adapter_config.json").write_text('{"lora_alpha": 2}')
    fetched = fetch(hub, "me/many", "deep/b.safetensors")
    assert not list(fetched.path.parent.glob("b.*json"))
    assert download.origins(fetched.path.parent)["b.safetensors"].config == ""


def test_what_was_kept_before_a_configuration_came_stays_as_it_was(hub, origin):
    fetch(hub, "me/one")
    kept = given.kept_text(given.read_loras("one", TINY))
    configured(origin, 2)
    fetch(hub, "me/one")
    assert given.read_loras("one", TINY)[0].layers[0].scale == 0.5
    (used,) = given.read_loras(kept, TINY)
    assert (used.layers[0].scale, used.alpha) == (1, None)
    assert lora_rows.kept_loras(kept) == given_loras.LoraFiles({}).read(kept, []).kept == kept
    assert lora_rows.kept_loras(kept.replace("#", ".safetensors#")) == kept


def test_origins_of_before_have_no_configuration(hub, origin):
    fetched = fetch(hub, "me/one")
    record = fetched.path.parent / download.ORIGINS
    content = json.loads(record.read_text())
    assert content["one.safetensors"].pop("config") == ""
    record.write_text(json.dumps(content))
    assert download.origins(record.parent)["one.safetensors"].repo == "me/one"
    assert main(["verify", "one"]) == 0


@pytest.mark.parametrize("content", ["[", "[]", '{"one.safetensors": {"repo": 1}}', "{}"])
def test_a_damaged_record_of_origins_is_none(content, hub, origin, capsys):
    fetched = fetch(hub, "me/one")
    (fetched.path.parent / download.ORIGINS).write_text(content)
    assert main(["lora", "list"]) == 0
    assert "from me/one" not in capsys.readouterr().out
    assert main(["verify"]) == 1
    assert "yet" in capsys.readouterr().err
