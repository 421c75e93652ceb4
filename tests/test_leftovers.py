"""Temporary files of processes that were killed are deleted by the next start, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from cogvx_nb import files, leftovers

KILLED = """
import os, signal, sys
from pathlib import Path
from cogvx_nb import files, leftovers
leftovers.begin(Path(sys.argv[2]))
with files.partial_file(Path(sys.argv[1]), ".mp4") as partial, files.temporary_folder() as folder:
    partial.write_bytes(b"half a video")
    (folder / "inside").write_bytes(b"half a video")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def entries(outputs):
    """The folder of the entries."""
    folder = outputs / ".partial"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def leave(entries):
    """An entry of a writer that is gone, with the file that it names."""

    def put(path, name=f".x.mp4.{'0' * 32}.partial.mp4", host=None, age=0):
        path.mkdir(exist_ok=True)
        left = path / name
        left.write_bytes(b"half")
        entry = entries / f"{len(list(entries.iterdir()))}"
        host = host or leftovers.platform.node()
        entry.write_text(f"{host}\n{left}")
        os.utime(entry, (time.time() - age,) * 2)
        return left

    return put


def kill_a_writer(path, outputs, temporary):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(outputs)],
        env=os.environ | {"TMPDIR": str(temporary)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("inside", [True, False])
def test_what_a_killed_process_left_is_deleted(outputs, entries, tmp_path, inside):
    folder = outputs / "2031-01-01" if inside else tmp_path
    folder.mkdir(exist_ok=True)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    kill_a_writer(folder / "a clip.mp4", outputs, temporary)
    assert len(list(folder.glob(".*"))) == len(list(temporary.iterdir())) == 1
    if inside:  # another machine may find the same folder elsewhere
        outputs.rename(outputs.with_name("moved"))
        outputs.symlink_to("moved")
    leftovers.begin(outputs)
    left = [*folder.glob(".*"), *temporary.iterdir(), *entries.iterdir()]
    assert left == []


def test_what_is_being_written_stays(outputs, entries):
    leftovers.begin(outputs)
    with files.partial_file(outputs / "x.mp4") as partial:
        partial.write_bytes(b"half")
        leftovers.begin(outputs)
        assert partial.read_bytes() == b"half"
        assert len(list(entries.iterdir())) == 1
        partial.replace(outputs / "x.mp4")
    assert list(entries.iterdir()) == []
    leftovers.begin(outputs)
    assert (outputs / "x.mp4").read_bytes() == b"half"


@pytest.mark.parametrize(("age", "deleted"), [(3600, False), (2 * 24 * 3600, True)])
@pytest.mark.parametrize("without", ["host", "locks"])
def test_what_another_machine_writes_stays_for_a_day(
    leave, outputs, monkeypatch, age, deleted, without
):
    left = leave(outputs, host="another" if without == "host" else None, age=age)
    if without == "locks":
        monkeypatch.setattr(leftovers, "fcntl", None)
    leftovers.begin(outputs)
    assert left.exists() is not deleted


@pytest.mark.parametrize(
    "name", ["video.mp4", ".x.partial.mp4", f".x.{'0' * 32}.partial.mp4.txt.y"]
)
def test_no_other_file_is_deleted(leave, outputs, name):
    left = leave(outputs, name, age=2 * 24 * 3600)
    leftovers.begin(outputs)
    assert left.exists()


def test_odd_entries_stop_nothing(leave, outputs, entries):
    os.mkfifo(entries / "pipe")
    (entries / "folder").mkdir()
    (entries / "link").symlink_to("missing")
    (entries / "device").symlink_to("/dev/zero")
    for name, content in {
        "empty": "",
        "garbage": "\xff" * 5000,
        "null": f"x\n/a\0/.x.{'0' * 32}.partial",
        "long": f"x\n/{'a' * 9000}/.x.{'0' * 32}.partial",
        "nothing": "\n",
    }.items():
        (entries / name).write_text(content)
        os.utime(entries / name, (1_000_000, 1_000_000))
    left = leave(outputs)
    leftovers.begin(outputs)
    assert not left.exists()
    assert not (entries / "empty").exists()


def test_an_entry_may_be_about_to_be_written(outputs, entries):
    (entries / "new").touch()
    leftovers.begin(outputs)
    assert (entries / "new").exists()


def test_a_write_goes_on_without_a_list(tmp_path, outputs):
    leftovers.begin(outputs)
    files.write_whole(tmp_path / "x", b"content")
    outputs.write_text("a file in the place of the folder")
    files.write_whole(tmp_path / "y", b"content")
    leftovers.begin(outputs)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]
