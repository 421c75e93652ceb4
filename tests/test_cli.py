"""The ``cogvx`` command: what it prints, its exit codes, and that nothing is left behind."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import signal
import sys
import time
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import CIRCLE, run_cogvx, start, wait_for

from cogvx_nb.cli import summary
from cogvx_nb.cli.main import COMMANDS, build_parser, main
from cogvx_nb.results import marks, result, video

TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty current directory."""
    path = tmp_path / "work"
    path.mkdir()
    monkeypatch.chdir(path)
    return path


def refused(capsys, *arguments: str) -> tuple[int, str]:
    """Exit code of a command in this process, and the one line that it printed."""
    try:
        code = main(list(arguments))
    except SystemExit as leaving:
        code = leaving.code
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line.startswith("cogvx")]
    assert len(lines) == 1, printed.err
    assert "Traceback" not in printed.err
    return code, lines[0]


BAD_INPUT = [
    (2, "prompt = ''", ["--prompt", ""]),
    (2, "prompt = '  '", ["--prompt", "  "]),
    (2, "prompt = '': is empty", []),
    (2, "prompt = '': is empty;", ["--prompt", "", "--style", "bold"]),
    (2, "frames = 0", ["--frames", "0"]),
    (2, "frames = -3", ["--frames", "-3"]),
    (2, "--frames: invalid int value: 'many'", ["--frames", "many"]),
    (2, "steps = 0", ["--steps", "0"]),
    (2, "guidance = nan", ["--guidance", "nan"]),
    (2, "seed = -2", ["--seed", "-2"]),
    (2, "seed = 9007199254740992", ["--seed", str(2**53)]),
    (2, "height = 100: not a multiple of 16", ["--height", "100", "--strict"]),
    (2, "frames = 14", ["--frames", "14", "--strict"]),
    (2, "unknown to cogvideox-tiny", ["--prompt", "zyzzyva quokka axolotl"]),
    (2, "invalid choice: 'magic'", ["--fallback", "magic"]),
    (1, "must end in .mp4", ["--output", "a.gif"]),
    (1, "is a file", ["--output", "file/a.mp4"]),
    (1, "exists: choose another name", ["--output", "there.mp4"]),
    (1, "cogvx download CogVideoX-5b", ["--model", "CogVideoX-5b"]),
    (1, "is no folder and none of", ["--model", "no-such-model"]),
]


@pytest.mark.parametrize(("code", "words", "flags"), BAD_INPUT, ids=[row[1] for row in BAD_INPUT])
def test_bad_input(capsys, folder, tmp_path, monkeypatch, tiny, outputs, code, words, flags):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "cogvideox-tiny").symlink_to(tiny.folder)
    monkeypatch.setenv("COGVX_MODELS_DIR", str(tmp_path / "models"))
    (folder / "file").write_text("")
    (folder / "there.mp4").write_text("mine")
    prompt = [] if not flags or "--prompt" in flags else ["--prompt", CIRCLE]
    found, line = refused(capsys, "generate", *prompt, *flags)
    assert found == code
    assert words in line
    assert sorted(path.name for path in folder.iterdir()) == ["file", "there.mp4"]
    assert not outputs.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(capsys, folder):
    (folder / "locked").mkdir(mode=0o500)
    code, line = refused(capsys, "generate", "--prompt", CIRCLE, "--output", "locked/a.mp4")
    assert code == 1
    assert "no permission" in line


@pytest.mark.parametrize("damage", ["missing", "truncated", "corrupt", "pickle"])
def test_damaged_checkpoints(capsys, folder, copy_of_tiny, damage):
    path = copy_of_tiny / TRANSFORMER
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:5000])
    elif damage == "corrupt":
        path.write_bytes(b"\0" * 5000)
    else:
        path.rename(path.with_suffix(".bin"))
    code, line = refused(capsys, "generate", "--prompt", CIRCLE, "--model", str(copy_of_tiny))
    assert code == 1
    assert str(path.with_suffix("")) in line
    assert list(folder.iterdir()) == []


def test_a_text_encoder_that_cannot_be_read_is_one_line(capsys, folder, copy_of_tiny):
    path = copy_of_tiny / "text_encoder" / "model.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F99"', 1))
    flags = ["--model", str(copy_of_tiny), "--steps", "2"]
    code, line = refused(capsys, "generate", "--prompt", CIRCLE, *flags)
    assert code == 1
    assert f"{path} is no safetensors file of weights" in line


@pytest.mark.parametrize(
    ("part", "tensor", "value", "words"),
    [
        ("transformer", "proj_out.bias", math.nan, "step 1 of 2 gave NaN"),
        ("vae", "decoder.conv_out.conv.bias", -100.0, "all frames are black"),
    ],
)
def test_nan_and_black_frames(capsys, folder, copy_of_tiny, part, tensor, value, words):
    import safetensors.torch

    path = copy_of_tiny / part / "diffusion_pytorch_model.safetensors"
    weights = safetensors.torch.load_file(path)
    weights[tensor].fill_(value)
    safetensors.torch.save_file(weights, path, {"format": "pt"})
    flags = ["--model", str(copy_of_tiny), "--steps", "2", "--output", "new/a.mp4"]
    code, line = refused(capsys, "generate", "--prompt", CIRCLE, *flags)
    assert code == 1
    assert words in line
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made(capsys, folder):
    flags = ["--steps", "2", "--output", "/proc/nowhere/a.mp4"]
    code, line = refused(capsys, "generate", "--prompt", CIRCLE, *flags)
    assert code == 1
    assert "/proc/nowhere" in line


