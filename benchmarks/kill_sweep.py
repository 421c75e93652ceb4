"""Kill parts of a running sweep with SIGKILL at random moments, and print the balance.

``python benchmarks/kill_sweep.py [--kills 20] [--runs 100] [--seed 1] [--nodes 3]``: runs of
notebook 03 with the embedded checkpoint. The sweep's driver or its kernel is killed; with
``--nodes`` so many nodes of a Ray cluster on this host do the runs, with one worker each, and
worker processes or whole nodes are killed as well. A killed driver is started again, and a killed
node is replaced; the driver replaces kernels and workers. In the end every run must be there,
whole, and executed successfully once: the exit code is 1 if a run is lost, was done twice or is
half-written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

PROMPT = "a red circle moving right on a black background"
MOST_SECONDS = 30
"""Seconds until the next kill at most; a start takes 10 s, and a run a second or two."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=0, help="of a Ray cluster; 0 for none")
    parser.add_argument(
        "--seconds", type=int, default=MOST_SECONDS, help="to the next kill at most"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COGVX_OUTPUTS_DIR"] = f"{folder}/outputs"
        if options.nodes:  # Ray writes a token to the user's home
            os.environ |= {"HOME": folder, "OMP_NUM_THREADS": "1"}
        spec = Path(folder) / "killed.yaml"
        values = {"model": "tiny", "prompt": PROMPT, "steps": 2}
        spec.write_text(json.dumps({"parameters": values, "seeds": options.runs}))
        test = KillTest(Path(folder), spec, options)
        test.kill_repeatedly()
        return test.print_balance()


class KillTest:
    """A sweep that is killed again and again, and the markers seen after each kill."""

    def __init__(self, folder: Path, spec: Path, options: argparse.Namespace) -> None:
        self._root = folder / "outputs" / "sweeps" / "killed"
        self._spec, self._options = spec, options
        self._moments = random.Random(options.seed)
        self._seen: dict[str, bytes] = {}
        self._twice: list[str] = []
        self._kinds = ["driver", "kernel"]
        self._cluster, self._nodes = None, []
        if options.nodes:
            from ray.cluster_utils import Cluster

            self._kinds += ["worker", "node"]
            self._cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
            self._nodes = [self._cluster.add_node(num_cpus=1) for _ in range(options.nodes)]

    def kill_repeatedly(self) -> None:
        print(f"{'kill':>4}  {'what':6}  {'after':>6}  {'done':>4}  {'running':>9}  state of it")
        process = self._start()
        for number in range(1, self._options.kills + 1):
            if process.poll() is not None:
                process = self._start()
            what = self._moments.choice(self._kinds)
            after = self._moments.uniform(0, self._options.seconds)
            start = time.monotonic()
            while time.monotonic() - start < after and process.poll() is None:
                time.sleep(0.01)
            state = self._kill(process, what)
            if what == "driver" or process.poll() is not None:
                process.wait()
            self._check_markers()
            under_way = len(list((self._root / ".running").glob("*")))
            done = len(self._seen)
            print(
                f"{number:4}  {what:6}  {after:4.1f} s  {done:4}  {under_way:9}  {state}",
                flush=True,
            )
        process.wait()
        for _ in range(2):  # the remaining runs; then nothing, since all are done
            self._check_markers()
            subprocess.run(self._command(), check=False, stderr=subprocess.DEVNULL)
        self._check_markers()
        if self._cluster is not None:
            self._cluster.shutdown()

    def print_balance(self) -> int:
        """Print how many runs were lost, done twice or left half-written; returns the exit code."""
        from cogvx_nb.results import result, video
        from cogvx_nb.sweep import driver
        from cogvx_nb.sweep.folder import SweepFolder

        runs, folder = driver.prepare_sweep(self._spec)[2], SweepFolder("killed")
        lost = [run.id for run in runs if not folder.is_done(run.id, run.expected)]
        videos = sorted(self._root.parent.parent.rglob("*.mp4"))
        broken = [
            path
            for path in videos
            if len(video.decode_video(path)) != 13 or not result.read_result(path)
        ]
        extra = len(videos) - (len(runs) - len(lost))
        left = [path.name for path in self._root.rglob("*") if "partial" in path.name]
        left += [path.name for path in self._root.glob(".replaced-*")] + [*map(str, broken)]
        left += [path.name for path in (self._root / ".running").glob("*")]
        failed = list((self._root / "failed").glob("*"))
        print(
            f"{len(runs)} runs: {len(lost)} lost, {len(self._twice)} done twice, "
            f"{extra} duplicates, {len(left)} half-written, {len(failed)} failed"
        )
        return int(bool(lost or self._twice or extra or left))

    def _command(self) -> list[str]:
        command = [sys.executable, "-m", "cogvx_nb", "sweep", str(self._spec)]
        if self._cluster is None:
            return command
        workers = ["--workers", str(self._options.nodes)]
        return [*command, *workers, "--ray-address", self._cluster.address]

    def _start(self) -> subprocess.Popen:
        return subprocess.Popen(
            self._command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def _kill(self, process: subprocess.Popen, what: str) -> str:
        """Kill a process, or all of a node; returns the state it was in."""
        if process.poll() is not None:
            return "had ended"
        kernels, workers = self._processes("ipykernel"), self._processes("ray::RayExecutor")
        if what == "node":
            lost = self._nodes.pop(self._moments.randrange(len(self._nodes)))
            self._cluster.remove_node(lost, allow_graceful=False)
            self._nodes.append(self._cluster.add_node(num_cpus=1))
        elif what == "driver":
            process.kill()
        else:
            processes = kernels if what == "kernel" else workers
            if not processes:
                return "there was none yet"
            self._moments.choice(processes).kill()
        return "running" if kernels else "before there was a kernel"

    def _processes(self, name: str) -> list[psutil.Process]:
        """Descendants of this process with ``name`` in their command line."""
        processes = []
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if name in " ".join(process.cmdline()):
                    processes.append(process)
        return processes

    def _check_markers(self) -> None:
        """Compare the markers with those seen before."""
        now = {path.parent.name: path.read_bytes() for path in self._root.glob("*/run.json")}
        self._twice += [name for name, marker in self._seen.items() if now.get(name) != marker]
        self._seen = now


if __name__ == "__main__":
    sys.exit(main())
