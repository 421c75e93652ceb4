"""Inputs that no command should break on: one line, the right exit code, and nothing is waited for.

The inputs are those of ``benchmarks/hostile_inputs.py``, which tries all of them.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import hostile_inputs
import pytest
from conftest import CIRCLE
from hostile_inputs import Input

from cogvx_nb import paths, settings
from cogvx_nb.checkpoints import download, hubs, manifest, registry
from cogvx_nb.cli import main as command
from cogvx_nb.cli.streams import SafeStream, finish_output
from cogvx_nb.errors import BadDownload, DownloadError, HubUnreachable, PathError, SettingsError
from cogvx_nb.results.catalogue import Catalogue
from cogvx_nb.text import hide_secrets

KEPT = ("user", "long part", "no UTF-8", "NUL", "loop", "line break", "slash at the end", "pipe")
INPUTS = [
    given
    for given in hostile_inputs.all_inputs()
    if given.door == "words"
    or (given.name in KEPT and given.door not in ("run", "check --model", "reproduce"))
    or (given.door in ("bench report FILE", "cogvx-manifest.json") and len(given.name) < 20)
    or (given.door == "bench compare, changed" and int(given.name.partition(":")[0]) < 30)
]


@pytest.mark.parametrize("given", INPUTS, ids=lambda given: f"{given.door}: {given.name!a:.30}")
def test_one_line_and_no_traceback(given: Input):
    outcome = hostile_inputs.run_input(given)
    assert outcome.problem(given) == "", outcome.err


def why(name: object, **options) -> str:
    with pytest.raises(PathError) as caught:
        paths.user_path(name, "output", **options)
    return str(caught.value)


def test_a_name_that_cannot_be_is_said_with_what_is_wrong_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert why("~nosuchuser/a") == "output '~nosuchuser/a': there is no user 'nosuchuser'"
    assert "a part of it has 300 bytes" in why("é" * 150)
    assert "(5,000 characters): its path has" in why("x" * 5000)
    assert "isn't valid UTF-8" in why("\udcff.mp4")
    assert "NUL" in why("a\0b")
    assert "is empty" in why("")
    assert "a path must be text" in why(5)
    assert "a path must be text" in why(b"a")
    assert "ends in a slash" in why("a.mp4/")
    assert "line break" in why("a\nb.mp4", new=True)
    Path("loop").symlink_to("loop")
    assert "Too many levels of symbolic links" in why("loop")


def test_other_names_are_taken_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a b.mp4", "{}", "%03d.mp4", "红\u3000色.mp4", "-x", "a\nb", " ", "é" * 120, ".."):
        assert paths.user_path(name, "video") == tmp_path / name
    assert paths.user_path("new/", "models folder", folder=True) == tmp_path / "new"
    assert paths.user_path("a", "prompts", start=Path("/b")) == Path("/b/a")
    monkeypatch.setenv("HOME", "/home/x")
    assert paths.user_path("~/a", "video") == Path("/home/x/a")


def test_a_folder_that_was_deleted_is_named(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert "the current folder was deleted" in why("a.mp4")


@pytest.mark.parametrize("variable", hostile_inputs.COMMANDS_BY_VARIABLE)
def test_a_variable_that_names_no_folder_is_named(monkeypatch, variable):
    monkeypatch.delenv("COGVX_OUTPUTS_DIR")
    monkeypatch.setenv(variable, "~nosuchuser/x")
    folder = {"COGVX_MODELS_DIR": settings.models_dir}.get(variable, settings.outputs_dir)
    with pytest.raises(SettingsError, match=f"{variable} '~nosuchuser/x': there is no user"):
        folder()


def test_bytes_of_another_locale_are_read_as_utf8(monkeypatch):
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    escaped = "红.mp4".encode().decode("ascii", "surrogateescape")
    assert paths.decode_argument(escaped) == "红.mp4"
    assert paths.decode_argument("\udcff") == "\udcff"
    assert "encoding, ascii, lacks some of its characters: set PYTHONUTF8=1" in why(escaped)


def test_a_default_name_can_be_written_in_the_locale(monkeypatch):
    from cogvx_nb.results import output

    assert output.slug("红色的 Kreis") == "红色的-kreis"
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    assert output.slug("红色的 Kreis") == "kreis"
    assert output.slug("红色的") == "video"


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "large").write_bytes(b"12345")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "large"):
        with pytest.raises(OSError, match=r"regular file|folder|larger"):
            paths.read_bounded(path, most_bytes=4)
    assert paths.read_bounded(tmp_path / "large", most_bytes=5) == b"12345"


class Failing(io.StringIO):
    """A stream whose every write fails."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("stream", "code", "reason"),
    [
        (Failing(), 1, "cogvx: write error: No space left on device\n"),
        (None, 1, "cogvx: write error: Bad file descriptor\n"),
        (io.StringIO(), 0, ""),
    ],
)
def test_lost_output_is_said_and_fails(stream, code, reason):
    out, err = SafeStream(stream), SafeStream(told := io.StringIO())
    print("a video", file=out, flush=True)
    assert finish_output(0, out, err) == code
    assert finish_output(2, out, err) == 2
    assert told.getvalue() == 2 * reason


