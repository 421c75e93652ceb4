"""Sweeps over pictures and clips: found, kept before the first run, shown by name."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import CIRCLE
from PIL import Image, ImageDraw

from cogvx_nb.cli.main import main
from cogvx_nb.errors import ResultError, SpecError
from cogvx_nb.media import kept, kinds
from cogvx_nb.reports import display, experiment, sweep_page
from cogvx_nb.results import result, side_by_side, video
from cogvx_nb.sweep import driver, given_files, ray_workers, runs
from cogvx_nb.sweep.folder import SweepFolder
from cogvx_nb.sweep.worker import RunTask

FIXED = {"prompt": CIRCLE, "steps": 1}


@pytest.fixture(autouse=True)
def known_machine(here, monkeypatch):
    known = contextlib.nullcontext(lambda: here)
    monkeypatch.setattr(runs, "probe_in_child", lambda needed: known)


def draw(path: Path, colour: str = "red") -> Path:
    """Write a picture of a disc."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (144, 96))
    ImageDraw.Draw(picture).ellipse((20, 30, 60, 70), fill=colour)
    picture.save(path)
    return path


@pytest.fixture
def shots(tmp_path):
    """A folder of pictures, and what else there is in such folders."""
    folder = tmp_path / "shots"
    for number, colour in enumerate(("red", "blue"), 9):
        draw(folder / f"shot {number}.PNG", colour)
    (folder / ".DS_Store").touch()
    (folder / "notes.txt").touch()
    (folder / "more").mkdir()
    return folder


def planned(folder: Path, content: dict) -> list[runs.SweepRun]:
    path = folder / "mine.yaml"
    path.write_text(json.dumps({"parameters": FIXED} | content))
    return driver.prepare_sweep(path)[2]


def images(planned_runs: list[runs.SweepRun]) -> list[object]:
    return [run.varied.get("image") for run in planned_runs]


def test_a_sweep_extends_a_result_by_its_name(outputs, tmp_path, capsys):
    made = outputs / "2026-01-01" / "circle.mp4"
    made.parent.mkdir(parents=True)
    video.encode_video(np.zeros((13, 96, 144, 3), np.uint8), made, 8, "")
    fixed = {"parameters": FIXED | {"model": "tiny", "frames": 4, "extend": "circle"}}
    (run,) = planned(tmp_path, fixed)
    assert run.parameters["extend"].endswith("#circle.mp4")
    (run,) = planned(made.parent, {"parameters": fixed["parameters"] | {"extend": "circle.mp4"}})
    assert run.parameters["extend"].endswith("#circle.mp4")
    assert not capsys.readouterr().err
    with pytest.raises(SpecError, match="prompt = '': is empty"):  # the clip has none
        planned(tmp_path, {"parameters": fixed["parameters"] | {"prompt": ""}})
    planned(tmp_path, {"parameters": fixed["parameters"] | {"frames": 13}})
    assert "cogvx: frames 13 → 16: cogvideox-tiny goes on by 4" in capsys.readouterr().err
    with pytest.raises(SpecError, match="no file"):
        planned(tmp_path, {"parameters": fixed["parameters"] | {"extend": "square"}})


def test_a_sweep_goes_on_with_the_prompt_of_a_result(outputs, tmp_path, capsys):
    assert main(["generate", "--prompt", CIRCLE, "--steps", "1", "--model", "tiny"]) == 0
    made = capsys.readouterr().out.strip()
    fixed = {"prompt": "", "steps": 1, "model": "tiny", "frames": 4}
    (tmp_path / "mine.yaml").write_text(json.dumps({"parameters": fixed | {"extend": made}}))
    assert main(["sweep", str(tmp_path / "mine.yaml")]) == 0
    assert "cogvx: the prompt is that of " in capsys.readouterr().err
    (path,) = (outputs / "sweeps").rglob("*.mp4")
    assert result.read_result(path).settings.request.prompt == CIRCLE


