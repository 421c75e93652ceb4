"""The papermill engine that keeps its kernel: cleared each time, replaced when it must be."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest
from conftest import ROOT
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from cogvx_nb.notebooks import warm_engine

PID = "import os; print(os.getpid(), end='')"


@pytest.fixture(autouse=True)
def engine():
    warm_engine.register_engine()
    yield
    warm_engine.close_kernels()


@pytest.fixture
def execute(tmp_path):
    """Run code, a cell each, through papermill with the engine; what the last cell printed."""

    def run(*cells: str, **options) -> str:
        path = tmp_path / "in.ipynb"
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
        nbformat.write(notebook, path)
        options = {"engine_name": "cogvx", "progress_bar": False, "cwd": tmp_path} | options
        done = papermill.execute_notebook(path, tmp_path / "out.ipynb", **options)
        return "".join(output.text for output in done.cells[-1].outputs)

    return run


def statuses(folder: Path) -> list[tuple[str, bool]]:
    """(status, whether it shows an error) of each cell of the copy that was saved."""
    cells = nbformat.read(folder / "out.ipynb", as_version=4).cells
    return [
        (cell.metadata.papermill.status, any(o.output_type == "error" for o in cell.outputs))
        for cell in cells
        if "papermill" in cell.metadata and cell.cell_type == "code"
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["-m", "papermill", "in.ipynb", "out.ipynb", "--engine", "cogvx", "-p", "x", "7"],
        ["-c", "import cogvx_nb.notebooks.warm_engine, papermill as p; p.execute_notebook("
         "'in.ipynb', 'out.ipynb', {'x': 7}, engine_name='cogvx')"],
    ],
    ids=["command", "import"],
)  # fmt: skip
def test_papermill_finds_it_by_its_entry_point(tmp_path, command):
    """As installed from what pyproject.toml declares."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    (name, target), *others = declared["papermill.engine"].items()
    assert others == []
    installed = tmp_path / "site" / "declared-1.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: declared\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(f"[papermill.engine]\n{name} = {target}\n")
    cells = [
        nbformat.v4.new_code_cell("x = 1", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(
            "import sys; print(x, 'cogvx_nb.notebooks.kernel_reset' in sys.modules)"
        ),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"}
    subprocess.run([sys.executable, *command], cwd=tmp_path, env=environment, check=True)
    done = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert done.cells[-1].outputs[0].text == "7 True\n"


def test_one_kernel_serves_many_notebooks_and_is_clean_for_each(execute, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    first = execute(
        "secret = 1; import os, sys, json; os.environ['SECRET'] = '1'; sys.path.append('secret')",
        "os.chdir('elsewhere'); json.kept_in_a_module = 1",
        PID,
    )
    seen = "import os, sys, json; print('secret' in globals(), 'SECRET' in os.environ, end=' ')\n"
    seen += "print('secret' in sys.path, os.getcwd(), len(In), json.kept_in_a_module, end='')"
    assert execute(seen) == f"False False False {tmp_path} 2 1"
    assert execute(PID) == first


def test_the_workbench_has_its_folders_in_the_kernel_too(execute, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", "here")
    (tmp_path / "elsewhere").mkdir()
    seen = (
        "from cogvx_nb import settings; print(settings.outputs_dir(), settings.live_ui(), end='')"
    )
    assert execute(seen, folder=str(tmp_path / "elsewhere")) == f"{tmp_path / 'here'} False"


@pytest.mark.slow
@pytest.mark.parametrize("preload", ["", "json.tool"])
def test_a_failed_cell_leaves_the_kernel_and_no_variables(execute, tmp_path, preload):
    seen = "import sys, os; print('json.tool' in sys.modules, os.getpid(), end='')"
    imported, _, first = execute(seen, preload=preload).partition(" ")
    assert imported == str(bool(preload))
    held = "import weakref, sys\nclass Big: pass\nbig = Big()\nsys.modules['json'].ref"
    with pytest.raises(papermill.PapermillExecutionError, match="ZeroDivisionError"):
        execute(f"{held} = weakref.ref(big)", "def fail(big): 1 / 0", "fail(big)", "print(1)")
    assert statuses(tmp_path)[2:] == [("failed", True), ("pending", False)]
    assert execute("import json, os; print(json.ref(), os.getpid(), end='')") == f"None {first}"


LEAVES = """
import asyncio, builtins, helper
helper.kept.append(1)
builtins.left = 1
async def later():
    await asyncio.sleep(0.2)
    builtins.left = 2
task = asyncio.get_running_loop().create_task(later())
called = lambda *_: setattr(builtins, 'left', 3)
get_ipython().events.register('pre_run_cell', called)
"""

FINDS = """
import builtins, time
await __import__('asyncio').sleep(0.4)
import helper
print(helper.kept, getattr(builtins, 'left', 0), end='')
"""


@pytest.mark.slow
def test_nothing_that_a_notebook_set_going_reaches_the_next(execute, tmp_path):
    (tmp_path / "helper.py").write_text("kept = []\n")
    first = execute(LEAVES, PID, import_from=str(tmp_path))
    assert execute(FINDS, import_from=str(tmp_path)) == "[] 0"
    assert execute(PID) == first, "in the same kernel"


@pytest.mark.slow
def test_a_thread_that_goes_on_takes_its_kernel_with_it(execute):
    thread = "import threading, time; threading.Thread(target=lambda: time.sleep(60)).start()"
    first = execute(thread, PID)
    assert execute(PID) != first


@pytest.mark.slow
def test_what_hangs_is_ended_and_marked(execute, tmp_path):
    first = execute(PID)
    with pytest.raises(CellTimeoutError):
        execute("x = 1", "import time; time.sleep(600)", run_timeout=1)
    assert statuses(tmp_path) == [("completed", False), ("failed", True)]
    assert not psutil.pid_exists(int(first))
    assert execute("print('x' in globals(), end='')") == "False"


@pytest.mark.slow
def test_a_dead_kernel_is_replaced(execute, tmp_path):
    first = execute(PID)
    with pytest.raises(DeadKernelError):
        execute("import os; os._exit(3)")
    assert statuses(tmp_path) == [("failed", True)]
    second = execute(PID)
    assert second != first
    psutil.Process(int(second)).kill()  # while nobody uses it
    assert execute(PID) not in (first, second)


@pytest.mark.slow
def test_a_kernel_that_leaks_is_replaced(execute):
    leak = f"{PID}\nimport json; json.kept = [*getattr(json, 'kept', []), b'1' * 2**26]"
    pids = [execute(leak, most_growth=2**27) for _ in range(5)]
    assert len(set(pids[:3])) == 1
    assert pids[4] != pids[0]


@pytest.mark.slow
def test_a_kernel_goes_with_its_process(tmp_path):
    code = "import nbformat, papermill\nfrom cogvx_nb.notebooks import warm_engine\n"
    code += "warm_engine.register_engine()\n"
    code += f"n = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell({PID!r})])\n"
    code += "n.metadata.kernelspec = {'name': 'python3', 'display_name': ''}\n"
    code += "d = papermill.execute_notebook(n, None, engine_name='cogvx', progress_bar=False)\n"
    code += "print(d.cells[0].outputs[0].text)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    with contextlib.suppress(psutil.NoSuchProcess):
        assert psutil.wait_procs([psutil.Process(int(done.stdout))], timeout=30)[1] == []