def test_signs_that_cannot_be_printed_are_replaced():
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    print("✓ 红 \ud800 x", file=SafeStream(narrow), flush=True)
    assert narrow.buffer.getvalue() == b"? ? ? x\n"


STREAMS = [
    (">/dev/full", {}, 1, "cogvx: write error: No space left on device\n"),
    (">&-", {}, 1, "cogvx: write error: Bad file descriptor\n"),
    (">/dev/full 2>&1", {}, 1, ""),
    ("<&- >&- 2>&-", {}, 1, ""),
    ("2>&-", {}, 0, ""),
    ("", hostile_inputs.LOCALES["POSIX"], 0, ""),
]


@pytest.mark.parametrize(("redirection", "variables", "code", "err"), STREAMS)
def test_streams_of_a_process(redirection, variables, code, err):
    outcome = hostile_inputs.run_shell(["--version"], redirection, variables)
    assert (outcome.code, outcome.err) == (code, err)


@pytest.mark.parametrize("error", [MemoryError(), RecursionError(), OSError(5, "x"), KeyError("a")])
def test_what_nobody_expected_is_one_line(capsys, monkeypatch, error):
    def fail(catalogue) -> None:
        raise error

    monkeypatch.setattr(Catalogue, "refresh", fail)
    assert command.main(["list"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cogvx: internal error: {type(error).__name__}")
    assert "--debug shows the traceback" in line
    assert command.main(["list", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["genrate"], "did you mean 'generate'?"),
        (["generate", "--promt", "x"], "unknown flag --promt, did you mean '--prompt'?"),
        (["generate", "--out", "x"], "unknown flag --out"),
        (["generate", "--prompt", CIRCLE, "--speed", "turbbo"], "did you mean 'turbo'?"),
        (
            ["generate", "--prompt", CIRCLE, "--model", "cogvideo-5b"],
            "did you mean 'CogVideoX-5b'?",
        ),
        (["download", "cogvideox5b"], "did you mean 'CogVideoX-5b'?"),
        (["sweep", "stauts"], "did you mean 'status'?"),
        (["bench", "reprot"], "did you mean 'report'?"),
        (["show", "-x.mp4"], "such a file ./-name"),
        (["show"], "name a video, by its path"),
        (["sweep", "report"], "name a sweep; there are: none yet"),
    ],
)
def test_the_nearest_word_is_named(capsys, words, hint):
    assert command.main(words) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert hint in line


@pytest.mark.parametrize("words", [[], ["sweep"]])
def test_the_bare_command_shows_its_help(capsys, words):
    assert command.main(words) == 2
    shown = capsys.readouterr()
    assert shown.out.startswith("usage: cogvx")
    assert shown.err == ""


SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ALL_PROXY": f"socks5://u:{SECRET}@h:1"}, "ALL_PROXY names a SOCKS proxy"),
        ({"https_proxy": f"http://u:{SECRET}@["}, "(not shown): check https_proxy"),
        ({"https_proxy": f"ftp://u:{SECRET}@h"}, "https_proxy can't be used as a proxy"),
        (
            {"HTTPS_PROXY": f"http://u:{SECRET}@127.0.0.1:9"},
            "through the proxy 127.0.0.1:9: check HTTPS",
        ),
        ({"HF_ENDPOINT": f"http://u:{SECRET}@["}, "HF_ENDPOINT = 'http://***@[' is no http"),
        ({"HF_ENDPOINT": f"http://u:{SECRET}@127.0.0.1:9"}, "http://***@127.0.0.1:9 (HF_ENDPOINT)"),
    ],
)
def test_the_variable_that_decides_is_named_without_its_password(monkeypatch, variables, words):
    from huggingface_hub.utils import close_session

    close_session()  # its client reads the proxies when it is made
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DownloadError) as caught:
        hubs.connect_hub("huggingface").ask(3)
    close_session()
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)


