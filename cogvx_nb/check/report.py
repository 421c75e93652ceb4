"""The rows and the verdict of a check, as text, JSON or HTML; and probes in processes of their own.

A broken package may raise, print, hang or end its whole process when it is imported, so imports,
ffmpeg and Jupyter are tried in children. A child that fails becomes one line, and the parent loads
none of them.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import settings
from ..checkpoints import hubs
from ..errors import CogvxError
from ..planning import probe
from ..planning.machine import Gpu
from ..text import error_line, escape_html, render_template

if TYPE_CHECKING:
    from IPython.display import HTML


PASS, WARN, FAIL = "pass", "warn", "fail"
FITS, OFFLOAD, TOO_SMALL = "fits", "fits with offload", "does not fit"
MARKS = {PASS: "✓", WARN: "!", FAIL: "✗"}
FOUND_WIDTH = 34
"""Characters of the second column; longer text moves the third to the right."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was checked. The names of its fields are those of the JSON."""

    name: str
    status: str  # ``pass``, ``warn`` (the model runs all the same) or ``fail`` (it doesn't)
    found: str  # actual state
    needed: str = ""  # required state
    fix: str = ""  # command or step that fixes it; empty for a pass


@dataclass(frozen=True, slots=True)
class GpuVerdict:
    """What fits one GPU."""

    gpu: Gpu  # by torch, else by the driver
    frames: dict[str, str]  # number of frames: ``fits``, ``fits with offload``, ``does not fit``


@dataclass(frozen=True, slots=True)
class Report:
    """Results of a whole check."""

    rows: tuple[Row, ...]
    gpus: tuple[GpuVerdict, ...]
    model: str  # the checkpoint that would run; the requested name if there is none
    verdict: str  # one line, without numbers that change from run to run
    ok: bool  # whether the model can be loaded and run on this machine

    def as_json(self) -> dict:
        """The report as plain values. ``format`` changes with their names or meaning."""
        return {
            "format": 1,
            "ok": self.ok,
            "verdict": self.verdict,
            "model": self.model,
            "rows": [asdict(row) for row in self.rows],
            "gpus": [
                {
                    "index": gpu.index,
                    "name": gpu.name,
                    "total_bytes": gpu.total_bytes,
                    "free_bytes": gpu.free_bytes,
                    "capability": format_capability(gpu),
                    "bf16": gpu.bf16,
                    "frames": dict(frames),
                }
                for gpu, frames in ((verdict.gpu, verdict.frames) for verdict in self.gpus)
            ],
        }

    def as_text(self) -> str:
        """Aligned rows, with a fix below each that doesn't pass, and the verdict as last line."""
        width = max((len(row.name) for row in self.rows), default=0)
        lines = []
        for row in self.rows:
            mark = f"{MARKS[row.status]} {row.status}"
            line = f"{mark}  {row.name:<{width}}  {row.found:<{FOUND_WIDTH}}"
            lines.append(f"{line}  needs {row.needed}" if row.needed else line.rstrip())
            if row.fix:
                lines.append(f"{'':8}fix: {row.fix}")
        return "\n".join([*lines, "", self.verdict])


def format_capability(gpu: Gpu) -> str | None:
    """Compute capability, such as ``9.0``; None if an old driver doesn't report it."""
    major, minor = gpu.capability
    return f"{major}.{minor}" if major else None


TINTS = {"pass": "#d9f2de", "warn": "#fff1c9", "fail": "#fbd9d7"}
"""Background of a status, light enough for black text."""


def check_table(report: Report) -> HTML:
    """The rows of a check as a coloured table, those that pass folded; as plain text
    where jinja2 can't be imported, since a check has to work in a broken environment."""
    from IPython.display import HTML

    try:
        passed = [row for row in report.rows if row.status == PASS]
        others = [row for row in report.rows if row.status != PASS]
        values = {"passed": passed, "others": others, "tints": TINTS}
        return HTML(render_template("check_table.html", **values))
    except ImportError:
        return HTML(f"<pre>{escape_html(report.as_text())}</pre>")


PATIENCE = 300
"""Seconds until a probe counts as hung. Importing torch from a cold network disk can take a
minute."""

USED = {"diffusers": "CogVideoXPipeline", "transformers": "T5EncoderModel"}
"""A class to import from each lazily loading package: importing the package alone loads little."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Outcome of a probe."""

    value: dict  # what it measured; empty if it failed
    error: str = ""  # why it failed, in a line