@pytest.mark.slow
def test_generate_show_and_reproduce(folder):
    flags = ["--frames", "14", "--steps", "3", "--seed", "9", "--output", "new/a.mp4"]
    done = run_cogvx("generate", "--prompt", CIRCLE, *flags, cwd=folder)
    assert done.returncode == 0, done.stderr
    path = folder / "new" / "a.mp4"
    assert done.stdout.strip() == str(path)
    assert "adjusted: frames 14 → 13" in done.stderr
    assert "the small embedded cogvideox-tiny" in done.stderr
    assert video.decode_video(path).shape == (13, 96, 144, 3)

    path.with_suffix(".json").unlink()
    shown = run_cogvx("show", "new/a.mp4", "--json", cwd=folder)
    assert json.loads(shown.stdout)["request"]["prompt"] == CIRCLE

    again = run_cogvx("reproduce", "new/a.mp4", cwd=folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith("identical: all 13 frames")
    assert sorted(p.name for p in (folder / "new").iterdir()) == ["a.mp4"]


def test_reproduce_says_what_differs(capsys, folder, make):
    saved = result.save_result(make(), "a.mp4")
    changed = saved.sidecar_json()
    changed["frame_hash"] = "0" * 64
    changed["versions"]["torch"] = "0.1"
    video.encode_video(video.decode_video(saved.path), folder / "b.mp4", 8, json.dumps(changed))
    assert main(["reproduce", "b.mp4"]) == 1
    printed = capsys.readouterr().out
    assert "not identical" in printed
    assert "versions torch: 0.1 then" in printed


def test_reproduce_keeps_the_new_video_when_asked(capsys, folder, make):
    result.save_result(make(), "a.mp4")
    assert main(["reproduce", "a.mp4", "--output", "b.mp4"]) == 0
    assert np.array_equal(
        video.decode_video(folder / "a.mp4"), video.decode_video(folder / "b.mp4")
    )
    assert "identical: all 13 frames" in capsys.readouterr().out
    code, line = refused(capsys, "reproduce", "a.mp4", "--output", "b.mp4")
    assert code == 1
    assert "b.mp4 exists" in line


def test_a_file_of_another_program(capsys, folder):
    (folder / "a.mp4").write_text("hello")
    code, line = refused(capsys, "show", "a.mp4")
    assert code == 1
    assert "carries no settings" in line


def test_debug_shows_the_traceback(capsys, folder):
    assert main(["generate", "--debug", "--prompt", ""]) == 2
    assert "Traceback" in capsys.readouterr().err


def held_ffmpeg(folder: Path) -> Path:
    """A program that works when it is tried, but tells that it began a video and never ends it."""
    program = folder / "ffmpeg"
    real, begun = imageio_ffmpeg.get_ffmpeg_exe(), folder / "begun"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *trial.mp4*) exec "{real}" "$@";; esac\n'
        f': > "{begun}"\nexec sleep 600\n'
    )
    program.chmod(0o755)
    return program


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("stage", ["load", "denoise", "write"])
def test_signals_leave_nothing(folder, outputs, tmp_path, monkeypatch, sent, code, stage):
    steps = "2" if stage == "write" else "1000"
    before = {"load": "plan:", "denoise": "text", "write": "decode"}  # the line before each begins
    if stage == "write":
        monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(held_ffmpeg(tmp_path)))
    command = [sys.executable, "-m", "cogvx_nb", "generate", "--prompt", CIRCLE, "--frames", "9"]
    command += ["--steps", steps, "--output", "new/a.mp4"]
    process = start(command, folder)
    seen = []
    for line in process.stderr:
        seen.append(line)
        if line.startswith(before[stage]):
            break
    if stage == "write":
        wait_for((tmp_path / "begun").exists, process)
    else:
        time.sleep(0.2)  # into the stage, which takes longer
    process.send_signal(sent)
    rest = process.communicate(timeout=120)[1]
    assert process.returncode == code, "".join(seen) + rest
    assert "Traceback" not in rest
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert {path.name for path in outputs.glob("*")} <= {".embeddings", ".partial"}
    assert list(outputs.glob(".partial/*")) == [], "the list of temporary files is empty"


def test_the_help_fits_a_screen_and_has_an_example_of_each(capsys):
    assert main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) < 80
    for row in COMMANDS:
        assert any(f"cogvx {row.name} " in line for line in lines), row.name


def test_every_example_can_be_typed(capsys):
    """Every command and its commands have one, which the parser understands."""
    waiting = [build_parser()]
    while waiting:
        parser = waiting.pop()
        groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
        waiting += [sub for group in groups for sub in group.choices.values()]
        if parser.prog != "cogvx":
            assert parser.example.startswith(parser.prog)
            for example in (parser.example, *parser.examples):
                assert build_parser().parse_args(shlex.split(example)[1:]).command
            assert f"example:\n  {parser.example}" in parser.format_help()


def test_show_is_short_and_says_how_to_make_it_again(capsys, folder, make):
    saved = result.save_result(make(seed=2**31), "a.mp4")
    marks.change_marks(saved.path, saved.frame_hash, stars=3, note="the\x1b[31m best")
    assert main(["show", "a.mp4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 24
    shown = "\n".join(lines)
    assert "prompt     a red circle" in shown
    assert f"seed       {2**31}" in shown
    assert "stars      ★★★" in shown
    assert "the\\x1b[31m best" in shown
    (again,) = [line for line in lines if line.startswith("again:  ")]
    options = build_parser().parse_args(shlex.split(again.removeprefix("again:  cogvx ")))
    assert (options.seed, options.prompt) == (2**31, saved.settings.request.prompt)
    for width in (60, 100):
        wrapped = summary.summary_lines(saved, width)[1:-3]
        assert max(map(len, wrapped)) <= width
