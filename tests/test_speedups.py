"""Speed-ups: equal to diffusers where they are exact, and near it where they are not."""

from __future__ import annotations

import copy
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import diffusers
import pytest
import torch
from conftest import CIRCLE, denoised

from cogvx_nb import progress, settings
from cogvx_nb.errors import ModelError
from cogvx_nb.pipeline import compilation, generate, loader, optimization
from cogvx_nb.pipeline.failures import SpeedUpFailed
from cogvx_nb.pipeline.vae import use_fast_vae
from cogvx_nb.pipeline.vae_decoder import FastDecoder
from cogvx_nb.planning import planner, probe, request, speedups


@pytest.fixture
def run(tiny, here):
    """Denoises 9 frames on a changed plan; returns the latents of the last step and the events."""

    def run(steps: int = 4, **changes) -> tuple[torch.Tensor, list]:
        video = request.make_request(tiny, CIRCLE, frames=9, steps=steps)
        loaded = loader.load_pipeline(replace(planner.plan_request(video, here), **changes))
        return denoised(video, loaded)

    yield run
    loader.release_pipeline()


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return (torch.norm(a - b) / torch.norm(b)).item()


@pytest.mark.slow
def test_compiled_blocks_equal_stock_and_compile_once(run):
    stock, _ = run()
    compiled, seen = run(compiled=True)
    assert distance(compiled, stock) < 1e-4
    assert [e.stage for e in seen if isinstance(e, progress.StageStarted)][1] == "compile"
    kept = [
        key for key in probe.probe_machine().compiled if "9x96x144x2-float32-plain-stock" in key
    ]
    assert len(kept) == 1, "noted once, whoever compiled it"
    assert any(settings.compiled_dir().rglob("*.so")), "the code is on disk"
    back, seen = run()
    assert torch.equal(back, stock), "and the stock ones come back"
    _, seen = run(compiled=True)
    assert "compile" not in [e.stage for e in seen if isinstance(e, progress.StageStarted)]


@pytest.mark.slow
def test_compiled_blocks_round_as_eager_ones(tiny):
    """In half precision; with the compiler's default options the error is four times as large."""
    folder = tiny.folder / "transformer"
    kind = diffusers.CogVideoXTransformer3DModel
    block = kind.from_pretrained(folder, torch_dtype=torch.bfloat16).eval().transformer_blocks[0]
    width, times = block.norm1.norm.normalized_shape[0], block.norm1.linear.in_features
    noise = torch.Generator().manual_seed(0)
    shapes = (2, 128, width), (2, 32, width), (2, times)
    given = [torch.randn(shape, generator=noise).bfloat16() for shape in shapes]
    found = {}
    with torch.no_grad():
        stock = block(*given)[0]
        for exact in (True, False):
            toggle = compilation.CompileToggle(block, exact)
            toggle.enable(True)
            found[exact] = distance(toggle(*given)[0], stock)
    assert found[True] < 2e-3
    assert found[True] < found[False] / 2


@pytest.mark.slow
def test_a_step_needs_no_code_that_was_not_compiled_before(tiny, here, monkeypatch):
    def trace(function, dynamic, options):
        return compiler(function, dynamic=dynamic, backend="eager")

    compiler, runs = torch.compile, []
    monkeypatch.setattr(torch, "compile", trace)
    torch.compiler.reset()
    video = request.make_request(tiny, CIRCLE, frames=9, steps=1)
    loaded = loader.load_pipeline(replace(planner.plan_request(video, here), compiled=True))
    blocks = loaded.pipe.transformer.transformer_blocks
    hooks = [one.register_forward_hook(lambda *ignored: runs.append(1)) for one in blocks]
    graphs = torch._dynamo.utils.counters["stats"]
    before = graphs["unique_graphs"]
    loaded.compile()
    assert len(runs) == optimization.COMPILED_BLOCKS < len(blocks)
    compiled = graphs["unique_graphs"]
    assert compiled > before
    generate.generate_frames(video, loaded)
    assert len(runs) == optimization.COMPILED_BLOCKS + len(blocks)
    assert graphs["unique_graphs"] == compiled
    for hook in hooks:
        hook.remove()
    loader.release_pipeline()
    torch.compiler.reset()


