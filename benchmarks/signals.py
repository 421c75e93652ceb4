"""Ctrl-C and SIGTERM at random moments of a command: none may show a traceback.

``python benchmarks/signals.py [--moments 30]`` starts ``cogvx list``, ``show`` and ``check``, sends
each a signal at a random moment from its start to its usual end, and prints a table: the command,
the signal, the exit codes, and how many showed a traceback, by where they were: of this package, or
of Python's own start (``site``), which no package can change. The exit code is 1 for one of ours.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter

COMMANDS = (["list"], ["show", "nosuch.mp4"], ["sweep", "status"], ["check"])


def start(words: list[str], folder: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *words],
        cwd=folder,
        env=os.environ | {"COGVX_OUTPUTS_DIR": f"{folder}/outputs"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


RUN = "import sys; from cogvx_nb.__main__ import run; sys.exit(run())"
"""What the script ``cogvx`` does."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", type=int, default=len(COMMANDS), help="the first so many")
    parser.add_argument("--verbose", action="store_true", help="print tracebacks of Python too")
    options = parser.parse_args()
    chance, ours = random.Random(options.seed), 0
    print(f"{'command':16} {'signal':8} {'ours':>5} {'site':>5}  exit codes")
    with tempfile.TemporaryDirectory() as folder:
        for words in COMMANDS[: options.commands]:
            begin = time.perf_counter()
            start(words, folder).communicate()
            usual = time.perf_counter() - begin
            for number in (signal.SIGINT, signal.SIGTERM):
                codes, shown = Counter(), Counter()
                for _ in range(options.moments):
                    process = start(words, folder)
                    time.sleep(chance.uniform(0, 1.1 * usual))
                    process.send_signal(number)
                    out, err = process.communicate(timeout=120)
                    codes[process.returncode] += 1
                    text = (out + err).decode(errors="replace")
                    if "Traceback" in text or "Exception ignored" in text:
                        early = "cogvx_nb" not in text or "<frozen site>" in text
                        shown["site" if early else "ours"] += 1
                        if options.verbose or not early:
                            print(text)
                ours += shown["ours"]
                table = ", ".join(f"{code}: {count}" for code, count in sorted(codes.items()))
                name = " ".join(words)[:16]
                print(f"{name:16} {number.name:8} {shown['ours']:5} {shown['site']:5}  {table}")
    return int(ours > 0)


if __name__ == "__main__":
    sys.exit(main())
