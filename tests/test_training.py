"""Training a LoRA: the loss, resuming, and the file, by very short runs on the embedded model."""

from __future__ import annotations

import copy
import dataclasses
import threading

import pytest
import torch
import world
from PIL import Image
from safetensors.torch import load_file

from cogvx_nb.checkpoints import registry, store
from cogvx_nb.errors import Cancelled, OutOfMemory, OutputExists, RequestError
from cogvx_nb.loras.given import read_loras
from cogvx_nb.loras.reader import read_lora
from cogvx_nb.loras.scales import HEADER
from cogvx_nb.pipeline.lora_merge import merge_loras
from cogvx_nb.pipeline.weights import load_component, load_scheduler
from cogvx_nb.training import draw_examples, encoding, examples, train_lora
from cogvx_nb.training.adapters import LoraLinear
from cogvx_nb.training.loop import Training, velocity_loss
from cogvx_nb.training.recipe import Recipe

SHORT = Recipe(rank=2, alpha=1.0, steps=4, batch=2, frames=9, save_every=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    one = world.Attributes("red", "circle", "right", "black")
    frames = [Image.fromarray(frame) for frame in world.clip(one, 13)]
    frames[0].save(folder / "a.png", save_all=True, append_images=frames[1:], duration=125)
    frames[3].save(folder / "b.png")
    frames[6].save(folder / "c.png")
    (folder / "a.txt").write_text("a red circle moving right")
    (folder / "captions.csv").write_text("file,caption\nb.png,a red circle\n")
    return folder


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("loras")
    return train_lora(data, "one", recipe=SHORT, caption="a circle", trigger="red", folder=folder)


@pytest.fixture(scope="module")
def transformer():
    model = store.locate_checkpoint("tiny")
    return load_component("transformer", model, torch.float32).eval().requires_grad_(False)


def test_captions_are_of_the_list_the_text_beside_or_the_default(data):
    found = examples.read_examples(data, "a circle", "red")
    assert [e.caption for e in found] == [
        "a red circle moving right",
        "a red circle",
        "red, a circle",
    ]
    with pytest.raises(RequestError, match=r"c\.png.*has no caption"):
        examples.read_examples(data)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("./b.png,a circle", r"\./b\.png"),
        ("B.png,a circle", r"B\.png.*captions\.csv"),
        ("b.png,a circle, red", r"the row of b\.png.*in quotes"),
    ],
)
def test_captions_that_would_be_lost_are_refused(rows, told, data, tmp_path):
    (tmp_path / "b.png").write_bytes((data / "b.png").read_bytes())
    (tmp_path / "captions.csv").write_text(f"file,caption\n{rows}\n")
    with pytest.raises(RequestError, match=told):
        examples.read_examples(tmp_path, "a circle")


@pytest.mark.parametrize(("name", "form"), [("a.jpg", "MPO"), ("a.tif", "TIFF")])
def test_photos_of_phones_and_pages_are_pictures(name, form, tmp_path):
    pages = [Image.new("RGB", (144, 96), colour) for colour in ("red", "blue")]
    pages[0].save(tmp_path / name, form, save_all=True, append_images=pages[1:])
    (example,) = examples.read_examples(tmp_path, "red")
    pixels = examples.read_pixels(example, registry.TINY, 9)
    assert pixels.shape == (1, 96, 144, 3)
    assert pixels[..., 0].min() > 240


def test_every_example_is_checked_before_a_model_is_loaded(data, tmp_path, monkeypatch):
    monkeypatch.setattr(encoding, "make_part", lambda *_: pytest.fail("a model was loaded"))
    recipe = dataclasses.replace(SHORT, frames=49)  # of which a.png has 13
    with pytest.raises(RequestError, match=r"a\.png.*has 13 frames"):
        train_lora(data, "long", recipe=recipe, caption="a circle", folder=tmp_path)


@pytest.mark.parametrize("values", [{"style": "chequered"}, {"clips": 687}, {"clips": 0}])
def test_styles_and_numbers_of_clips_that_there_are_not(values):
    with pytest.raises(RequestError, match=next(iter(values))):
        draw_examples(**values)


def test_memory_that_runs_out_has_a_remedy(data, tmp_path, monkeypatch):
    def advance(training):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(Training, "advance", advance)
    with pytest.raises(OutOfMemory, match="fewer frames, batch 1 or a smaller rank"):
        train_lora(data, "large", recipe=SHORT, caption="a circle", folder=tmp_path)