@pytest.fixture
def new_workers():
    """Afterwards torch compiles in new processes: those of a test have its environment."""
    yield
    loader.release_pipeline()
    torch._inductor.async_compile.shutdown_compile_workers()
    torch.compiler.reset()


@pytest.mark.slow
def test_without_a_compiler_it_goes_on_without(new_workers, run, monkeypatch):
    stock, _ = run()
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    torch.compiler.reset()
    with torch._inductor.config.patch(force_disable_caches=True):
        found, seen = run(compiled=True)
    (change,) = [e for e in seen if isinstance(e, progress.PlanChanged)]
    assert not change.plan.compiled
    assert str(change).startswith("compiling the blocks failed: ")
    assert "; trying again: cogvideox-tiny on cpu" in str(change)
    assert torch.equal(found, stock)


def test_clips_that_nothing_was_compiled_for_run_eagerly():
    class Block(torch.nn.Module):
        def forward(self, hidden_states):
            return hidden_states + 1

    toggle = compilation.CompileToggle(Block(), exact=True)
    toggle.enable(True, batches=(2,))
    toggle._off = True  # compiled code would be refused
    assert toggle(hidden_states=torch.zeros(1, 3)).tolist() == [[1.0] * 3]
    with pytest.raises(SpeedUpFailed):
        toggle(hidden_states=torch.zeros(2, 3))


def test_the_compiler_is_configured_in_every_thread():
    toggle = compilation.CompileToggle(torch.nn.Identity(), exact=True)
    toggle.enable(True)

    def settings_after_a_call() -> tuple:
        config = torch._dynamo.config
        toggle(torch.ones(1))
        return config.recompile_limit, config.fail_on_recompile_limit_hit, config.suppress_errors

    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(settings_after_a_call).result()
    assert found == (compilation.MAX_COMPILED_SHAPES, True, False)


def test_a_plan_never_records_compiled_code_that_did_not_run():
    toggle = compilation.CompileToggle(torch.nn.Identity(), exact=True)
    assert toggle(1) == 1
    toggle.enable(True)
    off = "a variable of torch switches its compiler off"
    with torch._dynamo.config.patch(disable=True), pytest.raises(SpeedUpFailed, match=off):
        toggle(1)
    toggle._off = True  # as with another of its variables
    with pytest.raises(SpeedUpFailed, match=off):
        toggle(1)

    def fail(error):
        raise error

    toggle._off, toggle._used = False, fail
    with pytest.raises(SpeedUpFailed, match=r"^a kernel$"):
        toggle(RuntimeError("a kernel\nfailed"))
    with pytest.raises(torch.OutOfMemoryError):
        toggle(torch.OutOfMemoryError("CUDA out of memory"))
    toggle.enable(False)
    assert toggle(1) == 1


@pytest.mark.slow
def test_what_did_not_compile_is_dropped_before_the_next_is_loaded(tiny, here, monkeypatch):
    pytest.importorskip("torchao")
    video = request.make_request(tiny, CIRCLE, steps=1)
    loaded = loader.load_pipeline(
        replace(planner.plan_request(video, here), compiled=True, quantized="int8")
    )
    first = [weakref.ref(part) for part in (loaded.pipe.transformer, loaded.pipe.text_encoder)]
    alive, load = [], loader._load_with_fallbacks

    def loading(*arguments):
        alive.extend(part() for part in first if part() is not None)
        return load(*arguments)

    def warm(pipe, plan):
        raise SpeedUpFailed("compiled", "no compiler")

    monkeypatch.setattr(optimization, "compile_blocks", warm)
    monkeypatch.setattr(loader, "_load_with_fallbacks", loading)
    generated = generate.generate_frames(video, loaded)
    assert (generated.plan.compiled, generated.plan.quantized) == (False, "")
    assert alive == []
    loader.release_pipeline()


def test_a_released_pipeline_leaves_nothing(tiny, here):
    video = request.make_request(tiny, CIRCLE, steps=1)
    loaded = loader.load_pipeline(planner.plan_request(video, here))
    parts = [weakref.ref(part) for part in (loaded.pipe.transformer, loaded.pipe.vae)]
    loader.release_pipeline()
    assert [part() for part in parts] == [None, None]
    with pytest.raises(ModelError, match="load it again"):
        generate.generate_frames(video, loaded)


