"""``python -m cogvx_nb`` and the script ``cogvx``."""

import os
import signal
import sys


def leave(signum: int, frame: object) -> None:
    os._exit(128 + signum)


def run() -> int:
    """The ``cogvx`` command. Ctrl-C ends it without a traceback also while modules are imported
    and while Python exits, when nothing is at work; in between, see ``cli.signals``."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    from .cli.main import main

    return main()


if __name__ == "__main__":
    sys.exit(run())
