"""The faster encoder of the VAE gives what that of diffusers does, in less memory."""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace

import diffusers
import pytest
import torch
import world
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cogvx_nb.checkpoints import registry, store
from cogvx_nb.pipeline import condition, vae_blocks, vae_encoder
from cogvx_nb.pipeline.vae import use_fast_vae
from cogvx_nb.pipeline.vae_encoder import FastEncoder
from cogvx_nb.planning.plan import Plan
from cogvx_nb.planning.vae_cost import decode_seconds, encode_bytes, encode_seconds

KIND = diffusers.AutoencoderKLCogVideoX


@pytest.fixture(scope="module")
def embedded(tiny):
    return pair(KIND.from_pretrained(tiny.folder / "vae"))


@pytest.fixture(scope="module")
def small():
    """The blocks of CogVideoX-5b with a sixteenth of their channels."""
    torch.manual_seed(0)
    return pair(KIND(block_out_channels=(8, 16, 16, 32), norm_num_groups=4).eval())


def pair(stock):
    fast = copy.deepcopy(stock)
    use_fast_vae(fast)
    return stock, fast


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def pixels(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def encoded(vae, clips: torch.Tensor) -> torch.Tensor:
    """Mean and logarithm of the variance."""
    return vae.encode(clips).latent_dist.parameters


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("frames", [1, 5, 9, 13, 17, 21, 25])
@pytest.mark.parametrize("which", ["embedded", "small"])
def test_the_fast_encoder_equals_the_stock_one(which, frames, request):
    stock, fast = request.getfixturevalue(which)
    clips = pixels(2 if frames == 9 else 1, 3, frames, 32, 48)
    latents = encoded(fast, clips)
    assert latents.shape[1:] == (32, (frames - 1) // 4 + 1, 4, 6)
    assert distance(latents, encoded(stock, clips)) < 1e-5


@pytest.mark.parametrize("frames", [1, 13, 17])
def test_a_few_frames_at_a_time_are_the_same(small, frames, monkeypatch):
    stock, fast = small
    clips = pixels(1, 3, frames, 32, 48)
    monkeypatch.setattr(vae_blocks, "CALL_BYTES", 3 * 32 * 48 * 8 * 4)  # 3 frames at full size
    calls, convolve = [], torch.nn.functional.conv3d
    monkeypatch.setattr(
        torch.nn.functional,
        "conv3d",
        lambda x, *rest, **more: calls.append(x.shape[2]) or convolve(x, *rest, **more),
    )
    latents = encoded(fast, clips)
    assert calls[0] == 2 + min(3, frames), "of the first convolution, whose output decides"
    monkeypatch.undo()
    assert distance(latents, encoded(stock, clips)) < 1e-5


@pytest.mark.parametrize(("frames", "size"), [(1, (96, 144)), (9, (64, 96)), (13, (48, 96))])
def test_tiles_are_those_of_the_stock_encoder(small, frames, size, tiny):
    clips, latents = pixels(1, 3, frames, *size), []
    for vae in small:
        vae.enable_tiling(*tiny.checkpoint.tile)
        latents.append(encoded(vae, clips))
        vae.disable_tiling()
    assert distance(*latents) < 1e-5
    assert distance(latents[1], encoded(small[0], clips)) > 1e-3, "in tiles, not whole"


def test_tiles_as_wide_as_the_clip_have_none_beside_them(small, monkeypatch):
    _, fast = small
    shapes, whole = [], FastEncoder._whole
    monkeypatch.setattr(
        FastEncoder, "_whole", lambda self, x: shapes.append(tuple(x.shape[-2:])) or whole(self, x)
    )
    fast.enable_tiling(48, 144)
    try:
        latents = encoded(fast, pixels(1, 3, 1, 96, 144))
        encoded(fast, pixels(1, 3, 1, 48, 64))
    finally:
        fast.disable_tiling()
    assert shapes == [(48, 144), (48, 144), (16, 144), (48, 64)]
    assert latents.shape[-2:] == (12, 18)


def test_gradients_and_copies_are_left_to_diffusers(small):
    stock, fast = small
    clips = pixels(1, 3, 5, 16, 16)
    with torch.enable_grad():
        latents = encoded(fast, clips)
        latents.sum().backward()
    assert distance(latents.detach(), encoded(stock, clips)) < 1e-5
    assert fast.encoder.conv_in.conv.weight.grad.isfinite().all()
    fast.zero_grad()
    other = copy.deepcopy(fast)
    assert other._encode._vae is other


@pytest.mark.parametrize("frames", [5, 13, 21])
def test_an_even_number_of_latents_has_the_right_times(small, frames, monkeypatch):
    """As in a longer clip of 8 N + 1 frames, apart from the statistics of group norms, which are of
    other frames: without them the latents are the same. So nothing needs to be padded."""
    _, fast = small

    def constant(norm, x, border):
        return norm.weight, norm.bias

    monkeypatch.setattr(vae_encoder, "norm_factors", constant)
    longer = pixels(1, 3, frames + 4, 16, 16)
    count = (frames - 1) // 4 + 1
    latents = encoded(fast, longer[:, :, :frames])
    assert distance(latents, encoded(fast, longer)[:, :, :count]) < 1e-6
    later = longer.clone()
    later[:, :, frames - 1] += 1
    changed = encoded(fast, later[:, :, :frames])
    assert torch.equal(changed[:, :, :-1], latents[:, :, :-1]), "a latent sees no later frame"
    assert distance(changed[:, :, -1], latents[:, :, -1]) > 1e-4


def test_13_frames_have_nearly_the_latents_of_a_longer_clip(embedded):
    """By at most 1.2 % in clips of the embedded model, because of the statistics."""
    clip = torch.from_numpy(world.clip(world.HELD_OUT[1], 25)).permute(3, 0, 1, 2)[None, :, :17]
    clip = clip.float() / 127.5 - 1
    for vae in embedded:
        short = vae.encode(clip[:, :, :13]).latent_dist.mean
        assert 0 < distance(short, vae.encode(clip).latent_dist.mean[:, :, :4]) < 0.03


@pytest.mark.parametrize("frames", [8, 12, 14])
def test_other_numbers_of_frames_are_refused(small, frames):
    with pytest.raises(ValueError, match=f"{frames} frames can't be encoded"):
        condition.encode(small[0], pixels(1, 3, frames, 16, 16))


class LiveBytes(TorchDispatchMode):
    """The most bytes of tensors that are alive at once, without those from before."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known[key] = size
            self.live += size
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._free, key)

    def _free(self, key: int) -> None:
        self.live -= self._known.pop(key)


def counted_bytes(fast: bool, clip: tuple, tile: tuple | None, monkeypatch) -> int:
    """Peak of an encode of a size in bfloat16, counted with tensors that have no data."""
    if fast:  # as on a GPU, where it takes no copy of what it is of
        monkeypatch.setattr(
            vae_blocks,
            "_statistics",
            lambda x, groups, *_: (x[0, 0, 0, :groups, None].float(),) * 2,
        )
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with FakeTensorMode():
            vae, counter = KIND(), LiveBytes()
            if tile:
                vae.enable_tiling(*tile)
            if fast:
                vae._encode = FastEncoder(vae)
            with counter:
                vae.encode(torch.empty(1, 3, *clip))
    finally:
        torch.set_default_dtype(default)
    return counter.peak


GPU, CPU, TILED = ("cuda:0", False), ("cpu", False), ("cuda:0", True)


@pytest.mark.parametrize(
    ("way", "frames", "height", "width"),
    [
        (GPU, 1, 480, 720),
        (GPU, 9, 480, 720),
        (GPU, 13, 480, 720),
        (GPU, 49, 480, 720),
        (GPU, 1, 768, 1360),
        (GPU, 17, 768, 1360),
        (GPU, 21, 384, 672),
        (TILED, 1, 480, 720),
        (TILED, 17, 480, 720),
        (CPU, 1, 480, 720),
        (CPU, 13, 480, 720),
        (CPU, 49, 480, 720),
        (CPU, 21, 384, 672),
    ],
)
def test_memory_is_as_predicted(way, frames, height, width, monkeypatch):
    device, tiled = way
    model = store.random_model(registry.get_checkpoint("5b"))
    plan = Plan(model, device, "bfloat16", "no_offload", tiled, frames, height, width, True)
    tile = plan.tile if tiled else None
    counted = counted_bytes(device != "cpu", (frames, height, width), tile, monkeypatch)
    assert 0.9 < encode_bytes(plan, frames) / counted < 1.1
    if (way, frames) == (GPU, 49):
        assert counted < 4 * 2**30, "diffusers takes 6.2 GiB"


def test_time_grows_with_what_is_encoded():
    model = store.random_model(registry.get_checkpoint("5b"))
    plan = Plan(model, "cuda:0", "bfloat16", "no_offload", False, 49, 480, 720, True)
    seconds = encode_seconds(plan, 49, 1.0)
    assert 0 < seconds < decode_seconds(plan, 1.0)
    assert encode_seconds(plan, 98, 3.0) == pytest.approx(6 * seconds)
    assert encode_seconds(replace(plan, tiled=True), 49, 1.0) > seconds