def test_the_loss_is_that_of_diffusers_training_script(transformer):
    """examples/cogvideo/train_cogvideox_lora.py: clean latents, weighted by 1 / (1 - ᾱ)."""
    draw = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(2, 3, 16, 12, 18, generator=draw) for _ in range(2))
    text, times = torch.randn(2, 64, 128, generator=draw), torch.tensor([300, 800])
    scheduler = load_scheduler(store.locate_checkpoint("tiny"))
    seen = {}
    hook = transformer.register_forward_hook(lambda m, args, out: seen.update(out=out[0]))
    found = velocity_loss(transformer, scheduler, clean, noise, times, text)
    hook.remove()
    noisy = scheduler.add_noise(clean, noise, times)
    predicted = scheduler.get_velocity(seen["out"], noisy, times)
    weights = (1 / (1 - scheduler.alphas_cumprod[times])).view(-1, 1, 1, 1, 1)
    assert found.item() == pytest.approx((weights * (predicted - clean) ** 2).mean().item(), 1e-4)


def test_the_file_is_read_with_its_alpha_and_says_what_it_is(trained):
    assert len(trained.losses) == 4
    assert all(0 < loss < 10 for loss in trained.losses)
    found = read_lora(trained.path, registry.TINY)
    assert {(layer.rank, layer.alpha, layer.alpha_from) for layer in found.layers} == {
        (2, 1.0, HEADER)
    }
    assert len(found.layers) == 36
    assert found.metadata["modelspec.trigger_phrase"] == "red"
    assert found.metadata["ss_base_model_version"] == "cogvideox-tiny"


def test_a_run_that_is_taken_up_again_gives_the_same_weights(trained, data, tmp_path):
    cancel, steps = threading.Event(), []

    def stop(event):
        steps.append(event.step)
        if event.step == 3:
            cancel.set()

    options = {"recipe": SHORT, "caption": "a circle", "trigger": "red", "folder": tmp_path}
    with pytest.raises(Cancelled):
        train_lora(data, "one", on_event=stop, cancel=cancel, **options)
    assert not (tmp_path / "one.safetensors").exists()
    options["recipe"] = dataclasses.replace(SHORT, save_every=3)  # changes no weight
    again = train_lora(data, "one", on_event=stop, **options)
    assert steps == [1, 2, 3, 4]
    weights = load_file(again.path)
    for name, tensor in load_file(trained.path).items():
        assert torch.equal(weights[name], tensor), name
    assert again.losses == trained.losses


def test_another_file_of_the_name_is_left_alone(trained, data):
    options = {"caption": "a circle", "folder": trained.path.parent}
    before = trained.path.read_bytes()
    same = train_lora(data, "one", recipe=SHORT, trigger="red", **options)
    assert same.path.read_bytes() == before
    with pytest.raises(OutputExists, match="choose another name"):
        train_lora(data, "one", recipe=SHORT, **options)


def test_adapters_act_as_the_merged_weights_do(trained, transformer):
    draw = torch.Generator().manual_seed(1)
    inputs = {
        "hidden_states": torch.randn(1, 3, 16, 12, 18, generator=draw),
        "encoder_hidden_states": torch.randn(1, 64, 128, generator=draw),
        "timestep": torch.tensor([500]),
        "return_dict": False,
    }
    merged, adapted = copy.deepcopy(transformer), copy.deepcopy(transformer)
    (used,) = read_loras(f"{trained.path}:10", registry.TINY)
    merge_loras(merged, [used], "cpu")
    tensors = load_file(trained.path)
    for layer in used.layers:
        pair = (tensors[name].float() for name in (layer.down, layer.up))
        adapter = LoraLinear(adapted.get_submodule(layer.module), *pair, 10 * layer.scale)
        adapted.set_submodule(layer.module, adapter)
    with torch.no_grad():
        before, changed, again = (one(**inputs)[0] for one in (transformer, adapted, merged))
    assert (changed - before).abs().max() > 2e-4
    assert torch.allclose(changed, again, atol=2e-5)


@pytest.mark.parametrize(
    ("name", "value"),
    [("rank", 0), ("rank", 3.0), ("alpha", 0), ("steps", 1.5), ("learning_rate", 2e9)],
)
def test_numbers_out_of_bounds_are_refused(name, value):
    with pytest.raises(RequestError, match=name):
        Recipe(**{name: value})
