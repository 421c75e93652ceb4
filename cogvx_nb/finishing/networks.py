"""Opens networks for finishing. Loads torch when one is opened, and not before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .. import settings
from ..hashing import sha256
from ..imports import importing
from ..planning import probe
from .needs import is_file

CORE_FLOPS, GPU_FLOPS = 3.6e10, 6e13
"""Operations a second: of a core of a 2.9 GHz server (measured with both of Real-ESRGAN's), and
what these small convolutions are expected to reach on a GPU of a data centre."""


def has_gpu() -> bool:
    """Whether networks run on a GPU. Loads torch."""
    settings.prepare_torch()
    with importing:
        import torch

    return torch.cuda.is_available()


def device_name() -> str:
    """The GPU that networks run on, else ``cpu``: another rounds otherwise. Loads torch."""
    if not has_gpu():
        return "cpu"
    import torch

    return torch.cuda.get_device_name()


def find_file(name: str, digest: str) -> Path | None:
    """A file with a network of that name and SHA-256: in the current folder, or in ``upscalers`` in
    the folder of the checkpoints; None if it is in neither. Nothing else is looked at: settings
    come from anywhere."""
    folders = (Path.cwd(), settings.models_dir() / "upscalers")
    there = (path for folder in folders if (path := folder / Path(name).name).is_file())
    return next((path for path in there if sha256(path) == digest), None)


def seconds(operations: float, pixels: int, scale: int) -> float:
    """Predicted for a frame of so many pixels, where a network does ``operations`` for each.

    The networks work in the size of the frames given, whatever the scale.
    """
    speed = GPU_FLOPS if has_gpu() else CORE_FLOPS * probe.usable_cores()
    return operations * pixels / speed


def open_upscaler(
    name: str, height: int, width: int, scale: int, tile: tuple[int, int] | None
) -> tuple[Callable, tuple[str, ...], dict[str, str]]:
    """What enlarges frames of a size, the packages whose versions decide the result, and the
    SHA-256 of the weights.

    Args:
        name: of ``real_esrgan.FILES``, or a file.
        tile: see ``tiles.Enlarger``, which is returned.

    Raises:
        CogvxError: if it can't work here; see ``real_esrgan`` and ``user_network``.
    """
    settings.prepare_torch()
    with importing:
        from . import real_esrgan, user_network

    if is_file(name):
        run, weights = user_network.open_network(name, height, width, scale, tile=tile)
        return run, ("torch", "spandrel"), weights
    run, weights = real_esrgan.open_network(name, height, width, scale, tile=tile)
    return run, ("torch",), weights
