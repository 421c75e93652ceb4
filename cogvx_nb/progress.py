"""Events shown to a person: a bar on a terminal, a line in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys

from tqdm import tqdm

from .events import Event, PlanChanged, RequestReduced, StageStarted, Step


class Progress:
    """A listener for ``generate.run`` and ``result.save``. Use it in a ``with`` statement."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: tqdm | None = None
        self._notebook = _notebook_line() if _in_notebook() else None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *exception: object) -> None:
        self._close()
        if self._notebook is not None:
            self._show("stopped" if exception[0] else "done")

    def __call__(self, event: Event) -> None:
        match event:
            case StageStarted(stage):
                self._close()
                self._stage = stage
                self._show(stage)
            case Step(step, steps, seconds_left):
                self._advance(step, steps, seconds_left)
            case PlanChanged(plan):
                self._close()
                self._show(f"memory ran out; trying again: {plan}")
            case RequestReduced(request):
                self._close()
                changes = "; ".join(str(change) for change in request.adjustments)
                self._show(f"memory ran out; making less: {changes}")

    def _advance(self, step: int, steps: int, seconds_left: float) -> None:
        if self._notebook is not None:
            self._show(f"{self._stage} {step}/{steps}, {seconds_left:.0f} s left")
        elif sys.stderr.isatty():
            if self._bar is None:
                self._bar = tqdm(desc=self._stage, total=steps, unit="step", leave=False)
            self._bar.update(step - self._bar.n)

    def _show(self, line: str) -> None:
        if self._notebook is not None:
            self._notebook.update({"text/plain": line}, raw=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


def _notebook_line():
    from IPython.display import display

    return display({"text/plain": "starting"}, raw=True, display_id=True)
