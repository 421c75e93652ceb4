"""Shared fixtures. Everything runs on the embedded checkpoint, with real diffusers and ffmpeg.

What takes seconds to import (torch, diffusers) is imported by the fixture that needs it, so that
a test of a planner or a parser doesn't wait for it.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import psutil
import pytest

WORKER = "PYTEST_XDIST_WORKER" in os.environ
STATE = tempfile.TemporaryDirectory()
os.environ |= {
    # The hubs' clients read these when they are imported: no token and no cache of the user's.
    "HF_HOME": f"{STATE.name}/huggingface",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    "MODELSCOPE_CACHE": f"{STATE.name}/modelscope",
    "MODELSCOPE_HOME": f"{STATE.name}/modelscope",
    "MODELSCOPE_DOWNLOAD_INTRA_CLOUD": "0",
    "NO_PROXY": "127.0.0.1",
    # Not the first test's folder; the workers share it.
    "TORCHINDUCTOR_CACHE_DIR": (
        os.environ["TORCHINDUCTOR_CACHE_DIR"] if WORKER else f"{STATE.name}/compiled"
    ),
    # Threads of torch that wait for each other spin, which takes many times as long where other
    # processes want the cores.
    "OMP_WAIT_POLICY": "PASSIVE",
    # Inherited by every process that the tests start, wherever it ends up in the process tree.
    "COGVX_TEST_RUN": (RUN := os.environ["COGVX_TEST_RUN"] if WORKER else uuid.uuid4().hex),
}

if WORKER:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the workers together take all cores

from cogvx_nb.checkpoints import store  # noqa: E402
from cogvx_nb.planning import machine, planner, probe, request  # noqa: E402
from cogvx_nb.results import result  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
CIRCLE = "a red circle moving right on a black background"


TERMINATED = 128 + signal.SIGTERM
"""Exit code of a run that SIGTERM ended, as a shell reports it."""


STARTED: list[psutil.Process] = []
"""Processes to be ended with the run."""


def pytest_configure(config):
    # pytest-xdist begins with the files of the most tests; those of few have the slowest ones,
    # and the last of them would keep one worker busy while the others are done.
    config.option.loadscopereorder = False


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config):
    if getattr(config, "terminated", False) and not WORKER:
        STATE.cleanup()
        sys.stdout.flush()
        os._exit(TERMINATED)  # without waiting for threads of the test that was interrupted


def pytest_sessionstart(session):
    """SIGTERM ends the run as Ctrl-C does: fixtures are torn down, and servers with them."""

    def stop(signum: int, frame: object) -> None:
        signal.signal(signum, signal.SIG_IGN)  # one is enough; tearing down takes a while
        session.config.terminated = True
        # Some of Ray's overwrite the variable that marks them, and outlive what started them.
        STARTED.extend(psutil.Process().children(recursive=True))
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session):
    terminated = getattr(session.config, "terminated", False)
    try:
        yield
    except KeyError:  # what tmp_path of pytest raises where a test was interrupted at its setup
        if not terminated:
            raise
    finally:
        if not WORKER:
            end_processes()


def end_processes() -> None:
    """Kill whatever this run started and did not end: JupyterLab, kernels, workers of Ray."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("COGVX_TEST_RUN") == RUN:
                STARTED.append(process)
    for process in STARTED:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(STARTED, timeout=10)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Lets a fixture know whether its test failed."""
    report = yield
    item.failed = getattr(item, "failed", False) or report.failed
    if call.excinfo and getattr(call.excinfo.value, "code", None) == TERMINATED:
        # The command under test runs in this process and took the signal for itself.
        item.config.terminated = True
        item.session.shouldstop = "SIGTERM"
    return report


def pytest_runtest_setup(item):
    if item.get_closest_marker("ray") and not importlib.util.find_spec("ray"):
        pytest.skip("no Ray: pip install -e '.[ray]'")
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU that torch can use")


@pytest.fixture(autouse=True)
def outputs(tmp_path_factory, monkeypatch) -> Path:
    """An outputs folder of the test's own, for this process and for those it starts."""
    folder = tmp_path_factory.mktemp("home") / "outputs"
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny():
    return store.locate_checkpoint("tiny")


@pytest.fixture(scope="session")
def here() -> machine.Machine:
    return probe.probe_machine()


@pytest.fixture
def make(tiny, here):
    """Run a request on the embedded checkpoint, from keywords to frames."""

    def run(prompt: str = CIRCLE, steps: int = 2, on_event=None, cancel=None, **wanted):
        from cogvx_nb.pipeline import generate, loader

        asked = request.make_request(tiny, prompt, steps=steps, **wanted)
        loaded = loader.load_pipeline(planner.plan_request(asked, here))
        return generate.generate_frames(asked, loaded, on_event, cancel)

    return run


