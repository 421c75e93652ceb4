"""Pictures and clips on the workbench's page, without a browser."""

from __future__ import annotations

import io
import json
import struct
import threading
import zlib
from dataclasses import replace

import numpy as np
import pytest
import world
from conftest import CIRCLE
from PIL import Image
from test_page import HOSTILE, QUICK, Shown

from cogvx_nb.checkpoints import checkpoint, store
from cogvx_nb.errors import RequestError
from cogvx_nb.media import kept
from cogvx_nb.planning import inputs
from cogvx_nb.results import video
from cogvx_nb.results.result import read_result
from cogvx_nb.workbench import drop_actions, kept_page, queue_actions
from cogvx_nb.workbench.grid_axis import parse_axis
from cogvx_nb.workbench.kept_job import read_kept_job
from cogvx_nb.workbench.kept_queue import restore_job
from cogvx_nb.workbench.page_state import field_rows

SMALL, CLIPS = "cogvideox-tiny", "cogvideox-tiny-i2v"


@pytest.fixture
def open_page(tiny, outputs):
    opened = []

    def open_one(**given) -> Shown:
        opened.append(Shown(tiny, given))
        return opened[-1]

    yield open_one
    for shown in opened:
        shown.close()


@pytest.fixture
def shown(open_page) -> Shown:
    return open_page()


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    """Frames of a red circle that moves right on black, uint8 (13, 96, 144, 3)."""
    return world.clip(world.Attributes("red", "circle", "right", "black"), 13)


@pytest.fixture(scope="session")
def png(frames) -> bytes:
    data = io.BytesIO()
    Image.fromarray(frames[0]).save(data, "PNG")
    return data.getvalue()


