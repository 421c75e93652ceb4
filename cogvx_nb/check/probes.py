"""What can only be known by trying it: imports, ffmpeg, Jupyter. Each in a process of its own.

A broken package may raise, print, hang or end the whole process when it is imported; a child that
does so is a sentence for a person, and the parent stays light.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import settings
from ..planning import machine
from ..text import error_line

PATIENCE = 300
"""Seconds until an attempt counts as hung. Importing torch from a cold network disk can take a
minute."""

USED = {"diffusers": "CogVideoXPipeline", "transformers": "T5EncoderModel"}
"""A class that the workbench takes from each lazy package: importing the package loads little."""

LARGEST_ERROR = 8
"""Of 255, mean over all pixels, between a smooth picture and the same through H.264."""


@dataclass(frozen=True, slots=True)
class Probe:
    """How a try ended.

    Attributes:
        value: what it found; empty where it failed.
        error: why it failed, in a line; empty where it worked.
    """

    value: dict
    error: str = ""


def run_probes(names: Iterable[str]) -> dict[str, Probe]:
    """Try some of ``TRIES``, all at once."""
    names = list(names)
    with ThreadPoolExecutor(len(names)) as pool:
        return dict(zip(names, pool.map(_run_probe, names), strict=True))


def _run_probe(name: str) -> Probe:
    code = "from cogvx_nb.check import probes\nprobes.child_main(sys.argv[1])"
    command = settings.child_python(code, name)
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        return Probe({}, f"no end after {PATIENCE} s")
    except OSError as error:
        return Probe({}, error_line(error))
    lines = done.stdout.decode(errors="replace").splitlines()
    try:
        return Probe(**json.loads(lines[-1]))
    except (IndexError, ValueError, TypeError):
        errors = done.stderr.decode(errors="replace").strip().splitlines()
        end = f"ended by signal {-done.returncode}" if done.returncode < 0 else "ended early"
        return Probe({}, errors[-1][:300] if errors else end)


def child_main(name: str) -> None:
    """The child: try one thing, and print an ``Probe`` as the last line."""
    try:
        attempt = Probe(PROBES[name]())
    except BaseException as error:  # SystemExit too: a package that ends Python at import is broken
        attempt = Probe({}, error_line(error))
    print("\n" + json.dumps(asdict(attempt)), flush=True)


def _torch() -> dict:
    """torch's build, and the GPUs as it sees them."""
    import torch

    found = {"cuda": torch.version.cuda, "gpus": [], "kernels": [], "error": ""}
    try:
        found["gpus"] = [asdict(gpu) for gpu in machine.cuda_gpus(torch)]
        found["kernels"] = torch.cuda.get_arch_list()
        found["threads"] = torch.get_num_threads()
    except Exception as error:  # the driver's word; torch itself is fine
        found["error"] = error_line(error)
    return found


def _lazy(package: str) -> dict:
    """A package that loads its parts when they are asked for, with the part that is used here."""
    getattr(importlib.import_module(package), USED[package])
    return {}


def _ffmpeg() -> dict:
    """A few frames through ffmpeg, there and back."""
    import imageio_ffmpeg
    import numpy as np

    from ..results import video

    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    frames = np.broadcast_to(ramp[None, None, :, None], (5, 64, 96, 3)).copy()
    with tempfile.TemporaryDirectory() as folder:
        video.encode_video(frames, Path(folder) / "a.mp4", fps=8, tag="{}")
        back = video.decode_video(Path(folder) / "a.mp4")
    if back.shape != frames.shape:
        raise RuntimeError(f"frames of shape {frames.shape} came back as {back.shape}")
    error = float(np.abs(back.astype(int) - frames).mean())
    if error > LARGEST_ERROR:
        raise RuntimeError(f"frames came back {error:.0f} of 255 off")
    return {"version": imageio_ffmpeg.get_ffmpeg_version(), "frames": len(back)}


def _kernel() -> dict:
    """The interpreter that a notebook here would run in."""
    import ipykernel.kernelapp
    from jupyter_client.kernelspec import KernelSpecManager

    command = KernelSpecManager().get_kernel_spec("python3").argv[0]
    # jupyter_client runs a bare name like these in its own interpreter.
    own = command in ("python", "python3", f"python3.{sys.version_info.minor}")
    # The folders are compared: the interpreters of two environments can be links to one file.
    same = own or Path(command).parent.resolve() == Path(sys.executable).parent.resolve()
    return {"version": ipykernel.__version__, "python": command, "same": same}


def _widgets() -> dict:
    """ipywidgets, and its half that runs in JupyterLab's page."""
    import ipywidgets
    from jupyter_core.paths import jupyter_path

    part = Path("@jupyter-widgets") / "jupyterlab-manager" / "package.json"
    places = [Path(folder) / part for folder in jupyter_path("labextensions")]
    return {
        "version": ipywidgets.__version__,
        "page_version": importlib.metadata.version("jupyterlab_widgets"),
        "installed": any(path.is_file() for path in places),
    }


PROBES: dict[str, Callable[[], dict]] = {
    "torch": _torch,
    "diffusers": lambda: _lazy("diffusers"),
    "transformers": lambda: _lazy("transformers"),
    "ffmpeg": _ffmpeg,
    "kernel": _kernel,
    "widgets": _widgets,
}
