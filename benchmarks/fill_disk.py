"""Let the disk of the outputs run full at random moments, make room, and look at what is there.

``python benchmarks/fill_disk.py [--times 30] [--parts generate,run,...] [--seed 1]``, on Linux: the
outputs folder is on a small file system in memory, of which all but a random part is taken before a
part starts, or when it begins to write its n-th file: a video, an executed notebook, a sweep, a
queue of the workbench, or the index and posters of the gallery. Each must end without a traceback,
and a failure must say in a line that the disk is full. Then there is room, ``generate`` is started,
and every video that was made before must still be there and whole, with nothing half-written or
temporary next to it. The exit code is 1 otherwise.
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
from collections import Counter
from pathlib import Path

PROMPT = "a red circle moving right on a black background"
FRAMES = 13
ROOM = 64 * 2**20
MOST_FREE = 150_000
"""Bytes; a video and its notebook take less, so that the disk runs full somewhere in between."""

BEFORE_FREE = 2 * 2**20
"""Bytes before it runs full while a part is working: little is left to take then."""

FILES = {"generate": 2, "run": 2, "sweep": 9, "workbench": 14, "list": 1, "gallery": 4}
"""Temporary files of a part, with the embedded checkpoint."""

WORKBENCH = f"""
import sys
from cogvx_nb.checkpoints import store
from cogvx_nb.planning import request
from cogvx_nb.results import pictures
from cogvx_nb.workbench.session import Session
session, model = Session(), store.locate_checkpoint("tiny")
jobs = [session.queue.submit(request.make_request(model, {PROMPT!r}, steps=2, seed=int(seed)))
        for seed in sys.argv[1:]]
