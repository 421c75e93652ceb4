"""Every script of benchmarks/ that needs no GPU runs through, with its smallest sizes."""

from __future__ import annotations

import argparse
import os
import runpy
import subprocess
import sys

import pytest
from conftest import ROOT

from cogvx_nb.checkpoints import registry

SCRIPTS = {
    "block": [
        "--checkpoint",
        "tiny",
        "--device",
        "cpu",
        "--frames",
        "9",
        "--blocks",
        "2",
        "--quantized",
        "int8",
        "--repeats",
        "1",
        "--eager",
    ],
    "cards": ["--help"],  # needs a GPU
    "catalogue": ["--results", "20", "--sweeps"],  # without: flip_index
    "extension": ["--help"],  # takes minutes
    "interpolation": ["--help"],
    "upscaling": ["--help"],
    "equality": [
        "--frames",
        "9",
        "--steps",
        "1",
        "--ways",
        "as planned",
        "cached embeddings",
        "int8",
    ],
    "fill_disk": ["--times", "1", "--parts", "generate"],
    "first_step": ["--checkpoint", "tiny", "--frames", "9", "--repeats", "1"],
    "flip_index": ["--times", "20", "--results", "20"],
    "fuzz_settings": ["--examples", "30"],
    "hostile_inputs": ["--only", "sweep status"],
    "hostile_notebooks": ["--only", "parameters: run"],
    "jobs": ["--cancels", "1", "--settled", "1", "--videos", "1"],
    "kill_anything": ["--kills", "1", "--parts", "generate"],
    "kill_sweep": ["--kills", "1", "--runs", "1", "--seconds", "12"],
    "schedulers": ["--prompts", "1", "--steps", "1", "--schedulers", "unipc"],
    "load": [
        "--checkpoint",
        "tiny",
        "--device",
        "cpu",
        "--blocks",
        "2",
        "--threads",
        "2",
        "--repeats",
        "1",
    ],
    "lora": ["--checkpoint", "tiny", "--steps", "3", "--repeats", "1", "--rank", "4"],
    "lora_training": ["--checkpoint", "tiny", "--steps", "1", "--rank", "2", "--frames", "9"],
    "several_gpus": [
        *("--checkpoint", "tiny", "--frames", "9", "--steps", "2"),
        *("--gpus", "1", "2", "--speeds", "exact", "--faults"),
    ],
    "sparse_attention": [
        *("--checkpoint", "tiny", "--device", "cpu", "--frames", "9", "--repeats", "1"),
        *("--eager", "--shares", "0.9", "--step-shares", "0.9", "--parts", "attention", "step"),
    ],
    "signals": ["--moments", "1", "--commands", "1"],
    "preview": ["--steps", "2", "--repeats", "1"],
    "sweep": [
        "--runs",
        "1",
        "--bare",
        "1",
        "--steps",
        "1",
        "--frames",
        "9",
        "--warm",
        "1",
        "--expand",
        "100",
    ],
    "vae_encode": [
        "--device",
        "cpu",
        "--checkpoint",
        "tiny",
        "--sizes",
        "1x64x96",
        "5x48x80",
        "--repeats",
        "1",
    ],
    "windows": [
        *("--checkpoint", "tiny", "--frames", "9", "57"),
        *("--steps", "2", "--size", "16", "32"),
    ],
    "weights throughput": ["throughput", "--megabytes", "2", "--repeats", "1"],
    "weights verify": ["verify", "--megabytes", "4", "--repeats", "1"],
    "weights kill": ["kill", "--megabytes", "2", "--points", "1"],
}
"""Arguments by script; what follows a script's name only tells its cases apart."""

IMPORT_TORCH = {
    "catalogue",
    "equality",
    "flip_index",
    "jobs",
    "lora",
    "lora_training",
    "preview",
    "schedulers",
    "vae_encode",
    "windows",
}
"""Scripts that run in this process: most of their time in one of their own would be imports."""


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """What a script changes in this process is as before once it has ended."""
    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    os.environ.clear()
    os.environ.update(before)


def run_path(path: str) -> None:
    """Run a script as the main module of this process; it must end without an error."""
    code = None
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as ended:
        code = ended.code
    assert not code


def run_script(name: str, arguments: list[str]) -> str:
    script = ROOT / "benchmarks" / f"{name.split()[0]}.py"
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:] or done.stdout[-3000:]
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_runs_through(name, environment, monkeypatch, capfd):
    script = name.split()[0]
    if script in IMPORT_TORCH:
        path = str(ROOT / "benchmarks" / f"{script}.py")
        monkeypatch.setattr(sys, "argv", [path, *SCRIPTS[name]])
        run_path(path)
        output = capfd.readouterr().out
    else:
        output = run_script(name, SCRIPTS[name])
    assert output.strip()
    assert '"error"' not in output


@pytest.mark.slow
@pytest.mark.ray
def test_the_script_with_ray_workers_runs_through():
    pytest.importorskip("ray")
    output = run_script(
        "sweep_ray", ["--runs", "3", "--frames", "9", "--steps", "1", "--warm", "1"]
    )
    assert '"ratio"' in output


def test_every_script_is_listed():
    scripts = {path.stem for path in (ROOT / "benchmarks").glob("*.py")}
    assert scripts == {name.split()[0] for name in SCRIPTS} | {"sweep_ray", "page"}


def test_blocks_are_timed_with_all_of_them_or_not_at_all():
    script = runpy.run_path(str(ROOT / "benchmarks" / "block.py"))
    options = argparse.Namespace(checkpoint="tiny", device="cpu", blocks=None)
    layers = registry.get_checkpoint("tiny").architecture[0]
    assert next(script["measure"](options))["blocks"] == layers > 1
    options.blocks = 1
    assert next(script["measure"](options))["blocks"] == 1
    options.blocks = 0
    with pytest.raises(SystemExit, match="leaves none"):
        next(script["measure"](options))
    script["check_distance"]({"way": "own", "of_eager": 0.0}, "sdpa")
    script["check_distance"]({"way": "own", "error": "no memory"}, "flash4")
    with pytest.raises(SystemExit, match="own: equal to eager blocks"):
        script["check_distance"]({"way": "own", "of_eager": 0.0}, "flash4")