def run_probes(
    names: Iterable[str], watch: Callable[[str], None] = lambda what: None
) -> dict[str, Probe]:
    """Run some of ``PROBES`` and ``HUB_PROBES``, all at once, each in a process of its own. None
    outlives the call, however it ends.

    Args:
        watch: called with the names of those that haven't ended.
    """
    code = "from cogvx_nb.check import report\nreport.child_main(sys.argv[1])"
    children: dict[str, subprocess.Popen] = {}
    outcomes, deadline = {}, time.monotonic() + PATIENCE
    try:
        for name in names:
            try:
                children[name] = subprocess.Popen(
                    settings.child_python(code, name),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                )
            except OSError as error:
                outcomes[name] = Probe({}, error_line(error))
        for name, child in children.items():
            watch(f"{', '.join(other for other in children if other not in outcomes)}, for real")
            outcomes[name] = _outcome_of(child, deadline - time.monotonic())
    finally:
        for child in children.values():
            child.kill()
            child.wait()
    return outcomes


def _outcome_of(child: subprocess.Popen, seconds: float) -> Probe:
    """What a child printed, after at most so many seconds."""
    try:
        out, err = child.communicate(timeout=max(0, seconds))
    except subprocess.TimeoutExpired:
        return Probe({}, f"no end after {PATIENCE} s")
    lines = out.decode(errors="replace").splitlines()
    try:
        return Probe(**json.loads(lines[-1]))
    except (IndexError, ValueError, TypeError):
        errors = err.decode(errors="replace").strip().splitlines()
        end = f"ended by signal {-child.returncode}" if child.returncode < 0 else "ended early"
        return Probe({}, errors[-1][:300] if errors else end)


def child_main(name: str) -> None:
    """Main function of the subprocess: run one probe and print its ``Probe`` as the last line."""
    try:
        outcome = Probe((PROBES | HUB_PROBES)[name]())
    except CogvxError as error:  # its message says what to do, its cause doesn't
        outcome = Probe({}, str(error))
    except BaseException as error:  # SystemExit too: a package that ends Python at import is broken
        outcome = Probe({}, error_line(error))
    print("\n" + json.dumps(asdict(outcome)), flush=True)


def _torch() -> dict:
    """torch's CUDA version and kernels, and the GPUs and CPU threads that it reports."""
    import torch

    value = {"cuda": torch.version.cuda, "gpus": [], "kernels": [], "error": ""}
    try:
        value["gpus"] = [asdict(gpu) for gpu in probe.cuda_gpus(torch)]
        value["kernels"] = torch.cuda.get_arch_list()
        value["threads"] = torch.get_num_threads()
        value["limits"] = probe.process_limits()
    except Exception as error:  # from the driver; torch itself works
        value["error"] = error_line(error)
    return value


def _lazy(package: str) -> dict:
    """Import the class that is used of a lazily loading package."""
    getattr(importlib.import_module(package), USED[package])
    return {}


def _ffmpeg() -> dict:
    """Encode and decode a few frames with ffmpeg."""
    import imageio_ffmpeg

    from ..results import video

    frames = video.try_ffmpeg()
    return {"version": imageio_ffmpeg.get_ffmpeg_version(), "frames": frames}


def _kernel() -> dict:
    """The interpreter that notebooks would run in."""
    import ipykernel.kernelapp
    from jupyter_client.kernelspec import KernelSpecManager

    command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    # jupyter_client runs a bare name like these in its own interpreter.
    own = command in ("python", "python3", f"python3.{sys.version_info.minor}")
    # Folders, because the interpreters of two environments can be links to the same file.
    same = own or Path(command).parent.resolve() == Path(sys.executable).parent.resolve()
    return {"version": ipykernel.__version__, "python": command, "same": same}


def _widgets() -> dict:
    """ipywidgets and its JupyterLab extension."""
    import ipywidgets
    from jupyter_core.paths import jupyter_path

    part = Path("@jupyter-widgets") / "jupyterlab-manager" / "package.json"
    places = [Path(folder) / part for folder in jupyter_path("labextensions")]
    return {
        "version": ipywidgets.__version__,
        "page_version": importlib.metadata.version("jupyterlab_widgets"),
        "installed": any(path.is_file() for path in places),
    }


HUB_SECONDS = 3
"""Seconds that a hub has to answer."""


def _hub(source: str) -> dict:
    """Where a hub answers, or why it doesn't, by the client that downloads from it."""
    try:
        hub = hubs.connect_hub(source)
        hub.ask(HUB_SECONDS)
    except CogvxError as error:
        return {"error": str(error)}
    return {"shown": hub.shown}


PROBES: dict[str, Callable[[], dict]] = {
    "torch": _torch,
    "diffusers": lambda: _lazy("diffusers"),
    "transformers": lambda: _lazy("transformers"),
    "ffmpeg": _ffmpeg,
    "kernel": _kernel,
    "widgets": _widgets,
}

HUB_PROBES: dict[str, Callable[[], dict]] = {
    source: functools.partial(_hub, source) for source in hubs.SOURCES
}
