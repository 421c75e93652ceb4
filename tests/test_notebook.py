"""The notebooks: committed clean, run by papermill, compared by nbval, and shown anywhere."""

from __future__ import annotations

import ast
import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from conftest import CIRCLE, ROOT, run_cogvx, start
from hub import Hub

from cogvx_nb.checkpoints import store
from cogvx_nb.cli.main import main
from cogvx_nb.planning.fields import FIELDS
from cogvx_nb.results import result, video

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
GENERATE = ROOT / "notebooks" / "03_generate.ipynb"
DOWNLOAD = ROOT / "notebooks" / "02_download.ipynb"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_committed_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    assert notebook.cells[1].metadata.tags == ["parameters"]
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


@pytest.mark.slow
def test_03_under_papermill(tmp_path):
    prompt = "a green star growing on a navy background"
    flags = ["-r", "prompt", prompt, "-p", "frames", "25", "-p", "steps", "3"]
    notebook, copy = execute(tmp_path, *flags, "-r", "output", "x.mp4")
    assert video.decode_video(tmp_path / "x.mp4").shape == (25, 96, 144, 3)
    assert result.read_result(tmp_path / "x.mp4").settings.request.prompt == prompt
    assert "widgets" not in notebook.metadata
    assert copy.stat().st_size < 2_000_000

    (player,) = outputs_of(notebook, "text/html")
    embedded = base64.b64decode(player.split("base64,")[1].split('"')[0])
    assert embedded == (tmp_path / "x.mp4").read_bytes(), "the video is in the notebook itself"
    (strip,) = outputs_of(notebook, "image/png")
    assert base64.b64decode(strip).startswith(b"\x89PNG")


def nbval(path: Path) -> subprocess.CompletedProcess:
    sanitise = ROOT / "tests" / "nbval-sanitise.cfg"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--nbval-lax"]
    command += ["--nbval-sanitize-with", str(sanitise), "--rootdir", str(path.parent), str(path)]
    environment = os.environ | {"PYTHONPATH": ""}
    return subprocess.run(
        command, cwd=path.parent, capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.slow
def test_nbval_compares_the_executed_copy(tmp_path):
    notebook, copy = execute(tmp_path, "-p", "steps", "2")
    marked = [c for c in notebook.cells if "nbval-check-output" in c.metadata.get("tags", [])]
    assert len(marked) >= 2
    assert all(cell.outputs for cell in marked)
    done = nbval(copy)
    assert done.returncode == 0, done.stdout[-3000:]

    marked[0].outputs[0].text = marked[0].outputs[0].text.replace("13 frames", "14 frames")
    nbformat.write(notebook, copy)
    done = nbval(copy)
    assert done.returncode == 1, "a changed output must fail"
    assert "14 frames" in done.stdout


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
        (["-p", "stepz", "20"], 2, "'stepz': 03_generate.ipynb has no such one; known: prompt,"),
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
    assert psutil.wait_procs(kernels, timeout=30)[1] == []
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


def test_a_dead_kernel_is_one_line(book, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = book("import os; os._exit(1)")
    assert main(["run", path, "--output-notebook", "out.ipynb"]) == 1
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("cogvx")]
    assert f"the kernel died (the notebook so far: {tmp_path / 'out.ipynb'})" in line


def test_an_unknown_notebook(capsys):
    assert main(["run", "99_nothing"]) == 1
    assert "03_generate" in capsys.readouterr().err
