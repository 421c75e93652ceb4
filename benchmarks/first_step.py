"""From a checkpoint's files to the end of the first denoising step, in new processes.

``python benchmarks/first_step.py --out first_step.json`` writes CogVideoX-5b with random weights to
``--folder`` (21 GB), and makes the first two steps of a video with it in ``--repeats`` processes,
one after the other. The first of them compiles; the others find compiled code on disk and the files
in the page cache. Prints a JSON line for each: seconds until modules are imported, of the first
call of the attention, of loading, of the text, of compilation and of both steps, and from the end
of the imports to the end of the first step.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cogvx_nb import files, hashing
from cogvx_nb.checkpoints import manifest, registry, store

PROMPT = "a red circle moving right on a black background"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", default="CogVideoX-5b")
    parser.add_argument("--folder", type=Path, help="where it is written (default: temporary)")
    parser.add_argument("--frames", type=int, default=49)
    parser.add_argument("--speed", default="exact")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--out", type=Path, help="JSON file")
    parser.add_argument("--written", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.written:
        print(json.dumps(timed(options)), flush=True)
        return
    rows = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        home = Path(folder) / registry.get_checkpoint(options.checkpoint).name
        write_checkpoint(options.checkpoint, home)
        again = [sys.executable, __file__, "--written", str(home), "--speed", options.speed]
        for _ in range(options.repeats):
            command = [*again, "--frames", str(options.frames)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            rows.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(rows[-1]), flush=True)
            if options.out:
                files.write_whole(options.out, json.dumps(rows, indent=1).encode())


def write_checkpoint(name: str, home: Path) -> None:
    """A checkpoint with random weights, with the tokenizer of the embedded one, as if fetched."""
    import torch

    from cogvx_nb.pipeline import components

    checkpoint, embedded = registry.get_checkpoint(name), store.locate_checkpoint("tiny").folder
    model, dtype = store.random_model(checkpoint), getattr(torch, checkpoint.gpu_dtype)
    home.mkdir(parents=True)
    shutil.copy(embedded / "model_index.json", home)
    shutil.copytree(embedded / "tokenizer", home / "tokenizer")
    for part in components.COMPONENT_CLASSES:
        components.make_part(part, model, dtype, "cpu").save_pretrained(home / part)
    components.make_scheduler(model).save_pretrained(home / "scheduler")
    sizes = {path: path.stat().st_size for path in sorted(home.rglob("*")) if path.is_file()}
    # Hashes of small files alone: of the others nothing but the size is looked at here.
    listed = {
        path.relative_to(home).as_posix(): manifest.ManifestFile(
            size, hashing.sha256(path) if size < 2**20 else "0" * 64
        )
        for path, size in sizes.items()
    }
    manifest.write_manifest(home, manifest.Manifest("repository", name, "random", listed))


def timed(options: argparse.Namespace) -> dict:
    """The row of a process, this one."""
    import psutil

    begun = psutil.Process().create_time()

    from cogvx_nb.pipeline import attention, generate, loader
    from cogvx_nb.planning import planner, request
    from cogvx_nb.planning.probe import probe_machine
    from cogvx_nb.progress import Step

    model, steps = store.locate_checkpoint(str(options.written)), []
    asked = request.make_request(
        model, PROMPT, frames=options.frames, speed=options.speed, allow_unknown=True
    )
    plan = planner.plan_request(asked, probe_machine(), videos=100)
    imported = time.time()
    attention.try_attention(plan)
    tried = time.time()
    loaded = loader.load_pipeline(plan)
    asked = request.make_request(
        model, PROMPT, frames=options.frames, speed=options.speed, steps=2, allow_unknown=True
    )

    def on_event(event: object) -> None:
        if isinstance(event, Step):
            steps.append(time.time())

    made = generate.generate_frames(asked, loaded, on_event, reuse_text=False)
    return {
        "plan": str(loaded.plan),
        "imports": round(imported - begun, 2),
        "attention": round(tried - imported, 2),
        **{name: round(seconds, 2) for name, seconds in made.seconds.items()},
        "load_to_first_step": round(steps[0] - imported, 2),
    }


if __name__ == "__main__":
    main()
