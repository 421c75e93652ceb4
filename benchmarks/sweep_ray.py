"""Sweeps with several Ray workers: the speed-up of two over one, and the cost of a lost node.

``python benchmarks/sweep_ray.py`` prints JSON: runs per minute of notebook 03 with the embedded
checkpoint by one worker and by two, with one thread each, counted from the moment when each worker
has done ``--warm`` runs; and for both the median seconds of a run and of its video's stages.
``--random CogVideoX-5b --workers 4 --steps 10`` does the same for a notebook that makes videos
with that checkpoint's shapes and random weights, one worker on each GPU.

``python benchmarks/sweep_ray.py --nodes`` runs short notebooks on three nodes on this host, one of
them slow: one node is removed halfway, then the driver is killed with SIGKILL and started again. It
prints what was killed when, and the balance: the exit code is 1 if a run is lost, was done again
after it was done, or is half-written.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "a red circle moving right on a black background"
RANDOM = """
from pathlib import Path
from cogvx_nb.checkpoints import registry, store
from cogvx_nb.pipeline import generate, loader
from cogvx_nb.planning import planner, probe, request
from cogvx_nb.results import result
random = store.random_model(registry.get_checkpoint(model))
asked = request.make_request(random, prompt, frames=frames, steps=steps, seed=seed)
loaded = loader.load_pipeline(planner.plan_request(asked, probe.probe_machine()))
result.save_result(generate.generate_frames(asked, loaded), Path("random.mp4"))
"""
SHORT = """
import os, time
time.sleep(2 if os.environ.get("SLOW") else 0.5)
open("x.txt", "w").write(str(x))
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", action="store_true")
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--frames", type=int, default=13)
    parser.add_argument("--warm", type=int, default=2, help="runs by each worker before counting")
    parser.add_argument("--random", metavar="MODEL", help="true shapes with random weights")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"COGVX_OUTPUTS_DIR": f"{folder}/outputs", "HOME": folder}
        if options.nodes:
            return lose_node(Path(folder), 3 * options.runs)
        values = {"model": options.random or "tiny", "prompt": PROMPT}
        values |= {"frames": options.frames, "steps": options.steps}
        spec = {"parameters": values, "seeds": options.runs}
        if options.random:
            cell = 'model: str = ""\nprompt: str = ""\nframes: int = 13\nsteps: int = 1\n'
            cell += "seed: int = 0"
            spec["notebook"] = str(write_notebook(Path(folder) / "random.ipynb", cell, RANDOM))
        else:
            os.environ["OMP_NUM_THREADS"] = "1"
        rates = measure_rates((1, options.workers), spec, options.warm)
        ratio = round(rates[options.workers] / rates[1], 2)
        medians = {count: median_seconds(f"by-{count}") for count in rates}
        print(json.dumps({"runs_a_minute": rates, "ratio": ratio, "seconds": medians}))
    return 0


def measure_rates(counts: tuple[int, ...], spec: dict, warm: int) -> dict[int, float]:
    """Runs per minute by each number of workers, on one cluster."""
    from ray.cluster_utils import Cluster

    cores = max(os.cpu_count() or 1, *counts)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cores})
    try:
        return {count: measure_rate(count, spec, warm, cluster.address) for count in counts}
    finally:
        cluster.shutdown()


def measure_rate(count: int, spec: dict, warm: int, address: str) -> float:
    """Runs per minute, once each worker could have done ``warm`` runs."""
    from cogvx_nb.sweep import driver, ray_workers

    seen: dict[int, float] = {}

    def view(progress) -> None:
        seen.setdefault(progress.done, time.monotonic())

    named = spec | {"name": f"by-{count}"}
    hire = functools.partial(ray_workers.ray_workers, count=count, address=address)
    progress = driver.run_sweep(named, view=view, workers=hire)
    assert not progress.failed, progress.failed
    first = min(done for done in seen if done >= warm * count)
    last = max(seen)
    return round(60 * (last - first) / (seen[last] - seen[first]), 1)


def median_seconds(name: str) -> dict[str, float]:
    """Medians over a sweep's runs: of the whole run, and of each stage in its sidecar."""
    from cogvx_nb.sweep import folder

    seconds: dict[str, list[float]] = {}
    for path in folder.SweepFolder(name).root.glob("*/*.json"):
        recorded = json.loads(path.read_text())["seconds"]
        for stage, value in (recorded if isinstance(recorded, dict) else {"run": recorded}).items():
            seconds.setdefault(stage, []).append(value)
    return {stage: round(statistics.median(values), 2) for stage, values in seconds.items()}


def write_notebook(path: Path, parameters: str, work: str) -> Path:
    """A notebook of two cells."""
    import nbformat

    cell = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    book = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell(work)])
    book.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(book, path)
    return path


def lose_node(folder: Path, runs: int) -> int:
    from ray.cluster_utils import Cluster

    write_notebook(folder / "short.ipynb", "x: int = 0", SHORT)
    spec = folder / "lost.yaml"
    spec.write_text(json.dumps({"notebook": "short.ipynb", "grid": {"x": [*range(runs)]}}))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1, env_vars={"SLOW": "1"})
    command = [sys.executable, "-m", "cogvx_nb", "sweep", str(spec), "--workers", "3"]
    command += ["--ray-address", cluster.address]
    root, start = folder / "outputs" / "sweeps" / "lost", time.monotonic()

    def print_status(event: str) -> dict[str, bytes]:
        done = {path.parent.name: path.read_bytes() for path in root.glob("*/run.json")}
        print(
            f"{time.monotonic() - start:5.1f} s  {len(done):3} of {runs} done  {event}", flush=True
        )
        return done

    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait_for_runs(root, runs // 4, driver)
    before = print_status("a node is lost")
    cluster.remove_node(lost, allow_graceful=False)
    wait_for_runs(root, runs // 2, driver)
    before |= print_status("the driver is killed")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    after = print_status(f"ended with {ended.returncode}")
    cluster.shutdown()
    twice = [name for name, marker in before.items() if after.get(name) != marker]
    half = [path.name for path in root.rglob("*") if "partial" in path.name]
    half += [
        path.parent.name for path in root.glob("*/run.json") if not (path.parent / "x.txt").exists()
    ]
    print(
        f"{runs} runs: {runs - len(after)} lost, {len(twice)} done twice, {len(half)} half-written"
    )
    return int(bool(len(after) != runs or twice or half))


def wait_for_runs(root: Path, count: int, driver: subprocess.Popen) -> None:
    while len(list(root.glob("*/run.json"))) < count and driver.poll() is None:
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
