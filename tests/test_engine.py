"""The papermill engine that keeps its kernel: cleared each time, replaced when it must be."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import tomllib
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest
from conftest import ROOT, start, wait_for
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from cogvx_nb.notebooks import kernel_processes, warm_engine

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
        execute("x = 1", "import time; time.sleep(600)", run_timeout=4)
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
        assert psutil.wait_procs([psutil.Process(int(done.stdout))], timeout=120)[1] == []


STATE = """
import builtins, decimal, gc, logging, multiprocessing, os, resource, signal, socket, sys, time
import warnings
import numpy
shell = get_ipython()
print(os.getpid(), [
    shell.InteractiveTB.mode, shell.ast_node_interactivity,
    "mine" in shell.magics_manager.magics["line"],
    [row[:3:2] for row in warnings.filters], logging.root.level, logging.root.manager.disable,
    signal.getsignal(signal.SIGTERM), signal.getitimer(signal.ITIMER_REAL),
    signal.pthread_sigmask(signal.SIG_BLOCK, ()), resource.getrlimit(resource.RLIMIT_NOFILE),
    socket.getdefaulttimeout(), sys.getrecursionlimit(), gc.isenabled(), os.umask(0o022),
    decimal.getcontext().prec, multiprocessing.get_start_method(allow_none=True), time.tzname,
    numpy.get_printoptions()["precision"], numpy.geterr()["divide"], sorted(vars(builtins)),
    callable(open), type(sys.stdout), "__spec__" in globals(),
], end="")
"""

CHANGES = """
import decimal, gc, logging, multiprocessing, os, resource, signal, socket, sys, time, warnings
get_ipython().run_line_magic("xmode", "Minimal")
get_ipython().ast_node_interactivity = "all"
get_ipython().register_magic_function(len, "line", "mine")
logging.getLogger().setLevel(logging.DEBUG); logging.disable()
signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.alarm(60)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
socket.setdefaulttimeout(1); sys.setrecursionlimit(500); gc.disable(); os.umask(0o077)
decimal.getcontext().prec = 3; multiprocessing.set_start_method("spawn")
os.environ["TZ"] = "Asia/Tokyo"; time.tzset()
import numpy
numpy.set_printoptions(precision=1); numpy.seterr(divide="raise"); warnings.simplefilter("error")
import builtins
builtins.left = 1; builtins.print = None; del builtins.open
"""


@pytest.mark.slow
def test_settings_that_a_notebook_changed_are_as_in_a_new_process(execute):
    """Also those of a library that the notebook itself has imported."""
    _, _, new = execute(STATE).partition(" ")
    warm_engine.close_kernels()
    first = execute(PID)
    execute(CHANGES)
    pid, _, restored = execute(STATE).partition(" ")
    assert (pid, restored) == (first, new)


BREAKS = {
    "modules": "import sys; sys.modules.clear()",
    "socket": "get_ipython().kernel.iopub_thread.socket.close()",
    "stopped": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
}


@pytest.mark.slow
@pytest.mark.parametrize("cell", BREAKS.values(), ids=BREAKS.keys())
def test_a_kernel_that_can_no_longer_answer_is_replaced(execute, cell):
    execute("print(1)")  # a kernel that starts takes long, too
    start = time.monotonic()
    with pytest.raises(DeadKernelError):
        execute(cell, "2")
    assert time.monotonic() - start < 50
    assert execute("print('good', end='')") == "good"


@pytest.mark.slow
def test_what_changes_a_kernel_for_good_has_it_replaced(execute):
    """The notebooks themselves succeed."""
    pids = [execute(PID)]
    for cell in ("os.close(1)", "import sys; del sys.modules['cogvx_nb.notebooks.kernel_reset']"):
        execute(f"import os; {cell}")
        pids.append(execute(PID))
    assert len(set(pids)) == 3


def sleeping(seconds: str) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if process.info["cmdline"] == ["sleep", seconds] and kernel_processes.is_active(process)
    ]


DAEMON = """
import os
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvpe("sleep", ["sleep", "86411"], {})
    os._exit(0)
os.wait()
"""


@pytest.mark.slow
def test_processes_that_a_notebook_leaves_are_ended(execute):
    start = "import subprocess; subprocess.Popen({}, start_new_session=True)"
    first = execute(start.format(["sleep", "86411"]), DAEMON, PID)
    assert sleeping("86411") == []
    second = execute("get_ipython().system_raw('COGVX_KEEP=1 sleep 86412 &')", PID)
    assert second != first, "what depended on such a process starts anew"
    assert execute(PID) == second
    with pytest.raises(DeadKernelError):
        execute(start.format(["sleep", "86411"]), "import os; os._exit(1)")
    warm_engine.close_kernels()
    assert sleeping("86411") == []
    (wanted,) = sleeping("86412")
    wanted.kill()


@pytest.mark.slow
def test_processes_of_a_notebook_whose_driver_is_killed_are_ended(tmp_path):
    cells = ["import subprocess; subprocess.Popen(['sleep', '86413'], start_new_session=True)"]
    cells += ["import time; time.sleep(600)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, tmp_path / "in.ipynb")
    command = [sys.executable, "-m", "cogvx_nb", "run", str(tmp_path / "in.ipynb")]
    driver = start(command, tmp_path)
    wait_for(lambda: sleeping("86413"), driver)
    driver.kill()
    driver.communicate()
    wait_for(lambda: not sleeping("86413"))


STRICT = """
import sys
assert len(sys.argv) == 2
from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel

class Strict(Kernel):
    implementation, implementation_version, banner = "strict", "1", ""
    language_info = {"name": "bash", "mimetype": "text/plain", "file_extension": ".sh"}

    async def do_execute(self, code, silent, *arguments, **options):
        if not silent:
            text = {"name": "stdout", "text": code}
            self.send_response(self.iopub_socket, "stream", text)
        return {"status": "ok", "execution_count": 1, "payload": [], "user_expressions": {}}

IPKernelApp.launch_instance(argv=["-f", sys.argv[1]], kernel_class=Strict)
"""


@pytest.mark.slow
def test_a_kernel_of_another_language_gets_no_arguments_of_ipython(execute, tmp_path, monkeypatch):
    """And evaluates no expressions, so that each notebook gets a new one."""
    folder = tmp_path / "kernels" / "strict"
    folder.mkdir(parents=True)
    (folder / "strict.py").write_text(STRICT)
    argv = [sys.executable, str(folder / "strict.py"), "{connection_file}"]
    spec = {"argv": argv, "display_name": "strict", "language": "bash"}
    (folder / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    for _ in range(2):
        assert execute("echo 1", kernel_name="strict", language="bash") == "echo 1"
    done = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert done.metadata.language_info.file_extension == ".sh"


@pytest.mark.slow
def test_threads_and_arguments_have_kernels_of_their_own(execute, monkeypatch):
    monkeypatch.setattr(warm_engine, "MOST_OUTPUT", 100)
    pids = []
    thread = threading.Thread(target=lambda: pids.append(execute(PID)))
    thread.start()
    thread.join(300)
    twice = ["--InteractiveShell.ast_node_interactivity=all"]
    pids += [execute(PID), execute(PID), execute("7\nprint('x' * 99)", PID, extra_arguments=twice)]
    assert (pids[1], len(set(pids))) == (pids[2], 3)
    assert not psutil.pid_exists(int(pids[0])), "nobody else can use that of a thread that ended"
    assert "[the rest of the output was dropped" in execute(
        "print('y' * 101, flush=True)\nprint(1)"
    )
