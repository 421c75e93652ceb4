"""Storyboards: their rows, what of them is made again, how pieces are joined, and reproduced."""

from __future__ import annotations

import io
import json
import re
import sys

import numpy as np
import pytest
from conftest import CIRCLE

from cogvx_nb import reproduction, settings
from cogvx_nb.cli import table
from cogvx_nb.cli.main import main
from cogvx_nb.errors import Cancelled, OutputExists, ResultError, SpecError
from cogvx_nb.loras import library
from cogvx_nb.media.ffmpeg import find_ffmpeg
from cogvx_nb.planning.storyboards import read_storyboard, shots_of
from cogvx_nb.progress import Planned, Progress, Step
from cogvx_nb.results import result, video
from cogvx_nb.results.catalogue import Catalogue
from cogvx_nb.results.joined import join_frames, joined_frames
from cogvx_nb.storyboard import check_rows, make_storyboard

STAR = "a green star growing on a navy background"
SMALL = {"model": "tiny", "steps": 2}
ROWS = [
    {"prompt": CIRCLE, "frames": 9},
    {"prompt": CIRCLE, "frames": 4, "transition": "continue"},
    {"prompt": STAR, "frames": 9, "transition": "fade"},
]


# --- rows -----------------------------------------------------------------------------------------

FILES = {
    "board.yaml": f"- {CIRCLE}\n- {{prompt: {STAR}, frames: 9, transition: fade}}\n",
    "board.jsonl": f'"{CIRCLE}"\n'
    + json.dumps({"prompt": STAR, "frames": 9, "transition": "Fade"}),
    "board.csv": f"Prompt;Frames;Transition\n{CIRCLE};;\n{STAR};9;fade\n",
}


@pytest.mark.parametrize("name", FILES)
def test_files_give_rows(tmp_path, name):
    (tmp_path / name).write_text(FILES[name])
    first, second = read_storyboard(tmp_path / name)
    assert (first.values, first.transition) == ({"prompt": CIRCLE}, "cut")
    assert (second.values, second.transition) == ({"prompt": STAR, "frames": 9}, "fade")


WITHOUT_PROMPT = {
    "board.yaml": f"- {CIRCLE}\n- {{transition: continue, frames: 4}}\n",
    "board.json": json.dumps([CIRCLE, {"prompt": None, "transition": "continue", "frames": 4}]),
    "board.jsonl": f'"{CIRCLE}"\n' + '{"prompt": " ", "transition": "continue", "frames": 4}',
    "board.csv": f"prompt,frames,transition\n{CIRCLE},,\n,4,continue\n",
}


@pytest.mark.parametrize("name", WITHOUT_PROMPT)
def test_rows_that_go_on_need_no_prompt(tmp_path, name):
    path = tmp_path / name
    path.write_text(WITHOUT_PROMPT[name])
    first, second = read_storyboard(path)
    assert first.values == {"prompt": CIRCLE}
    assert (second.values, second.transition) == ({"prompt": "", "frames": 4}, "continue")
    path.write_text(WITHOUT_PROMPT[name].replace("continue", "fade"))
    with pytest.raises(SpecError, match=rf"^(item|line) \d of {name}: prompt = '': is empty"):
        read_storyboard(path)


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([], "a storyboard needs rows"),
        ([{"prompt": ""}], "row 1: prompt = '': is empty"),
        ([{"prompt": CIRCLE, "transition": "continue"}], "row 1: .*has nothing before it: use cut"),
        (
            [{"prompt": CIRCLE}, {"prompt": STAR, "transition": "fad"}],
            "row 2: .*did you mean .fade",
        ),
        ([{"prompt": CIRCLE}, {"prompt": STAR, "frames": "x"}], "row 2: frames = 'x'"),
        ([{"prompt": CIRCLE, "frame": 3}], "row 1: frame = 3: is no field of a request"),
        (
            [{"prompt": CIRCLE}, {"prompt": STAR, "transition": "continue", "image": "a.png"}],
            "row 2: image = 'a.png': can't be given where a piece goes on",
        ),
    ],
)
def test_rows_that_can_not_be_are_one_line_with_their_number(rows, line):
    with pytest.raises(SpecError, match=line) as caught:
        shots_of(rows)
    assert "\n" not in str(caught.value)


