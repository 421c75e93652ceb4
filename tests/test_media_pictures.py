"""Pictures as inputs: what is read of every kind of file, what is refused, and how it fits."""

from __future__ import annotations

import contextlib
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from cogvx_nb.errors import CogvxError, RequestError
from cogvx_nb.media import given, kept, kinds, pictures, pixels

RAMP = np.linspace(0, 255, 48).astype(np.uint8)
PICTURE = np.dstack([np.tile(RAMP, (32, 1)), np.tile(RAMP[::-1], (32, 1)), np.full((32, 48), 90)])
PICTURE = PICTURE.astype(np.uint8)
"""uint8 (32, 48, 3): red rises to the right, green falls, blue is 90."""


@pytest.fixture
def read(tmp_path):
    """Save a picture, read it as an input, and return what it is and its pixels."""

    def read(picture, name="x.png", **options):
        if not isinstance(picture, Image.Image):
            picture = Image.fromarray(picture)
        path = tmp_path / name
        picture.save(path, **options)
        file = given.read_picture(str(path), "image")
        return file, pixels.picture_pixels(file.value, file.height, file.width, "crop")[0]

    return read


def raw_png(width: int, height: int) -> bytes:
    """A PNG that says it is so large, of a few bytes."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    parts += [(b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    chunks = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("name", "options", "most"),
    [
        ("x.png", {}, 0),
        ("x.bmp", {}, 0),
        ("x.tif", {"compression": "tiff_lzw"}, 0),
        ("x.webp", {"lossless": True}, 0),
        ("x.jp2", {}, 0),
        ("x.jpg", {"quality": 95}, 12),
        ("x.avif", {"quality": 95}, 12),
        ("wrong.gif", {"format": "PNG"}, 0),
    ],
)
def test_formats_are_told_by_content_and_give_their_pixels(read, name, options, most):
    file, got = read(PICTURE, name, **options)
    assert (file.name, file.height, file.width, file.frames, file.notes) == (name, 32, 48, 1, ())
    assert np.abs(got.astype(int) - PICTURE).max() <= most
    assert file.value.endswith(".png" if "wrong" in name else name[1:])


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGBA"])
def test_modes_become_rgb(read, mode):
    shown = Image.fromarray(PICTURE).convert("L").point(lambda value: 255 * (value > 100))
    _, got = read(shown.convert("RGBA" if mode == "PA" else mode), "x.png")
    assert np.array_equal(got, np.dstack([np.asarray(shown)] * 3))


def test_transparent_parts_are_white_and_a_note_says_so(read):
    alpha = np.zeros((32, 48), np.uint8)
    alpha[:, 24:] = 255
    file, got = read(np.dstack([PICTURE, alpha]))
    assert (got[:, :24] == 255).all()
    assert np.array_equal(got[:, 24:], PICTURE[:, 24:])
    assert file.notes == ("transparent parts are shown on white",)
    palette = Image.fromarray(PICTURE).quantize(8)
    file, got = read(palette, "p.png", transparency=palette.getpixel((0, 0)))
    assert (got[0, 0] == 255).all()
    assert file.notes


def test_sixteen_bits_are_scaled_and_not_clipped(read):
    values = np.tile(np.linspace(0, 65535, 48).astype(np.uint16), (32, 1))
    file, got = read(values)
    assert np.abs(got[..., 0].astype(float) - values / 257).max() <= 0.5
    assert file.notes == ("16 bits of grey scaled to 8",)


def test_exif_turns_a_picture(read):
    exif = Image.Exif()
    exif[pictures.ORIENTATION] = 6  # to be turned by 90 degrees clockwise
    file, got = read(PICTURE, exif=exif)
    assert (file.height, file.width) == (48, 32)
    assert np.array_equal(got, np.rot90(PICTURE, -1))
    assert file.notes == ("turned upright, as its EXIF data says",)


def test_cmyk_of_a_photographer_just_works(read):
    file, got = read(Image.fromarray(PICTURE).convert("CMYK"), "x.jpg", quality=95)
    assert np.abs(got.astype(int) - PICTURE).mean() < 4
    assert "CMYK" in file.notes[0]


def test_colours_of_another_profile_are_converted(read):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    file, got = read(PICTURE, icc_profile=srgb)
    assert np.array_equal(got, PICTURE)
    assert not file.notes
    swapped = srgb.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    file, got = read(PICTURE, "swapped.png", icc_profile=swapped)
    assert np.abs(got.astype(int) - PICTURE[..., [1, 0, 2]]).max() <= 4
    assert file.notes[0].startswith("colours converted to sRGB from ")
    file, got = read(PICTURE, "bad.png", icc_profile=b"rubbish" * 40)
    assert np.array_equal(got, PICTURE)
    assert "can't be used" in file.notes[0]


def test_lab_is_converted(read):
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(Image.fromarray(PICTURE), *profiles, outputMode="LAB")
    _, got = read(lab, "x.tif")
    assert np.abs(got.astype(int) - PICTURE).mean() < 4


@pytest.mark.parametrize("name", ["x.gif", "x.webp", "x.png"])
def test_an_animation_gives_its_first_frame(read, name):
    frames = [Image.new("RGB", (32, 32), colour) for colour in ("red", "lime", "blue")]
    file, got = read(frames[0], name, save_all=True, append_images=frames[1:], duration=100)
    assert (np.abs(got.astype(int) - (255, 0, 0)) < 6).all()
    assert file.notes == ("it has several frames: the first is used",)


def test_text_in_a_picture_is_not_read_as_facts(read):
    info = PngImagePlugin.PngInfo()
    info.add_text("Size", "1x1\n#dimensions 0: 9x9")
    file, _ = read(PICTURE, pnginfo=info)
    assert (file.height, file.width) == (32, 48)


def bad_pictures(folder):
    """Files that can't be used, each with words of its line."""
    Image.fromarray(PICTURE).save(folder / "ok.png")
    Image.fromarray(PICTURE).save(folder / "ok.jpg")
    png, jpg = (folder / "ok.png").read_bytes(), (folder / "ok.jpg").read_bytes()
    Image.new("F", (32, 32), 0.5).save(folder / "float.tif")
    os.mkfifo(folder / "fifo")
    contents = {
        "empty.png": (b"", "empty (0 bytes)"),
        "text.png": (b"hello\n" * 50, "neither a picture nor a clip"),
        "list.m3u8": (b"#EXTM3U\nfile:///etc/passwd\n", "neither a picture nor a clip"),
        "cut.png": (png[: len(png) // 2], "damaged or cut short"),
        "cut.jpg": (jpg[: len(jpg) // 2], "damaged or cut short"),
        "head.png": (png[:8] + b"rubbish" * 9, "damaged or cut short"),
        "one.png": (raw_png(1, 1), "under 16 on a side"),
        "bomb.png": (raw_png(40_000, 40_000), "million pixels"),
        "large.png": (raw_png(12_000, 11_000), "over 120 million"),
        "x.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "save it as JPEG"),
        "clip.mp4": (b"\0\0\0\x18ftypmp42" + bytes(99), "give it as video"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    others = {
        "float.tif": "32 bits a pixel",
        "fifo": "no regular file",
        ".": "is a folder",
        "none.png": "looked for",
        "ok.png/x": "no folder",
        "line\nbreak\u202e.png": "is no file",
        "nul\0.png": "NUL",
        "n" * 300: "300 bytes",
    }
    return {name: words for name, (_, words) in contents.items()} | others


def test_what_can_not_be_used_is_one_line_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, words in bad_pictures(tmp_path).items():
        with pytest.raises(RequestError) as refused:
            given.read_picture(name, "image")
        line = str(refused.value)
        assert line.startswith("image = '"), line
        assert words in line
        assert line.isprintable(), line
        assert len(line) < 300
    assert not list(kept.kept_files())


def test_a_file_over_the_limit_is_not_read(tmp_path):
    path = tmp_path / "x.png"
    with path.open("wb") as file:
        file.write(raw_png(64, 64))
        file.truncate(kinds.MOST_BYTES + 1)
    with pytest.raises(RequestError, match="more than 1 GiB"):
        given.read_picture(str(path), "image")


def test_a_file_that_may_not_be_read_says_so(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    path.write_bytes(raw_png(64, 64))

    def refuse(self, *_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(path), "open", refuse)  # root may read everything
    with pytest.raises(RequestError, match=r"can't be read \(Permission denied\): check"):
        given.read_picture(str(path), "image")


def test_a_path_may_be_relative_or_begin_at_home(tmp_path, monkeypatch):
    Image.fromarray(PICTURE).save(tmp_path / "x.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert given.read_picture("x.png", "image") == given.read_picture("~/x.png", "image")


def test_a_file_that_was_replaced_is_read_again(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(PICTURE).save(path)
    first = given.read_picture(str(path), "image")
    Image.fromarray(PICTURE[:, ::-1]).save(path)
    second = given.read_picture(str(path), "image")
    assert first.value != second.value
    kept.kept_path(second.value).unlink()
    assert given.read_picture(str(path), "image") == second  # kept again
    assert kept.kept_path(second.value).is_file()


def test_fitting_keeps_the_middle_adds_black_or_stretches(read):
    file, _ = read(PICTURE)
    size = (32, 32)
    crop, pad, stretch = (
        pixels.picture_pixels(file.value, *size, fit)[0].astype(int)
        for fit in (pixels.CROP, pixels.PAD, pixels.STRETCH)
    )
    assert np.array_equal(crop, PICTURE[:, 8:40])
    assert not pad[:5].any()
    assert not pad[-5:].any()
    assert pad[6:-6, :, 2].min() > 80
    assert abs(stretch[:, 0, 0].mean() - RAMP[0]) < 6
    assert abs(stretch[:, -1, 0].mean() - RAMP[-1]) < 6


def test_scaling_down_averages(read):
    board = np.indices((128, 128)).sum(0) % 2 * 255  # a chessboard of single pixels
    file, _ = read(np.dstack([board] * 3).astype(np.uint8))
    fitted = pixels.picture_pixels(file.value, 16, 16, pixels.STRETCH)
    assert fitted.shape == (1, 16, 16, 3)
    assert fitted.min() > 110
    assert fitted.max() < 145


@pytest.mark.parametrize(
    ("size", "fit", "note"),
    [
        ((32, 48), "crop", ""),
        ((64, 96), "crop", "scaled from 32 × 48 to 64 × 96"),
        ((32, 32), "crop", "cropped from 32 × 48 to 32 × 32, 33 % of its width cut off"),
        ((16, 48), "crop", "cropped from 32 × 48 to 16 × 48, 50 % of its height cut off"),
        ((32, 32), "pad", "padded from 32 × 48 to 32 × 32, 33 % of the height black"),
        ((32, 96), "pad", "padded from 32 × 48 to 32 × 96, 50 % of the width black"),
        ((32, 32), "stretch", "stretched from 32 × 48 to 32 × 32"),
    ],
)
def test_a_note_says_what_fitting_changes(size, fit, note):
    file = given.Given("", "x.png", 32, 48)
    assert pixels.fit_note(file, *size, fit) == note


def test_every_error_is_one_of_the_workbench(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "x.png"
    for name, options in (("PNG", {}), ("TIFF", {}), ("WEBP", {}), ("GIF", {}), ("JPEG2000", {})):
        Image.fromarray(PICTURE).save(path, name, **options)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(40):  # a few bytes changed anywhere
            damaged = whole.copy()
            damaged[rng.integers(0, len(whole), 4)] = rng.integers(0, 256, 4)
            path.write_bytes(damaged.tobytes())
            with contextlib.suppress(CogvxError):
                pictures.read_picture(path)
