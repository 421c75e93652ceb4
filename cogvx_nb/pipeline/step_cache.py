"""Velocities of guided denoising steps, of which a step cache computes some.

A velocity v of noisy latents x = a x0 + s e is v = a e - s x0. What changes least from step to step
is reused: of the prompt the clean latents x0, which the noise that schedulers add leaves alone; of
the two clips of guidance the difference of their velocities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from ..planning.step_cache import APART, DENSE, HALVES, HARD_CHANGE, guard_step

Predict = Callable[[slice], Tensor]
"""The transformer's velocities for some rows of the text, at the step at work."""

EXTRAPOLATION = 0.4
"""Share of the last change of the clean latents that goes on, per step. Chosen on the embedded
checkpoint (``docs/benchmarks.md``, Step cache): 1 is further from exact than 0."""


class Guard:
    """Decides after a few steps between ``HALVES`` and ``DENSE``; for all windows of a video.

    Args:
        schedule: of the steps, changed in place where the prompt is hard.
        dense: what it is changed to.
        on_kind: called once with what was decided.
    """

    def __init__(
        self, schedule: list[int], dense: Sequence[int], on_kind: Callable[[str], None]
    ) -> None:
        self.step, self._hard = guard_step(len(schedule)), False
        self._schedule, self._dense, self._on_kind = schedule, dense, on_kind

    def look(self, before: tuple[int, Tensor], now: tuple[int, Tensor]) -> None:
        """Take note of how the clean latents of a window changed between two steps."""
        (last, former), (step, clean) = before, now
        change = (clean - former).abs().sum() / clean.abs().sum()
        self._hard |= float(change) / (step - last) * len(self._schedule) > HARD_CHANGE

    def decide(self, step: int) -> None:
        """After each step of all windows."""
        if step != self.step:
            return
        if self._hard:
            self._schedule[self.step + 1 :] = self._dense[self.step + 1 :]
        self._on_kind(DENSE if self._hard else HALVES)


class Velocities:
    """What the scheduler is given at each step of one video.

    Args:
        schedule: see ``planning.step_cache``.
        kind: of the step cache; empty where all is computed.
        guided: whether there are two texts, that of the negative prompt first.
        levels: a and s of each step, (steps,) each, on the device.
        guard: looks at the clean latents, if there is one.
    """

    def __init__(
        self,
        schedule: Sequence[int],
        kind: str,
        guided: bool,
        levels: tuple[Tensor, Tensor],
        guard: Guard | None = None,
    ) -> None:
        self._guard = guard
        self._schedule, self._guided, self._levels = schedule, guided, levels
        self._apart = kind in APART
        self._kept: Tensor | None = None  # velocities of all texts, as computed last
        self._difference: Tensor | None = None  # of the prompt's velocity and the negative one's
        self._clean: list[tuple[int, Tensor]] = []  # the prompt's, of the last two computed steps

    def forget(self) -> None:
        """What was computed is of another prompt: the next step must compute all."""
        self._kept = self._difference = None
        self._clean = []

    def at(self, step: int, scale: float, seen: Tensor, predict: Predict) -> Tensor:
        """The guided velocity, (1, latent frames, channels, height, width), float32.

        Args:
            step: from 0.
            seen: the noisy latents.
        """
        count = self._schedule[step]
        if not self._apart:
            if count == 1 and self._guided:  # guidance does nothing
                return predict(slice(1, 2))
            if count:
                self._kept = predict(slice(None))
            return self._combine(self._kept, scale)
        signal, noise = (level[step] for level in self._levels)
        if not count:
            positive = (signal * seen - self._extrapolated(step)) / noise
            return self._add_difference(positive, scale)
        both = self._guided and count == 2
        velocities = predict(slice(None) if both or not self._guided else slice(1, 2))
        positive = velocities[-1:]
        self._clean = [*self._clean[-1:], (step, signal * seen - noise * positive)]
        if self._guard and step == self._guard.step and len(self._clean) == 2:
            self._guard.look(*self._clean)
        if both:
            self._difference = positive - velocities[:1]
            return self._combine(velocities, scale)
        return self._add_difference(positive, scale)

    def _combine(self, velocities: Tensor, scale: float) -> Tensor:
        if not self._guided:
            return velocities
        negative, positive = velocities.chunk(2)
        return negative + scale * (positive - negative)

    def _add_difference(self, positive: Tensor, scale: float) -> Tensor:
        if self._difference is None:
            return positive
        return positive + (scale - 1) * self._difference

    def _extrapolated(self, step: int) -> Tensor:
        """The prompt's clean latents, a part of their last change further on."""
        last, clean = self._clean[-1]
        if len(self._clean) == 1:
            return clean
        before, former = self._clean[0]
        return clean + EXTRAPOLATION * (step - last) / (last - before) * (clean - former)
