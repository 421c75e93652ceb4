"""How soon Cancel takes effect, and whether memory grows over many videos in one process.

``python benchmarks/jobs.py`` cancels 20 videos of 49 frames at random moments of their denoising,
then makes 50 videos of 13 frames and 2 steps; on the embedded model. Prints JSON: latency of each
cancel in milliseconds and in steps of that video, and the process's memory (resident set, MiB)
after the first ten videos and after the last.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import statistics
import tempfile
import time

import psutil

PROMPT = "a red circle moving right on a black background"
SETTLED = 10
"""Videos after which caches and arenas have their size."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COGVX_OUTPUTS_DIR"] = folder
        from cogvx_nb import events, request, weights
        from cogvx_nb.studio import Studio

        where, model = Studio(), weights.locate("tiny")
        begun: list[float] = []
        where.listen(
            lambda job, event: (
                begun.append(time.monotonic()) if isinstance(event, events.Step) else None
            )
        )
        found = {"cancel": cancels(where, request.make(model, PROMPT, frames=49), begun)}
        found["memory"] = memory(where, request.make(model, PROMPT, steps=2))
    print(json.dumps(found, indent=1))


def cancels(where, wanted, begun: list[float], count: int = 20) -> dict:
    moments, milliseconds, steps = random.Random(1), [], []
    for _ in range(count):
        begun.clear()
        job = where.queue.submit(wanted)
        while len(begun) < 3:
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 2))
        pace = statistics.median(b - a for a, b in itertools.pairwise(begun))
        start, made = time.monotonic(), len(begun)
        where.queue.cancel(job)
        where.queue.wait()
        milliseconds.append(round(1000 * (time.monotonic() - start)))
        steps.append(len(begun) - made)
        assert job.state == "cancelled"
    return {
        "median_ms": statistics.median(milliseconds),
        "longest_ms": max(milliseconds),
        "most_steps_begun_after_it": max(steps),
        "step_ms": round(1000 * pace),
        "all_ms": milliseconds,
    }


def memory(where, wanted, count: int = 50) -> dict:
    process, sizes = psutil.Process(), []
    for _ in range(count):
        where.queue.submit(wanted)
        where.queue.wait()
        sizes.append(process.memory_info().rss / 2**20)
    settled, last = sizes[SETTLED - 1], sizes[-1]
    growth = f"{100 * (last / settled - 1):.1f} %"
    return {"settled_mib": round(settled), "last_mib": round(last), "growth": growth}


if __name__ == "__main__":
    main()
