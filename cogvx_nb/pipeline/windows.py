"""Velocities of a clip by overlapping windows of it: see ``planning.windows``."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..planning.windows import weights
from .step_cache import Velocities

Predict = Callable[[slice, slice], Tensor]
"""The transformer's velocities of some of the latent frames for some rows of the text."""


class WindowedVelocities:
    """Guided velocities of one video, each window with a step cache of its own.

    Args:
        windows: of latent frames; one of all of them for a clip that is seen whole.
        velocities: makes those of a window.
        after: called after each step of all windows, with its number from 0.
    """

    def __init__(
        self,
        windows: Sequence[range],
        velocities: Callable[[], Velocities],
        after: Callable[[int], None] = lambda step: None,
    ) -> None:
        self._after = after
        self._parts = [slice(window.start, window.stop) for window in windows]
        self._velocities = [velocities() for _ in windows]
        self._weights = weights(windows)

    def forget(self) -> None:
        """See ``Velocities.forget``."""
        for one in self._velocities:
            one.forget()

    def at(self, step: int, scale: float, seen: Tensor, predict: Predict) -> Tensor:
        """As ``Velocities.at``."""
        velocity = self._mean(step, scale, seen, predict)
        self._after(step)
        return velocity

    def _mean(self, step: int, scale: float, seen: Tensor, predict: Predict) -> Tensor:
        if len(self._parts) == 1:
            return self._velocities[0].at(step, scale, seen, self._part(predict, 0))
        mean = torch.zeros_like(seen, dtype=torch.float32)
        for number, (part, one) in enumerate(zip(self._parts, self._velocities, strict=True)):
            found = one.at(step, scale, seen[:, part], self._part(predict, number))
            mean[:, part] += found.new_tensor(self._weights[number])[:, None, None, None] * found
        return mean

    def _part(self, predict: Predict, number: int) -> Callable[[slice], Tensor]:
        return functools.partial(predict, self._parts[number])
