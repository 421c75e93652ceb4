"""The notebooks: committed clean, run by papermill, compared by nbval, and shown anywhere."""

from __future__ import annotations

import ast
import base64
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest
from conftest import CIRCLE, ROOT, run_cogvx, start
from hub import Hub

from cogvx_nb.checkpoints import store
from cogvx_nb.cli.main import main
from cogvx_nb.notebooks import failure, notebook
from cogvx_nb.notebooks.parameters import read_parameters
from cogvx_nb.planning.fields import FIELDS
from cogvx_nb.results import result, video

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
GENERATE = ROOT / "notebooks" / "03_generate.ipynb"
LONGER = ROOT / "notebooks" / "07_longer.ipynb"
SHORT = {"frames": "9", "more_frames": "4", "steps": "2", "fps": "16"}
"""Parameters of notebook 07 for the least work."""

DOWNLOAD = ROOT / "notebooks" / "02_download.ipynb"


def test_a_copy_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "copy {a}.ipynb"
    with notebook.written_whole(target):
        papermill.iorw.write_ipynb(nbformat.v4.new_notebook(), str(target))
        before = target.read_bytes()

        def fill(path, content):
            path.touch()
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", fill)
        with pytest.raises(OSError, match="No space"):
            papermill.iorw.write_ipynb(nbformat.v4.new_notebook(metadata={"a": 1}), str(target))
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [before]
    assert nbformat.reads(before.decode(), as_version=4).cells == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    assert notebook.cells[1].metadata.tags == ["parameters"]
    assert notebook.metadata.language_info.file_extension == ".py"  # of nbconvert to a script
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            parameters = "parameters" in cell.metadata.get("tags", [])  # one a line
            assert parameters or len(cell.source.splitlines()) <= 10
            assert not any(word in cell.source for word in ("def ", "class ", "lambda"))


def execute(folder: Path, *flags: str, path: Path = GENERATE) -> tuple[nbformat.NotebookNode, Path]:
    """A notebook as papermill itself runs it, in ``folder``; the executed copy and its path."""
    copy = folder / "out.ipynb"
    command = [sys.executable, "-m", "papermill", str(path), str(copy), *flags]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return nbformat.read(copy, as_version=4), copy


def outputs_of(notebook: nbformat.NotebookNode, mime: str) -> list[str]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    contents = [output.get("data", {}).get(mime) for cell in cells for output in cell.outputs]
    return [data for data in contents if data]


def text_of(notebook: nbformat.NotebookNode) -> str:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return "".join(output.get("text", "") for cell in cells for output in cell.outputs)


