"""Sweeps by several workers of Ray's: how much faster two are than one, and what a lost node costs.

``python benchmarks/sweep_ray.py`` prints JSON: runs a minute of notebook 03 with the embedded
model, by one worker and by two, each with one thread; from the moment when each of them has done
two runs. ``python benchmarks/sweep_ray.py --nodes`` has three nodes on this host, one of them slow,
do short runs: one node is lost in the middle, then the driver is killed with SIGKILL and started
again. It prints what was killed when, and the ledger: exit code 1 if a run is lost, was done again
after it was done, or is half-written.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "a red circle moving right on a black background"
SHORT = """
import os, time
time.sleep(2 if os.environ.get("SLOW") else 0.5)
open("x.txt", "w").write(str(x))
"""
DONE_BY_EACH = 2


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--nodes", action="store_true")
    parser.add_argument("--runs", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"COGVX_OUTPUTS_DIR": f"{folder}/outputs", "HOME": folder}
        if options.nodes:
            return lose(Path(folder), 3 * options.runs)
        os.environ["OMP_NUM_THREADS"] = "1"
        rates = {count: rate(count, options.runs) for count in (1, 2)}
        found = {"runs_a_minute": rates, "ratio": round(rates[2] / rates[1], 2)}
        print(json.dumps(found))
    return 0


def rate(count: int, runs: int) -> float:
    """Runs a minute, once all workers are warm."""
    from cogvx_nb import sweep, sweep_ray

    seen: dict[int, float] = {}

    def view(progress) -> None:
        seen.setdefault(progress.done, time.monotonic())

    values = {"model": "tiny", "prompt": PROMPT, "steps": 20}
    spec = {"name": f"by-{count}", "parameters": values, "seeds": runs}
    ended = sweep.run(spec, view=view, workers=sweep_ray.workers(count))
    assert not ended.failed, ended.failed
    first = min(done for done in seen if done >= DONE_BY_EACH * count)
    return round(60 * (runs - first) / (seen[runs] - seen[first]), 1)


def lose(folder: Path, runs: int) -> int:
    import nbformat
    from ray.cluster_utils import Cluster

    cell = nbformat.v4.new_code_cell("x: int = 0", metadata={"tags": ["parameters"]})
    book = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell(SHORT)])
    book.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(book, folder / "short.ipynb")
    spec = folder / "lost.yaml"
    spec.write_text(json.dumps({"notebook": "short.ipynb", "grid": {"x": [*range(runs)]}}))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    lost = cluster.add_node(num_cpus=1)
    cluster.add_node(num_cpus=1, env_vars={"SLOW": "1"})
    command = [sys.executable, "-m", "cogvx_nb", "sweep", str(spec), "--workers", "3"]
    command += ["--ray-address", cluster.address]
    root, start = folder / "outputs" / "sweeps" / "lost", time.monotonic()

    def stand(what: str) -> dict[str, bytes]:
        done = {path.parent.name: path.read_bytes() for path in root.glob("*/run.json")}
        print(
            f"{time.monotonic() - start:5.1f} s  {len(done):3} of {runs} done  {what}", flush=True
        )
        return done

    driver = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    wait(root, runs // 4, driver)
    before = stand("a node is lost")
    cluster.remove_node(lost, allow_graceful=False)
    wait(root, runs // 2, driver)
    before |= stand("the driver is killed")
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    ended = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    after = stand(f"ended with {ended.returncode}")
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


def wait(root: Path, count: int, driver: subprocess.Popen) -> None:
    while len(list(root.glob("*/run.json"))) < count and driver.poll() is None:
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
