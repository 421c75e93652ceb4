"""Files that videos were made from: kept by content, found again, listed and removed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import run_cogvx
from PIL import Image

from cogvx_nb.cli import main
from cogvx_nb.errors import OutputError, RequestError, ResultError
from cogvx_nb.media import given, kept
from cogvx_nb.results import input_uses, trash
from cogvx_nb.results.video import encode_video


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """The system's temporary folder, where other tests keep frames."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def png(colour: str) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), colour).save(stream, "PNG")
    return stream.getvalue()


def keep_old(colour: str, days: float = 3) -> str:
    """Keep a picture as if it had been given days ago; its kept name."""
    value = kept.keep_bytes(png(colour), f"{colour}.png")
    old = time.time() - days * 24 * 3600
    os.utime(kept.locate(value), (old, old))
    return value


def test_a_file_is_kept_once_by_its_content_and_read_only(tmp_path, outputs):
    path = tmp_path / "any name.jpeg"
    path.write_bytes(png("red"))
    value = kept.keep_file(path)
    assert value == kept.keep_bytes(png("red"), "other.png")
    assert kept.NAME.fullmatch(value)[2] == "png"
    assert kept.kept_path(value) == outputs / value
    assert (outputs / value).read_bytes() == path.read_bytes()
    assert not (outputs / value).stat().st_mode & 0o222
    assert [file.value for file in kept.kept_files()] == [value]
    assert [entry.name for entry in (outputs / "inputs").iterdir()] == [Path(value).name]


def test_what_is_given_by_its_kept_name_has_the_name_of_the_upload():
    value = kept.keep_bytes(png("red"), "../my cat.png")
    assert given.read_picture(value, "image").name == "my cat.png"
    assert given.read_picture(value, "image").value == value


def test_a_kept_file_that_is_gone_or_changed_is_one_line(outputs):
    value = kept.keep_bytes(png("red"), "red.png")
    (outputs / value).chmod(0o644)
    (outputs / value).write_bytes(png("blue"))
    for reading in (kept.kept_path, lambda name: given.read_picture(name, "image")):
        with pytest.raises((ResultError, RequestError), match="was changed since it was kept"):
            reading(value)
    assert kept.keep_bytes(png("red"), "red.png") == value  # which mends it
    assert kept.kept_path(value).read_bytes() == png("red")
    (outputs / value).unlink()
    with pytest.raises(ResultError, match=f"there is no {outputs / value}"):
        kept.kept_path(value)
    with pytest.raises(RequestError, match=f"is gone from {outputs}"):
        given.read_picture(value, "image")


@pytest.mark.parametrize("name", ["inputs/../x.png", "inputs/x.png", "/etc/passwd", "", "a\nb"])
def test_only_kept_names_lead_into_the_folder(name):
    with pytest.raises(ResultError, match="no name of a kept input"):
        kept.kept_path(name)


def test_what_is_neither_is_not_kept(outputs):
    with pytest.raises(RequestError, match=r"file = 'x.png': is neither a picture nor a clip"):
        kept.keep_bytes(b"hello", "x.png")
    with pytest.raises(RequestError, match=r"is empty"):
        kept.keep_bytes(b"", "x.png")
    assert not (outputs / "inputs").exists()


def test_many_processes_keep_the_same_file(tmp_path, outputs):
    path = tmp_path / "noise.bmp"
    Image.effect_noise((1500, 1500), 99).save(path)
    code = "import sys, pathlib; from cogvx_nb.media import kept; "
    command = [
        sys.executable,
        "-c",
        code + "print(kept.keep_file(pathlib.Path(sys.argv[1])))",
        path,
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    values = {process.communicate(timeout=300)[0].strip() for process in processes}
    assert [kept.kept_path(value).read_bytes() for value in values] == [path.read_bytes()]
    assert len(list((outputs / "inputs").iterdir())) == 1


def test_a_full_disk_is_one_line_and_leaves_nothing(small_disk, monkeypatch, tmp_path):
    disk = small_disk(64)
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(disk / "outputs"))
    path = tmp_path / "noise.bmp"
    Image.effect_noise((400, 400), 99).save(path)
    with pytest.raises(OutputError, match="is full"):
        kept.keep_file(path)
    assert not list((disk / "outputs" / "inputs").iterdir())