def nbval(path: Path) -> subprocess.CompletedProcess:
    sanitise = ROOT / "tests" / "nbval-sanitise.cfg"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax"]
    command += ["--nbval-sanitize-with", str(sanitise), "--rootdir", str(path.parent), str(path)]
    environment = os.environ | {"PYTHONPATH": ""}
    return subprocess.run(
        command, cwd=path.parent, capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.slow
def test_03_under_papermill_and_nbval(tmp_path, outputs):
    prompt = "a green star growing on a navy background"
    flags = ["-r", "prompt", prompt, "-p", "frames", "9", "-p", "steps", "3"]
    notebook, copy = execute(tmp_path, *flags)
    (made,) = outputs.rglob("*.mp4")
    assert video.decode_video(made).shape == (9, 96, 144, 3)
    assert result.read_result(made).settings.request.prompt == prompt
    assert "widgets" not in notebook.metadata
    assert copy.stat().st_size < 2_000_000

    (player,) = outputs_of(notebook, "text/html")
    embedded = base64.b64decode(player.split("base64,")[1].split('"')[0])
    assert embedded == made.read_bytes(), "the video is in the notebook itself"
    (strip,) = outputs_of(notebook, "image/png")
    assert base64.b64decode(strip).startswith(b"\x89PNG")

    marked = [c for c in notebook.cells if "nbval-check-output" in c.metadata.get("tags", [])]
    assert len(marked) >= 2
    assert all(cell.outputs for cell in marked)
    done = nbval(copy)
    assert done.returncode == 0, done.stdout[-3000:]

    marked[0].outputs[0].text = marked[0].outputs[0].text.replace("9 frames", "8 frames")
    (strip,) = [cell for cell in marked if "show_strip" in cell.source]
    line = strip.outputs[0].text
    assert re.fullmatch(r"SHA-256 of the frames: [0-9a-f]{64}\n", line)
    strip.outputs[0].text = f"{line[:-9]}another!\n"
    nbformat.write(notebook, copy)
    done = nbval(copy)
    assert done.returncode == 1, "a changed output must fail"
    assert "8 frames" in done.stdout
    assert "another!" in done.stdout, "and a changed picture too"


@pytest.mark.slow
def test_02_under_papermill(tmp_path, tiny):
    folder = tmp_path / "models" / "CogVideoX-5b"
    with Hub({"ZhipuAI/CogVideoX-5b": tiny.folder}) as hub:
        flags = ["-r", "source", "modelscope", "-r", "endpoint", hub.url]
        flags += ["-r", "models_dir", str(tmp_path / "models")]
        shown, _ = execute(tmp_path, *flags, path=DOWNLOAD)
        assert "to fetch: 23.8 MB" in text_of(shown)
        assert "nothing was fetched: set accept = True" in text_of(shown)
        assert not folder.exists()
        fetched, copy = execute(tmp_path, *flags, "-p", "accept", "true", path=DOWNLOAD)
        assert f"{folder}: all 11 files are right" in text_of(fetched)
        assert store.locate_checkpoint(str(folder)).name == "cogvideox-tiny"
        assert nbval(copy).returncode == 0
    (folder / "LICENSE").write_text("another")
    with Hub({"ZhipuAI/CogVideoX-5b": folder}, port=hub.port):
        assert nbval(copy).returncode == 1, "another number of files must fail"


@pytest.mark.slow
def test_07_under_papermill(tmp_path, outputs):
    flags = [word for name, value in SHORT.items() for word in ("-p", name, value)]
    notebook, copy = execute(tmp_path, *flags, path=LONGER)
    made = [result.read_result(path) for path in outputs.rglob("*-*.mp4")]
    (finished,) = [one.settings for one in made if one.settings.finished]
    assert (finished.shown.height, finished.shown.width, finished.shown.fps) == (192, 288, 16)
    boards = [one for one in made if one.settings.pieces and not one.settings.finished]
    first, changed = ([piece.frames for piece in one.settings.pieces] for one in boards)
    assert [a == b for a, b in zip(first, changed, strict=True)] == [True, False, True]
    assert text_of(notebook).count("made now: True") == 1
    (gif,) = outputs.rglob("*.gif")
    assert [base64.b64decode(data) for data in outputs_of(notebook, "image/gif")] == [
        gif.read_bytes()
    ]
    assert len(outputs_of(notebook, "image/png")) == 4
    assert copy.stat().st_size < 2_000_000


@pytest.mark.slow
def test_cogvx_run(tmp_path):
    flags = ["-p", "steps", "2", "-p", "prompt", CIRCLE, "-r", "output", "new/a.mp4"]
    done = run_cogvx("run", "03_generate", *flags, "--output-notebook", "b{x}.ipynb", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "b{x}.ipynb")
    assert video.decode_video(tmp_path / "new" / "a.mp4").shape[0] == 13
    injected = json.loads((tmp_path / "b{x}.ipynb").read_text())["metadata"]["papermill"]
    assert injected["parameters"] == {"steps": 2, "prompt": CIRCLE, "output": "new/a.mp4"}


@pytest.mark.parametrize(
    ("flags", "code", "words"),
    [
        (
            ["-p", "stepz", "20"],
            2,
            "'stepz': 03_generate.ipynb has no such one; known: prompt,",
        ),
        (["-p", "steps", "many"], 2, "steps = 'many': must be a whole number"),
        (["-p", "steps", "0"], 2, "steps = 0: must be between 1 and 1000"),
        (["-r", "prompt", "zyzzyva quokka"], 2, "unknown to cogvideox-tiny"),
        (["-r", "model", "CogVideoX-5b"], 1, "cogvx download CogVideoX-5b"),
        (["-r", "output", "a.gif"], 1, "must end in .mp4"),
    ],
    ids=lambda value: str(value),
)
def test_cogvx_run_refuses(capsys, tmp_path, monkeypatch, flags, code, words):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "03_generate", *flags]) == code
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("cogvx")]
    assert words in line


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_end_the_kernel_too(tmp_path, sent, code):
    flags = ["-p", "steps", "500", "-r", "output", "new/a.mp4", "--output-notebook", "b.ipynb"]
    command = [sys.executable, "-m", "cogvx_nb", "run", "03_generate", *flags]
    process = start(command, tmp_path)
    deadline, copy = time.monotonic() + 120, tmp_path / "b.ipynb"
    while not (copy.exists() and "13 frames of 96" in copy.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    time.sleep(4)  # the request's cell is done; by now the video is being made
    kernels = psutil.Process(process.pid).children()
    assert kernels
    process.send_signal(sent)
    printed = process.communicate(timeout=120)[1]
    assert process.returncode == code, printed
    assert "Traceback" not in printed
    assert psutil.wait_procs(kernels, timeout=60)[1] == []
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_text_stays_text(tmp_path):
    flags = ["-p", "prompt", "007", "-p", "height", "None", "-p", "steps", "2"]
    done = run_cogvx("run", "03_generate", *flags, cwd=tmp_path)
    assert done.returncode == 2
    assert "prompt = '007'" in done.stderr


def test_parameters_are_the_fields_of_a_request():
    import papermill

    declared = papermill.inspect_notebook(str(GENERATE))
    assert declared.keys() == {*FIELDS, "output"}
    for name, field in FIELDS.items():
        parameter = declared[name]
        assert parameter["help"] == field.help
        assert parameter["inferred_type_name"] == field.kind.__name__
        if name != "prompt":  # required, so the notebook brings its own
            assert ast.literal_eval(parameter["default"]) == field.default
    assert declared["output"]["help"]
    cell = read_parameters(nbformat.read(GENERATE, as_version=4).cells)
    assert cell.parameters.keys() == declared.keys()
    assert [p.help for p in cell.parameters.values()] == [p["help"] for p in declared.values()]
    assert all(p.has_default and not p.type.is_any for p in cell.parameters.values())


def last_line(capsys, *arguments: str) -> tuple[int, str]:
    """Exit code of ``cogvx run`` and the one line of its error."""
    code = main(["run", *arguments])
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    (line,) = [x for x in printed.splitlines() if x.startswith("cogvx")][-1:]
    return code, line


@pytest.mark.parametrize(
    ("cells", "code", "words"),
    [
        (["import os; os._exit(1)"], 1, "the kernel died"),
        (["import os; os.kill(os.getpid(), 9)"], 1, "the kernel died"),
        (["exit()", "1", "2"], 1, "ended early in cell 2: 2 cells after it were not run"),
        (["raise SystemExit", "1"], 1, "ended early in cell 2: a cell after it was not run"),
    ],
)
def test_a_notebook_that_fails_is_one_line(book, capsys, tmp_path, monkeypatch, cells, code, words):
    monkeypatch.chdir(tmp_path)
    done, line = last_line(capsys, book(*cells), "--output-notebook", "out.ipynb")
    assert done == code
    assert words in line
    assert line.endswith(f"(the notebook so far: {tmp_path / 'out.ipynb'})")


@pytest.mark.parametrize(
    ("name", "value", "lines", "expected"),
    [
        ("RequestError", "a = 5: b", 1, ("a = 5: b", 2, False)),
        ("DiskFull", "the disk is full", 1, ("the disk is full", 1, False)),  # asked of the disk
        ("DiskFull", "of the notebook's own", 4, ("DiskFull: of the notebook's own", 1, False)),
        ("SystemExit", "3", 1, ("SystemExit: 3", 1, False)),
        ("KeyboardInterrupt", "", 9, ("interrupted", 130, False)),
        ("ValueError", "two\nlines \x1b[31mred", 9, ("ValueError: two lines red", 1, False)),
        ("StopIteration", "", 9, ("StopIteration", 1, False)),
    ],
)
def test_errors_of_cells_are_explained(name, value, lines, expected):
    from papermill import PapermillExecutionError

    error = PapermillExecutionError(2, 1, "", name, value, ["line"] * lines)
    failed = failure.explain_failure(error)
    assert (failed.message, failed.exit_code, failed.disk_full) == expected


def test_a_notebook_without_a_kernel_runs_in_this_environments(book, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path(book("print(x)\nexit()"))
    content = json.loads(path.read_text())
    del content["metadata"]["kernelspec"]
    path.write_text(json.dumps(content))
    assert main(["run", str(path), "-p", "x", "5", "--output-notebook", "out.ipynb"]) == 0
    assert "names no kernel: it runs in this environment's, python3" in capsys.readouterr().err
    assert "5" in text_of(nbformat.read("out.ipynb", as_version=4))


NODE = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}
CELL = {"cell_type": "code", "source": "", "metadata": {}, "outputs": []}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is not JSON"),
        (b"\0" * 1000, "it is not JSON"),
        (b"[" * 100_000, "it is not JSON"),
        (b"\xff\xfe{\0", "it is not UTF-8 text"),
        (b"\xef\xbb\xbf{}", "it starts with a byte order mark"),
        ([1], "it is JSON of something else"),
        ({"a": 1}, "it is JSON of something else"),
        (NODE | {"nbformat": 5}, "its format is 5"),
        (NODE | {"nbformat": 2}, "its format is 2"),
        (NODE | {"cells": None}, "it is JSON of something else"),
        (NODE | {"cells": [1]}, "it is JSON of something else"),
        (NODE | {"cells": [CELL | {"source": 5}]}, "cell 1 has no source"),
        (
            NODE | {"cells": [CELL | {"metadata": {"tags": "x"}}]},
            "cell 1 has tags that are no list",
        ),
        (
            NODE | {"cells": [CELL], "metadata": {"kernelspec": {"name": "zzz"}}},
            "needs the kernel 'zzz', which isn't installed; installed: python3",
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_no_notebook_is_one_line(capsys, tmp_path, content, words):
    path = tmp_path / "mine.ipynb"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    code, line = last_line(capsys, str(path))
    assert code == 2
    assert words in line
    assert "mine.ipynb" in line


def test_a_notebook_that_is_no_file(capsys, tmp_path):
    os.mkfifo(tmp_path / "fifo.ipynb")
    with (tmp_path / "large.ipynb").open("wb") as file:
        file.truncate(10**9)
    assert "is no regular file" in last_line(capsys, str(tmp_path / "fifo.ipynb"))[1]
    assert "is a folder" in last_line(capsys, str(tmp_path))[1]
    assert "it has 1.0 GB: clear its outputs" in last_line(capsys, str(tmp_path / "large.ipynb"))[1]


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        ({"argv": ["/nonexistent/python"]}, "there is no '/nonexistent/python'; install"),
        ({"argv": []}, "there is no ''"),
        ([], "its kernel.json is damaged"),
        (
            {"argv": [sys.executable, "-c", "1"]},
            "the kernel 'broken' didn't start: Kernel died before replying",
        ),
    ],
)
def test_a_kernel_that_does_not_start_is_one_line(
    book, capsys, tmp_path, monkeypatch, kernel, words
):
    folder = tmp_path / "jupyter" / "kernels" / "broken"
    folder.mkdir(parents=True)
    if isinstance(kernel, dict):
        kernel |= {"display_name": "broken", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(kernel))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    path = Path(book("1"))
    path.write_text(path.read_text().replace('"python3"', '"broken"'))
    code, line = last_line(capsys, str(path))
    assert code == 1
    assert words in line


