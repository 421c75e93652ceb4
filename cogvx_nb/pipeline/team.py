"""Threads that each launch the work of one device, in groups that exchange tensors."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch

from .failures import failed_on
from .shards import Group


class Team:
    """A thread for each of some devices.

    Args:
        devices: the first is the one that works alone where the others can't.
        groups: how many of equal size they make.
    """

    def __init__(self, devices: Sequence[torch.device], groups: int) -> None:
        self.devices = tuple(devices)
        self.groups = [Group(len(devices) // groups) for _ in range(groups)]
        # One each: what torch keeps for a thread is then of one device.
        self._threads = [ThreadPoolExecutor(1, thread_name_prefix="cogvx-gpu") for _ in devices]

    def run(self, work: Sequence[Callable[[torch.device], torch.Tensor]]) -> list[torch.Tensor]:
        """What each call with its device returns, moved to the first device.

        Raises:
            SpeedUpFailed: if a device but the first fails or runs out of memory.
            Exception: what a call raises otherwise.
        """
        pairs = list(zip(work, self.devices, strict=False))
        threads = zip(self._threads, pairs, strict=False)
        futures = [thread.submit(self._call, *pair) for thread, pair in threads]
        try:
            errors = [future.exception() for future in futures]
        except BaseException:  # an interrupt
            self._abort()
            wait(futures)
            self._reset()
            raise
        self._reset()
        for error, (_, device) in zip(errors, pairs, strict=True):
            if error is not None and not isinstance(error, threading.BrokenBarrierError):
                self._raise(error, device, first=error is errors[0])
        return [future.result() for future in futures]

    def _call(self, call: Callable, device: torch.device) -> torch.Tensor:
        on_device = torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
        try:
            with torch.no_grad(), on_device:
                return call(device).to(self.devices[0])
        except BaseException:
            self._abort()
            raise

    def _reset(self) -> None:
        """Free what was exchanged last, and start over."""
        for group in self.groups:
            group.reset()

    def _abort(self) -> None:
        for group in self.groups:
            group.abort()

    def _raise(self, error: BaseException, device: torch.device, first: bool) -> None:
        if not first and isinstance(error, RuntimeError | MemoryError):
            raise failed_on(device, error) from error
        raise error
