"""Probe this machine in a process that ends."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
from collections.abc import Callable, Iterator

from .. import settings
from ..errors import SpecError
from ..planning.machine import Machine

PROBE = """
import pickle
from cogvx_nb.planning import probe
print("\\n" + pickle.dumps(probe.probe_machine()).hex())
"""
"""Runs in a child process: probing a GPU takes memory on it until the process ends."""


@contextlib.contextmanager
def probe_in_child(needed: bool) -> Iterator[Callable[[], Machine]]:
    """Probe the machine in a child process while rows are read; yields a function that waits."""
    if not needed:
        yield lambda: None
        return
    command = settings.child_python(PROBE)
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    machines: list[Machine] = []

    def wait_for_machine() -> Machine:
        if not machines:
            output, errors = child.communicate()
            if child.returncode:
                reason = (errors.strip().splitlines() or ["no reason"])[-1]
                raise SpecError(f"this machine can't be probed: {reason}", 1)
            machines.append(pickle.loads(bytes.fromhex(output.splitlines()[-1])))
        return machines[0]

    try:
        yield wait_for_machine
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