def test_offline_names_the_variable(monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "1")
    with pytest.raises(HubUnreachable, match="TRANSFORMERS_OFFLINE forbids"):
        hubs.connect_hub("huggingface").ask(3)


def test_all_hubs_that_were_tried_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("MODELSCOPE_ENDPOINT", "ftp://a")
    monkeypatch.setenv("HF_ENDPOINT", "ftp://b")
    with pytest.raises(DownloadError, match=r"MODELSCOPE_ENDPOINT .*; then huggingface: HF_"):
        download.prepare_download(registry.COGVIDEOX_5B, models_dir=tmp_path)


def test_secrets_are_hidden():
    text = f"http://me:{SECRET}@h/x?token={SECRET} hf_{'a1' * 10} sk-{'b2' * 10}"
    assert hide_secrets(text) == "http://***@h/x?token=*** *** ***"
    assert (
        hide_secrets("hf_hub_download at a@b of http://h") == "hf_hub_download at a@b of http://h"
    )


@pytest.mark.parametrize(
    "entry",
    [
        (5, 1),
        ("a", -1),
        ("a", 10**13),
        ("a", True),
        ("a", "1"),
        ("a", 1, "x"),
        ("a" * 2000, 1),
        ("", 1),
    ],
)
def test_an_entry_that_cannot_be_a_file_is_refused(entry):
    path, size, *hashes = entry
    with pytest.raises(BadDownload, match="can't be: nothing was fetched"):
        hubs._checked_files("http://h", [(path, size, *hashes)])


def test_a_hub_lists_no_million_files():
    with pytest.raises(BadDownload, match="more than 10,000 files"):
        hubs._checked_files("http://h", ((f"f{n}", 1, "", "") for n in range(10**9)))


def test_a_hub_that_never_ends_is_given_up():
    import threading

    with pytest.raises(HubUnreachable, match="no complete answer in 0 s"):
        hubs._within(0.05, "http://h", threading.Event().wait)


def test_a_manifest_of_other_types_is_no_manifest(tmp_path):
    for content in hostile_inputs.JSON_FILES.values():
        (tmp_path / manifest.NAME).write_bytes(content)
        with pytest.raises(manifest.ModelCorrupt):
            manifest.read_manifest(tmp_path)


@pytest.mark.slow
def test_a_signal_while_python_imports_ends_it_in_silence(tmp_path):
    code = "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += "from cogvx_nb import __main__ as own\nimport cogvx_nb.cli.main as m\n"
    code += "m.main = lambda: os.kill(os.getpid(), signal.SIGINT)\nown.run()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, b"")
