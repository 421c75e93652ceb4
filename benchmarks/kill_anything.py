"""Kill video makers with SIGKILL at random moments, and look at what they leave.

``python benchmarks/kill_anything.py [--kills 100] [--parts generate,workbench,sweep] [--seed 1]``:
the command ``generate``, a kernel of the workbench with a queue, and a sweep's driver, in turns,
with the embedded checkpoint. Half of the moments are spread over the whole run, the others follow
the appearance of a temporary file. After each kill ``cogvx list`` is started and everything on disk
is looked at: every video that was reported is there, every video can be read and has its settings,
no temporary file is left, and the next kernel offers the jobs of the queue that made no video. In
the end the sweep is completed: none of its runs may be missing. The exit code is 1 if anything is
lost, half-written or left.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import getpass
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import psutil

PROMPT = "a red circle moving right on a black background"
FRAMES = 13
SWEEP_RUNS = 3
KINDS = (
    "lost",
    "half-written",
    "left over",
    "still running",
    "no start",
    "not queued",
    "offered wrongly",
)
"""Of faults."""

WRITES = {"generate": 3, "workbench": 16, "sweep": 16}
"""Temporary files and folders of a whole run, by part."""

WRITING_SECONDS = 0.4
"""After a temporary file appeared, a kill comes within this time."""

CACHE = f"torchinductor_{getpass.getuser()}"
"""Where torch caches what it compiles, in the system's temporary folder."""

SECONDS_TO_END = 20
"""Until processes that the killed one started, such as ffmpeg or a kernel, must have ended."""

WORKBENCH = f"""
import sys
from cogvx_nb.checkpoints import store
from cogvx_nb.planning import request
from cogvx_nb.workbench.session import Session
session, model, jobs = Session(), store.locate_checkpoint("tiny"), []
for seed in sys.argv[1:]:
    job = session.queue.submit(request.make_request(model, {PROMPT!r}, steps=2, seed=int(seed)))
    print("queued", job.id, seed, flush=True)
    jobs.append(job)
while not session.queue.wait(0.01):
    for job in [job for job in jobs if job.result]:
        jobs.remove(job)
        print(job.result.path, flush=True)
"""
"""A kernel with a queue, which it prints, and the videos that it made."""

