"""Other attentions: as exact as the stock one, named by whoever wants them."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from conftest import CIRCLE, denoised, run_cogvx

from cogvx_nb.errors import RequestError
from cogvx_nb.pipeline import attention, loader
from cogvx_nb.pipeline.failures import SpeedUpFailed
from cogvx_nb.planning import planner, request, speedups
from cogvx_nb.results import result


@pytest.fixture
def latents(tiny, here):
    """Runs 9 frames in 4 steps with an attention; returns the latents of the last step."""

    def run(attention: str) -> torch.Tensor:
        video = request.make_request(tiny, CIRCLE, frames=9, steps=4)
        loaded = loader.load_pipeline(
            planner.plan_request(replace(video, attention=attention), here)
        )
        return denoised(video, loaded)[0]

    yield run
    loader.release_pipeline()


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["native", "_native_math"])
def test_other_attentions_give_the_same(latents, attention):
    stock, other = latents("sdpa"), latents(attention)
    assert torch.norm(other - stock) / torch.norm(stock) < 1e-4
    assert torch.equal(latents("sdpa"), stock), "and the stock one comes back"


def test_one_that_is_not_there_is_said(tiny, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "flash_attn.cute.interface", None)
    attention.attention_processor.cache_clear()
    video = request.make_request(tiny, CIRCLE, steps=2)
    with pytest.raises(RequestError, match=r"'nothing': use one of sdpa, flash4, sage1, flash"):
        loader.load_pipeline(planner.plan_request(replace(video, attention="nothing"), here))
    with pytest.raises(RequestError, match=r"attention = 'flash4': isn't available here"):
        attention.attention_processor("flash4", compiled=True)
    with pytest.raises(RequestError, match=r"attention = 'sage': isn't available here"):
        loader.load_pipeline(planner.plan_request(replace(video, attention="sage"), here))


def test_one_that_the_device_does_not_have_is_one_line(tiny, here):
    fitted = planner.plan_request(
        replace(request.make_request(tiny, CIRCLE, steps=2), attention="_native_cudnn"), here
    )
    with pytest.raises(RequestError, match=r"attention = '_native_cudnn': .*; use sdpa") as caught:
        loader.load_pipeline(fitted)
    assert "\n" not in str(caught.value)


def test_flash_attention_that_fails_gives_way_to_sdpa(tiny, here, monkeypatch):
    fitted = planner.plan_request(request.make_request(tiny, CIRCLE, steps=2), here)
    monkeypatch.setitem(sys.modules, "flash_attn.cute.interface", None)
    monkeypatch.setitem(sys.modules, "flash_attn.cute", None)
    attention.attention_processor.cache_clear()
    reason = speedups.SPEED_UPS["flash4"].reason
    chosen = replace(fitted, attention="flash4", reasons=(*fitted.reasons, reason))
    missing = loader.load_pipeline(chosen).plan
    assert (missing.attention, missing.reasons[:-1]) == ("sdpa", fitted.reasons)
    assert "attention = 'flash4': isn't available here" in missing.reasons[-1]
    monkeypatch.setattr(
        attention, "check_attention_package", lambda name: None
    )  # there, and no kernel for this
    assert loader.load_pipeline(chosen).plan.attention == "sdpa"
    attention.attention_processor.cache_clear()


def sage_stand_in(query, key, value, tensor_layout, smooth_k):
    """SageAttention 1 as far as tokens go: whole blocks, and a key of zeros has the score 0."""
    assert (tensor_layout, smooth_k) == ("NHD", False)
    assert query.shape[1] % 128 == key.shape[1] % 64 == value.shape[1] % 64 == 0
    parts = (part.transpose(1, 2) for part in (query, key, value))
    return torch.nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2)


@pytest.mark.parametrize("count", [1, 64, 100, 280])
def test_incomplete_blocks_are_filled_without_a_trace(count):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, count, 3, 64) for _ in range(3))
    before = key.clone()
    key, value = key + 3, value + 1
    found = attention.whole_blocks(sage_stand_in, 0 * query, key, value)
    assert found.shape == query.shape
    assert (found - value.mean(1, keepdim=True)).abs().max() < 1e-5, "even attention is exact"
    assert torch.equal(key, before + 3), "sageattn takes the mean off in place"
    parts = (part.transpose(1, 2) for part in (4 * query, key, value))
    exact = torch.nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2)
    found = attention.whole_blocks(sage_stand_in, 4 * query, key, value)
    assert (found - exact).norm() / exact.norm() < 0.01


def test_8_bit_attention_without_its_package_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "sageattention", None)
    remedy = r"attention = 'sage1': isn't available here .*\[sage\].* or use sdpa"
    with pytest.raises(RequestError, match=remedy):
        attention.attention_processor("sage1", compiled=True)


def test_one_that_fails_half_way_is_said():
    def fail(error):
        raise error

    with pytest.raises(RequestError, match="attention = 'native': a kernel; use sdpa"):
        attention._reporting("native", fail, False)(RuntimeError("a kernel\nfailed"))
    with pytest.raises(SpeedUpFailed, match="attention = 'flash4': a kernel; use sdpa") as caught:
        attention._reporting("flash4", fail, False)(RuntimeError("a kernel"))
    assert caught.value.name == "flash4"
    with pytest.raises(torch.OutOfMemoryError):
        attention._reporting("flash4", fail, False)(torch.OutOfMemoryError("memory"))


@pytest.mark.slow
def test_the_attention_is_kept_with_the_video(tmp_path, here):
    flags = [
        "--prompt",
        CIRCLE,
        "--frames",
        "9",
        "--steps",
        "2",
        "--output",
        "a.mp4",
        "--attention",
        "native",
    ]
    done = run_cogvx("generate", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    settings = result.read_result(tmp_path / "a.mp4").sidecar_json()
    assert settings["plan"]["attention"] == "native"
    assert run_cogvx("reproduce", "a.mp4", cwd=tmp_path).returncode == 0
    video = request.make_request(*_recorded_request(settings))
    assert planner.replay_plan(video, here, settings["plan"]).attention == "native"
    older = {name: value for name, value in settings["plan"].items() if name != "attention"}
    assert planner.replay_plan(video, here, older).attention == "sdpa"


def _recorded_request(settings: dict):
    from cogvx_nb.checkpoints import store

    return store.locate_checkpoint("tiny"), settings["request"]["prompt"]


def test_the_processor_takes_clips_without_rotary_embeddings():
    from diffusers import CogVideoXTransformer3DModel

    from cogvx_nb.pipeline.attention import AttentionProcessor

    torch.manual_seed(0)
    model = CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        num_layers=1,
        text_embed_dim=8,
        time_embed_dim=8,
        sample_width=4,
        sample_height=4,
        sample_frames=9,
        max_text_seq_length=4,
    )
    values = (torch.randn(1, 3, 16, 4, 4), torch.randn(1, 4, 8), torch.tensor([7]))
    with torch.no_grad():
        stock = model(*values).sample
        attend = torch.nn.functional.scaled_dot_product_attention
        model.set_attn_processor(
            AttentionProcessor(
                lambda q, k, v: attend(*(x.transpose(1, 2) for x in (q, k, v))).transpose(1, 2)
            )
        )
        assert torch.allclose(model(*values).sample, stock, atol=1e-5)
