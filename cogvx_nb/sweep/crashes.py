"""Which runs of a sweep crash their kernel, and whether a worker is to blame."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set

MAX_WORKER_CRASHES = 3
"""Runs that may crash on one worker and on no other before the worker is blamed, not the runs."""


class CrashLog:
    """Which runs crashed their kernel on which worker. Workers are numbers, runs are ids."""

    def __init__(self) -> None:
        self._workers_of: dict[str, set[int]] = defaultdict(set)
        self._recent_on: dict[int, set[str]] = defaultdict(set)
        self._in_a_row: set[str] = set()

    @property
    def in_a_row(self) -> int:
        """Number of runs that crashed since the last one that didn't, on any worker."""
        return len(self._in_a_row)

    def record_end(self, worker: int, run_id: str, crashed: bool) -> None:
        """Record how a run ended; one that didn't crash resets its worker's count."""
        if not crashed:
            self._in_a_row.clear()
            self._recent_on[worker].clear()
            return
        self._in_a_row.add(run_id)
        self._recent_on[worker].add(run_id)
        self._workers_of[run_id].add(worker)

    def healthy(self, workers: Set[int]) -> set[int]:
        """The workers that aren't blamed for crashes, or all of them if each one is.

        A worker on which every run crashes at once would take most of the runs.
        """
        return {worker for worker in workers if not self._is_blamed(worker)} or set(workers)

    def may_run_on(self, run_id: str, worker: int, healthy: Set[int]) -> bool:
        """Whether a run may be given to a worker: to one on which it crashed only when it has
        crashed on all healthy ones."""
        crashed_on = self._workers_of.get(run_id, set())
        return worker not in crashed_on or healthy <= crashed_on

    def _is_blamed(self, worker: int) -> bool:
        only_here = [run for run in self._recent_on[worker] if self._workers_of[run] == {worker}]
        return len(only_here) >= MAX_WORKER_CRASHES