def test_rows_in_memory_are_as_those_of_files():
    first, second = shots_of([CIRCLE, {"prompt": STAR, "num_frames": 9}])
    assert first.values == {"prompt": CIRCLE}
    assert second.values == {"prompt": STAR, "frames": 9}
    with pytest.raises(SpecError, match=r"^row 1 is of type int: give a text, or fields"):
        shots_of([3])
    with pytest.raises(SpecError, match=r"^row 1: num_frames = 9: is given twice, as frames too"):
        shots_of([{"prompt": CIRCLE, "frames": 9, "num_frames": 9}])


def test_files_that_rows_name_are_those_beside_the_file(tmp_path, monkeypatch, capsys):
    board, current = tmp_path / "board", tmp_path / "current"
    for folder in (board, current):
        folder.mkdir()
        (folder / "ink.safetensors").write_bytes(b"")
        (folder / "a.png").write_bytes(b"")
    (current / "elsewhere.png").write_bytes(b"")
    monkeypatch.chdir(current)
    monkeypatch.setattr(library, "loras_folder", lambda: tmp_path / "loras")
    (tmp_path / "loras" / "own").mkdir(parents=True)
    for decoyed in ("loras/own", "loras", "current"):  # the library comes before the current folder
        (tmp_path / decoyed / "lib.safetensors").write_bytes(b"")
    names = {
        "lora": "ink:0.5, lib:2, own/lib:2, bare, ./lost",
        "image": "a.png",
        "last_image": "elsewhere.png",
    }
    path = board / "board.json"
    path.write_text(json.dumps([{"prompt": CIRCLE} | names]))
    (shot,) = read_storyboard(path)
    own = f"{tmp_path}/loras/lib.safetensors:2, {tmp_path}/loras/own/lib.safetensors:2"
    here = f"{board}/ink.safetensors:0.5, {own}, bare:1, {board}/lost:1"
    images = {"image": f"{board}/a.png", "last_image": f"{board}/elsewhere.png"}
    assert shot.values == {"prompt": CIRCLE, "lora": here} | images
    (typed,) = shots_of([{"prompt": CIRCLE} | names])
    assert typed.values == {"prompt": CIRCLE} | names
    (board / "a, b.safetensors").write_bytes(b"")
    path.write_text(json.dumps([{"prompt": CIRCLE, "lora": ["a, b.safetensors", "ink:2"]}]))
    (shot,) = read_storyboard(path)
    comma = f'"{board}/a, b.safetensors":1, {board}/ink.safetensors:2'
    assert shot.values["lora"] == comma
    path.write_text(json.dumps([{"prompt": CIRCLE, "lora": "ink:x:0.5, a\0b"}]))
    assert main(["storyboard", str(path)]) == 2
    assert capsys.readouterr().err.startswith("cogvx: item 1 of board.json: ")


CONTINUED = {"prompt": STAR, "transition": "continue"}


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (
            {"prompt": STAR, "height": 128, "width": 128, "allow_untrained_size": True},
            "makes 128 × 128 at 8 fps, and the rows before",
        ),
        ({"prompt": STAR, "image": "lost.png", "model": "tiny-i2v"}, r"image = .lost\.png.: is no"),
        (CONTINUED | {"prompt": "zyzzyva foo bar baz"}, "unknown to cogvideox-tiny"),
        (CONTINUED | {"prompt": "a [red:blue:x] circle"}, "has 'x' where a share"),
        (CONTINUED | {"guidance_interval": "0.8-0.2"}, "guidance_interval = '0.8-0.2': write two"),
        (
            CONTINUED | {"height": 128, "width": 128, "allow_untrained_size": True},
            "has 96 × 144 pixels and the new frames would have 128 × 128",
        ),
        (CONTINUED | {"frames": 5, "strict": True}, "frames = 5: cogvideox-tiny goes on by"),
        (CONTINUED | {"frames": 100_000}, "frames"),
    ],
)
def test_rows_are_refused_before_the_first_is_made(outputs, row, line):
    with pytest.raises(SpecError, match=f"^row 2: .*{line}") as caught:
        make_storyboard([ROWS[0], row], **SMALL)
    assert "\n" not in str(caught.value)
    assert not list(outputs.rglob("*.mp4"))


