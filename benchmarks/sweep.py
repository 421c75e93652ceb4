"""What a sweep costs beyond its videos, and compared with a loop of papermill runs.

``python benchmarks/sweep.py [--runs 50] [--bare 3] [--steps 50] [--frames 25] [--threads N]``, on
the embedded checkpoint. Prints JSON; times are in seconds:

- ``generation``: one load in a fresh process, imports included, and the median of warm videos
  (from request to mp4, without a notebook) in that process; measured before and after the sweep,
  since other processes use the machine too;
- ``ideal``: that load and as many of those videos as there are runs;
- ``sweep``: those runs by ``cogvx sweep``, the whole process; ``of_ideal`` is the ratio to
  ``ideal``; ``of_its_own`` the ratio to the load and the stages that the runs' own sidecars record,
  which is meaningful on a busy machine too; ``beyond_generation`` is what remains per run after
  subtracting those stages and one load;
- ``bare``: the mean of a few runs of ``papermill`` in a loop, each with a new process and kernel,
  and what as many runs would take;
- ``expand``: 10,000 runs read, expanded, checked and listed by ``cogvx sweep --dry-run``, the whole
  process on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "a red circle moving right on a black background"
GENERATION = """
import sys, time
start = time.perf_counter()
from cogvx_nb.pipeline import generate, loader
from cogvx_nb.planning import model_choice, planner, probe, request
from cogvx_nb.reports import display
from cogvx_nb.results import result
prompt, frames, steps, count = sys.argv[1], *map(int, sys.argv[2:])
this = probe.probe_machine()
model, _ = model_choice.find_model("tiny", lambda: this, frames)
asked = request.make_request(model, prompt, frames=frames, steps=steps)
loaded = loader.load_pipeline(planner.plan_request(asked, this))
print(time.perf_counter() - start)
for seed in range(count + 1):
    start = time.perf_counter()
    asked = request.make_request(model, prompt, frames=frames, steps=steps, seed=seed)
    result.save_result(generate.generate_frames(asked, loaded), f"{seed}.mp4", overwrite=True)
    print(time.perf_counter() - start)
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--bare", type=int, default=3)
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--frames", type=int, default=25)
    parser.add_argument(
        "--warm", type=int, default=6, help="videos per measurement; one more is discarded"
    )
    parser.add_argument(
        "--expand", type=int, default=10_000, help="runs of the sweep that is listed"
    )
    options = parser.parse_args()
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COGVX_OUTPUTS_DIR"] = f"{folder}/outputs"
        os.chdir(folder)
        print(json.dumps(measure(options, Path(folder)), indent=1))


def measure(options: argparse.Namespace, folder: Path) -> dict:
    before = time_generation(options)
    total, stages = time_sweep(folder, options)
    bare = statistics.mean(time_papermill(number, options) for number in range(options.bare))
    after = time_generation(options)
    load = (before[0] + after[0]) / 2
    warm = statistics.median([*before[1], *after[1]])
    ideal = load + options.runs * warm
    return {
        "runs": options.runs,
        "frames": options.frames,
        "steps": options.steps,
        "threads": options.threads,
        "generation": {
            "load": round(load, 2),
            "warm": round(warm, 3),
            "warm_before_and_after": [round(statistics.median(x[1]), 3) for x in (before, after)],
        },
        "ideal": round(ideal, 1),
        "sweep": {
            "seconds": round(total, 1),
            "of_ideal": round(total / ideal, 3),
            "of_its_own": round(total / (load + sum(stages)), 3),
            "beyond_generation": round((total - sum(stages) - load) / options.runs, 3),
        },
        "bare": {
            "each": round(bare, 2),
            "seconds": round(bare * options.runs, 1),
            "of_sweep": round(bare * options.runs / total, 2),
        },
        "expand": round(time_expansion(folder, options.expand), 2),
    }


def time_sweep(folder: Path, options) -> tuple[float, list[float]]:
    """(seconds of a sweep's process, seconds of each run's stages after loading)."""
    values = {"model": "tiny", "prompt": PROMPT, "frames": options.frames, "steps": options.steps}
    spec = {"parameters": values, "seeds": options.runs}
    path = folder / "bench.yaml"
    path.write_text(json.dumps(spec))
    seconds = time_module("cogvx_nb", "sweep", str(path))
    stages = []
    for sidecar in Path("outputs/sweeps/bench").glob("*/video.json"):
        recorded = json.loads(sidecar.read_text())["seconds"]
        stages.append(sum(value for stage, value in recorded.items() if stage != "load"))
    assert len(stages) == options.runs
    return seconds, stages


def time_papermill(number: int, options) -> float:
    """Seconds of a run by the ``papermill`` command."""
    import cogvx_nb

    notebook = Path(cogvx_nb.__file__).parent.parent / "notebooks" / "03_generate.ipynb"
    flags = ["-r", "model", "tiny", "-r", "output", f"bare{number}.mp4", "-r", "prompt", PROMPT]
    flags += ["-p", "frames", str(options.frames), "-p", "steps", str(options.steps)]
    flags += ["-p", "seed", str(1000 + number), "--no-progress-bar"]
    return time_module("papermill", str(notebook), f"bare{number}.ipynb", *flags)


def time_generation(options) -> tuple[float, list[float]]:
    """Seconds of (imports and load, warm videos)."""
    numbers = map(str, (options.frames, options.steps, options.warm))
    command = [sys.executable, "-c", GENERATION, PROMPT, *numbers]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    load, _, *warm = map(float, done.stdout.split())
    return load, warm


def time_expansion(folder: Path, runs: int) -> float:
    """Seconds to list as many runs, a multiple of 100."""
    colours = ("red", "green", "blue", "cyan")
    prompts = [f"a {c} circle moving right on a black background" for c in colours]
    grid = {"prompt": prompts, "steps": [10, 20, 25, 40, 50], "guidance": [1, 2, 3, 4, 6]}
    path = folder / "many.yaml"
    path.write_text(
        json.dumps({"parameters": {"model": "tiny"}, "grid": grid, "seeds": runs // 100})
    )
    one_core = ["taskset", "-c", "0"] if hasattr(os, "sched_setaffinity") else []
    return time_module("cogvx_nb", "sweep", str(path), "--dry-run", before=one_core)


def time_module(*command: str, before: list[str] | tuple = ()) -> float:
    start = time.perf_counter()
    subprocess.run(
        [*before, sys.executable, "-m", *command], capture_output=True, check=True, text=True
    )
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
