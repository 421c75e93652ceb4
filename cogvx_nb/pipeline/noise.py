"""Noise of a video: between that of two seeds, and drawn while the device computes."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch.overrides import TorchFunctionMode

AHEAD_BYTES = 256 * 2**20
"""RAM of the noise that is drawn ahead: that of 59 steps of ``CogVideoXDPMScheduler`` at 49 frames
of 480 × 720. A step cache leaves no time to draw in the steps that it skips, so that what was drawn
eight steps ahead was used up in the last quarter of ``turbo`` on four GPUs."""


class Noise:
    """All the noise of a video, from the first to the last draw.

    The draws are those of ``seed`` at strength 0 and those of ``variation_seed`` at 1, bit by bit;
    between, each is the spherical interpolation of both seeds' draws. This holds for the noise of
    the steps as well as for the first one, so that the whole way from one seed's video to the
    other's is continuous.
    """

    def __init__(self, seed: int, variation_seed: int = 0, strength: float = 0.0) -> None:
        # On the CPU, where a seed makes the same noise for every device.
        first = variation_seed if strength == 1 else seed
        self.generator = torch.Generator("cpu").manual_seed(first)
        self._other = torch.Generator("cpu").manual_seed(variation_seed)
        self._strength = strength
        self.order: Sequence[int] | None = None
        """For each latent frame which of the drawn ones it has: more than are drawn, where windows
        share noise. None where each has its own."""

    @property
    def state(self) -> tuple[torch.Tensor, torch.Tensor]:
        """To be set again where what was drawn is drawn once more."""
        return self.generator.get_state(), self._other.get_state()

    @state.setter
    def state(self, state: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.generator.set_state(state[0])
        self._other.set_state(state[1])

    def draw(
        self, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> torch.Tensor:
        """The next noise."""
        return self.randn(shape, generator=self.generator, dtype=dtype).to(device)

    def randn(self, *args, generator: torch.Generator, **kwargs) -> torch.Tensor:
        """``torch.randn``, but for its values where there is a variation."""
        if self.order is None:
            return self._randn(*args, generator=generator, **kwargs)
        (batch, _, *size), *rest = args
        drawn = self._randn(
            (batch, 1 + max(self.order), *size), *rest, generator=generator, **kwargs
        )
        return drawn[:, self.order]

    def _randn(self, *args, generator: torch.Generator, **kwargs) -> torch.Tensor:
        drawn = torch.randn(*args, generator=generator, **kwargs)
        if self._strength in (0, 1):
            return drawn
        other = torch.randn(*args, generator=self._other, **kwargs)
        return slerp(drawn, other, self._strength)

    @contextlib.contextmanager
    def ahead(self) -> Iterator[DrawnAhead]:
        """For the steps of a scheduler, whose noise is drawn while the device computes.

        The results are the same bits: a CPU generator makes the same noise for every device, but
        takes 28 ms a tensor of 49 frames, of a step of 1.4 s on an H100 that would be idle
        meanwhile. The generator must serve nothing else within this context.
        """
        pool = ThreadPoolExecutor(1, thread_name_prefix="noise")
        try:
            yield DrawnAhead(self, pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def slerp(first: torch.Tensor, second: torch.Tensor, strength: float) -> torch.Tensor:
    """The point of the arc between two tensors, as vectors, at a strength of 0 … 1.

    Unlike the line between them, the arc between two tensors of standard normal noise is standard
    normal noise all along. Computed in float32, its two weights in float64, whatever the dtype.
    """
    a, b = (tensor.double().flatten() for tensor in (first, second))
    cosine = (torch.dot(a, b) / (a.norm() * b.norm())).clamp(-1, 1).item()
    angle = math.acos(cosine)
    if math.sin(angle) < 1e-6:  # the same noise, or its opposite: there is no arc
        return first
    weights = [math.sin(part * angle) / math.sin(angle) for part in (1 - strength, strength)]
    return (weights[0] * first.float() + weights[1] * second.float()).to(first.dtype)


class DrawnAhead(TorchFunctionMode):
    """While active, ``torch.randn`` with a generator of the CPU returns noise that was drawn ahead,
    in the order of the draws.

    Args:
        pool: of one thread, since the order of the draws decides their values.
    """

    def __init__(self, noise: Noise, pool: ThreadPoolExecutor) -> None:
        super().__init__()
        self._noise, self._pool = noise, pool
        self._drawn: deque[Future[torch.Tensor]] = deque()
        self._arguments: tuple[tuple, dict] | None = None  # of the last draw
        self._bytes = 0  # of the last draw
        self._draws = 0  # since the last ``draw_ahead``

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if func is not torch.randn or generator is None or generator.device.type != "cpu":
            return func(*args, **kwargs)
        self._arguments = (args, kwargs)
        draw = self._noise.randn
        drawn = self._drawn.popleft().result() if self._drawn else draw(*args, **kwargs)
        self._bytes, self._draws = drawn.nbytes, self._draws + 1
        return drawn

    def draw_ahead(self, steps: int) -> None:
        """Draw what so many steps to come will need, each as much as the last one."""
        room = AHEAD_BYTES // max(self._bytes, 1)
        wanted, self._draws = min(self._draws * steps, max(room, 1)), 0
        while len(self._drawn) < wanted:
            args, kwargs = self._arguments
            self._drawn.append(self._pool.submit(self._noise.randn, *args, **kwargs))
