"""Latents that are known before denoising: each step sees them with noise, the end has them clean.

All schedulers compute each element of a step by itself. So it is enough that the transformer sees
the known frames; what a step makes of them is never used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import schedulers

LEAD = 0.7
"""The known frames have the noise of this share of the timestep, so that they tell more than the
others while these take shape. At 1, as in RePaint and SDEdit, the rest is laid out before the known
frames are seen: with the embedded checkpoint objects then jump, mostly, in the frames after them;
at 0.7 and 0.4 they go on as they moved (``benchmarks/extension.py``)."""


class Hold:
    """Keeps the first frames of a clip to known ones; does nothing without.

    Args:
        scheduler: prepared for its steps.
        known: see ``Condition.known``.
        noise: of the clip, padding included; the known frames have theirs at each step.
    """

    def __init__(self, scheduler, known: Tensor | None, noise: Tensor) -> None:
        self._scheduler, self._known = scheduler, None
        if known is not None:
            self._known = known.to(noise)
            self._noise = noise[:, : self._known.shape[1]].float()

    def noisy(self, seen: Tensor, timestep: Tensor) -> Tensor:
        """What the transformer sees at a timestep, with the known frames and their noise."""
        if self._known is None:
            return seen
        kept, added = schedulers.levels(self._scheduler, (LEAD * timestep)[None])
        return self._with(seen, kept.float() * self._known.float() + added.float() * self._noise)

    def clean(self, latents: Tensor) -> Tensor:
        """Clean latents with the known frames."""
        return latents if self._known is None else self._with(latents, self._known)

    def _with(self, latents: Tensor, known: Tensor) -> Tensor:
        return torch.cat([known.to(latents), latents[:, known.shape[1] :]], dim=1)
