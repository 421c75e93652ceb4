"""Times of the catalogue with any number of results.

``python benchmarks/catalogue.py --results 10000 [--sweeps]`` makes copies of one real video, each
with different settings in it and in its sidecar, in folders of a thousand or one folder each as in
sweeps, and prints JSON: seconds to index all results, to open the catalogue in a new process with
the first page and its thumbnails, the same after one more result; milliseconds of searches and
filters (median and longest of 20), and of lists in the gallery (the first page, and the longest of
20 others); seconds and memory of all results as a DataFrame, CSV and Parquet, each in a new
process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

COLOURS = ("red", "green", "blue", "yellow", "红色的", "cyan")
SHAPES = ("circle", "square", "star", "triangle", "圆形")
WAYS = ("moving right", "moving left", "growing", "向右移动", "drifting up slowly over the day")
A_DAY = 1000

OPEN = """
import time; start = time.perf_counter()
from cogvx_nb.results.catalogue import Catalogue
from cogvx_nb.results import pictures
imported = time.perf_counter()
catalogue = Catalogue(); catalogue.refresh()
page = catalogue.find(limit=12); total = catalogue.count()
listed = time.perf_counter()
pictures = pictures.thumbnails(page); shown = time.perf_counter()
import json, re
assert len(page) == 12 and all(pictures)
peak = int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
print(json.dumps({"total": total, "import_seconds": imported - start,
    "list_seconds": listed - imported, "posters_seconds": shown - listed,
    "peak_rss_mib": peak / 1024}))
"""

FRAME = """
import pandas, pyarrow
from cogvx_nb.results.catalogue import Catalogue
catalogue = Catalogue(); catalogue.refresh(); before = peak(); start = time.perf_counter()
everything = catalogue.frame(); built = time.perf_counter()
some = catalogue.frame("circle", frames=49); filtered = time.perf_counter()
few = catalogue.frame(seed=77); end = time.perf_counter()
measured = {"rows": len(everything), "seconds": built - start,
    "frame_mib": everything.memory_usage(deep=True).sum() / 2**20, "peak_mib_more": peak() - before,
    "filtered_rows": len(some), "filtered_seconds": filtered - built,
    "rows_of_a_seed": len(few), "seconds_of_a_seed": end - filtered}
"""

EXPORT = """
import sys, tempfile
from pathlib import Path
from cogvx_nb.results import export
from cogvx_nb.results.catalogue import Catalogue
kind = sys.argv[1]
export.check_packages(*["pyarrow"] * (kind == "parquet"))
catalogue = Catalogue(); catalogue.refresh(); before = peak(); start = time.perf_counter()
with tempfile.TemporaryDirectory() as folder:
    path = export.save_export(catalogue.pages(), Path(folder) / f"all.{kind}")
    measured = {"seconds": time.perf_counter() - start, "mib": path.stat().st_size / 2**20,
        "peak_mib_more": peak() - before}
