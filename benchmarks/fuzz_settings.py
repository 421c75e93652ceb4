"""Damaged settings and files of videos, thousands of them, through everything that reads them.

``python benchmarks/fuzz_settings.py [--examples 5000] [--seed 1]`` makes an mp4 in each example,
changes its tag, its sidecar or bytes of the file at random, and reads it by ``cogvx show --json``,
by the index and for ``reproduce``. It prints a table and every finding: an exception that is none
of ``cogvx_nb.errors``, an error of more than one line, more than a second of CPU, a list that shows
other values than ``show``. The exit code is 1 if there is any.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from cogvx_nb import reproduction
from cogvx_nb.cli.main import main
from cogvx_nb.errors import CogvxError
from cogvx_nb.results import mp4, result, stored, video

CONTENT = {
    "format": 2,
    "made": "2026-01-02T03:04:05+00:00",
    "request": {
        "prompt": "a red circle",
        "negative_prompt": "",
        "frames": 13,
        "steps": 2,
        "height": 96,
        "width": 144,
        "guidance": 6.0,
        "seed": 1,
        "fps": 8,
    },
    "asked": {"prompt": "a red circle", "frames": 12, "height": None},
    "adjustments": [{"field": "frames", "asked": 12, "used": 13, "reason": "makes 13"}],
    "notes": ["a note"],
    "allowed": [],
    "plan": {"device": "cpu", "dtype": "float32", "placement": "no_offload", "speed": "exact"},
    "checkpoint": {"name": "cogvideox-tiny", "folder": "", "licence": "", "sha256": {"a": "0"}},
    "versions": {"torch": "2.11", "torchao": None},
    "machine": {"system": "Linux", "cores": 2, "threads": 2, "ram_bytes": 1, "gpus": []},
    "seconds": {"load": 1.0, "denoise": 2.0},
    "frame_hash": "1" * 64,
}

VALUES = [
    None, True, False, 0, 1, -1, 2, 7, 10**9, 10**30, -(10**30), 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "x", "13", "cpu", "int64", "\0", "a\nb", "\u202e", "\ud83d", "🟥" * 500,
    "x" * 20_000, [], [[]], [1, "x"], {}, {"a": {"b": {}}}, {"\x1b[31m": "\ud800"}, ["x"] * 2000,
    {str(number): number for number in range(2000)},
]  # fmt: skip
"""What a field may hold by mistake."""

TEXTS = ["", "{", "null", "[]", "5", '"x"', "[" * 20_000, "{" * 20_000, '{"a":' * 5000, "9" * 6000,
         '{"format": 2, "format": 3}', "\ufeff{}", "\0", "NaN", "x" * 1_100_000]  # fmt: skip
"""What may be in place of settings."""


def damaged_text(chance: random.Random) -> str:
    """Settings as text, damaged in one of several ways."""
    kind = chance.choice(("value", "value", "value", "missing", "text", "bytes", "whole"))
    content = copy.deepcopy(CONTENT)
    content["request"]["seed"] = chance.randrange(100)
    if kind == "text":
        return chance.choice(TEXTS)
    if kind in ("value", "missing"):
        for _ in range(chance.randrange(1, 3)):
            place = content
            name = chance.choice(list(place))
            if isinstance(place[name], dict) and place[name] and chance.random() < 0.8:
                place = place[name]
                name = chance.choice(list(place))
            if kind == "missing":
                del place[name]
            else:
                place[name] = copy.deepcopy(chance.choice(VALUES))
    text = json.dumps(content)
    if kind == "bytes":
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(('"', "}", ",", "\\", "\0", "é", "")) + text[at + 1 :]
    return text


def damage(path: Path, frames: np.ndarray, chance: random.Random) -> str:
    """Write a damaged video and sidecar; returns what was done."""
    sidecar = path.with_suffix(".json")
    sidecar.unlink(missing_ok=True)
    kind = chance.choice(("tag", "sidecar", "both", "no tag", "bytes", "cut"))
    tag = damaged_text(chance) if kind in ("tag", "both") else json.dumps(CONTENT)
    tag = tag.encode("ascii", "backslashreplace").decode().replace("\0", "")
    video.encode_video(frames, path, 8, tag)
    data = bytearray(path.read_bytes())
    if kind == "no tag":
        data = data.replace(b"mdtacogvx", b"mdtaother")
    if kind == "bytes":
        for _ in range(chance.randrange(1, 20)):
            data[chance.randrange(len(data))] = chance.randrange(256)
    if kind == "cut":
        del data[chance.randrange(len(data)) :]
    path.write_bytes(data)
    if kind in ("sidecar", "both", "no tag") or chance.random() < 0.3:
        sidecar.write_bytes(damaged_text(chance).encode("utf-8", "surrogatepass"))
    return kind


def read_everywhere(path: Path) -> tuple[str, list[str]]:
    """(what ``show`` did, findings)."""
    findings, start = [], time.process_time()
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(["show", "--json", str(path)])
    lines = err.getvalue().splitlines()
    if len(lines) > 1 or "internal error" in err.getvalue() or (code and not lines):
        findings.append(f"show: {code}, {lines}")
    listed = stored.find_settings(path)
    shown = json.loads(out.getvalue()) if code == 0 else None
    if shown is not None and (listed is None or listed.as_json() != shown):
        findings.append("the list shows other values than show")
    mp4.find_tag(path, mp4.TAG)
    if shown is not None:
        with contextlib.suppress(CogvxError):
            reproduction.request_of(result.read_result(path).settings)
    with contextlib.suppress(CogvxError):
        video.decode_video(path, 14)
    if time.process_time() - start > 1:
        findings.append(f"{time.process_time() - start:.1f} s of CPU")
    return ("shown, with a note" if lines else "shown") if code == 0 else "refused", findings


def run(examples: int, seed: int) -> int:
    """Try examples; returns the number of findings."""
    chance, counts, total = random.Random(seed), Counter(), 0
    frames = np.full((2, 32, 48, 3), 90, np.uint8)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.mp4"
        reproduction.request_of(stored.read_settings(CONTENT))  # loads what the first one loads
        for number in range(examples):
            kind = damage(path, frames, chance)
            try:
                outcome, findings = read_everywhere(path)
            except Exception as error:  # a finding, whatever it is
                outcome, findings = "exception", [f"{type(error).__name__}: {error}"[:200]]
            counts[kind, outcome] += 1
            for finding in findings:
                total += 1
                print(f"example {number} ({kind}): {finding}")
    for (kind, outcome), count in sorted(counts.items()):
        print(f"{kind:8} {outcome:20} {count:7,}")
    minutes = (time.perf_counter() - start) / 60
    print(f"{examples:,} examples in {minutes:.1f} minutes, {total} findings")
    return total


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    sys.exit(bool(run(options.examples, options.seed)))