@pytest.fixture(scope="session")
def mp4(frames, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    video.encode_video(frames, path, 8, "")
    return path.read_bytes()


def huge_png() -> bytes:
    """The start of a picture of 40,000 × 40,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(header))
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + crc + struct.pack(">I", 0) + b"IDAT"
    )


def drop(shown: Shown, name: str, content: bytes, field: str = "") -> dict:
    """The answer after the last piece."""
    half = len(content) // 2
    piece = {"name": name, "size": len(content), "field": field}
    assert shown.ask("drop.piece", piece | {"offset": 0}, content[:half])["data"] is None
    return shown.ask("drop.piece", piece | {"offset": half}, content[half:])


def edit(shown: Shown, **values) -> dict:
    return shown.ask("form.edit", {"values": QUICK | values})["data"]


def preview(shown: Shown, field: str) -> Image.Image:
    """The picture of an input as it is fitted."""
    answer = shown.ask("input.preview", {"field": field})
    assert "data" in answer, answer
    return Image.open(io.BytesIO(shown.buffers[0]))


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("RGB"), int)


def test_fields_of_the_form_name_files_and_what_tunes_them():
    rows = {row.name: row for row in field_rows()}
    assert [row.name for row in rows.values() if row.control == "file"] == [
        "image",
        "last_image",
        "video",
        "extend",
    ]
    assert (rows["image"].media, rows["video"].media) == ("picture", "clip")
    assert (rows["strength"].control, rows["strength"].tunes) == ("slider", ("video",))
    assert set(rows["fit"].tunes) == {"image", "video"}


def test_a_dropped_picture_is_kept_and_a_checkpoint_chosen_that_takes_it(shown, png):
    edit(shown)
    data = drop(shown, "../../my cat.png", png)["data"]
    assert data["note"] == (
        f"Image: my cat.png. {CLIPS} is chosen, since {SMALL} doesn't start from it."
    )
    form = data["form"]
    assert (form["model"], form["video"]) == (CLIPS, "")
    assert kept.is_kept_name(form["image"])
    assert kept.kept_path(form["image"]).read_bytes() == png
    assert shown.page.form["image"] == form["image"]
    assert edit(shown, image=form["image"], model=CLIPS)["problem"] is None
    picture = preview(shown, "image")
    assert picture.size == (144, 96)
    assert np.abs(pixels(picture) - pixels(Image.open(io.BytesIO(png)))).mean() < 3
    data = shown.ask("input.preview", {"field": "image"})["data"]
    assert data == {"name": "my cat.png", "facts": ["96 × 144"]}
    assert shown.ask("input.preview", {"field": "video"})["data"] is None


def test_files_have_their_names_wherever_they_are_named(shown, png, mp4, frames):
    """Also one that was given before, when Undo brings it back, and one of a long name."""
    other = io.BytesIO()
    Image.fromarray(frames[1]).save(other, "PNG")
    long = "长" * 60 + ".png"
    first, second = (
        drop(shown, name, data)["data"]["form"]["image"]
        for name, data in ((long, png), ("dog.png", other.getvalue()))
    )
    edit(shown, image=first, model=CLIPS)
    desk = shown.page.desk
    assert desk.form.request().input_names == {"image": long}
    assert kept.name_for_people(first) == long, "in other doors of this process, too"
    desk.save()
    assert kept_page.read_page().names == {first: long}, "the other file can be removed"
    side = {"name": "image", "text": f"{first}, {second}"}
    planned = shown.ask("grid.plan", {"sides": [side]})["data"]
    assert planned["sides"][0]["labels"] == (f"image {long}", "image dog.png")
    assert f"{second}#dog.png" in shown.ask("grid.sweep", {"sides": [side]})["data"]["text"]
    clip = drop(shown, "short.mp4", mp4, "video")["data"]["form"]["video"]
    shown.ask("form.edit", {"values": {"video": clip, "video_start": 60.0}})
    with pytest.raises(RequestError, match=r"video = 'short\.mp4': has 0 frames"):
        desk.form.request()


def test_the_preview_is_fitted_as_the_video_will_be(shown):
    wide = Image.new("RGB", (400, 100), "red")
    wide.paste("blue", (0, 0, 100, 100))
    data = io.BytesIO()
    wide.save(data, "JPEG", quality=95)
    image = drop(shown, "wide.jpg", data.getvalue())["data"]["form"]["image"]

    def corner(**values) -> tuple[tuple[int, int], np.ndarray]:
        edit(shown, image=image, model=CLIPS, **values)
        picture = preview(shown, "image")
        return picture.size, pixels(picture)[:8, :8].mean(axis=(0, 1))

    size, cropped = corner(fit="crop")
    assert size == (144, 96)
    assert cropped[0] > 200, "the blue side is cut off"
    assert corner(fit="pad")[1].max() < 20
    assert corner(fit="stretch")[1][2] > 200
    assert corner(height=64, width=160, allow_untrained_size=True)[0] == (160, 64)
    facts = shown.ask("input.preview", {"field": "image"})["data"]["facts"]
    assert facts[0] == "100 × 400"
    assert any("64 × 160" in fact for fact in facts)
    edit(shown, prompt="", image=image, model=CLIPS)
    assert preview(shown, "image").size == (160, 64), "it doesn't wait for the prompt"


def test_a_dropped_clip_moves_and_is_exclusive_with_pictures(shown, png, mp4):
    drop(shown, "a.png", png, "last_image")
    drop(shown, "a.png", png)
    data = drop(shown, "walk.mp4", mp4)["data"]
    form = data["form"]
    assert kept.is_kept_name(form["video"])
    assert (form["image"], form["last_image"]) == ("", "")
    edit(shown, video=form["video"], image="", last_image="", video_start=0.5, model=form["model"])
    assert preview(shown, "video").n_frames == 9, "of 13 at 8 fps, from half a second on"
    edit(shown, video_start=60)
    text = shown.ask("input.preview", {"field": "video"})["error"]["text"]
    assert text == "Clip from second 60.0 is after the clip's 1.6 s"


def test_the_error_names_a_checkpoint_here_that_takes_it(shown, png, tmp_path):
    path = tmp_path / "typed.png"
    path.write_bytes(png)
    for prompt in (CIRCLE, ""):
        problem = edit(shown, prompt=prompt, image=str(path))["problem"]
        assert (problem["field"], problem["model"]) == ("model", CLIPS)
        assert "not an image" in problem["text"]
    assert edit(shown, image=str(path), model=CLIPS)["problem"] is None
    missing = edit(shown, image=str(tmp_path / "none.png"), model=CLIPS)["problem"]
    assert (missing["field"], missing["model"]) == ("image", "")
    alone = edit(shown, image="", last_image=str(path), model=CLIPS)["problem"]
    assert alone["field"] == "image"


def test_what_tunes_nothing_has_its_default(shown, mp4):
    assert edit(shown, strength=0.3, fit="pad")["notes"] == []
    request = shown.page.desk.form.request()
    assert (request.strength, request.fit) == (0.8, "crop")
    video = drop(shown, "a.mp4", mp4)["data"]["form"]["video"]
    edit(shown, video=video)
    assert shown.page.desk.form.request().strength == 0.3, "it was kept"


def test_costs_follow_the_strength(shown, mp4):
    video = drop(shown, "a.mp4", mp4)["data"]["form"]["video"]

    def seconds(**values) -> float:
        edit(shown, video=video, model=SMALL, **{"steps": 50} | values)
        return shown.ask("form.predict")["data"][0]["seconds"]

    assert seconds(strength=0.2) < 0.5 * seconds(strength=1.0)
    assert seconds(strength=0.5) == pytest.approx(seconds(strength=1.0, steps=25), rel=0.05)
    changed = seconds(steps=50, strength=1.0)
    edit(shown, video="", steps=50)
    plain = shown.ask("form.predict")["data"][0]["seconds"]
    assert changed > plain, "the clip is encoded first"


def test_costs_follow_guidance_and_the_clips_of_an_extension(shown, mp4):
    def rows(**values) -> dict[int, float]:
        usual = {
            "guidance": 6.0,
            "guidance_interval": "",
            "model": SMALL,
            "steps": 50,
            "frames": 49,
        }
        edit(shown, **usual | values)
        found = shown.ask("form.predict")["data"]
        return {row["frames"]: row["seconds"] for row in found if row["speed"] == "exact"}

    plain = rows()
    assert rows(guidance_interval="0.4-0.6")[49] < 0.8 * plain[49]
    assert rows(guidance=1.0)[49] < 0.8 * plain[49]
    clip = drop(shown, "a.mp4", mp4, "extend")["data"]["form"]["extend"]
    longer = rows(extend=clip)
    assert longer[49] > 1.1 * plain[49], "of 49 and of 17 frames"
    desk = shown.page.desk
    request = desk.form.request()
    assert (request.frames, request.pieces) == (48, (49, 17))
    noted = edit(shown, frames=13)["notes"]
    assert [note[:15] for note in noted if note.startswith("frames")] == ["frames 13 → 16:"]
    priced = desk.predict_seconds(request)
    assert priced == pytest.approx(longer[49], rel=0.05)
    assert desk.predict_seconds(replace(request, guidance_interval="0.4-0.6")) < 0.8 * priced
    edit(shown, extend="", model=SMALL)


def test_what_a_video_starts_from_comes_back_with_its_settings(shown, open_page, frames, png):
    image = drop(shown, "first.png", png)["data"]["form"]["image"]
    shown.submit(image=image, model=CLIPS, fit="pad")
    shown.wait()
    row = shown.page.roll[0]
    assert row["inputs"] == (("image", "Image", "first.png"),)
    result = read_result(shown.page.desk.path_of(row["path"]))
    assert result.settings.inputs["image"].name == "first.png"
    edit(shown, image="", fit="crop")
    form = shown.ask("form.load", {"path": row["path"]})["data"]["form"]
    assert (form["image"], form["fit"], form["model"]) == (image, "pad", CLIPS)
    assert shown.ask("input.preview", {"field": "image"})["data"]["name"] == "first.png"
    shown.ask("input.thumbnail", {"path": row["path"], "field": "image"})
    small = pixels(Image.open(io.BytesIO(shown.buffers[0])))
    assert np.abs(small - frames[0]).mean() < 6
    shown.ask("input.thumbnail", {"path": row["path"], "field": "video"})
    assert shown.buffers == [b""]
    shown.ask("queue.repeat", {"path": row["path"], "changes": {"seed": 8}})
    shown.wait()
    again = read_result(shown.page.desk.path_of(shown.page.roll[0]["path"])).settings
    assert (again.request.image, again.inputs["image"].name) == (image, "first.png")
    described = shown.ask("compare.open", {"paths": [row["path"], shown.page.roll[0]["path"]]})
    assert [clip["inputs"][0][2] for clip in described["data"]["clips"]] == ["first.png"] * 2
    shown.page.desk.save()
    other = open_page()
    assert other.page.form["image"] == image
    assert other.ask("input.preview", {"field": "image"})["data"]["name"] == "first.png"


def test_frames_and_clips_of_results_are_used(shown):
    shown.submit()
    shown.wait()
    path = shown.page.roll[0]["path"]
    made = video.decode_video(shown.page.desk.path_of(path))
    for part, frame in {"last frame": made[-1], "first frame": made[0]}.items():
        form = shown.ask("input.use", {"path": path, "part": part})["data"]["form"]
        assert form["model"] == CLIPS
        with Image.open(kept.kept_path(form["image"])) as picture:
            assert (np.asarray(picture) == frame).all()
        name = shown.ask("input.preview", {"field": "image"})["data"]["name"]
        assert name.startswith(f"{part} of ")
    data = shown.ask("input.use", {"path": path, "part": "clip"})["data"]
    content = shown.page.desk.path_of(path).read_bytes()
    assert kept.kept_path(data["form"]["video"]).read_bytes() == content
    assert data["form"]["image"] == ""
    models = {row["name"]: row for row in shown.page.setup["models"]}
    assert "video" in models[data["form"]["model"]]["takes"]
    settings = drop(shown, "mine.mp4", content)["data"]
    assert settings["start_as"] == "video"
    assert settings["form"]["video"] == "", "its settings are loaded first"
    assert drop(shown, "mine.mp4", content, "video")["data"]["form"]["video"]


def test_a_waiting_job_has_its_files_after_the_original_is_gone(shown, png, tmp_path):
    path = tmp_path / "gone.png"
    path.write_bytes(png)
    shown.session.queue.pause(True)
    shown.submit(image=str(path), model=CLIPS)
    path.unlink()
    folder = shown.session._kept.folder
    (file,) = folder.glob("*.json")
    again = restore_job(read_kept_job(file)).request
    assert kept.is_kept_name(again.image)
    assert again.input_names == {"image": "gone.png"}
    content = json.loads(file.read_text())
    content["input_names"] = {"image": 5}
    file.write_text(json.dumps(content))
    shown.session.queue.pause(False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(40)),
        ("huge.png", huge_png()),
        ("a.jpg", b""),
        ("a.mp4", b"\x00\x00\x00\x18ftypisom" + bytes(20)),
        (HOSTILE, b"x"),
        ("..", b"x"),
    ],
)
@pytest.mark.parametrize("field", ["", "image", "video"])
def test_what_can_not_be_used_is_one_line(shown, name, content, field):
    before = dict(shown.page.form)
    piece = {"name": name, "size": len(content), "offset": 0, "field": field}
    text = shown.ask("drop.piece", piece, content)["error"]["text"]
    assert text.isprintable()
    assert "Internal error" not in text
    assert "/tmp" not in text
    assert len(text) < 300
    assert shown.page.form == before


def test_bad_messages_get_one_line(shown):
    for action, arguments in (
        ("input.preview", {"field": "prompt"}),
        ("input.use", {"path": "none.mp4", "part": "clip"}),
        ("input.use", {"path": "none.mp4", "part": "middle"}),
        ("input.use", {"path": "../a.mp4", "part": "last frame"}),
        ("input.thumbnail", {"path": "none.mp4", "field": "image"}),
        ("drop.piece", {"name": "a", "size": 1, "offset": 0, "field": "prompt"}),
    ):
        text = shown.ask(action, arguments)["error"]["text"]
        assert "Internal error" not in text, text
        assert text.isprintable()


def test_names_that_a_page_left_are_read_with_care(tiny, outputs, open_page, png):
    shown = open_page()
    image = drop(shown, "n.png", png)["data"]["form"]["image"]
    shown.page.desk.save()
    assert kept_page.read_page().names == {image: "n.png"}
    content = json.loads(kept_page.kept_path().read_text())
    content["names"] = {image: 7}
    kept_page.kept_path().write_text(json.dumps(content))
    assert kept_page.read_page().form == {}


def test_a_length_that_is_no_mode_has_its_cost(shown):
    """Such as that of a video from the command line: a row of it is added."""
    (tiny,) = [row for row in shown.page.setup["models"] if row["name"] == SMALL]
    assert {count for _, count, _ in tiny["modes"]} | {33} < set(tiny["counts"])

    def predicted(frames) -> list[int]:
        edit(shown, frames=frames)
        return list(dict.fromkeys(r["frames"] for r in shown.ask("form.predict")["data"]))

    assert predicted(13) == [13, 25, 49]
    assert predicted(33) == [13, 25, 33, 49]
    assert predicted(34) == [13, 25, 34, 49], "by the number that the form has, though 33 are made"
    assert predicted("many") == [13, 25, 49]


def test_the_kind_of_a_dropped_file_is_that_of_its_content(shown, png, mp4):
    data = drop(shown, "walk", mp4)["data"]
    assert kept.is_kept_name(data["form"]["video"])
    cut = drop(shown, "picture", png[:60])["error"]
    assert cut["text"].startswith("Image picture "), "not what is wrong with it as a clip"
    shown.submit()
    shown.wait()
    made = shown.page.desk.path_of(shown.page.roll[0]["path"]).read_bytes()
    assert drop(shown, "mine", made)["data"]["start_as"] == "video"
    heic = drop(shown, "a.dat", b"\0\0\0\x18ftypheic" + bytes(40))["error"]["text"]
    assert "is HEIC" in heic
    text = drop(shown, "a.png", b"my shopping list")["error"]["text"]
    assert "carries no settings" in text


def test_the_preview_of_a_clip_has_the_aspect_of_its_video(shown, tmp_path):
    upright = tmp_path / "upright.mp4"
    video.encode_video(np.zeros((13, 144, 96, 3), np.uint8), upright, 8, "")
    desk = shown.page.desk
    model = next(m for m in desk.form.models.values() if m.name == SMALL)
    sizes = checkpoint.Sizes(range(96, 145, 16), range(96, 145, 16))
    facts = replace(model.checkpoint, sizes=sizes)
    desk.form.models[SMALL] = replace(model, checkpoint=facts)
    edit(shown, video=str(upright), model=SMALL)
    picture = preview(shown, "video")
    request = desk.form.request()
    assert (request.height, request.width) == (144, 96)
    assert picture.width / picture.height == pytest.approx(2 / 3)


def test_requests_with_a_clip_are_made_in_a_thread_from_the_form_as_it_was(shown, mp4, monkeypatch):
    """Whole clips are hashed and decoded: the thread of messages would stand still."""
    form = drop(shown, "a.mp4", mp4)["data"]["form"]
    threads, reading, edited = [], threading.Event(), threading.Event()

    def read_slowly(values):
        threads.append(threading.current_thread())
        reading.set()
        assert edited.wait(60)
        return read_inputs(values)

    read_inputs = inputs.read_inputs
    monkeypatch.setattr(inputs, "read_inputs", read_slowly)
    desk = shown.page.desk
    shown.session.queue.pause(True)
    values = QUICK | {"video": form["video"], "model": form["model"], "steps": 3}
    future = queue_actions.submit_form(desk, queue_actions.Submission(values, copies=2))
    assert reading.wait(60)
    desk.edit({"steps": 2, "video": "", "prompt": "something else"})
    edited.set()
    jobs = future.result(60).data["ids"]
    made = [job.request for job in shown.session.queue.waiting]
    assert [job.id for job in shown.session.queue.waiting] == jobs
    assert [(r.steps, r.seed, r.prompt, r.input_names["video"]) for r in made] == [
        (3, 7, CIRCLE, "a.mp4"),
        (3, 8, CIRCLE, "a.mp4"),
    ]
    shown.session.queue.clear()
    shown.session.queue.pause(False)
    shown.submit(video=form["video"], model=form["model"])
    shown.wait()
    path = shown.page.roll[0]["path"]
    for action, more in (("queue.repeat", {}), ("queue.vary", {"strength": 0.2, "copies": 2})):
        shown.session.queue.pause(True)
        answer = shown.ask(action, {"path": path} | more)["data"]
        waiting = shown.session.queue.waiting
        assert [job.id for job in waiting] == answer["ids"]
        assert len({job.request.variation_seed for job in waiting}) == len(waiting)
        assert {row["id"] for row in shown.page.jobs["waiting"]} == set(answer["ids"])
        shown.session.queue.clear()
    shown.session.queue.pause(False)
    assert threading.main_thread() not in threads


def test_checkpoints_say_what_they_take(shown):
    takes = {row["name"]: row["takes"] for row in shown.page.setup["models"]}
    assert takes[SMALL] == ("video", "extend")
    assert {"image", "last_image"} <= set(takes[CLIPS])
    assert set(takes) == {model.name for model in store.available_checkpoints()}
    assert drop_actions.MOST_BYTES <= 2**27


def test_a_grid_varies_the_picture(shown, frames, tmp_path):
    sides = []
    for name in ("one, first.png", "two.png"):
        Image.fromarray(frames[len(sides)]).save(tmp_path / name)
        sides.append(f'"{tmp_path / name}"')
    edit(shown, model=CLIPS)
    side = {"name": "image", "text": ", ".join(sides)}
    data = shown.ask("grid.plan", {"sides": [side, {"name": "seed", "text": "1, 2"}]})["data"]
    assert "4 videos" in data["text"]
    axis = parse_axis("image", side["text"])
    assert axis.labels == ("image one, first.png", "image two.png")
    edit(shown, model=SMALL)
    refused = shown.ask("grid.plan", {"sides": [side, {"name": "seed", "text": "1, 2"}]})
    assert "not an image" in refused["error"]["text"]