"""

MEASURED = """
import json, re, time
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
%s
print(json.dumps(measured))
"""

QUERIES = {
    "first page": {},
    "a word": {"text": "circle"},
    "two words": {"text": "red star"},
    "Chinese": {"text": "圆形"},
    "nothing such": {"text": "zyzzyva"},
    "frames": {"frames": 49},
    "seed": {"seed": 77},
    "model": {"model": "cogvideox-tiny"},
    "all of these": {"text": "blue", "frames": 13, "model": "cogvideox-tiny"},
}

LISTS = {
    "all": ({}, {}),
    "a word": ({"text": "circle"}, {}),
    "a condition": ({"where": ("steps >= 2",)}, {}),
    "by time taken": ({}, {"sort": "seconds"}),
    "same prompt": ({}, {"group": "prompt"}),
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=int, default=10_000)
    parser.add_argument("--sweeps", action="store_true", help="a folder for each result")
    options = parser.parse_args()
    count = options.results
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COGVX_OUTPUTS_DIR"] = folder
        make_results(Path(folder), count, options.sweeps)
        report = {"results": count, "first_index": run_python(OPEN)}
        runs = [run_python(OPEN) for _ in range(5)]
        report["opened_again"] = {
            name: statistics.median(run[name] for run in runs) for name in runs[0]
        }
        add_one(Path(folder))
        report["opened_with_one_more"] = run_python(OPEN)
        report["milliseconds"] = {name: time_query(query) for name, query in QUERIES.items()}
        report["milliseconds"]["last page"] = time_query({}, offset=count - 12)
        report["gallery_milliseconds"] = {
            name: time_pages(query, order) for name, (query, order) in LISTS.items()
        }
        report["frame"] = run_python(MEASURED % FRAME)
        report["csv"] = run_python(MEASURED % EXPORT, "csv")
        report["parquet"] = run_python(MEASURED % EXPORT, "parquet")
    print(json.dumps(rounded(report), indent=1, ensure_ascii=False))


def make_results(folder: Path, count: int, sweeps: bool) -> None:
    """One real result, and copies with other settings, a thousand a day or a sweep."""
    from cogvx_nb.checkpoints import store
    from cogvx_nb.pipeline import generate, loader
    from cogvx_nb.planning import planner, probe, request
    from cogvx_nb.results import mp4, result

    # Its settings are longer than those of all others, which are padded to their length.
    prompt = "a red circle moving right on a black background" + " and on" * 30
    prepared = request.make_request(store.locate_checkpoint("tiny"), prompt, steps=2)
    generated = generate.generate_frames(
        prepared, loader.load_pipeline(planner.plan_request(prepared, probe.probe_machine()))
    )
    first = result.save_result(generated, folder / "first" / "0.mp4")
    box, video = mp4.find_tag(first.path, mp4.TAG), first.path.read_bytes()
    chance, start = random.Random(1), datetime(2026, 1, 1, tzinfo=UTC)
    for number in range(1, count):
        at = start + timedelta(days=number // A_DAY, seconds=number % A_DAY)
        path = folder / f"{at:%Y-%m-%d}" / f"{number}.mp4"
        if sweeps:
            path = folder / "sweeps" / f"{at:%Y-%m-%d}" / f"{number:016x}" / "video.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        words = chance.choice(COLOURS), chance.choice(SHAPES), chance.choice(WAYS)
        seed, frames = chance.randrange(1000), chance.choice((13, 25, 49))
        content = first.sidecar_json() | {"made": at.isoformat(), "frame_hash": f"{number:064}"}
        prompt = f"a {' '.join(words)} on a black background, number {number}"
        content["request"] = content["request"] | {"prompt": prompt, "seed": seed, "frames": frames}
        tag = json.dumps(content, separators=(",", ":")).encode().ljust(box.end - box.start)
        path.write_bytes(video[: box.start] + tag + video[box.end :])
        path.with_suffix(".json").write_text(json.dumps(content, ensure_ascii=False, indent=2))
    time.sleep(2.5)  # folders that have just changed are scanned once more


def add_one(folder: Path) -> None:
    """Another result, in the folder of an existing one."""
    source = next(folder.rglob("*.mp4"))
    shutil.copy(source, source.with_name("new.mp4"))
    shutil.copy(source.with_suffix(".json"), source.with_name("new.json"))


def run_python(code: str, *arguments: str) -> dict:
    """The JSON that some code prints in a new process."""
    command = [sys.executable, "-c", code, *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def time_query(query: dict, offset: int = 0, repeats: int = 20) -> dict:
    """A page and its count, as the gallery asks for them."""
    from cogvx_nb.results.catalogue import Catalogue

    catalogue, taken = Catalogue(), []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        count = catalogue.count(**query)
        catalogue.find(**query, limit=12, offset=offset)
        taken.append(1000 * (time.perf_counter() - start))
    return {"found": count, "median": statistics.median(taken[1:]), "longest": max(taken[1:])}


def time_pages(query: dict, order: dict, repeats: int = 20) -> dict:
    """Pages of a list that is scrolled through, from its start to its end."""
    from cogvx_nb.results.catalogue import Catalogue
    from cogvx_nb.results.filters import Search

    catalogue, taken, total = Catalogue(), [], 0
    catalogue.count()  # reads the index
    for number in range(repeats + 1):
        start = time.perf_counter()
        found = catalogue.browse(
            Search(**query), **order, limit=60, offset=total * number // (repeats + 1)
        )
        total = found.total
        taken.append(1000 * (time.perf_counter() - start))
    return {"found": total, "first": taken[0], "longest": max(taken[1:])}


def rounded(value):
    """A report with its numbers rounded to three decimals."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    return round(value, 3) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