def test_pinned_parameters_share_blocks(monkeypatch):
    part = torch.nn.Sequential(*(torch.nn.Linear(63, 65) for _ in range(40)))
    part[0].half()
    before = {name: value.clone() for name, value in part.state_dict().items()}
    monkeypatch.setattr(optimization, "PINNED_BLOCK", 2**18)
    optimization.pin_parameters(part)
    after = part.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    blocks = {
        p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in part.parameters()
    }
    assert len(blocks) == 3
    assert sum(blocks.values()) < 1.1 * sum(p.nbytes for p in part.parameters())


@pytest.mark.slow
def test_8_bit_quantization_is_near(run):
    pytest.importorskip("torchao")
    stock, _ = run(steps=1)
    near, _ = run(steps=1, quantized="int8")
    with pytest.raises(ModelError, match=r"quantized .* weights can't be saved"):
        loader._loaded.pipe.save_pretrained("nowhere")
    assert 0 < distance(near, stock) < 0.3
    assert torch.equal(run(steps=1)[0], stock), "and the stock ones come back"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "size", "tile"),
    [((2, 16, 2), (6, 8), None), ((2, 16, 5), (6, 8), None), ((1, 16, 3), (12, 18), (48, 80))],
)
def test_the_fast_decoder_equals_the_stock_one(tiny, shape, size, tile):
    stock, fast = (
        diffusers.AutoencoderKLCogVideoX.from_pretrained(tiny.folder / "vae") for _ in range(2)
    )
    use_fast_vae(fast)
    if tile:
        stock.enable_tiling(*tile)
        fast.enable_tiling(*tile)
    latents = torch.randn(*shape, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, decoded = stock.decode(latents).sample, fast.decode(latents).sample
    assert decoded.shape == expected.shape
    assert distance(decoded, expected) < 1e-5


def test_tiles_as_wide_as_the_clip_have_none_beside_them(tiny, monkeypatch):
    fast = diffusers.AutoencoderKLCogVideoX.from_pretrained(tiny.folder / "vae")
    use_fast_vae(fast)
    fast.enable_tiling(48, 144)
    latents = torch.randn(1, 16, 3, 12, 18, generator=torch.Generator().manual_seed(0))
    shapes, whole = [], FastDecoder._whole
    monkeypatch.setattr(
        FastDecoder, "_whole", lambda self, z: shapes.append(tuple(z.shape[-2:])) or whole(self, z)
    )
    with torch.no_grad():
        decoded = fast.decode(latents).sample
        fast.disable_tiling()
        whole = fast.decode(latents).sample
    assert shapes == [(6, 18), (6, 18), (2, 18), (12, 18)]
    assert decoded.shape == whole.shape
    assert (decoded - whole).abs().mean() < 0.1


def test_the_fast_decoder_is_for_gpus(tiny, here):
    loaded = loader.load_pipeline(planner.plan_request(request.make_request(tiny, CIRCLE), here))
    fast = isinstance(loaded.pipe.vae._decode, FastDecoder)
    assert fast is (loaded.plan.device != "cpu")


def test_the_fast_decoder_leaves_gradients_and_copies_to_diffusers(tiny, tmp_path):
    kind = diffusers.AutoencoderKLCogVideoX
    stock, fast = (kind.from_pretrained(tiny.folder / "vae") for _ in range(2))
    use_fast_vae(fast)
    latents = torch.randn(1, 16, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    trained = fast.decode(latents).sample
    assert distance(trained, stock.decode(latents).sample) < 1e-5
    trained.sum().backward()
    assert fast.decoder.conv_in.conv.weight.grad.isfinite().all()
    other = copy.deepcopy(fast)
    assert other._decode._vae is other
    fast.save_pretrained(tmp_path)
    weights = kind.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(weights[name], value) for name, value in stock.state_dict().items())


def test_each_speed_up_takes_effect_on_a_pipeline():
    others = {"step_cache", "idle_guidance", "joined_tokens"}  # by the loop, and with compiled
    assert set(optimization.APPLY) | others == {row.field for row in speedups.SPEED_UPS.values()}