def test_a_whole_that_is_too_long_is_refused_with_its_row(outputs, monkeypatch):
    monkeypatch.setattr(video, "MAX_DECODED_BYTES", 9 * 96 * 144 * 3 + 100)
    with pytest.raises(SpecError, match=r"^row 2: frames = 4: brings the frames of the whole to"):
        make_storyboard(ROWS, **SMALL)
    assert not list(outputs.rglob("*.mp4"))


# --- joining --------------------------------------------------------------------------------------


def plain(value: int, frames: int) -> np.ndarray:
    return np.full((frames, 16, 16, 3), value, np.uint8)


def test_a_fade_overlaps_half_a_second():
    joined = join_frames([plain(0, 8), plain(100, 6), plain(50, 2)], [False, True, False], 8)
    assert joined[:, 0, 0, 0].tolist() == [0] * 4 + [20, 40, 60, 80] + [100] * 2 + [50] * 2
    short = join_frames([plain(0, 2), plain(90, 2)], [False, True], 8)
    assert short[:, 0, 0, 0].tolist() == [0, 45, 90]


def test_a_piece_that_goes_on_takes_the_place_of_the_one_before(tmp_path):
    paths = []
    for number, (value, frames) in enumerate([(40, 3), (80, 5), (120, 2), (160, 4)]):
        paths.append(tmp_path / f"{number}.mp4")
        video.encode_video(plain(value, frames), paths[-1], 8, "")
    joined = joined_frames(paths, ["cut", "continue", "fade", "continue"], 8)
    shades = joined.mean(axis=(1, 2, 3)).round(-1).astype(int).tolist()
    assert shades[:2] == [80, 80]
    assert shades[-1] == 160
    assert len(shades) == 5 + 4 - 3, "the fade is of the chain, not of its first piece"


def test_a_joined_video_has_the_same_frames_on_other_processors(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (3, 64, 96, 3), np.uint8)
    path = tmp_path / "noise.mp4"
    video.encode_video(noise, path, 8, "")
    here = joined_frames([path, path], ["cut", "fade"], 8)
    old = tmp_path / "ffmpeg"
    old.write_text(f'#!/bin/sh\nexec {find_ffmpeg()} -cpuflags 0 "$@"\n')
    old.chmod(0o755)
    monkeypatch.setenv(settings.FFMPEG_VARIABLE, str(old))
    assert np.array_equal(joined_frames([path, path], ["cut", "fade"], 8), here)


# --- whole storyboards ----------------------------------------------------------------------------


def test_a_changed_row_makes_its_piece_and_those_that_go_on_from_it(outputs, capsys, tmp_path):
    first = make_storyboard(ROWS, **SMALL)
    assert [piece.made for piece in first.pieces] == [True] * 3
    whole = result.read_result(first.result.path)
    assert whole.settings.shown.frames == 13 + 9 - 4
    assert [piece.transition for piece in whole.settings.pieces] == ["cut", "continue", "fade"]
    assert len(video.decode_video(whole.path)) == 18
    seeds = [piece.result.settings.request.seed for piece in first.pieces]
    assert seeds[0] == seeds[2] != seeds[1]

    again = reproduction.reproduce(whole)
    assert again.identical, str(again)

    taken = tmp_path / "whole.mp4"
    with pytest.raises(OutputExists, match="the frames are kept: save them by 'cogvx save"):
        make_storyboard(ROWS, taken, on_event=lambda event: taken.touch(), **SMALL)
    (kept,) = (outputs / "unsaved").iterdir()
    assert result.save_frames(kept).frame_hash == whole.frame_hash

    changed = [ROWS[0], ROWS[1], ROWS[2] | {"prompt": STAR.replace("green", "blue")}]
    second = make_storyboard(changed, **SMALL)
    assert [piece.made for piece in second.pieces] == [False, False, True]
    assert second.pieces[1].result.path == first.pieces[1].result.path

    class AtOnce:
        steps = 0

        def is_set(self) -> bool:
            return self.steps > 0

    cancel = AtOnce()

    def listen(event: object) -> None:
        cancel.steps += isinstance(event, Step)

    before = set(outputs.rglob("*.mp4"))
    with pytest.raises(Cancelled, match="cancelled; 1 of 2 pieces are there"):
        make_storyboard([ROWS[0], ROWS[1] | {"seed": 7}], on_event=listen, cancel=cancel, **SMALL)
    assert set(outputs.rglob("*.mp4")) == before

    capsys.readouterr()
    assert main(["show", str(whole.path)]) == 0
    shown = capsys.readouterr().out
    assert f"{first.pieces[2].result.path.name} (fade)" in shown
    assert "again:  (a storyboard of 3 pieces is made by cogvx storyboard, of its rows; " in shown
    assert (
        first.pieces[0].result.path.name[:20]
        in table.result_row(_entry(whole.path))[table.HEAD.index("from")]
    )
    first.pieces[2].result.path.unlink()
    with pytest.raises(ResultError, match="a piece of it, is not there any more"):
        reproduction.reproduce(whole)


