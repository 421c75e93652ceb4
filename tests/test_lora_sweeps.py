"""Sweeps over LoRAs: texts and columns of weights, kept by their content, shown by name."""

from __future__ import annotations

import contextlib
import json
import re
from pathlib import Path

import pytest
import torch
from conftest import CIRCLE
from safetensors.torch import save_file

from cogvx_nb import settings
from cogvx_nb.checkpoints import registry
from cogvx_nb.cli.main import main
from cogvx_nb.loras import library
from cogvx_nb.loras.entries import parse_loras
from cogvx_nb.reports import experiment, sweep_page
from cogvx_nb.results import recipe, records, result, side_by_side
from cogvx_nb.results.catalogue import Catalogue
from cogvx_nb.results.typed import FieldError
from cogvx_nb.sweep import driver, given_loras, ray_workers, runs
from cogvx_nb.sweep.folder import SweepFolder

FIXED = {"prompt": CIRCLE, "steps": 1, "model": "tiny"}


@pytest.fixture(autouse=True)
def known_machine(here, monkeypatch):
    known = contextlib.nullcontext(lambda: here)
    monkeypatch.setattr(runs, "probe_in_child", lambda needed: known)


def make_lora(path: Path, seed: int = 0, width: int = 0) -> Path:
    """Write a LoRA of two layers of the embedded checkpoint."""
    _, heads, head_width, _, _ = registry.TINY.architecture
    width, draw, content = width or heads * head_width, torch.Generator().manual_seed(seed), {}
    for layer in ("to_q", "to_v"):
        name = f"transformer.transformer_blocks.3.attn1.{layer}"
        content[f"{name}.lora_A.weight"] = 0.02 * torch.randn(2, width, generator=draw)
        content[f"{name}.lora_B.weight"] = 0.02 * torch.randn(width, 2, generator=draw)
        content[f"{name}.alpha"] = torch.tensor(2.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(content, path)
    return path


@pytest.fixture
def folder(tmp_path):
    """A folder with two LoRAs, one in a folder of its own."""
    make_lora(tmp_path / "ink.safetensors")
    make_lora(tmp_path / "styles" / "oil, dry.safetensors", 1)
    return tmp_path


def planned(folder: Path, content: dict) -> list[runs.SweepRun]:
    path = folder / "mine.yaml"
    path.write_text(json.dumps({"parameters": FIXED} | content))
    return driver.prepare_sweep(path)[2]


def weights(run: runs.SweepRun) -> dict[str, float]:
    return {one.name: one.weight for one in parse_loras(run.parameters["lora"])}


def test_columns_of_weights_make_one_text(folder, monkeypatch):
    oil = "lora:styles/oil, dry.safetensors"
    found = planned(folder, {"grid": {"lora:ink": [0, 0.8], oil: [1, -0.5]}})
    monkeypatch.chdir("/")
    assert [weights(run) for run in found] == [
        {"ink": first, "oil, dry": second} for first in (0, 0.8) for second in (1, -0.5)
    ]
    assert [run.varied for run in found][1] == {"lora:ink": 0, "lora:oil, dry": -0.5}
    assert len({run.id for run in found}) == 4
    digest = library.file_hash(folder / "ink.safetensors")
    for run in found:
        assert f"ink#{digest}:" in run.parameters["lora"]
        assert str(folder) not in json.dumps(run.parameters)
        assert run.expected.request["lora"] == run.parameters["lora"]
        assert f"ink#{digest}" in run.inputs.values()
    zipped = planned(folder, {"zip": {"lora:ink": [0.1, 0.2], oil: [0.3, 0.4]}})
    assert [tuple(weights(run).values()) for run in zipped] == [(0.1, 0.3), (0.2, 0.4)]


def test_texts_and_columns_together(folder):
    texts = ["", "ink:0.2@alpha=1", '"styles/oil, dry":2']
    found = planned(folder, {"grid": {"lora": texts, "lora:ink": [0.7]}})
    assert [weights(run) for run in found] == [
        {"ink": 0.7},
        {"ink": 0.7},
        {"oil, dry": 2, "ink": 0.7},
    ]
    assert parse_loras(found[1].parameters["lora"])[0].alpha == 1
    assert [run.varied["lora"] for run in found] == ["", "ink 0.2", "oil, dry 2"]
    moved = (folder / "ink.safetensors").rename(folder / "b.safetensors")
    (same,) = planned(folder, {"parameters": FIXED | {"lora": "b:0.7"}})
    moved.rename(folder / "ink.safetensors")
    (first,) = planned(folder, {"parameters": FIXED | {"lora:ink": 0.7}})
    digests = [parse_loras(run.parameters["lora"])[0].sha256 for run in (same, first)]
    assert digests[0] == digests[1]


ROWS = [
    ("p.csv", f"prompt,LoRA: ../ink\n{CIRCLE},0.5\n{CIRCLE},\n{CIRCLE},-1\n"),
    (
        "p.jsonl",
        f'{{"prompt": "{CIRCLE}", "lora:../ink": 0.5}}\n"{CIRCLE}"\n'
        f'{{"prompt": "{CIRCLE}", "lora:../ink": -1}}\n',
    ),
    (
        "p.yaml",
        f'- {{prompt: {CIRCLE}, lora: "../ink:0.5"}}\n- {CIRCLE}\n'
        f'- {{prompt: {CIRCLE}, lora: "../ink:-1"}}\n',
    ),
]


@pytest.mark.parametrize(("name", "content"), ROWS, ids=[row[0] for row in ROWS])
def test_files_of_prompts_have_columns_of_weights(folder, name, content):
    (folder / "lists").mkdir()
    (folder / "lists" / name).write_text(content)
    fixed = {"steps": 1, "model": "tiny"}
    found = planned(folder, {"parameters": fixed, "prompts": f"lists/{name}"})
    assert [weights(run) for run in found if "lora" in run.parameters] == [
        {"ink": 0.5},
        {"ink": -1},
    ]


def test_the_library_comes_before_the_current_folder(folder, monkeypatch):
    monkeypatch.setattr(library, "loras_folder", lambda: folder / "library")
    own = make_lora(folder / "library" / "own.safetensors", 3)
    monkeypatch.chdir(make_lora(folder / "current" / "own.safetensors", 4).parent)
    for named in ({"lora": "own"}, {"lora:own": 1}):
        (run,) = planned(folder, {"parameters": FIXED | named})
        (used,) = parse_loras(run.parameters["lora"])
        assert (used.name, used.sha256) == ("own", library.file_hash(own))


def test_files_of_one_name_are_told_apart(folder):
    make_lora(folder / "other" / "ink.safetensors", 2)
    found = planned(folder, {"grid": {"lora:ink": [0, 1], "lora:other/ink": [0, 1]}})
    names = [*found[0].varied]
    assert names[1] == "lora:other/ink"
    assert names[0].endswith("/ink")
    assert len({run.id for run in found}) == 4


BAD = [
    ("run 1 of 2: lora = 'inky': is no file, and none of", {"grid": {"lora:inky": [0, 1]}}),
    ("is no file, and none of", {"grid": {"lora": ["a/ink:1"]}}),
    ("lora:ink = 11: must be a number between -10 and 10", {"grid": {"lora:ink": [11]}}),
    ("lora:ink = 'a': must be a number", {"grid": {"lora:ink": ["a"]}}),
    ("lora:ink = True: must be a number", {"grid": {"lora:ink": [True]}}),
    ("line 3 of p.csv: lora:ink = 'x': must be a number", {"prompts": "p.csv"}),
    (
        "are columns of one LoRA: leave one of them out",
        {"grid": {"lora:ink": [0], "lora:ink.safetensors": [1]}},
    ),
    ("run 2 of 2: lora = ", {"grid": {"lora": ["ink", "wide"]}}),
    ("is varied in two places", {"grid": {"lora": [""]}, "runs": [{"lora": "ink"}]}),
]


@pytest.mark.parametrize(("words", "content"), BAD, ids=[row[0] for row in BAD])
def test_what_is_wrong_is_one_line_before_the_first_run(folder, capsys, words, content):
    make_lora(folder / "wide.safetensors", width=8)
    (folder / "p.csv").write_text(f"prompt,lora:ink\n{CIRCLE},1\n{CIRCLE},x\n")
    fixed = {"steps": 1, "model": "tiny"} if "prompts" in content else FIXED
    (folder / "mine.yaml").write_text(json.dumps({"parameters": fixed} | content))
    assert main(["sweep", str(folder / "mine.yaml")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words.format(folder) in line
    assert not SweepFolder("mine").root.exists()


def test_a_sweep_is_run_and_resumed_with_the_file_moved(folder, outputs, monkeypatch, capsys):
    monkeypatch.setattr(library, "loras_folder", lambda: folder / "library")
    path = folder / "mine.yaml"
    spec = {"name": "inks", "parameters": FIXED, "grid": {"lora:ink": [0, 5]}}
    path.write_text(json.dumps(spec))
    driver.run_sweep(path)
    listed = SweepFolder("inks").listed_runs()
    assert [*listed.values()] == [{"lora:ink": 0.0}, {"lora:ink": 5.0}]
    made = [result.read_result(SweepFolder("inks").root / run / "video.mp4") for run in listed]
    assert made[0].frame_hash != made[1].frame_hash
    view = experiment.read_sweep("inks")
    assert [run.number("lora:ink") for run in view.runs] == [0, 5]
    page = re.sub("base64,[^']*", "", sweep_page.sweep_page(view))
    assert "lora:ink" in page
    assert not re.search("[0-9a-f]{64}", page)
    assert side_by_side.differing_settings(made)["lora"] == ("ink 0", "ink 5")

    catalogue = Catalogue()
    catalogue.refresh()
    assert catalogue.count("lora:ink") == catalogue.count("lora:") == 2
    assert catalogue.count(where=("loras = ink 5",)) == 1
    assert catalogue.count("lora:oil") == 0
    capsys.readouterr()
    assert main(["list", "--search", "lora:ink"]) == 0
    assert "ink 5" in capsys.readouterr().out
    again = recipe.command_line(made[1].settings)
    assert f"ink#{library.file_hash(folder / 'ink.safetensors')}:5" in again
    assert again.count("--lora ") == 1

    (folder / "library").mkdir()
    (folder / "ink.safetensors").rename(folder / "library" / "renamed.safetensors")
    progress = driver.run_sweep(path)
    assert (progress.done, progress.waiting) == (2, 0)
    assert "ink is gone from where the sweep names it" in capsys.readouterr().err
    (folder / "library" / "renamed.safetensors").unlink()
    assert main(["sweep", str(path)]) == 2
    assert f"isn't here any more; looked in {folder / 'library'}" in capsys.readouterr().err


def test_a_node_gets_the_loras_of_a_run(folder, tmp_path, monkeypatch):
    value = f"ink#{library.file_hash(folder / 'ink.safetensors')}"
    content = ray_workers._content_of(value)
    monkeypatch.setenv("COGVX_OUTPUTS_DIR", str(tmp_path / "node"))
    monkeypatch.setattr(library, "loras_folder", lambda: tmp_path / "node-models" / "loras")
    executor = ray_workers.RayExecutor("9", {})
    assert executor.missing_inputs((value,)) == [value]
    make_lora(tmp_path / "node-models" / "loras" / "ink.safetensors", 7)
    for _ in range(2):
        kept = library.keep_lora(content, given_loras.split_kept(value)[0])
        assert kept.name == "ink-2.safetensors"
    assert executor.missing_inputs((value,)) == []
    assert len(library.library()) == 2, "the node's own file of that name stays"
    assert library.find_lora(*given_loras.split_kept(value)).read_bytes() == content
    assert settings.outputs_dir() == tmp_path / "node"


@pytest.mark.parametrize(
    "text", ["/etc/passwd", "ink", f"../ink#{'a' * 64}:1", "a,b#1", "\x1b[31m"]
)
def test_settings_of_strangers_name_no_files(samples, text):
    content = json.loads(samples[0].sidecar.read_text())
    content["request"]["lora"] = text
    with pytest.raises(FieldError, match=r"request\.lora = .*must name LoRAs by their content"):
        records.read_settings(content)
    content["request"]["lora"] = ""
    content["loras"] = [{"name": "a", "sha256": 7}]
    with pytest.raises(FieldError, match="loras"):
        records.read_settings(content)


def test_notebooks_from_before_are_swept_without(folder, book):
    source = driver.read_template("03_generate", folder).path.read_text(encoding="utf-8")
    lines = [line for line in source.splitlines(keepends=True) if '"lora: str' not in line]
    (folder / "old.ipynb").write_text("".join(lines), encoding="utf-8")
    (run,) = planned(folder, {"notebook": "old.ipynb"})
    assert "lora" not in run.parameters
    with pytest.raises(Exception, match=r"old\.ipynb has no such one"):
        planned(folder, {"notebook": "old.ipynb", "grid": {"lora:ink": [1]}})