def test_a_folder_is_swept_and_resumed_once_it_is_gone(outputs, shots, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(json.dumps({"name": "pictures", "parameters": FIXED, "images": "shots"}))
    assert main(["sweep", str(path)]) == 0
    told = capsys.readouterr().err
    assert "images: 2 pictures of shots; not taken: 'more', 'notes.txt', 1 hidden" in told
    listed = SweepFolder("pictures").listed_runs()
    names = ["shot 9.PNG", "shot 10.PNG"]
    assert [varied["image"] for varied in listed.values()] == names
    for run_id, name in zip(listed, names, strict=True):
        folder = outputs / "sweeps" / "pictures" / run_id
        made = result.read_result(folder / "video.mp4").settings
        assert made.inputs["image"].name == name
        assert made.checkpoint.name == "cogvideox-tiny-i2v"
        executed = nbformat.read(folder / "notebook.ipynb", as_version=4)
        value = executed.metadata.papermill.parameters.image
        assert value == f"{made.request.image}#{name}"
        assert str(shots) not in json.dumps(executed)

    page = sweep_page.sweep_page(experiment.read_sweep("pictures"))
    assert len(re.findall(r"<img class=.given. alt='image' title='image: shot \d+.PNG'", page)) == 2
    assert "image <bdi>" not in page
    assert not re.search("[0-9a-f]{64}", re.sub("base64,[^']*", "", page)), "files by their names"
    pair = [result.read_result(path) for path in outputs.glob("sweeps/*/*/video.mp4")]
    names_of = side_by_side.differing_settings(pair)["image"]
    assert sorted(name.split(" (")[0] for name in names_of) == sorted(names)
    asked = {run.parameters["image"]: run.expected for run in driver.prepare_sweep(path)[2]}
    for made in pair:
        own = f"{made.settings.request.image}#{made.settings.inputs['image'].name}"
        (other,) = (expected for value, expected in asked.items() if value != own)
        asked[own].check(made.settings)
        with pytest.raises(ResultError, match="shows something else"):
            other.check(made.settings)
    strip = Image.open(io.BytesIO(display.show_strip(pair[0], count=3).data))
    assert strip.width > 4 * strip.height * 144 / 96, "the picture, a gap and three frames"

    shutil.rmtree(shots)
    assert main(["sweep", str(path)]) == 0
    told = capsys.readouterr()
    assert "the copy in outputs/inputs is used (2 of 2 runs)" in told.err
    assert "pictures: 2 of 2 done" in told.out
    assert [*SweepFolder("pictures").listed_runs()] == [*listed]
    again = driver.prepare_sweep(path)[2]
    assert [run.parameters["image"].partition("#")[2] for run in again] == names


def test_a_run_is_its_picture_and_not_where_it_is(tmp_path):
    first = planned(tmp_path, {"grid": {"image": [str(draw(tmp_path / "a" / "cat.png"))]}})
    moved = shutil.copy(tmp_path / "a" / "cat.png", tmp_path / "dog.png")
    assert planned(tmp_path, {"grid": {"image": [str(moved)]}})[0].id == first[0].id
    draw(tmp_path / "a" / "cat.png", "blue")
    assert planned(tmp_path, {"grid": {"image": ["a/cat.png"]}})[0].id != first[0].id
    both = planned(tmp_path, {"grid": {"image": ["dog.png", "a/cat.png"]}, "seeds": 2})
    assert images(both) == ["dog.png", "dog.png", "cat.png", "cat.png"]
    for run in both:
        assert run.expected.request["image"] == run.parameters["image"].partition("#")[0]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder, colour in (("a", "red"), ("b", "blue")):
        draw(tmp_path / folder / "x" / "1.png", colour)
    names = ["a/x/1.png", "b/x/1.png"]
    assert images(planned(tmp_path, {"images": names})) == names


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.txt", f"{CIRCLE} @@ ../a.png\n# no prompt\n{CIRCLE}@@b.png\na blue star\n"),
        ("p.csv", f"Prompt,Image\n{CIRCLE},../a.png\n{CIRCLE},b.png\na blue star,\n"),
        (
            "p.jsonl",
            f'{{"prompt": "{CIRCLE}", "image": "../a.png"}}\n'
            f'{{"prompt": "{CIRCLE}", "image": "b.png"}}\n"a blue star"\n',
        ),
    ],
)
def test_files_of_prompts_name_pictures_from_where_they_are(tmp_path, monkeypatch, name, content):
    monkeypatch.chdir("/")
    draw(tmp_path / "a.png")
    draw(tmp_path / "lists" / "b.png", "blue")
    (tmp_path / "lists" / name).write_text(content)
    found = planned(tmp_path, {"parameters": {"steps": 1}, "prompts": f"lists/{name}"})
    assert images(found) == ["a.png", "b.png", None]
    models = [run.parameters["model"] for run in found]
    assert models == ["cogvideox-tiny-i2v", "cogvideox-tiny-i2v", "cogvideox-tiny"]
    assert [run.parameters["prompt"] for run in found] == [CIRCLE, CIRCLE, "a blue star"]


def test_clips_and_last_images(tmp_path):
    grey = np.full((13, 96, 144, 3), 99, np.uint8)
    video.encode_video(grey, tmp_path / "clip.mp4", 8, "")
    draw(tmp_path / "a.png")
    draw(tmp_path / "b.png", "blue")
    (run,) = planned(tmp_path, {"videos": ".", "grid": {"strength": [0.5]}})
    assert run.expected.request["video"].startswith("inputs/")
    assert run.expected.request["strength"] == 0.5
    (run,) = planned(tmp_path, {"runs": [{"image": "a.png", "last_image": "b.png"}]})
    assert sorted(Path(path).name for path in run.inputs) == ["a.png", "b.png"]


