"""Latency of Cancel, and memory growth over many videos in one process.

``python benchmarks/jobs.py [--cancels 20] [--videos 50]`` cancels videos of 49 frames at random
moments of their denoising, then makes 15 videos of 13 frames and 2 steps and as many more as
``--videos`` says, with the workbench's page; on the embedded model.
Prints JSON: latency of each cancel in milliseconds and in steps of that video, and the process's
memory (resident set, MiB) before and after those, as medians of ten.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import statistics
import tempfile
import time

import psutil

PROMPT = "a red circle moving right on a black background"
SETTLED = 15
"""Videos before caches and allocator arenas stop growing."""

SAMPLES = 10
"""Videos per median: single readings vary by some MiB."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cancels", type=int, default=20)
    parser.add_argument("--videos", type=int, default=50)
    parser.add_argument("--settled", type=int, default=SETTLED, help="videos before those")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COGVX_OUTPUTS_DIR"] = folder
        from cogvx_nb import progress
        from cogvx_nb.checkpoints import store
        from cogvx_nb.planning import request
        from cogvx_nb.workbench.session import Session

        session, model = Session(), store.locate_checkpoint("tiny")
        begun: list[float] = []
        session.listen(
            lambda job, event: (
                begun.append(time.monotonic()) if isinstance(event, progress.Step) else None
            )
        )
        long = request.make_request(model, PROMPT, frames=49)
        short = request.make_request(model, PROMPT, steps=2)
        measured = {
            "cancel": cancels(session, long, begun, options.cancels),
            "memory": memory(session, short, options.settled, options.videos),
        }
    print(json.dumps(measured, indent=1))


def cancels(session, video, begun: list[float], count: int) -> dict:
    moments, milliseconds, steps = random.Random(1), [], []
    for _ in range(count):
        begun.clear()
        job = session.queue.submit(video)
        while len(begun) < 3:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 2))
        pace = statistics.median(b - a for a, b in itertools.pairwise(begun))
        start, before = time.monotonic(), len(begun)
        session.queue.cancel(job)
        while not job.over:
            time.sleep(0.001)
        milliseconds.append(round(1000 * (time.monotonic() - start)))
        session.queue.wait()
        steps.append(len(begun) - before)
        assert job.state == "cancelled"
    return {
        "median_ms": statistics.median(milliseconds),
        "longest_ms": max(milliseconds),
        "most_steps_begun_after_it": max(steps),
        "step_ms": round(1000 * pace),
        "all_ms": milliseconds,
    }


def memory(session, video, settled: int, count: int) -> dict:
    """Resident memory before and after ``count`` videos, with the page that shows each result."""
    from cogvx_nb.workbench.desk import Desk
    from cogvx_nb.workbench.page import Page

    shown = Page(Desk(video.model, session, {}), {})
    process, sizes = psutil.Process(), []
    for _ in range(settled + count):
        session.queue.submit(video)
        session.queue.wait()
        sizes.append(process.memory_info().rss / 2**20)
    shown.shut()
    before = statistics.median(sizes[max(0, settled - SAMPLES) : settled])
    after = statistics.median(sizes[-SAMPLES:])
    growth = f"{100 * (after / before - 1):.1f} %"
    return {"before_mib": round(before), "after_mib": round(after), "growth": growth}


if __name__ == "__main__":
    main()
