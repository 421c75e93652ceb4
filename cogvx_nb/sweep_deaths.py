"""Whose fault it is where kernels die: that of the run, or of the worker that it was at."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Set

MOST_HERE = 3
"""Runs that may die at a worker, and nowhere else, before it isn't the runs that are to blame."""


class Deaths:
    """Where the kernels of runs died. Workers are numbers, runs are ids."""

    def __init__(self) -> None:
        self._places: dict[str, set[int]] = defaultdict(set)
        self._since: dict[int, set[str]] = defaultdict(set)
        self._in_a_row: set[str] = set()

    @property
    def in_a_row(self) -> int:
        """Runs that died one after another, wherever they were."""
        return len(self._in_a_row)

    def note(self, worker: int, run_id: str, died: bool) -> None:
        """A run ended at a worker. One that lives there clears it of what died before."""
        if not died:
            self._in_a_row.clear()
            self._since[worker].clear()
            return
        self._in_a_row.add(run_id)
        self._since[worker].add(run_id)
        self._places[run_id].add(worker)

    def working(self, workers: Set[int]) -> set[int]:
        """Those of the workers that do good, or all where none does: one that fails fast would
        take most of the runs."""
        return {one for one in workers if not self._blames(one)} or set(workers)

    def may_try(self, run_id: str, worker: int, working: Set[int]) -> bool:
        """Whether a run may go to a worker: not where it died, while it didn't die everywhere."""
        died_at = self._places.get(run_id, set())
        return worker not in died_at or working <= died_at

    def _blames(self, worker: int) -> bool:
        only_here = [run for run in self._since[worker] if self._places[run] == {worker}]
        return len(only_here) >= MOST_HERE
