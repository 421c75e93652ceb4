"""Shared fixtures. Everything runs on the embedded checkpoint, with real diffusers and ffmpeg."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cogvx_nb import generate, machine, pipeline, plan, request, weights

ROOT = Path(__file__).resolve().parent.parent
CIRCLE = "a red circle moving right on a black background"


@pytest.fixture(autouse=True)
def outputs(tmp_path, monkeypatch) -> Path:
    """An outputs folder of the test's own, for this process and for those it starts."""
    folder = tmp_path / "outputs"
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny() -> weights.Model:
    return weights.locate("tiny")


@pytest.fixture(scope="session")
def here() -> machine.Machine:
    return machine.probe()


@pytest.fixture
def make(tiny, here):
    """Run a request on the embedded checkpoint, from keywords to frames."""

    def run(prompt: str = CIRCLE, steps: int = 2, on_event=None, cancel=None, **wanted):
        asked = request.make(tiny, prompt, steps=steps, **wanted)
        loaded = pipeline.load(plan.fit(asked, here))
        return generate.run(asked, loaded, on_event, cancel)

    return run


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


def start(command: list[str], cwd: Path) -> subprocess.Popen:
    """A process that takes SIGINT, also where the tests run in the background, ignoring it."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


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