session.queue.wait()
pictures.thumbnails(session.catalogue.find())
failed = [job.error for job in jobs if job.error]
print(*failed, sep="\\n", file=sys.stderr)
sys.exit(bool(failed))
"""

GALLERY = """
from cogvx_nb.results import pictures
from cogvx_nb.results.catalogue import Catalogue
catalogue = Catalogue()
catalogue.refresh()
entries = catalogue.find(limit=1000)
assert all(pictures.thumbnails(entries))
"""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--parts", default="generate,run,sweep,workbench,list,gallery")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if "COGVX_MOUNTED" not in os.environ:  # again, where this process may mount
        command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, *sys.argv]
        os.environ["COGVX_MOUNTED"] = "1"
        return subprocess.run(command, check=False).returncode
    with tempfile.TemporaryDirectory() as folder:
        outputs = Path(folder) / "outputs"
        outputs.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(outputs)]
        subprocess.run(mount, check=True)
        try:
            return FullDisk(outputs, options).run()
        finally:
            subprocess.run(["umount", "--lazy", str(outputs)], check=True)


class FullDisk:
    """An outputs folder whose free space is chosen."""

    def __init__(self, outputs: Path, options: argparse.Namespace) -> None:
        self._outputs, self._options = outputs, options
        self._filler = outputs / ".filler"
        (outputs.parent / "tmp").mkdir()
        os.environ |= {"COGVX_OUTPUTS_DIR": str(outputs), "TMPDIR": str(outputs.parent / "tmp")}
        self._spec = outputs.parent / "full.json"
        self._chance, self._seeds = random.Random(options.seed), iter(range(10_000))
        self._whole: set[Path] = set()  # videos that were there, and whole, before

    def run(self) -> int:
        faults: Counter[str] = Counter()
        self._start("generate")
        self._whole = set(self._videos())
        parts = self._options.parts.split(",")
        print(f"{'time':>4}  {'part':10}  {'files':>5}  {'free':>8}  code  last line")
        for number in range(self._options.times):
            part, free = parts[number % len(parts)], int(self._chance.random() ** 2 * MOST_FREE)
            files = self._chance.randrange(FILES[part] + 1)
            done = self._start_and_fill(part, files, free)
            self._filler.unlink()
            lines = done.stderr.strip().splitlines() or [""]
            found = self._message_faults(done)
            again = self._start("generate")
            found += [f"no start: {again.stderr[-300:]}"] if again.returncode else []
            found += self._faults()
            faults.update(fault.split(":")[0] for fault in found)
            print(
                f"{number + 1:4}  {part:10}  {files:5}  {free:8}  {done.returncode:4}  {lines[-1]}",
                *found,
                sep="\n     ",
                flush=True,
            )
        kinds = ("lost", "half-written", "left over", "no start", "traceback", "not said")
        counts = ", ".join(f"{faults[kind]} {kind}" for kind in kinds)
        print(f"{self._options.times} times full: {counts}")
        return int(bool(faults))

    def _fill(self, free: int) -> None:
        """Take all of the disk but so many bytes."""
        status = os.statvfs(self._outputs)
        more = status.f_bavail * status.f_bsize - free
        with contextlib.suppress(OSError), self._filler.open("ab") as file:  # the part was faster
            file.write(bytes(max(0, more)))

    def _start_and_fill(self, part: str, files: int, free: int) -> subprocess.CompletedProcess[str]:
        """Start a part, and fill the disk when it begins to write its next file after so many."""
        self._fill(BEFORE_FREE if files else free)
        process = subprocess.Popen(
            self._command(part), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        seen: set[str] = set()
        while files and len(seen) < files and process.poll() is None:
            with contextlib.suppress(OSError):
                seen.update(path.name for path in (self._outputs / ".partial").iterdir())
            time.sleep(0.001)
        if files:
            self._fill(free)
        output, errors = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, output, errors)

    def _start(self, part: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self._command(part), capture_output=True, text=True, check=False)

    def _command(self, part: str) -> list[str]:
        seeds = [str(next(self._seeds)) for _ in range(2)]
        if part in ("workbench", "gallery"):
            return [
                sys.executable,
                "-c",
                {"workbench": WORKBENCH, "gallery": GALLERY}[part],
                *seeds,
            ]
        command = [sys.executable, "-m", "cogvx_nb", part]
        values = {"model": "tiny", "prompt": PROMPT, "steps": 2}
        if part == "sweep":
            content = {"parameters": values, "runs": [{"seed": int(seed)} for seed in seeds]}
            self._spec.write_text(json.dumps(content))
            return [*command, str(self._spec)]
        if part == "run":
            values["seed"] = seeds[0]
            given = [word for name, value in values.items() for word in ("-p", name, str(value))]
            return [*command, "03_generate", *given]
        if part == "list":
            return command
        return [*command, "--steps", "2", "--seed", seeds[0], "--prompt", PROMPT]

    def _message_faults(self, done: subprocess.CompletedProcess[str]) -> list[str]:
        """What is wrong with how a part ended on a full disk."""
        faults = []
        if "Traceback" in done.stderr + done.stdout:
            faults.append(f"traceback: {done.stderr[-1500:]}")
        if done.returncode and not any(word in done.stderr for word in ("full", " free,")):
            faults.append(f"not said: {done.stderr[-500:]}")
        return faults

    def _videos(self) -> list[Path]:
        videos = self._outputs.rglob("*.mp4")
        return [path for path in videos if "/.running/" not in str(path)]

    def _faults(self) -> list[str]:
        """What is lost, half-written or left after the next start."""
        from cogvx_nb.errors import CogvxError
        from cogvx_nb.results import result, video

        now = set(self._videos())
        faults = [f"lost: {path}" for path in self._whole - now]
        for path in now:
            try:
                whole = len(video.decode_video(path)) == FRAMES
                whole &= bool(result.read_result(path).sidecar.stat().st_size)
            except (CogvxError, OSError):
                whole = False
            faults += [] if whole else [f"half-written: {path}"]
        for path in self._outputs.rglob("*"):
            if path.is_file() and path.suffix in (".json", ".ipynb"):
                try:
                    json.loads(path.read_text(encoding="utf-8"))
                except ValueError:
                    faults.append(f"half-written: {path}")
            if path.is_file() and ".partial" in path.name:
                faults.append(f"left over: {path}")
        self._whole = now
        return faults


if __name__ == "__main__":
    sys.exit(main())