def test_folders_give_every_format_that_is_read():
    pictures, clips = (given_files.FILE_KEYS[key].endings for key in ("images", "videos"))
    for kind in kinds.KINDS:
        assert not kind.pillow or f".{kind.ending}" in pictures, kind.name
        assert not kind.demuxer or f".{kind.ending}" in clips, kind.name
        assert not kind.demuxer or kind.ending in kinds.CLIPS
    assert all(kind in kinds.CLIPS for kind in ("GIF", "WebP", "PNG", "AVIF"))


def test_a_default_of_the_notebook_starts_in_its_folder(tmp_path):
    draw(tmp_path / "books" / "a.png")
    book = nbformat.read(driver.read_template("03_generate", tmp_path).path, as_version=4)
    cell = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source = cell.source.replace('image: str = ""', 'image: str = "a.png"', 1)
    nbformat.write(book, tmp_path / "books" / "mine.ipynb")
    (run,) = planned(tmp_path, {"notebook": "books/mine.ipynb"})
    assert kept.is_kept_name(run.expected.request["image"])
    assert run.parameters["image"].endswith("#a.png")


BAD = [
    ("cogvx: run 37 of 40 (line 38 of p.csv): image = ", {"prompts": "p.csv"}),
    ("is no file: check its name; looked for {}/lost.png", {"prompts": "p.csv"}),
    ("images = 'none': there is no {}/none; name a folder of them", {"images": "none"}),
    ("videos = '.': no clips in {}; name a folder of them (they end in .mp4", {"videos": "."}),
    ("images = 'a.png': it is no folder; name one, or a list of files", {"images": "a.png"}),
    ("images: 7 must be text: the path of a file", {"images": ["a.png", 7]}),
    ("run 2 of 2 (p.csv of images): image = '/", {"images": ["a.png", "p.csv"]}),
    ("line 1 of p.txt: 'a cat@@a.png@@b.png': one '@@' stands between", {"prompts": "p.txt"}),
    ("'image' is varied in two places", {"images": ["a.png"], "grid": {"image": ["a.png"]}}),
    (
        "run 1 of 1: model = 'cogvideox-tiny': takes text alone, a video to "
        "change or a video to extend, not an image",
        {"parameters": FIXED | {"model": "tiny", "image": "a.png"}},
    ),
]


@pytest.mark.parametrize(("words", "content"), BAD, ids=[row[0] for row in BAD])
def test_what_is_wrong_is_one_line_before_the_first_run(tmp_path, capsys, words, content):
    draw(tmp_path / "a.png")
    rows = [f"{CIRCLE},{'lost' if number == 37 else 'a'}.png,{number}" for number in range(1, 41)]
    (tmp_path / "p.csv").write_text("\n".join(["prompt,image,seed", *rows]))
    (tmp_path / "p.txt").write_text("a cat@@a.png@@b.png\n")
    path = tmp_path / "mine.yaml"
    given = {"prompts"} & content.keys()
    fixed = {"steps": 1} if given else FIXED
    path.write_text(json.dumps({"parameters": fixed} | content))
    assert main(["sweep", str(path)]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "not taken" not in x]
    assert words.format(tmp_path) in line
    assert not SweepFolder("mine").root.exists()


def test_names_are_ordered_as_people_do():
    names = ["b", "a10", "a2", "A1", "10", "9"]
    assert sorted(names, key=given_files._natural) == ["9", "10", "A1", "a2", "a10", "b"]


def test_a_node_without_the_disk_gets_what_a_run_starts_from(tmp_path, monkeypatch, book):
    value = f"{kept.keep_file(draw(tmp_path / 'a.png'))}#a.png"
    name = value.partition("#")[0]
    content = kept.kept_path(name).read_bytes()
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(tmp_path / "node"))
    executor = ray_workers.RayExecutor("9", {})
    assert executor.missing_inputs((value,)) == [name]
    reads = f"from cogvx_nb.media import kept\nPath('x').write_text(str(kept.kept_path({name!r})))"
    source = Path(book("from pathlib import Path", reads)).read_bytes()
    task = RunTask(tmp_path / "a.ipynb", tmp_path / "out" / "notebook.ipynb", {}, inputs=(value,))
    outcome, files = executor.execute(task, source, {name: content})
    executor.close()
    assert outcome.error == ""
    assert files["x"].decode() == str(tmp_path / "node" / name)
    assert executor.missing_inputs((value,)) == []


@pytest.mark.parametrize("content", ["shots/*.png", "~nobody-there/x", "a\0b", "x" * 5000])
def test_folders_that_can_not_be(tmp_path, content):
    with pytest.raises(SpecError, match="images"):
        planned(tmp_path, {"images": content})
