"""Signals that come at a bad moment."""

from __future__ import annotations

import os
import signal
import time

import pytest

from cogvx_nb.cli.signals import handle_signals


@pytest.mark.parametrize(
    ("sent", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_one_that_comes_during_a_finalizer_is_not_lost(sent, raised):
    class Ends:
        def __del__(self):
            os.kill(os.getpid(), sent)
            time.sleep(0.01)

    def work() -> None:
        with handle_signals():
            Ends()
            time.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background
    try:
        with pytest.raises(raised):
            work()
    finally:
        signal.signal(signal.SIGINT, ignored)
    assert signal.getsignal(signal.SIGTERM) is before
