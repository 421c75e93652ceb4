"""Clips given as inputs: every kind of file, their times, what is refused, and which frames are
taken."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from cogvx_nb.errors import RequestError, ResultError
from cogvx_nb.media import clips, given, pixels
from cogvx_nb.media.ffmpeg import run_ffmpeg
from cogvx_nb.results import video

SIDE = 32
COUNT = 24


def level(number: int) -> int:
    """The grey of a frame, by which it is known again."""
    return 8 + 10 * number


def numbered(count: int = COUNT) -> np.ndarray:
    """Frames of one grey each, uint8 (count, SIDE, 2 * SIDE, 3)."""
    greys = np.array([level(number) for number in range(count)], np.uint8)
    return np.broadcast_to(greys[:, None, None, None], (count, SIDE, 2 * SIDE, 3)).copy()


def numbers_in(frames: np.ndarray) -> list[int]:
    """The numbers of such frames."""
    return np.rint((frames.mean((1, 2, 3)) - 8) / 10).astype(int).tolist()


@pytest.fixture
def write(tmp_path):
    """Write numbered frames as a clip with ffmpeg; its path."""

    def write(name: str, *arguments: str, rate: str = "8", count: int = COUNT, inputs=()) -> str:
        path = tmp_path / name
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{2 * SIDE}x{SIDE}", "-r", rate]
        data = memoryview(numbered(count)).cast("B")
        command = ["-y", *source, "-i", "pipe:", *inputs, *arguments, f"file:{path}"]
        done = run_ffmpeg(command, data)
        assert done.returncode == 0, done.stderr.decode()
        return str(path)

    return write


def taken(value: str, fps: float, start: float = 0.0) -> list[int]:
    """Numbers of the frames that a clip gives at a rate, all of them."""
    file = given.read_clip(value, "video")
    count = pixels.frames_available(file, fps, start)
    frames = pixels.clip_pixels(file.value, count, fps, file.height, file.width, "crop", start)
    return numbers_in(frames)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("x.mp4", ("-c:v", "libx264", "-pix_fmt", "yuv420p")),
        ("x.mov", ("-c:v", "prores_ks")),
        ("x.mkv", ("-c:v", "ffv1")),
        ("x.webm", ("-c:v", "libvpx-vp9", "-deadline", "realtime")),
        ("x.avi", ("-c:v", "mpeg4", "-q:v", "2")),
        ("x.ts", ("-c:v", "libx264")),
        ("x.mpg", ("-c:v", "mpeg2video", "-q:v", "2", "-r", "24")),
        ("x.flv", ("-c:v", "flv", "-q:v", "2")),
        ("x.wmv", ("-c:v", "wmv2", "-q:v", "2")),
        ("hdr.mp4", ("-c:v", "libx265", "-x265-params", "log-level=none", "-pix_fmt", "yuv420p10")),
    ],
)
def test_every_kind_of_clip_gives_its_frames(write, name, codec):
    rate = "24" if name == "x.mpg" else "8"
    path = write(name, *codec, rate=rate)
    file = given.read_clip(path, "video")
    assert (file.name, file.height, file.width) == (name, SIDE, 2 * SIDE)
    assert file.frames == COUNT
    assert file.fps == pytest.approx(float(rate), rel=0.01)
    assert taken(path, float(rate)) == list(range(COUNT))
    assert file.value.endswith(name.rpartition(".")[2])


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.png"])
def test_an_animated_picture_is_a_clip(tmp_path, name):
    frames = [Image.fromarray(frame) for frame in numbered(12)]
    shown = [100, 400] * 6
    options = {"save_all": True, "append_images": frames[1:], "duration": shown}
    frames[0].save(tmp_path / name, **options | ({"lossless": True} if "webp" in name else {}))
    file = given.read_clip(str(tmp_path / name), "video")
    assert (file.frames, file.seconds) == (12, pytest.approx(3))
    assert taken(str(tmp_path / name), 10)[:7] == [0, 1, 1, 1, 1, 2, 3]


@pytest.mark.parametrize("rate", ["12.5", "24000/1001", "30000/1001"])
@pytest.mark.parametrize("name", ["x.mp4", "x.mkv"])
def test_of_an_odd_rate_the_frame_that_is_shown_is_taken(write, rate, name):
    path = write(name, "-c:v", "libx264", rate=rate)
    numerator, _, denominator = rate.partition("/")
    fps = float(numerator) / float(denominator or 1)
    got = taken(path, 8, 0.25)
    moments = 0.25 + np.arange(len(got)) / 8
    assert got == [int((moment + clips.TOLERANCE) * fps) for moment in moments]
    assert got[-1] > COUNT - 1 - fps / 8  # none is left out at the end
    assert taken(path, fps) == list(range(COUNT))


def test_many_single_frames_are_picked_from_a_whole_range(write, monkeypatch):
    path = write("x.mp4", "-c:v", "libx264", rate="16")
    few = taken(path, 4)
    monkeypatch.setattr(clips, "MOST_RUNS", 1)
    assert taken(path, 4) == few == list(range(0, COUNT, 4))


def test_a_variable_rate_keeps_its_times(write):
    times = "setpts='if(lt(N,4),N,if(lt(N,8),4+(N-4)*10,44+(N-8)))/16/TB'"
    path = write("x.mkv", "-vf", times, "-fps_mode", "vfr", "-c:v", "libx264", rate="16", count=12)
    assert taken(path, 16)[:26] == [0, 1, 2, 3, *[4] * 10, *[5] * 10, 6, 6]
    assert taken(path, 4)[:6] == [0, 4, 4, 4, 5, 5]
    assert taken(path, 8, 2.75) == [8, 10]  # 44 / 16 seconds


def test_a_clip_begins_with_its_first_frame_wherever_its_times_begin(write):
    late = write("late.mkv", "-c:v", "libx264", "-output_ts_offset", "7.3")
    assert taken(late, 8) == list(range(COUNT))
    whole = write("whole.mp4", "-c:v", "libx264", "-g", "24")
    cut = whole.replace("whole", "cut")  # from within a group of pictures, by an edit list
    done = run_ffmpeg(["-y", "-ss", "1", "-i", whole, "-c", "copy", cut])
    assert done.returncode == 0
    assert taken(cut, 8) == list(range(8, COUNT))


def test_sound_and_covers_are_left_out(write, tmp_path):
    sine = ("-f", "lavfi", "-i", "sine=d=5")
    path = write("x.mp4", "-c:v", "libx264", "-c:a", "aac", inputs=sine)
    assert taken(path, 8) == list(range(COUNT))
    assert given.read_clip(path, "video").seconds == pytest.approx(3)


def test_a_rotation_tag_turns_a_clip_and_its_pixels_are_square(write):
    upright = write("x.mp4", "-c:v", "libx264", "-vf", "setsar=3/2")
    file = given.read_clip(upright, "video")
    assert (file.height, file.width) == (SIDE, 3 * SIDE)
    turned = upright.replace("x.mp4", "turned.mp4")
    run_ffmpeg(["-display_rotation", "90", "-i", upright, "-c", "copy", turned])
    file = given.read_clip(turned, "video")
    assert (file.height, file.width) == (2 * SIDE, round(SIDE * 2 / 3))
    assert taken(turned, 8) == list(range(COUNT))


def test_a_clip_gives_the_pixels_of_its_pictures(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (3, 48, 80, 3), np.uint8)
    path = tmp_path / "x.mkv"
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "80x48", "-r", "8", "-i", "pipe:"]
    run_ffmpeg([*source, "-c:v", "ffv1", "-pix_fmt", "gbrp", str(path)], frames.tobytes())
    Image.fromarray(frames[1]).save(tmp_path / "x.png")
    clip = given.read_clip(str(path), "video").value
    picture = given.read_picture(str(tmp_path / "x.png"), "image").value
    for fit in (pixels.CROP, pixels.PAD, pixels.STRETCH):
        both = pixels.clip_pixels(clip, 2, 8, 32, 32, fit, 1 / 8)
        assert np.array_equal(both[:1], pixels.picture_pixels(picture, 32, 32, fit))


def test_what_a_file_says_of_itself_counts_for_nothing(write):
    texts = ("-metadata", "title=\n#tb 0: 9/9\n#dimensions 0: 9x9\n0, 0, 0, 1, 1, 0x0")
    path = write("x.mkv", "-c:v", "libx264", *texts, "-metadata", "duration=99")
    file = given.read_clip(path, "video")
    assert (file.height, file.width, file.frames) == (SIDE, 2 * SIDE, COUNT)


def test_a_result_of_ours_is_a_clip(tmp_path):
    path = tmp_path / "x.mp4"
    video.encode_video(numbered(13), path, 8, "{}")
    assert taken(str(path), 8) == list(range(13))
    assert pixels.frames_available(given.read_clip(str(path), "video"), 8, 1.5) == 1
    assert pixels.frames_available(given.read_clip(str(path), "video"), 8, 99) == 0


def test_a_clip_that_is_too_short_says_so(write):
    file = given.read_clip(write("x.mp4", "-c:v", "libx264", count=5), "video")
    with pytest.raises(ResultError, match="has 5 frames at 8 fps from 0 s, not 9: use a longer"):
        pixels.clip_pixels(file.value, 9, 8, SIDE, SIDE, "crop")


def test_of_a_clip_that_breaks_off_the_rest_is_used(write, tmp_path):
    whole = write("x.mkv", "-c:v", "ffv1", count=24)
    content = (tmp_path / "x.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(content[: len(content) * 2 // 3])
    file = given.read_clip(str(tmp_path / "cut.mkv"), "video")
    assert 1 < file.frames < given.read_clip(whole, "video").frames
    assert taken(str(tmp_path / "cut.mkv"), 8) == list(range(file.frames))


def bad_clips(folder, write):
    """Files that can't be used, each with words of its line."""
    mp4 = write("ok.mp4", "-c:v", "libx264")
    content = (folder / "ok.mp4").read_bytes()
    (folder / "cut.mp4").write_bytes(content[: len(content) // 2])
    (folder / "list.mp4").write_text(f"ffconcat version 1.0\nfile {mp4}\n")
    (folder / "list.m3u8").write_text(f"#EXTM3U\n#EXTINF:1,\nfile://{mp4}\n")
    (folder / "empty.mp4").write_bytes(b"")
    Image.new("RGB", (SIDE, SIDE)).save(folder / "still.png")
    Image.new("RGB", (SIDE, SIDE)).save(folder / "still.gif")
    sine = ["-f", "lavfi", "-i", "sine=d=1"]
    cover = ["-i", str(folder / "still.png"), "-map", "0", "-map", "1", "-c:v", "mjpeg"]
    cover += ["-disposition:v", "attached_pic"]
    run_ffmpeg([*sine, *cover, str(folder / "cover.mp3")])
    run_ffmpeg([*sine, *cover, "-c:a", "aac", str(folder / "cover.m4a")])
    run_ffmpeg([*sine, str(folder / "sound.mkv")])
    for name, size, rate, seconds in (("small", "8x8", 8, 1), ("large", "512x256", 1, 1)):
        source = ["-f", "lavfi", "-i", f"color=s={size}:r={rate}:d={seconds}"]
        run_ffmpeg([*source, "-c:v", "ffv1", str(folder / f"{name}.mkv")])
    return {
        "cut.mp4": "cut short",
        "list.mp4": "neither a picture nor a clip",
        "list.m3u8": "neither a picture nor a clip",
        "empty.mp4": "empty (0 bytes)",
        "still.png": "give it as image",
        "still.gif": "give it as image",
        "cover.mp3": "neither a picture nor a clip",
        "cover.m4a": "sound alone",
        "sound.mkv": "sound alone",
        "small.mkv": "under 16 on a side",
        "large.mkv": "over 8192 × 4320",
        "http://127.0.0.1:9/x.mp4": "is no file",
        ".": "is a folder",
        "/dev/zero": "no regular file",
    }


def test_what_can_not_be_used_is_one_line_with_the_remedy(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(clips, "MOST_PIXELS", 256 * 256)
    for name, words in bad_clips(tmp_path, write).items():
        with pytest.raises(RequestError) as refused:
            given.read_clip(name, "video")
        line = str(refused.value)
        assert line.startswith("video = '"), line
        assert words in line
        assert line.isprintable(), line
        assert len(line) < 300


def test_a_clip_of_too_many_frames_is_refused(write, monkeypatch):
    monkeypatch.setattr(clips, "MOST_FRAMES", 10)
    with pytest.raises(RequestError, match="more than 10 frames: cut out"):
        given.read_clip(write("x.mp4", "-c:v", "libx264"), "video")
