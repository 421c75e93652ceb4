"""Train LoRAs of the two styles: ``python models/cogvideox-tiny/train_loras.py``.

Measure what they change with ``evaluate_loras.py`` before they are used.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from cogvx_nb.files import temporary_folder
from cogvx_nb.training import train_lora
from cogvx_nb.training.recipe import Recipe

HERE = Path(__file__).resolve().parent

RECIPES = {
    "large": Recipe(steps=2370, learning_rate=1e-3, batch=6),
    "shadow": Recipe(steps=1940, learning_rate=2e-3, batch=6),
}
"""Of the files in ``models/loras/``."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("styles", nargs="*", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--out", type=Path, default=HERE.parent / "loras")
    options = parser.parse_args()
    for style in options.styles:
        start = time.time()
        with temporary_folder() as data:
            command = [sys.executable, str(HERE / "styles.py"), str(data), "--style", style]
            subprocess.run([*command, "--clips", str(options.clips)], check=True)
            done = train_lora(
                data,
                style,
                recipe=RECIPES[style],
                licence="Apache-2.0",
                folder=options.out,
                on_event=lambda e: e.step % 20 == 0 and print(e, flush=True),
            )
        print(f"{done.path}: {time.time() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