def denoised(video, loaded) -> tuple:
    """The latents of a request's last step, which are not decoded, and the events up to it."""
    from cogvx_nb import progress
    from cogvx_nb.errors import Cancelled
    from cogvx_nb.pipeline import generate

    seen, cancel = [], threading.Event()

    def watch(event: object) -> None:
        seen.append(event)
        if isinstance(event, progress.Step) and event.step == event.steps:
            cancel.set()

    with pytest.raises(Cancelled):
        generate.generate_frames(video, loaded, watch, cancel)
    return [event for event in seen if isinstance(event, progress.Step)][-1].latents, seen


@pytest.fixture(scope="session")
def generated(tiny, here):
    """The same for tests of what comes after: each request is run once, its frames are shared."""
    from cogvx_nb.pipeline import generate, loader

    @functools.cache
    def generate_once(prompt: str = CIRCLE, steps: int = 2, **values) -> result.Generated:
        asked = request.make_request(tiny, prompt, steps=steps, **values)
        loaded = loader.load_pipeline(planner.plan_request(asked, here))
        video = generate.generate_frames(asked, loaded)
        video.frames.flags.writeable = False
        return video

    return generate_once


@pytest.fixture(scope="session")
def samples(tiny, here, tmp_path_factory) -> list[result.Result]:
    """Three real results, made once: red moving right; blue moving left, seed 7; 25 frames."""
    from cogvx_nb.pipeline import generate, loader

    folder = tmp_path_factory.mktemp("samples")
    blue = {"prompt": "a blue circle moving left", "seed": 7}
    found = []
    for number, wanted in enumerate(({}, blue, {"frames": 25})):
        asked = request.make_request(tiny, **{"prompt": CIRCLE, "steps": 2} | wanted)
        made = generate.generate_frames(
            asked, loader.load_pipeline(planner.plan_request(asked, here))
        )
        found.append(result.save_result(made, folder / f"{number}.mp4"))
    return found


def without_tag(mp4: bytes) -> bytes:
    """A video whose settings are in its sidecar only: its tag has another name."""
    assert mp4.count(b"mdtacogvx") == 1
    return mp4.replace(b"mdtacogvx", b"mdtaother")


@pytest.fixture
def place(samples, outputs):
    """Puts a copy of the first sample into the outputs folder, with settings of its own in its
    sidecar."""

    def put(name: str = "2026-01-01/first", made: str = "", model: str = "", **wanted) -> Path:
        kept = json.loads(samples[0].sidecar.read_text())
        kept["request"] |= wanted
        kept["made"] = made or kept["made"]
        kept["checkpoint"]["name"] = model or kept["checkpoint"]["name"]
        path = outputs / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(without_tag(samples[0].path.read_bytes()))
        path.with_suffix(".json").write_text(json.dumps(kept))
        return path

    return put


@pytest.fixture
def copy_of_tiny(tiny, tmp_path) -> Path:
    """A copy of the embedded checkpoint that a test may damage."""
    folder = tmp_path / "copy"
    for source in tiny.folder.rglob("*"):
        if source.suffix in (".safetensors", ".json"):
            target = folder / source.relative_to(tiny.folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    return folder


@pytest.fixture
def small_disk(tmp_path):
    """Makes file systems of a few KiB, for whoever may mount them."""
    mounted = []

    def mount(kibibytes: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(folder)]
        done = os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False)
        if not done or done.returncode:
            pytest.skip("may not mount a small file system here")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def everything(widget) -> list:
    """A widget and all that is in it."""
    return [widget] + [
        one for child in getattr(widget, "children", ()) for one in everything(child)
    ]


def ask_page(actions: dict, desk, action: str, **arguments) -> object:
    """What a page gets that asks for an action: the data, through JSON, or the sentence."""
    from cogvx_nb.workbench import actions as page_actions

    answers: queue.Queue = queue.Queue()
    message = {"action": action, "arguments": arguments}
    page_actions.perform(actions, desk, message, b"", answers.put)
    answer = answers.get(timeout=60)
    if isinstance(answer, page_actions.Refusal):
        assert "Internal error" not in answer.sentence.text
        return answer.sentence.text
    return json.loads(json.dumps(answer.data))


def start(command: list[str], cwd: Path) -> subprocess.Popen:
    """A process that takes SIGINT, also where the tests run in the background, ignoring it."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for(condition, process: subprocess.Popen | None = None, seconds: float = 120) -> None:
    """Wait until something is so, which is a failure after so long; a process must live on."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.02)


def run_cogvx(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    """The command as a user starts it, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "cogvx_nb", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ.copy(),
        timeout=300,
        check=False,
    )


PARAMETERS = 'x: int = 1  # a number\ntext: str = ""\nlog: str = ""\nanything = None'


@pytest.fixture
def book(tmp_path):
    """Writes a notebook of the user's own, which takes ``PARAMETERS``; its path."""

    import nbformat

    def write(*cells: str, name: str = "mine") -> str:
        made = [nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})]
        made += [nbformat.v4.new_code_cell(source) for source in cells]
        notebook = nbformat.v4.new_notebook(cells=made)
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
        path = tmp_path / f"{name}.ipynb"
        nbformat.write(notebook, path)
        return str(path)

    return write
