"""LoRAs on the workbench's page and in its grids, without a browser."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save, save_file
from test_page import HOSTILE, QUICK, Shown

from cogvx_nb.checkpoints import registry
from cogvx_nb.loras import given
from cogvx_nb.loras.modules import linear_shapes
from cogvx_nb.planning import planner
from cogvx_nb.workbench import lora_rows
from cogvx_nb.workbench.grid_file import read_grid
from cogvx_nb.workbench.page_state import field_rows

LAYER = "transformer_blocks.0.attn1.to_q"
RANK = 4


def tensors(checkpoint=registry.TINY, seed: int = 1) -> dict[str, torch.Tensor]:
    """A small random LoRA of a layer of a checkpoint."""
    outputs, inputs = linear_shapes(checkpoint)[LAYER]
    draw = torch.Generator().manual_seed(seed)
    return {
        f"transformer.{LAYER}.lora_A.weight": torch.randn(RANK, inputs, generator=draw) / 50,
        f"transformer.{LAYER}.lora_B.weight": torch.randn(outputs, RANK, generator=draw) / 50,
    }


METADATA = {"modelspec.trigger_phrase": "drawn as an outline, thin", "ss_base_model_version": "x"}


@pytest.fixture(autouse=True)
def models(tmp_path, monkeypatch):
    """An empty library."""
    monkeypatch.setattr("cogvx_nb.loras.library.loras_folder", lambda: tmp_path / "m" / "loras")
    return tmp_path / "m" / "loras"


@pytest.fixture
def shown(tiny, outputs):
    page = Shown(tiny, {})
    yield page
    page.close()


def put(folder, name: str, content: dict, metadata: dict | None = None):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(content, folder / f"{name}.safetensors", metadata)
    return folder / f"{name}.safetensors"


def drop(shown: Shown, name: str, content: bytes) -> dict:
    half = len(content) // 2
    piece = {"name": name, "size": len(content), "field": ""}
    assert shown.ask("drop.piece", piece | {"offset": 0}, content[:half])["data"] is None
    return shown.ask("drop.piece", piece | {"offset": half}, content[half:])


def edit(shown: Shown, **values) -> dict:
    return shown.ask("form.edit", {"values": QUICK | values})["data"]


def plan(shown: Shown, *sides: dict) -> dict:
    return shown.ask("grid.plan", {"sides": list(sides)})


def test_the_form_has_a_list_of_loras():
    (row,) = [row for row in field_rows() if row.control == "loras"]
    assert (row.name, row.label, row.section) == ("lora", "LoRA", "input")


def test_a_dropped_lora_is_kept_and_given_by_its_content(shown, models):
    content = save(tensors(), METADATA)
    data = drop(shown, "../../my, outline.safetensors", content)["data"]
    (kept,) = models.iterdir()
    assert kept.name == "my, outline.safetensors"
    assert kept.read_bytes() == content
    text = data["form"]["lora"]
    assert "#" in text
    assert "/" not in text
    assert edit(shown, lora=text)["problem"] is None
    (row,) = shown.ask("lora.show", {"text": text})["data"]["rows"]
    facts = row["facts"]
    assert (row["name"], row["weight"], row["problem"]) == ("my, outline", 1, "")
    assert (facts["rank"], facts["alpha"]) == (RANK, str(RANK))
    assert facts["alpha_from"].startswith("assumed")
    assert facts["triggers"] == ("drawn as an outline", "thin")
    assert facts["base"] == "x"
    assert text == f"{row['written']}:1"
    assert data["lora"] == {"file": kept.name, "written": row["written"]}
    changed = f"{row['written']}:-0.35@alpha=2"
    (row,) = shown.ask("lora.show", {"text": changed})["data"]["rows"]
    assert (row["weight"], row["facts"]["alpha"]) == (-0.35, "2")
    again = shown.ask("lora.add", {"text": text, "file": str(kept)})["error"]["text"]
    assert "is there already" in again
    drop(shown, "other.safetensors", content)
    assert [path.name for path in models.iterdir()] == [kept.name], "the same content"


def test_the_alpha_that_is_shown_is_the_one_that_scales(shown, models):
    """As the page types it, over the rank: the same text by hand gives the same scale."""
    config = {"lora_alpha": 8, "use_rslora": True}
    put(models, "rooted", tensors(), {"lora_adapter_metadata": json.dumps(config)})
    put(models, "peft", tensors(seed=2))
    library = shown.ask("lora.library")["data"]
    assert [row["facts"]["alpha"] for row in library] == ["4", "16"], "of no one, of the header"
    assert library[1]["facts"]["alpha_from"] == "8 over the root of the rank in its header"
    (models / "peft.adapter_config.json").write_text('{"lora_alpha": 2}')
    rows = shown.ask("lora.library")["data"]
    assert [row["facts"]["alpha"] for row in rows] == ["2", "16"], "by a file that came later"
    for row in rows:
        (own,) = given.read_loras(row["written"], registry.TINY)
        typed = f"{row['written']}@alpha={row['facts']['alpha']}"
        assert given.read_loras(typed, registry.TINY)[0].layers[0].scale == own.layers[0].scale
    added = shown.ask("lora.add", {"text": "", "file": "peft"})["data"]["text"]
    assert added.endswith("@alpha=2")
    alone = added.removesuffix("@alpha=2")
    (row,) = shown.ask("lora.show", {"text": alone})["data"]["rows"]
    assert (row["facts"]["alpha"], row["facts"]["alpha_from"][:7]) == ("4", "assumed")
    assert given.read_loras(alone, registry.TINY)[0].layers[0].scale == 1


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.safetensors", b"\xff" * 64, ""),
        ("a.safetensors", b"", ""),
        ("a.pt", b"PK\x03\x04" + bytes(60), "is a pickle"),
        ("b.safetensors", save({"lora_te.x.lora_down.weight": torch.ones(1)}), "text encoder"),
        ("c.safetensors", save({"unet.weight": torch.ones(2, 2)}), "no LoRA of CogVideoX"),
        (f"{HOSTILE[:40]}.safetensors", b"{}" * 30, ""),
    ],
)
def test_hostile_files_are_refused_in_one_line(shown, models, name, content, words):
    piece = {"name": name, "size": len(content), "field": "", "offset": 0}
    error = shown.ask("drop.piece", piece, content)["error"]["text"]
    assert words in error
    assert "Internal error" not in error
    assert error.isprintable()
    assert not models.exists() or not list(models.iterdir())
    assert shown.page.desk.form.values["lora"] == ""


def test_what_fits_comes_first_and_the_rest_says_what_it_is_for(shown, models):
    large = next(known for known in registry.CHECKPOINTS if known.name == "CogVideoX-2b")
    put(models, "a large one", tensors(large))
    put(models, "z small", tensors())
    (models / "broken.safetensors").write_bytes(b"no")
    rows = shown.ask("lora.library")["data"]
    assert [row["name"] for row in rows] == ["z small", "a large one", "broken"]
    assert "CogVideoX-2b" in rows[1]["problem"]
    added = shown.ask("lora.add", {"text": "", "file": "a large one"})["data"]
    assert added["rows"][0]["problem"].startswith("It doesn't fit cogvideox-tiny: it is for ")
    assert "download one of those" in added["rows"][0]["problem"]
    problem = edit(shown, lora=added["text"])["problem"]
    assert problem["field"] == "lora"
    assert lora_rows.able_models(added["text"], shown.page.desk.form.models) == []


def test_text_that_names_none_is_said_in_one_line(shown):
    for text in (HOSTILE, "a:99", "nothing here", '"', "a@alpha=0"):
        for action, more in (("lora.show", {}), ("lora.add", {"file": HOSTILE})):
            answer = shown.ask(action, {"text": text} | more)
            said = str(answer.get("error") or answer["data"]["rows"][0]["problem"])
            assert "Internal error" not in said
        problem = edit(shown, lora=text)["problem"]["text"]
        assert "Internal error" not in problem
        assert problem.isprintable()


def test_videos_have_their_loras_and_a_weight_of_0_is_the_base(shown, models):
    put(models, "outline", tensors())
    text = shown.ask("lora.add", {"text": "", "file": "outline"})["data"]["text"]
    shown.submit(lora=text)
    shown.wait()
    assert ("LoRA", "outline 1") in [tuple(fact) for fact in shown.page.roll[0]["facts"]]
    assert shown.page.roll[0]["values"]["lora"] == text
    form = shown.ask("form.load", {"path": shown.page.roll[0]["path"]})["data"]["form"]
    assert form["lora"] == text
    assert shown.submit(lora=text)["data"]["known"] == shown.page.roll[0]["path"]


def test_a_grid_varies_the_weights_of_two_loras(shown, models):
    put(models, "outline", tensors())
    put(models, "shadow", tensors(seed=2))
    edit(shown, lora="outline:1, shadow:0.3@alpha=2")
    across = {"name": "lora weight", "text": "0, 0.5, 1"}
    down = {"name": "lora weight", "text": "0-1:0.5", "replaces": "Shadow"}
    data = plan(shown, across, down)["data"]
    assert data["text"].startswith("3 × 3 = 9 videos")
    assert data["sides"][0]["title"] == "lora weight: outline"
    assert list(data["sides"][0]["labels"]) == ["outline 0", "outline 0.5", "outline 1"]
    assert list(data["sides"][1]["labels"]) == ["shadow 0", "shadow 0.5", "shadow 1"]
    assert "another LoRA" in plan(shown, across, across)["error"]["text"]
    wrong = plan(shown, across | {"replaces": "outlin"})["error"]["text"]
    assert "outline" in wrong
    assert "between -10" in plan(shown, across | {"text": "1, 11"})["error"]["text"]
    sweep = shown.ask("grid.sweep", {"sides": [across]})["data"]["text"]
    assert '"lora:outline#' in sweep
    (row,) = [
        row for row in shown.ask("grid.fields")["data"]["fields"] if row["name"] == "lora weight"
    ]
    assert row["choices"] == ["outline", "shadow"]


def test_grids_of_loras_are_kept_by_content(shown, models, tmp_path):
    path = put(tmp_path, "outline", tensors())
    put(models, "shadow", tensors(seed=2))
    edit(shown, lora=f"{path}:1")
    shown.session.queue.pause(True)
    side = {"name": "lora weight", "text": "0, 1", "replaces": "outline"}
    grid = read_grid(shown.ask("grid.make", {"sides": [side]})["data"]["name"])
    assert str(tmp_path) not in grid.values["lora"]
    assert [grid.cell_values(number)["lora"][-2:] for number in (0, 1)] == [":0", ":1"]
    side = {"name": "lora", "text": f'"{path}:1, shadow:0.5", shadow:2, ""'}
    grid = read_grid(shown.ask("grid.make", {"sides": [side]})["data"]["name"])
    assert grid.axes[0].labels == ("outline 1, shadow 0.5", "shadow 2", "no LoRA")
    assert str(tmp_path) not in "".join(grid.axes[0].values)
    same = plan(shown, {"name": "lora", "text": '"", shadow:0'})["error"]["text"]
    assert "makes no difference" in same
    shown.session.queue.clear()
    shown.session.queue.pause(False)


def test_what_is_predicted_has_the_loras(shown, models, monkeypatch):
    path, plans, predict = put(models, "ink", tensors()), [], planner.predict_plan
    monkeypatch.setattr(planner, "predict_plan", lambda *a: plans.append(predict(*a)) or plans[-1])
    for weight, named in ((0.5, ["ink"]), (0, [])):
        plans.clear()
        edit(shown, lora=f"{path}:{weight}")
        rows = shown.ask("form.predict")["data"]
        assert len(plans) == len(rows) > 0
        assert all([one.name for one in plan.loras] == named for plan in plans)
    edit(shown, lora="none-such")
    assert all(not row["problem"] for row in shown.ask("form.predict")["data"])


def test_what_is_predicted_is_for_the_gpus_that_are_asked_for(shown):
    edit(shown, gpus="2")
    rows = shown.ask("form.predict")["data"]
    assert rows
    assert all("sees no GPU" in row["problem"] for row in rows)
    edit(shown, gpus="1")
    assert all(not row["problem"] for row in shown.ask("form.predict")["data"])