def test_a_row_without_a_prompt_goes_on_with_that_of_the_row_before(outputs):
    """As it was used: what a seed made of wildcards, though the piece has a seed of its own."""
    said = []
    rows = [
        {"prompt": f"{{{CIRCLE}|{STAR}|{STAR.replace('green', 'blue')}}}", "frames": 9},
        *[{"frames": 4, "transition": "continue"}] * 3,
    ]
    made = make_storyboard(rows, on_event=said.append, **SMALL)
    requests = [piece.result.settings.request for piece in made.pieces]
    assert len({request.prompt for request in requests}) == 1
    assert len({request.seed for request in requests}) == 4
    assert "{" not in requests[0].prompt
    text = requests[0].prompt
    notes = [event.request.notes[:1] for event in said if isinstance(event, Planned)]
    told = [f"the prompt is that of row {n}, which it goes on from: {text}" for n in (1, 2, 3)]
    assert notes[1:] == [(note,) for note in told]
    assert not any(note.startswith("the prompt") for note in notes[0])
    written = [rows[0], *[row | {"prompt": text} for row in rows[1:]]]
    again = make_storyboard(written, **SMALL)
    assert [piece.made for piece in again.pieces] == [False] * 4
    first = made.pieces[0].result.path
    (going,) = check_rows([{"extend": str(first), "frames": 4}], **SMALL)
    assert going.prompt == text
    assert going.notes[0].startswith(f"the prompt is that of {first.name}")
    reproduced = reproduction.reproduce(made.pieces[2].result)
    assert reproduced.identical, str(reproduced)


class Terminal(io.StringIO):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def test_the_bar_says_which_piece_is_at_work_and_is_of_all(outputs, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "120")
    rows = [{"prompt": CIRCLE, "frames": 9}, {"prompt": STAR, "frames": 9}]
    with Progress() as progress:
        make_storyboard(rows, on_event=progress, **SMALL)
    shown = re.split(r"[\r\n]", sys.stderr.getvalue())
    kept = [line for line in shown if re.search(r"write +\d+\.\d s$", line)]
    assert len(kept) == 3, "of two pieces, and of the whole"
    assert any(re.search(r"(?<!, )write +[█░]+ +98%", line) for line in shown), shown[-8:]
    assert not any("100%" in line for line in shown)
    bars = [re.search(r"(piece \d of 2), (\w+)(?: \d/2)? +[█░]+ +(\d+)%", line) for line in shown]
    pieces = {}
    for piece, stage, share in (bar.groups() for bar in bars if bar):
        stages, shares = pieces.setdefault(piece, (set(), []))
        stages.add(stage)
        shares.append(int(share))
    assert list(pieces) == ["piece 1 of 2", "piece 2 of 2"]
    for stages, _ in pieces.values():
        assert {"starting", "text", "denoise", "decode", "write"} <= stages
    assert max(pieces["piece 1 of 2"][1]) <= 49 <= min(pieces["piece 2 of 2"][1])


def _entry(path):
    catalogue = Catalogue()
    catalogue.refresh()
    (found,) = [one for one in catalogue.find("", limit=100) if one.path == path]
    return found


def test_the_command_says_which_row_is_wrong(tmp_path, capsys):
    board = tmp_path / "board.csv"
    board.write_text(f"prompt,frames,transition\n{CIRCLE},9,\n{STAR},9,wipe\n")
    assert main(["storyboard", str(board), "--model", "tiny"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cogvx: line 3 of board.csv: transition = 'wipe': use one of cut, ")
