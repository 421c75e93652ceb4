"""Settings in a video and in its sidecar: which of the two count, and what is no settings."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
import subprocess
import time

import numpy as np
import pytest
from conftest import without_tag
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from test_video import make_special

from cogvx_nb.cli.main import main
from cogvx_nb.errors import ResultError
from cogvx_nb.media.ffmpeg import find_ffmpeg
from cogvx_nb.planning.plan import PREDICTED, Plan
from cogvx_nb.results import catalogue, columns, records, result, stored, video
from cogvx_nb.results.marks import Marks
from cogvx_nb.results.typed import FieldError

CONTENT = {
    "format": 2,
    "made": "2026-01-02T03:04:05+00:00",
    "request": {
        "prompt": "a red circle",
        "negative_prompt": "",
        "frames": 13,
        "steps": 2,
        "height": 96,
        "width": 144,
        "guidance": 6.0,
        "seed": 1,
        "fps": 8,
    },
    "asked": {"prompt": "a red circle", "frames": 12, "height": None, "strict": False},
    "adjustments": [{"field": "frames", "asked": 12, "used": 13, "reason": "makes 13"}],
    "notes": ["a note"],
    "allowed": [],
    "plan": {
        "device": "cpu",
        "dtype": "float32",
        "placement": "no_offload",
        "tiled": False,
        "attention": "sdpa",
        "speed": "exact",
        "compiled": False,
        "quantized": "",
        "sparse_attention": False,
        "step_cache": "",
        "peak_bytes": 1,
        "ram_bytes": 1,
        "reasons": ["no GPU here"],
    },
    "checkpoint": {
        "name": "cogvideox-tiny",
        "folder": "/models/cogvideox-tiny",
        "licence": "Apache-2.0",
        "sha256": {"model_index.json": "0" * 64},
    },
    "versions": {"torch": "2.11", "torchao": None},
    "machine": {"system": "Linux", "cores": 2, "threads": 2, "ram_bytes": 1, "gpus": []},
    "seconds": {"load": 1.0, "denoise": 2.0},
    "frame_hash": "1" * 64,
}


def changed(path: str, value: object) -> dict:
    """The content with another value at a path; without it if the value is an ellipsis."""
    content = copy.deepcopy(CONTENT)
    *sections, name = path.split(".")
    place = content
    for section in sections:
        place = place[section]
    if value is ...:
        del place[name]
    else:
        place[name] = value
    return content


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    """A video that carries ``CONTENT``."""
    path = tmp_path_factory.mktemp("encoded") / "a.mp4"
    frames = np.random.default_rng(0).integers(0, 256, (5, 96, 144, 3), np.uint8)
    video.encode_video(frames, path, 8, json.dumps(CONTENT))
    return path


@pytest.fixture
def save(encoded, outputs):
    """Puts a video into the outputs folder, with a tag and a sidecar as given."""

    def put(tag: object = CONTENT, sidecar: object = None, name: str = "a"):
        path = outputs / f"{name}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        if tag is None:
            path.write_bytes(without_tag(encoded.read_bytes()))
        elif tag == CONTENT:
            shutil.copy(encoded, path)
        else:
            text = tag if isinstance(tag, str) else json.dumps(tag)
            video.encode_video(np.full((1, 96, 144, 3), 90, np.uint8), path, 8, text)
        if sidecar is not None:
            text = sidecar if isinstance(sidecar, str) else json.dumps(sidecar)
            path.with_suffix(".json").write_text(text)
        return path

    return put


def listed() -> list[int]:
    """The seeds that the catalogue finds."""
    found = catalogue.Catalogue()
    found.refresh()
    return [entry.seed for entry in found.find()]


def test_the_settings_in_the_video_count(save, capsys):
    path = save(CONTENT, changed("request.seed", 2))
    read = result.read_result(path)
    assert read.settings.request.seed == 1
    differs = f"{path.with_suffix('.json')} differs from the settings in the video (request.seed)"
    assert read.note == f"{differs}; these are the video's"
    assert main(["show", "--json", str(path)]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["request"]["seed"] == 1
    assert shown.err == f"cogvx: {read.note}\n"
    assert listed() == [1]


def test_the_sidecar_may_add_the_time_of_writing(save):
    read = result.read_result(save(CONTENT, changed("seconds.write", 0.5)))
    assert (read.note, read.settings.seconds["write"]) == ("", 0.5)
    read = result.read_result(save(CONTENT, name="b"))
    assert (read.note, read.settings.seconds) == ("", CONTENT["seconds"])


@pytest.mark.parametrize(
    "arguments",
    [["-c", "copy"], ["-c", "copy", "-frames:v", "3"], ["-crf", "40"], ["-vf", "hflip", "-r", "4"]],
    ids=" ".join,
)
def test_another_programs_copy(save, outputs, arguments):
    copied = outputs / "copy.mp4"
    command = [find_ffmpeg(), "-loglevel", "error", "-i", str(save()), *arguments, str(copied)]
    subprocess.run(command, check=True)
    dropped = f"{copied} carries no settings (another program may have dropped them)"
    with pytest.raises(ResultError) as refused:
        result.read_result(copied)
    assert str(refused.value) == dropped
    copied.with_suffix(".json").write_text(json.dumps(CONTENT))
    read = result.read_result(copied)
    assert read.settings.request.seed == 1
    assert read.note == f"{dropped}; these are those of {copied.with_suffix('.json')}"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("format", ..., "format is missing"),
        ("format", 7, "format = 7: was written by a newer version: update cogvx-nb"),
        ("format", "2", "format = '2': must be a whole number"),
        ("format", True, "format = True: must be a whole number"),
        ("made", "yesterday", "made = 'yesterday': must be a time in ISO 8601"),
        ("request", [], "request = a list: must be an object"),
        ("request.prompt", ..., "request.prompt is missing"),
        ("request.prompt", "x" * 10_001, "request.prompt = 'xxx"),
        ("request.prompt", "half \ud83d", "is not valid Unicode text"),
        ("request.frames", 10**9, "request.frames = 1000000000: must be from 1 to 10,000"),
        ("request.frames", 13.0, "request.frames = 13.0: must be a whole number"),
        ("request.fps", 0, "request.fps = 0: must be from 1 to 1,000"),
        ("request.height", -96, "request.height = -96: must be from 16 to 4,096"),
        ("request.seed", 10**30, "request.seed = a huge number: is beyond 64 bits"),
        ("request.guidance", float("nan"), "request.guidance = nan: must be a number"),
        ("asked.prompt", [[[]]], "asked.prompt = a list: must be text, a number, true or false"),
        ("asked", {str(n): n for n in range(2000)}, "asked has 2,000 entries; at most 1,000"),
        ("adjustments", "none", "adjustments = 'none': must be a list"),
        ("notes", [1], "notes = 1: must be text"),
        ("plan.dtype", "int64", "plan.dtype = 'int64': must be one of float32, bfloat16, float16"),
        ("plan.speed", "warp", "plan.speed = 'warp': must be one of exact, fast, turbo"),
        ("plan.device", 0, "plan.device = 0: must be text"),
        ("plan.compiled", 1, "plan.compiled = 1: must be true or false"),
        ("checkpoint.sha256", {"a": 1}, "checkpoint.sha256.a = 1: must be text"),
        ("versions", [], "versions = a list: must be an object"),
        ("machine.threads", 0, "machine.threads = 0: must be from 1 to 1,024"),
        ("machine.threads", "x", "machine.threads = 'x': must be a whole number"),
        ("machine.threads", 100_000, "machine.threads = 100000: must be from 1 to 1,024"),
        ("seconds", {"text": 1}, "seconds.denoise is missing"),
        ("seconds.denoise", -1, "seconds.denoise = -1.0: must be from 0"),
        ("frame_hash", None, "frame_hash = None: must be text"),
    ],
)
def test_a_wrong_value_is_named_with_its_field(save, path, value, words):
    with pytest.raises(FieldError) as wrong:
        records.read_settings(changed(path, value))
    assert words in str(wrong.value)
    assert len(str(wrong.value).splitlines()) == 1
    assert len(str(wrong.value)) < 200
    read = result.read_result(save(CONTENT, changed(path, value)))
    assert words in read.note
    with pytest.raises(ResultError) as refused:
        result.read_result(save(None, changed(path, value)))
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ([1, 2], "can't be used: the content = a list: must be an object"),
        (changed("machine.threads", 0), "can't be used: machine.threads = 0"),
        (changed("format", 7), "written by a newer version"),
        ("[" * 10_000, "carries settings that can't be read: it is nested too deeply"),
        ('{"format": ' + "9" * 5000 + "}", "carries settings that can't be read"),
        ("{", "carries settings that can't be read: no JSON"),
        ("null", "carries settings that can't be read: it holds nothing"),
        ("x" * 1_100_000, "carries settings that are too large"),
    ],
    ids=range(8),
)
def test_a_tag_that_is_no_settings(save, capsys, tag, words):
    path = save(tag)
    for command in ("show", "reproduce"):
        assert main([command, str(path)]) == 1
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert f"cogvx: {path}" in lines[0]
        assert words in lines[0]
    read = result.read_result(save(tag, CONTENT))
    assert words in read.note
    assert f"these are those of {path.with_suffix('.json')}" in read.note


@pytest.mark.parametrize(
    ("sidecar", "words"),
    [
        ("{", "can't be read: no JSON"),
        ("", "can't be read: no JSON"),
        ("[" * 200_000, "can't be read: it is nested too deeply"),
        (" " * 2**21, "larger than"),
        ('{"name": "mine"}', "can't be used: format is missing"),
    ],
    ids=range(5),
)
def test_a_sidecar_that_is_none(save, sidecar, words):
    path = save(CONTENT, sidecar)
    read = result.read_result(path)
    assert read.settings.request.seed == 1
    assert read.note.startswith(str(path.with_suffix(".json")))
    assert words in read.note
    assert listed() == [1]
    with pytest.raises(ResultError, match="carries no settings"):
        result.read_result(save(None, sidecar, name="b"))


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder"])
def test_special_files_are_not_waited_for(save, outputs, monkeypatch, kind):
    path = save()
    monkeypatch.chdir(outputs)
    make_special(path.with_suffix(".json"), kind)
    start = time.monotonic()
    assert result.read_result(path).settings.request.seed == 1
    for output in ("a.mp4", "b.mp4"):
        make_special(outputs / "b.mp4", kind) if output == "b.mp4" else None
        code = main(["generate", "--prompt", "a red circle", "--output", output, "--overwrite"])
        assert code == 1
    assert time.monotonic() - start < 60


def test_a_list_can_do_without_some_values(save):
    content = changed("plan.dtype", "int64")
    content["machine"] = ["no", "such", "thing"]
    save(None, content)
    save(content, name="b")
    assert listed() == [1, 1]


def test_every_choice_of_a_plan_is_recorded_and_compared():
    recorded = {field.name for field in dataclasses.fields(records.RecordedPlan)}
    of_the_request = {field.name for field in dataclasses.fields(records.RecordedRequest)}
    elsewhere = {"model", "guided", "guiding", "encoded_frames", "loras"} | {
        "ram_room_bytes",
        "seconds",
        "peer_bytes",
    }
    names = {field.name for field in dataclasses.fields(Plan)}
    assert names - of_the_request - elsewhere == recorded
    assert set(PREDICTED) < recorded


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
PATHS = [name for name in CONTENT if name != "format"] + [
    f"{section}.{name}"
    for section, part in CONTENT.items()
    if isinstance(part, dict)
    for name in part
]
FUZZED = {"deadline": None, "derandomize": True, "suppress_health_check": [HealthCheck.too_slow]}


@given(path=st.sampled_from(PATHS), value=JSON)
@hypothesis_settings(max_examples=300, **FUZZED)
def test_any_value_is_read_or_named(path, value):
    content = changed(path, value)
    for strict in (True, False):
        try:
            read = records.read_settings(content, strict)
        except FieldError as error:
            line = str(error)
            named = path in line and line.isprintable() and len(line) < 250
        else:
            columns.result_values("", read, Marks())
            again = json.loads(json.dumps(read.as_json()))
            named = records.read_settings(again) == read
        assert named


@given(st.binary(max_size=60), st.integers(0, 900))
@hypothesis_settings(max_examples=200, **FUZZED)
def test_damaged_boxes_end_in_no_tag(encoded, data, at):
    content = bytearray(encoded.read_bytes()[:2000])
    content[at : at + len(data)] = data
    path = encoded.with_name("damaged.mp4")
    path.write_bytes(content)
    stored.find_settings(path)
    os.truncate(path, at)
    assert stored.find_settings(path) is None, "its tag is cut off"
