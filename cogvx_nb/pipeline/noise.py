"""Noise of the scheduler's steps, drawn while the device computes."""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch.overrides import TorchFunctionMode

DRAWS = 2
"""Noise tensors that ``CogVideoXDPMScheduler.step`` draws, except in the first and last step."""


@contextlib.contextmanager
def noise_drawn_ahead(scheduler) -> Iterator[None]:
    """Within this context the steps of a scheduler draw the next step's noise ahead.

    The results are the same bits: a CPU generator makes the same noise for every device, but takes
    28 ms a tensor of 49 frames, of a step of 1.4 s on an H100 that would be idle meanwhile.
    Outside of the context the scheduler is as it was. The generator that its steps are given must
    serve nothing else within it.
    """
    step, pool = scheduler.step, ThreadPoolExecutor(1, thread_name_prefix="noise")
    noise = _DrawnAhead(pool)

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


class _DrawnAhead(TorchFunctionMode):
    """While active, ``torch.randn`` returns tensors drawn ahead, in the order of the draws.

    Args:
        pool: of one thread, since the order of the draws decides their values.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        super().__init__()
        self._pool = pool
        self._drawn: deque[Future[torch.Tensor]] = deque()
        self._arguments: tuple[tuple, dict] | None = None  # of the last draw

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if func is not torch.randn or generator is None or generator.device.type != "cpu":
            return func(*args, **kwargs)
        self._arguments = (args, kwargs)
        return self._drawn.popleft().result() if self._drawn else func(*args, **kwargs)

    def draw_ahead(self) -> None:
        """Draw what the next step will need; nothing if the last step needed none."""
        while self._arguments and len(self._drawn) < DRAWS:
            args, kwargs = self._arguments
            self._drawn.append(self._pool.submit(_draw, *args, **kwargs))


def _draw(*args, **kwargs) -> torch.Tensor:
    drawn = torch.randn(*args, **kwargs)
    if torch.cuda.is_available():
        # From pinned memory the copy is asynchronous.
        with contextlib.suppress(RuntimeError):  # none left: only slower
            return drawn.pin_memory()
    return drawn