def write_sidecar(path: Path, value: str, name: str) -> Path:
    """A sidecar that names an input, as far as that matters here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = {"image": {"name": name, "pixels": "0" * 64}}
    path.write_text(json.dumps({"request": {"image": value}, "inputs": inputs}))
    return path


def needing(outputs: Path) -> dict[str, str]:
    """Files that need one kept file each: their relative path by the kept name."""
    named = {}
    for colour, name in (("red", "2026-01-01/a"), ("blue", "2026-01-01/b")):
        value = keep_old(colour)
        write_sidecar(outputs / f"{name}.json", value, f"{colour} cat.png")
        (outputs / f"{name}.mp4").write_bytes(b"")
        named[value] = f"{name}.json"
    trash.move_to_trash(outputs / "2026-01-01/b.mp4")
    named[value] = "trash/2026-01-01/b.json"
    for colour, name in (
        ("lime", ".queue/x-y.json"),
        ("gold", "grids/g.json"),
        ("navy", ".workbench.json"),
        ("teal", "sweeps/s/rows.csv"),
    ):
        value = keep_old(colour)
        path = outputs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'{{"values": {{"image": "{value}"}}}}')
        named[value] = name
    return named


def test_what_needs_an_input_is_found_wherever_it_is(outputs):
    named = needing(outputs)
    unused = keep_old("white")
    keep_old("gray", days=0.5)  # a form may hold it
    tagged = keep_old("pink")
    frames = np.full((5, 32, 32, 3), 99, np.uint8)
    encode_video(frames, outputs / "t.mp4", 8, json.dumps({"image": tagged}))
    unsaved = keep_old("plum")
    with zipfile.ZipFile(outputs / "unsaved.frames", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("settings.json", json.dumps({"image": unsaved}))
    named[unsaved] = "unsaved.frames"
    uses = input_uses.find_uses()
    assert not uses.problems
    found = {f"inputs/{digest}.png": paths for digest, paths in uses.files.items()}
    named[tagged] = "t.mp4"
    assert {value: str(paths[0].relative_to(outputs)) for value, paths in found.items()} == named
    assert [file.value for file in input_uses.removable(uses)] == [unused]
    assert sorted(uses.names.values()) == ["blue cat.png", "red cat.png"]


def test_nothing_is_removed_while_something_can_not_be_read(outputs):
    unused = keep_old("white")
    sidecar = write_sidecar(outputs / "x/cut.json", keep_old("red"), "red.png")
    sidecar.write_text(sidecar.read_text()[:40])
    with pytest.raises(ResultError, match=r"no input was removed, since .*cut.json is damaged"):
        input_uses.remove_unused(input_uses.find_uses())
    assert kept.kept_path(unused)
    write_sidecar(sidecar, keep_old("red"), "red.png")
    assert [file.value for file in input_uses.remove_unused(input_uses.find_uses())] == [unused]
    assert not kept.locate(unused).exists()


def test_a_file_that_is_given_meanwhile_stays():
    value = keep_old("white")
    uses = input_uses.find_uses()
    listed = input_uses.removable(uses)
    given.read_picture(value, "image")  # renews it
    assert not kept.remove(listed)
    assert kept.kept_path(value)


def test_the_command_lists_and_removes(outputs, capsys):
    needing(outputs)
    unused = keep_old("white")
    assert main.main(["inputs"]) == 0
    shown, said = capsys.readouterr()
    lines = {line.split()[0]: line for line in shown.splitlines()}
    assert len(lines) == 7
    assert lines[unused].endswith("unused")
    assert sum("red cat.png" in line and "2026-01-01/a.json" in line for line in lines.values())
    assert "unused: 1, " in said
    assert main.main(["inputs", "--remove-unused"]) == 0
    assert "removed: 1, " in capsys.readouterr().err
    assert not kept.locate(unused).exists()
    assert len(kept.kept_files()) == 6


def test_the_command_without_inputs(tmp_path):
    done = run_cogvx("inputs", "--remove-unused", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "inputs: 0" in done.stderr
