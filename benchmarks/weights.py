"""Fetching and verifying weights, beside the bare clients and beside sha256sum.

``python benchmarks/weights.py throughput`` fetches a file of 1 GB from a hub on the loopback
interface, with each hub's own client and with ours, in turn, as fast as it goes or at ``--rate``;
``verify`` hashes 4 GB in 4 files with sha256sum on one core and with ours on all; ``kill`` kills a
download of 300 MB at 10 points, each followed by another start, and counts what the hub sent.
``--megabytes`` and ``--points`` change these sizes. Prints JSON. Each timed run is a process, its
start included; the files are in the page cache for all of them.
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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from hub import Fault, Hub

REPOS = {"modelscope": "ZhipuAI/CogVideoX-5b", "huggingface": "zai-org/CogVideoX-5b"}
SHARD = "transformer/diffusion_pytorch_model.safetensors"
MEGABYTES = {"throughput": 1000, "verify": 4000, "kill": 300}

BARE = {
    "huggingface": """
import sys
from huggingface_hub import hf_hub_download
repo, url, folder, name, size, sha256 = sys.argv[1:]
hf_hub_download(repo, name, local_dir=folder, endpoint=url, token=False)
""",
    "modelscope": """
import sys
from modelscope_hub import HubApi
repo, url, folder, name, size, sha256 = sys.argv[1:]
row = {"Path": name, "Size": int(size), "Sha256": sha256}
HubApi(endpoint=url, token="").download_repo(repo, "model", local_dir=folder, file_list=[row])
""",
}


def repository(folder: Path, size: int) -> Path:
    """A folder with one shard of noise, and what makes it a checkpoint by its names."""
    for part in ("transformer", "text_encoder", "vae"):
        (folder / part).mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    write_noise(folder / "text_encoder" / "model.safetensors", 1000)
    write_noise(folder / "vae" / "diffusion_pytorch_model.safetensors", 1000)
    write_noise(folder / SHARD, size)
    return folder


def write_noise(path: Path, size: int) -> None:
    block = random.Random(size).randbytes(2**24)
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])


def timed(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - start


def ours(source: str, url: str, folder: Path) -> list[str]:
    command = [sys.executable, "-m", "cogvx_nb", "download", "--source", source, "--yes"]
    return [*command, "--endpoint", url, "--models-dir", str(folder)]


def throughput(work: Path, environment: dict[str, str], size: int, repeats: int, rate: int) -> dict:
    """Seconds of the bare client and of ours for the same file, and the ratio of their medians."""
    origin, results = repository(work / "origin", size), {}
    with Hub(dict.fromkeys(REPOS.values(), origin)) as hub:
        hub.fault = Fault("drip", rate=rate * 10**6) if rate else None
        entry = next(entry for entry in hub.entries(REPOS["modelscope"]) if entry.path == SHARD)
        for source, repo in REPOS.items():
            seconds = {"bare": [], "ours": []}
            arguments = [repo, hub.url, str(work / "to"), SHARD, str(size), entry.sha256]
            commands = {
                "bare": [sys.executable, "-c", BARE[source], *arguments],
                "ours": ours(source, hub.url, work / "to"),
            }
            for number in range(repeats + 1):  # the first of each is the warm-up
                for name, command in commands.items():
                    shutil.rmtree(work / "to", ignore_errors=True)
                    took = timed(command, environment)
                    seconds[name] += [took] if number else []
            medians = {name: statistics.median(values) for name, values in seconds.items()}
            rates = {f"{name}_mb_s": round(size / 1e6 / took) for name, took in medians.items()}
            results[source] = {"seconds": seconds, **rates}
            results[source]["ratio"] = round(medians["bare"] / medians["ours"], 3)
    return results


def verify(work: Path, environment: dict[str, str], size: int, repeats: int) -> dict:
    """GB/s of sha256sum on one core and of ``cogvx verify``, on the same files."""
    folder = work / "models" / "CogVideoX-5b"
    (folder / "transformer").mkdir(parents=True)
    files = [folder / "transformer" / f"{n}.safetensors" for n in range(4)]
    for path in files:
        write_noise(path, size // 4)
    from cogvx_nb.checkpoints import manifest
    from cogvx_nb.hashing import sha256_all

    listed = {
        path.relative_to(folder).as_posix(): manifest.ManifestFile(size // 4, sha256)
        for path, sha256 in sha256_all(files).items()
    }
    manifest.write_manifest(folder, manifest.Manifest("modelscope", "none", "none", listed))
    commands = {
        "sha256sum": ["taskset", "-c", "0", "sha256sum", *map(str, files)],
        "ours": [sys.executable, "-m", "cogvx_nb", "verify", str(folder)],
    }
    seconds = {name: [] for name in commands}
    for number in range(repeats + 1):
        for name, command in commands.items():
            took = timed(command, environment)
            seconds[name] += [took] if number else []
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    rates = {f"{name}_gb_s": round(size / 1e9 / took, 2) for name, took in medians.items()}
    ratio = round(medians["sha256sum"] / medians["ours"], 2)
    return {"seconds": seconds, **rates, "cores": os.cpu_count(), "ratio": ratio}


def kill(work: Path, environment: dict[str, str], size: int, points: int) -> dict:
    """Bytes that the hub sent for one file, with a kill -9 at each of some points on the way."""
    origin, results = repository(work / "origin", size), {}
    with Hub(dict.fromkeys(REPOS.values(), origin)) as hub:
        for source in REPOS:
            hub.forget()
            target = work / source
            for number in range(1, points + 1):
                running = subprocess.Popen(
                    ours(source, hub.url, target), env=environment, stderr=subprocess.DEVNULL
                )
                # Hugging Face's client begins anew, so the points are of each start's own way.
                begun, share = hub.served[SHARD], number / (points + 1)
                aim = size * share if source == "huggingface" else size / (points + 1)
                while hub.served[SHARD] < begun + aim and running.poll() is None:
                    time.sleep(0.001)
                running.kill()
                running.wait()
                assert not (target / "CogVideoX-5b").exists(), "looks finished"
            subprocess.run(ours(source, hub.url, target), env=environment, check=True)
            same = (target / "CogVideoX-5b" / SHARD).read_bytes() == (origin / SHARD).read_bytes()
            sent = hub.served[SHARD]
            results[source] = {"file": size, "sent": sent, "times": round(sent / size, 2)}
            results[source]["identical"] = same
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=MEGABYTES)
    parser.add_argument("--repeats", type=int, default=5, help="timed runs of each")
    parser.add_argument("--rate", type=int, default=0, help="MB/s of the line, if limited")
    parser.add_argument("--megabytes", type=int, help="of the file or files")
    parser.add_argument("--points", type=int, default=10, help="at which a download is killed")
    options = parser.parse_args()
    size = (options.megabytes or MEGABYTES[options.what]) * 10**6
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        state = {"HF_HOME": f"{folder}/hf", "MODELSCOPE_CACHE": f"{folder}/ms"}
        state |= {"MODELSCOPE_HOME": f"{folder}/ms", "HF_HUB_DISABLE_XET": "1"}
        state |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
        environment = os.environ | state
        if options.what == "throughput":
            results = throughput(work, environment, size, options.repeats, options.rate)
        elif options.what == "verify":
            results = verify(work, environment, size, options.repeats)
        else:
            results = kill(work, environment, size, options.points)
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
