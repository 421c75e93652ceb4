"""A run of the tests that SIGTERM ends leaves no server, kernel or worker behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import psutil
import pytest
from conftest import ROOT, TERMINATED, wait_for

CASES = [
    pytest.param("test_engine.py::test_what_hangs_is_ended_and_marked", id="kernel"),
    pytest.param(
        "test_browser.py::test_by_keyboard_alone", id="browser", marks=pytest.mark.browser
    ),
    pytest.param(
        "test_sweep_ray.py::test_the_command_shares_the_runs_among_processes",
        id="ray",
        marks=pytest.mark.ray,
    ),
]
"""Tests that start a kernel: of their own, of a JupyterLab and of a worker of Ray."""


def processes_of(run: str) -> list[psutil.Process]:
    """Whatever has the variable by which ``conftest.py`` marks what a run starts."""
    marked = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("COGVX_TEST_RUN") == run:
                marked.append(process)
    return marked


def kernel_of(pytest_run: subprocess.Popen) -> psutil.Process | None:
    """The first kernel that a run has started."""
    for process in psutil.Process(pytest_run.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error, OSError):
            if "ipykernel" in " ".join(process.cmdline()):
                return process
    return None


@pytest.mark.slow
@pytest.mark.parametrize("test", CASES)
def test_a_terminated_run_leaves_no_process(tmp_path, test):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"tests/{test}"]
    command += ["--basetemp", str(tmp_path / "run")]
    # A run of its own, also where this one is a worker of pytest-xdist.
    alone = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    running = subprocess.Popen(command, cwd=ROOT, env=alone, stdout=subprocess.PIPE, text=True)
    wait_for(lambda: kernel_of(running), running, seconds=300)
    run = kernel_of(running).environ()["COGVX_TEST_RUN"]
    started = psutil.Process(running.pid).children(recursive=True)
    running.send_signal(signal.SIGTERM)
    printed = running.communicate(timeout=300)[0]
    assert running.returncode == TERMINATED, printed
    assert processes_of(run) == []
    assert psutil.wait_procs(started, timeout=60)[1] == []
