"""What finishes a video, as two tables: ways to make frames between frames, and to enlarge them.

A network is a row like any other. It is opened once before the work, where it says in one line that
a package is missing or that it doesn't fit, and is then called with frames: uint8 (height, width,
3), RGB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial

import numpy as np

from ..errors import RequestError, did_you_mean
from ..planning import probe
from . import lanczos, needs, networks, smooth

Fill = Callable[[Sequence[np.ndarray], Sequence[Fraction]], Iterator[np.ndarray]]
"""Makes the frames at some positions of a run of two or more frames without a cut or a still pair.

Positions rise; 1/2 is midway between the first frame and the second, and none is a whole number.
Yields exactly one frame for each."""

Enlarge = Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]]
"""Makes each frame larger, one after another; no more of them are in memory than it needs."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A method that is ready for frames of one size."""

    run: Callable  # ``Fill`` or ``Enlarge``
    packages: tuple[str, ...] = ()  # whose versions decide the frames, besides ffmpeg's
    weights: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of its files, by name
    parallel: bool = False  # whether runs may be filled in several threads at once
    tile: tuple[int, int] | None = None  # height and width of a network's tiles


@dataclass(frozen=True, slots=True)
class Interpolation:
    """A way to make frames between frames.

    ``open`` is called with height and width in pixels, and raises CogvxError if it can't work here.
    """

    about: str
    open: Callable[[int, int], Opened]
    seconds: Callable[[int], float]  # predicted for a made frame of so many pixels


@dataclass(frozen=True, slots=True)
class Upscaler:
    """A way to enlarge frames.

    ``open`` is called with height and width in pixels, the scale, and the height and width of tiles
    or None for those that fit, and raises CogvxError if it can't work here.
    """

    about: str
    scales: tuple[int, ...]
    open: Callable[[int, int, int, tuple[int, int] | None], Opened]
    seconds: Callable[[int, int], float]  # predicted for a frame of so many pixels, by a scale
    package: str = ""  # that it needs, see ``needs``


def _open_network(
    name: str, height: int, width: int, scale: int, tile: tuple[int, int] | None = None
) -> Opened:
    run, packages, weights = networks.open_upscaler(name, height, width, scale, tile)
    return Opened(run, packages, weights, tile=run.tile)


INTERPOLATIONS: dict[str, Interpolation] = {
    "smooth": Interpolation(
        "ffmpeg's motion-compensated interpolation",
        lambda height, width: Opened(smooth.fill, parallel=True),
        # 0.4 to 0.5 s for each million pixels on one core of a 2.9 GHz server (ffmpeg 9.0.2).
        lambda pixels: 4.5e-7 * pixels / probe.usable_cores(),
    ),
}

UPSCALERS: dict[str, Upscaler] = {
    "lanczos": Upscaler(
        "Lanczos resampling",
        (2, 3, 4),
        lambda height, width, scale, tile=None: Opened(
            lanczos.enlarge_by(scale), packages=("pillow",)
        ),
        lambda pixels, scale: 1.6e-8 * pixels * scale**2,  # measured there
    ),
    "animevideo": Upscaler(
        "Real-ESRGAN animevideov3: fast, looks drawn",
        (2, 3, 4),
        partial(_open_network, "animevideo"),
        partial(networks.seconds, 1.2e6),
        needs.REAL_ESRGAN,
    ),
    "x4plus": Upscaler(
        "Real-ESRGAN x4plus: slow, for photos",
        (2, 4),
        partial(_open_network, "x4plus"),
        partial(networks.seconds, 3.6e7),
        needs.REAL_ESRGAN,
    ),
}


def find_interpolation(name: str) -> Interpolation:
    """A row of ``INTERPOLATIONS``.

    Raises:
        RequestError: if there is none of that name.
    """
    return _find("interpolation", name, INTERPOLATIONS)


def find_upscaler(name: str, scale: int) -> Upscaler:
    """A row of ``UPSCALERS`` that does a scale, or one for a file with a network.

    Raises:
        RequestError: if there is none of that name, or it doesn't.
        PickledWeights: if it is a file that is a pickle.
    """
    if needs.is_file(name):
        needs.own_file(name)
        # About as much work as x4plus; its scale is known when it is opened.
        work = partial(networks.seconds, 3.6e7)
        opened = partial(_open_network, name)
        return Upscaler("a network of your own", (scale,), opened, work, needs.SPANDREL)
    found = _find("upscaler", name, UPSCALERS)
    if scale not in found.scales:
        known = ", ".join(map(str, found.scales))
        raise RequestError("scale", scale, f"{name} enlarges by {known}")
    return found


def _find(kind: str, name: str, table: Mapping[str, object]) -> object:
    if name not in table:
        hint = did_you_mean(str(name), table) or f"; use one of {', '.join(table)}"
        raise RequestError(kind, name, f"is unknown{hint}")
    return table[name]
