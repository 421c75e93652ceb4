"""What a video is finished to, as it is asked for. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import RequestError

FACTORS = (2, 3, 4)
"""Times as many frames a second."""

MOST_FPS = 240


@dataclass(frozen=True, slots=True)
class Recipe:
    """Frames a second and size of a finished video; what isn't given stays as it is.

    Raises:
        RequestError: for a value that can't be, or if nothing is given.
    """

    fps: int | None = None
    factor: int | None = None  # one of ``FACTORS``, in place of ``fps``
    scale: int | None = None  # times as high and as wide
    interpolation: str | None = None  # of ``methods.INTERPOLATIONS``; with a rate "smooth"
    upscaler: str | None = None  # of ``methods.UPSCALERS``, or a file; with a scale "lanczos"

    def __post_init__(self) -> None:
        for name in ("fps", "factor", "scale"):
            value = getattr(self, name)
            if value is not None and type(value) is not int:
                raise RequestError(name, value, "give a whole number")
        if self.fps is not None and not 1 <= self.fps <= MOST_FPS:
            raise RequestError("fps", self.fps, f"give 1 to {MOST_FPS} frames a second")
        if self.factor is not None and self.factor not in FACTORS:
            known = ", ".join(map(str, FACTORS))
            raise RequestError("factor", self.factor, f"is one of {known}, or give fps")
        if self.fps is not None and self.factor is not None:
            raise RequestError("factor", self.factor, f"is given beside fps = {self.fps}: drop one")
        self._complete("interpolation", "smooth", self.interpolates, "needs fps or factor")
        self._complete("upscaler", "lanczos", self.scale is not None, "needs a scale")
        if self.fps is self.factor is self.scale is None:
            raise RequestError("scale", None, "nothing to do: give fps, factor or scale")

    def _complete(self, name: str, usual: str, used: bool, lacking: str) -> None:
        """Name the usual method where none was named; one that nothing is made by is refused."""
        value = getattr(self, name)
        if value is not None and not used:
            raise RequestError(name, value, lacking)
        if value is None and used:
            object.__setattr__(self, name, usual)

    def __str__(self) -> str:
        parts = [f"{self.fps} fps"] * (self.fps is not None)
        parts += [f"{self.factor} times as many frames"] * (self.factor is not None)
        parts += [f"enlarged ×{self.scale}"] * (self.scale is not None)
        return ", ".join(parts)

    @property
    def interpolates(self) -> bool:
        return self.fps is not None or self.factor is not None

    def rate(self, fps: int) -> int:
        """Frames a second of a finished video of one with ``fps``.

        Raises:
            RequestError: if they aren't more.
        """
        if not self.interpolates:
            return fps
        wanted = self.fps if self.factor is None else self.factor * fps
        if wanted <= fps:
            raise RequestError("fps", wanted, f"the video has {fps} already: give more")
        if wanted > MOST_FPS:
            raise RequestError(
                "factor", self.factor, f"makes {wanted} fps of {fps}; at most {MOST_FPS}"
            )
        return wanted