OFFER = """
from cogvx_nb.workbench.session import Session
session = Session()
session.find_unfinished()
print(*(job.id for job in session.unfinished.jobs), *session.unfinished.notes, sep="\\n")
session.discard()
"""
"""The next kernel, which prints the jobs that it offers again."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--parts", default="generate,workbench,sweep")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return KillTest(Path(folder), options).run()


class KillTest:
    """An outputs folder of its own, and the videos that were reported as made."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self._folder, self._options = folder, options
        self._outputs = folder / "outputs"
        temporary = {"TMPDIR": folder / "tmp", "JUPYTER_RUNTIME_DIR": folder / "runtime"}
        for path in (self._outputs, *temporary.values()):
            path.mkdir()
        os.environ |= {"COGVX_OUTPUTS_DIR": str(self._outputs)}
        os.environ |= {name: str(path) for name, path in temporary.items()}
        self._spec = folder / "killed.json"
        values = {"model": "tiny", "prompt": PROMPT, "steps": 2}
        self._spec.write_text(json.dumps({"parameters": values, "seeds": SWEEP_RUNS}))
        self._chance, self._seeds = random.Random(options.seed), iter(range(10_000))
        self._reported: list[Path] = []
        self._queued: dict[str, str] = {}  # seed of each job of the latest that was killed, by id
        self._outliving: list[psutil.Process] = []  # of the latest that was killed
        self._usual: dict[str, float] = {}  # seconds of a whole run, by part

    def run(self) -> int:
        faults: Counter[str] = Counter()
        parts = self._options.parts.split(",")
        for part in parts:
            start = time.monotonic()
            done = subprocess.run(self._command(part), capture_output=True, text=True, check=True)
            self._usual[part] = time.monotonic() - start
            self._reported += paths_in(done.stdout)
        print(f"{'kill':>4}  {'what':10}  {'after':>7}  {'videos':>6}  state of it")
        for number in range(self._options.kills):
            part = parts[number % len(parts)]
            after, state = self._kill(part)
            found = self._queue_faults() + self._faults()
            faults.update(kind for kind, _ in found)
            print(
                f"{number + 1:4}  {part:10}  {after:5.1f} s  {len(self._videos()):6}  {state}",
                *(f"{kind}: {path}" for kind, path in found),
                flush=True,
            )
        if "sweep" in parts:
            subprocess.run(self._command("sweep"), check=False, capture_output=True)
            faults.update(kind for kind, _ in self._faults() + self._sweep_faults())
        counts = ", ".join(f"{faults[kind]} {kind}" for kind in KINDS)
        print(f"{self._options.kills} kills: {counts}")
        return int(bool(faults))

    def _kill(self, part: str) -> tuple[float, str]:
        """Start a part and kill it; returns (seconds that it ran, the state it was in)."""
        command, start = self._command(part), time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        moment = self._chance.uniform(0, self._usual[part])
        # After so many temporary files; 0: at that moment.
        writes = self._chance.choice((0, self._chance.randint(1, WRITES[part])))
        seen: set[str] = set()
        deadline = start + (600 if writes else moment)
        while time.monotonic() < deadline and process.poll() is None:
            now = self._entries()
            seen.update(now)
            if writes and len(seen) >= writes:
                time.sleep(self._chance.uniform(0, WRITING_SECONDS))
                break
            time.sleep(0.002)
        ended = process.poll() is not None
        taken = time.monotonic() - start
        state = "had ended" if ended else "writing" if self._entries() else "running"
        children = psutil.Process(process.pid).children(recursive=True) if not ended else []
        process.kill()
        self._outliving = psutil.wait_procs(children, timeout=SECONDS_TO_END)[1]
        output = process.stdout.read().decode()
        process.wait()
        self._reported += paths_in(output)
        lines = output.splitlines()
        self._queued = dict(line.split()[1:] for line in lines if line.startswith("queued "))
        return taken, state

    def _command(self, part: str) -> list[str]:
        if part == "workbench":
            return [sys.executable, "-c", WORKBENCH, *(str(next(self._seeds)) for _ in range(3))]
        command = [sys.executable, "-m", "cogvx_nb", part]
        if part == "sweep":
            return [*command, str(self._spec), "--again"]
        return [*command, "--steps", "2", "--seed", str(next(self._seeds)), "--prompt", PROMPT]

    def _entries(self) -> list[str]:
        """What is being written now: see ``cogvx_nb.leftovers``."""
        with contextlib.suppress(OSError):
            return [path.name for path in (self._outputs / ".partial").iterdir()]
        return []

    def _temporary(self) -> list[Path]:
        """Temporary files, as far as their names say so."""
        return [path for path in self._outputs.rglob(".*.partial*") if path.is_file()]

    def _videos(self) -> list[Path]:
        hidden = ("/.running/", "/.partial/")
        videos = self._outputs.rglob("*.mp4")
        return [path for path in videos if not any(part in str(path) for part in hidden)]

    def _faults(self) -> list[tuple[str, Path]]:
        """What is wrong after the next start, as (kind, path)."""
        from cogvx_nb.errors import CogvxError
        from cogvx_nb.results import result, video
        from cogvx_nb.results.catalogue import Catalogue

        command = [sys.executable, "-m", "cogvx_nb", "list", "--limit", "100000"]
        listed = subprocess.run(command, capture_output=True, text=True, check=False)
        faults = [("no start", Path("list"))] if listed.returncode else []
        faults += [("still running", Path(str(child))) for child in self._outliving]
        faults += [("lost", path) for path in self._reported if not path.is_file()]
        catalogue = Catalogue()
        catalogue.refresh()
        known = {entry.path for entry in catalogue.find(limit=100_000)}
        for path in self._videos():
            try:
                whole = len(video.decode_video(path)) == FRAMES and path in known
                stored = dataclasses.asdict(result.read_result(path).settings)
                whole &= path.with_suffix(".json").is_file() and bool(stored["frame_hash"])
            except CogvxError:
                whole = False
            faults += [] if whole else [("half-written", path)]
        faults += [("left over", path) for path in self._temporary()]
        faults += [("left over", path) for path in (self._outputs / ".partial").glob("*")]
        faults += [("left over", path) for path in self._folder.glob("tmp/*") if path.name != CACHE]
        faults += [("left over", path) for path in self._folder.glob("runtime/*")]
        return faults

    def _queue_faults(self) -> list[tuple[str, Path]]:
        """Jobs that the next kernel doesn't offer again although they made no video, and those that
        it offers although they did."""
        if not self._queued:
            return []
        command = [sys.executable, "-c", OFFER]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        offered = set(done.stdout.split())
        made = {
            job for job, seed in self._queued.items() if list(self._outputs.glob(f"*/*-{seed}.mp4"))
        }
        lost = self._queued.keys() - offered - made
        wrong = offered - (self._queued.keys() - made)
        faults = [("not queued", Path(job)) for job in lost]
        return faults + [("offered wrongly", Path(job)) for job in wrong]

    def _sweep_faults(self) -> list[tuple[str, Path]]:
        """What is wrong with the sweep after its last start."""
        from cogvx_nb.sweep import driver
        from cogvx_nb.sweep.folder import SweepFolder

        folder = SweepFolder(self._spec.stem)
        runs = driver.prepare_sweep(self._spec)[2]
        faults = [
            ("lost", folder.root / run.id)
            for run in runs
            if not folder.is_done(run.id, run.expected)
        ]
        left = [*folder.root.glob(".running/*"), *folder.root.glob(".replaced-*")]
        return faults + [("left over", path) for path in left]


def paths_in(output: str) -> list[Path]:
    """The videos that a process reported as made."""
    return [Path(line) for line in output.splitlines() if line.endswith(".mp4")]


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
