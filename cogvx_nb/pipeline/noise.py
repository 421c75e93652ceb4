"""Noise of a video: between that of two seeds, and drawn while the device computes."""

from __future__ import annotations

import contextlib
import functools
import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch.overrides import TorchFunctionMode

DRAWS = 2
"""Noise tensors that ``CogVideoXDPMScheduler.step`` draws, except in the first and last step."""


Draw = Callable[..., torch.Tensor]
"""Draws a tensor as ``torch.randn`` does, and takes its arguments."""


def noise_of(seed: int, variation_seed: int, strength: float) -> tuple[torch.Generator, Draw]:
    """(generator to be given to the pipeline, how to draw with it).

    The draws are those of ``seed`` at strength 0 and those of ``variation_seed`` at 1, bit by bit;
    between, each is the spherical interpolation of both seeds' draws. This holds for the noise of
    the steps as well as for the first one, so that the whole way from one seed's video to the
    other's is continuous.
    """
    # On the CPU, where a seed makes the same noise for every device.
    generator = torch.Generator("cpu").manual_seed(variation_seed if strength == 1 else seed)
    if strength in (0, 1):
        return generator, torch.randn
    other = torch.Generator("cpu").manual_seed(variation_seed)

    def draw(*args, generator: torch.Generator, **kwargs) -> torch.Tensor:
        first = torch.randn(*args, generator=generator, **kwargs)
        second = torch.randn(*args, generator=other, **kwargs)
        return slerp(first, second, strength)

    return generator, draw


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


@contextlib.contextmanager
def noise_drawn_by(draw: Draw, pipe) -> Iterator[None]:
    """Within this context a pipeline draws all its noise by a function, that of the steps ahead;
    see ``noise_drawn_ahead``."""
    prepare = pipe.prepare_latents

    def prepare_latents(*args, **kwargs):
        with _Drawn(draw):
            return prepare(*args, **kwargs)

    pipe.prepare_latents = prepare_latents
    try:
        with noise_drawn_ahead(pipe.scheduler, draw):
            yield
    finally:
        del pipe.prepare_latents


@contextlib.contextmanager
def noise_drawn_ahead(scheduler, draw: Draw = torch.randn) -> Iterator[None]:
    """Within this context the steps of a scheduler draw the next step's noise ahead.

    The results are the same bits: a CPU generator makes the same noise for every device, but takes
    28 ms a tensor of 49 frames, of a step of 1.4 s on an H100 that would be idle meanwhile.
    Outside of the context the scheduler is as it was. The generator that its steps are given must
    serve nothing else within it.
    """
    step, pool = scheduler.step, ThreadPoolExecutor(1, thread_name_prefix="noise")
    noise = _DrawnAhead(draw, pool)

    @functools.wraps(step)  # the pipeline looks at its parameters
    def step_with_noise(*args, **kwargs):
        with noise:
            result = step(*args, **kwargs)
        noise.draw_ahead()
        return result

    scheduler.step = step_with_noise
    try:
        yield
    finally:
        del scheduler.step
        pool.shutdown(wait=False, cancel_futures=True)


class _Drawn(TorchFunctionMode):
    """While active, ``torch.randn`` with a generator of the CPU draws by a function."""

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self._draw = draw

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if func is not torch.randn or generator is None or generator.device.type != "cpu":
            return func(*args, **kwargs)
        return self._drawn_by(*args, **kwargs)

    def _drawn_by(self, *args, **kwargs) -> torch.Tensor:
        return self._draw(*args, **kwargs)


class _DrawnAhead(_Drawn):
    """While active, ``torch.randn`` returns tensors drawn ahead, in the order of the draws.

    Args:
        pool: of one thread, since the order of the draws decides their values.
    """

    def __init__(self, draw: Draw, pool: ThreadPoolExecutor) -> None:
        super().__init__(draw)
        self._pool = pool
        self._drawn: deque[Future[torch.Tensor]] = deque()
        self._arguments: tuple[tuple, dict] | None = None  # of the last draw

    def _drawn_by(self, *args, **kwargs) -> torch.Tensor:
        self._arguments = (args, kwargs)
        return self._drawn.popleft().result() if self._drawn else self._draw(*args, **kwargs)

    def draw_ahead(self) -> None:
        """Draw what the next step will need; nothing if the last step needed none."""
        while self._arguments and len(self._drawn) < DRAWS:
            args, kwargs = self._arguments
            self._drawn.append(self._pool.submit(_draw, self._draw, *args, **kwargs))


def _draw(draw: Draw, *args, **kwargs) -> torch.Tensor:
    drawn = draw(*args, **kwargs)
    if torch.cuda.is_available():
        # From pinned memory the copy is asynchronous.
        with contextlib.suppress(RuntimeError):  # none left: only slower
            return drawn.pin_memory()
    return drawn
