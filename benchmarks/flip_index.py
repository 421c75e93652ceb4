"""Damage the index of the results again and again, and compare what the catalogue then answers.

``python benchmarks/flip_index.py [--times 10000] [--results 50] [--seed 1]``: flips bits, zeroes
pages, cuts, extends, swaps and replaces the index, also with a journal of another database next to
it, opens the catalogue, and asks it for everything. Prints JSON: how often it raised an exception,
answered wrongly, or left the file damaged, the longest time of an opening in milliseconds, and the
peak memory next to that of as many openings of an index that is whole. The exit code is 1 if
anything of this is wrong, or memory is more than twice as much.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from catalogue import make_results

MOST_BYTES = 8 * 2**30
"""Address space of a process: a damaged length must not take the machine's memory."""

PAGE = 4096


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", type=int, default=10_000)
    parser.add_argument("--results", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", default=",".join(HARM), help="of damage, separated by commas")
    parser.add_argument("--measure", choices=("whole", "damaged"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(json.dumps(open_repeatedly(options)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COGVX_OUTPUTS_DIR"] = folder
        make_results(Path(folder), options.results, sweeps=False)
        report = {part: run_part(part) for part in ("whole", "damaged")}
    print(json.dumps(report, indent=1))
    damaged, ratio = report["damaged"], report["damaged"]["peak_mib"] / report["whole"]["peak_mib"]
    faults = damaged["exceptions"] + damaged["wrong_answers"] + damaged["still_damaged"]
    return int(bool(faults) or ratio > 2)


def run_part(part: str) -> dict:
    """The report of one part, from a process of its own."""
    command = [sys.executable, __file__, *sys.argv[1:], "--measure", part]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def open_repeatedly(options: argparse.Namespace) -> dict:
    """Open the index so many times, after damaging it each time where that is measured."""
    from cogvx_nb.results.catalogue import Catalogue
    from cogvx_nb.results.index import NAME, SCHEMA
    from cogvx_nb.results.index_file import read_database

    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    index = Path(os.environ["COGVX_OUTPUTS_DIR"]) / NAME
    catalogue = Catalogue()
    catalogue.refresh()
    right, whole = ask_everything(catalogue), index.read_bytes()
    chance, kinds = random.Random(options.seed), options.kinds.split(",")
    exceptions: dict[str, int] = {}
    wrong = left = 0
    longest = 0.0
    for _ in range(options.times):
        if options.measure == "damaged":
            restore_index(index, whole)
            HARM[chance.choice(kinds)](index, bytearray(whole), chance)
        start = time.perf_counter()
        try:
            catalogue = Catalogue()
            catalogue.refresh()
            wrong += ask_everything(catalogue) != right
        except Exception as error:
            name = type(error).__name__
            exceptions[name] = exceptions.get(name, 0) + 1
        longest = max(longest, time.perf_counter() - start)
        left += read_database(index, SCHEMA) is None
    return {
        "times": options.times,
        "exceptions": sum(exceptions.values()),
        "kinds_of_exceptions": exceptions,
        "wrong_answers": wrong,
        "still_damaged": left,
        "longest_ms": round(1000 * longest, 1),
        "peak_mib": round(peak_mib(), 1),
    }


def ask_everything(catalogue) -> list:
    """What the catalogue answers to each of its questions."""
    return [
        catalogue.find(limit=10_000),
        catalogue.find("circle", limit=10_000),
        [catalogue.count(text) for text in ("", "circle", "红色", "none such")],
        [catalogue.count(seed=seed) for seed in range(0, 1000, 50)],
        [catalogue.count(frames=frames) for frames in catalogue.values("frames")],
        catalogue.values("model"),
        catalogue.values("frames"),
        catalogue.paces("cogvideox-tiny", "cpu"),
        list(catalogue.pages()),
    ]


def restore_index(index: Path, content: bytes) -> None:
    """Put a whole index in the place of whatever is there."""
    for path in index.parent.glob(f"{index.name}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    index.write_bytes(content)


def flip_bits(index: Path, content: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 2, 10, 1000))):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    index.write_bytes(content)


def change_bytes(index: Path, content: bytearray, chance: random.Random) -> None:
    at, count = chance.randrange(len(content)), chance.choice((1, 2, 4, 100))
    content[at : at + count] = chance.randbytes(len(content[at : at + count]))
    index.write_bytes(content)


def flip_header(index: Path, content: bytearray, chance: random.Random) -> None:
    content[chance.randrange(100)] ^= 1 << chance.randrange(8)
    index.write_bytes(content)


def zero_page(index: Path, content: bytearray, chance: random.Random) -> None:
    start = PAGE * chance.randrange(len(content) // PAGE)
    content[start : start + PAGE] = bytes(PAGE)
    index.write_bytes(content)


def swap_pages(index: Path, content: bytearray, chance: random.Random) -> None:
    first, second = (PAGE * number for number in chance.sample(range(len(content) // PAGE), 2))
    pages = content[first : first + PAGE], content[second : second + PAGE]
    content[second : second + PAGE], content[first : first + PAGE] = pages
    index.write_bytes(content)


def cut(index: Path, content: bytearray, chance: random.Random) -> None:
    index.write_bytes(content[: chance.randrange(len(content))])


def extend(index: Path, content: bytearray, chance: random.Random) -> None:
    index.write_bytes(content + chance.randbytes(chance.choice((1, PAGE, 100_000))))


def enlarge(index: Path, content: bytearray, chance: random.Random) -> None:
    """A file of many gigabytes that takes no room."""
    os.truncate(index, chance.randrange(2**40))


def add_journals(index: Path, content: bytearray, chance: random.Random) -> None:
    """Journals with random content; the index itself is flipped in half of the cases."""
    for end in ("-wal", "-shm", "-journal"):
        index.with_name(f"{index.name}{end}").write_bytes(chance.randbytes(40_000))
    if chance.random() < 0.5:
        flip_bits(index, content, chance)


def alter_values(index: Path, content: bytearray, chance: random.Random) -> None:
    """Values and types that other programs, or a person, might write."""
    import sqlite3

    statement = chance.choice(
        (
            "UPDATE results SET prompt = 'another'",
            "UPDATE results SET prompt = x'ff', frames = 'x', steps = 0",
            "DELETE FROM results WHERE rowid % 2",
            "DROP TABLE folders",
            "ALTER TABLE results ADD COLUMN more",
            "UPDATE folders SET changed = 'x'",
            "REINDEX",
        )
    )
    database = sqlite3.connect(index)
    database.execute(statement)
    database.execute("PRAGMA user_version = 5")
    database.commit()
    database.close()


def replace_file(index: Path, content: bytearray, chance: random.Random) -> None:
    """Something else of that name."""
    index.unlink()
    kind = chance.choice(("folder", "pipe", "link", "loop", "device", "empty"))
    if kind == "folder":
        index.mkdir()
    elif kind == "pipe":
        os.mkfifo(index)
    elif kind == "empty":
        index.touch()
    else:
        target = {"link": "missing", "loop": index.name, "device": "/dev/zero"}[kind]
        index.symlink_to(target)


HARM = {
    function.__name__: function
    for function in (
        flip_bits,
        change_bytes,
        flip_header,
        zero_page,
        swap_pages,
        cut,
        extend,
        enlarge,
        add_journals,
        alter_values,
        replace_file,
    )
}
"""Ways to damage an index, by name."""


def peak_mib() -> float:
    """Most memory that this process has had."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