def test_a_copy_never_replaces_something_else(book, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = book("1")
    (tmp_path / "notes.txt").write_text("mine")
    for name, words in {
        path: "is the notebook itself",
        "notes.txt": "exists, and is no notebook",
        "notes.txt/a.ipynb": "can't be written",
        ".": "is a folder",
    }.items():
        assert words in last_line(capsys, path, "--output-notebook", name)[1]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_errors_in_a_cell_are_one_coloured_line(kernel):
    (error,) = kernel("import cogvx_nb.errors as e\nraise e.HubDenied('no token: set one')")
    assert (error["ename"], error["evalue"]) == ("HubDenied", "no token: set one")
    assert error["traceback"] == ["\x1b[31mHubDenied\x1b[0m: no token: set one"]
    assert len("".join(kernel("%tb")[0]["traceback"]).splitlines()) > 3
    chained = "try:\n    1 / 0\nexcept Exception as x:\n    raise e.SpecError('a\x1b[0m') from x"
    assert kernel(chained)[0]["traceback"] == ["\x1b[31mSpecError\x1b[0m: a\\x1b[0m"]
    kernel("get_ipython().reset()")
    again = "from cogvx_nb.errors import Cancelled\nraise Cancelled('x')"
    assert kernel(again)[0]["traceback"] == ["\x1b[31mCancelled\x1b[0m: x"]
    assert len(kernel("1 / 0")[0]["traceback"]) > 2
    interrupted = (
        "from cogvx_nb import progress\nimport types\n"
        "progress.time = types.SimpleNamespace(monotonic=lambda: (_ for _ in ()).throw("
        "KeyboardInterrupt()))\n"
        "bar = progress.TransferProgress()\nbar(progress.Started('fetching', 5))"
    )
    assert kernel(interrupted)[0]["traceback"] == [
        "\x1b[31mKeyboardInterrupt\x1b[0m: cancelled; nothing half-written was left"
    ]


@pytest.fixture
def kernel():
    """Runs code in a kernel; the contents of the errors that it shows."""
    from jupyter_client.manager import start_new_kernel

    manager, client = start_new_kernel()

    def run(code: str) -> list[dict]:
        shown = []
        client.execute_interactive(code, timeout=120, output_hook=shown.append)
        return [message["content"] for message in shown if message["msg_type"] == "error"]

    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_an_unknown_notebook(capsys):
    assert main(["run", "99_nothing"]) == 1
    assert "03_generate" in capsys.readouterr().err
