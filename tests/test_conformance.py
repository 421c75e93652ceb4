"""The one denoising loop gives the latents of each pipeline of diffusers, bit by bit.

Transformers are of the family's kinds, with few random weights. Where the workbench differs on
purpose a test says how.
"""

from __future__ import annotations

import diffusers
import pytest
import torch

from cogvx_nb.pipeline import condition, positions, vae
from cogvx_nb.pipeline.denoise import denoise
from cogvx_nb.pipeline.noise import Noise
from cogvx_nb.planning.guidance import constant, wave

HEIGHT, WIDTH, SEED, STEPS = 32, 48, 42, 4

COMMON = {
    "num_layers": 2,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "out_channels": 4,
    "text_embed_dim": 8,
    "time_embed_dim": 8,
    "max_text_seq_length": 6,
    "sample_height": HEIGHT // 8,
    "sample_width": WIDTH // 8,
    "sample_frames": 9,
}
ROTARY = {"use_rotary_positional_embeddings": True}
LEARNED = {"use_learned_positional_embeddings": True}
OF_15 = ROTARY | {"patch_size_t": 2, "patch_bias": False, "sample_height": 20, "sample_width": 20}

TRANSFORMERS = {
    "2b": {},
    "5b": ROTARY,
    "1.5": OF_15,
    "5b-I2V": ROTARY | LEARNED,
    "1.5-I2V": OF_15 | {"ofs_embed_dim": 8},
    "Fun-5b": ROTARY,
}
"""What differs between the kinds, in the transformer's configuration."""

SCHEDULERS = {
    "DPM": diffusers.CogVideoXDPMScheduler,
    "DDIM": diffusers.CogVideoXDDIMScheduler,
    "plain DDIM": diffusers.DDIMScheduler,
}

COGVIDEOX = ("DPM", "DDIM")

PIPELINES = {
    "text": diffusers.CogVideoXPipeline,
    "image": diffusers.CogVideoXImageToVideoPipeline,
    "clip": diffusers.CogVideoXVideoToVideoPipeline,
    "control": diffusers.CogVideoXFunControlPipeline,
}


class Parts:
    """The parts of a pipeline of a kind, and what it is given."""

    def __init__(self, kind: str, scheduler: str, channels: int = 4) -> None:
        torch.manual_seed(0)
        config = COMMON | TRANSFORMERS[kind] | {"in_channels": channels}
        self.transformer = diffusers.CogVideoXTransformer3DModel(**config).eval()
        positions.cut_learned_positions(self.transformer)
        for name, buffer in self.transformer.named_buffers():
            if "use_learned_positional_embeddings" in TRANSFORMERS[kind] and "pos" in name:
                buffer.normal_()
        self.vae = diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(4, 4, 4, 4),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            scaling_factor=0.7,
            invert_scale_latents=kind.startswith("1.5"),
        ).eval()
        self.scheduler = SCHEDULERS[scheduler](
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
            clip_sample=False,
        )
        self.prompt, self.negative = torch.randn(2, 1, 6, 8)
        self.picture = torch.rand(1, 3, HEIGHT, WIDTH)

    @property
    def config(self):
        return self.transformer.config

    def clip(self, frames: int) -> torch.Tensor:
        """Pixels (frames, 3, height, width) in 0 … 1."""
        return torch.rand(frames, 3, HEIGHT, WIDTH)

    def theirs(self, task: str, guidance: float = 6.0, dynamic: bool = True, **given):
        """Latents of the pipeline of diffusers, without padding."""
        pipe = PIPELINES[task](None, None, self.vae, self.transformer, self.scheduler)
        pipe.set_progress_bar_config(disable=True)
        return pipe(
            height=HEIGHT,
            width=WIDTH,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            use_dynamic_cfg=dynamic,
            generator=torch.Generator().manual_seed(SEED),
            prompt_embeds=self.prompt,
            negative_prompt_embeds=self.negative,
            output_type="latent",
            **given,
        ).frames

    def ours(self, frames: int, condition, noise=None, guidance: float = 6.0, dynamic=True):
        text = torch.cat([self.negative, self.prompt]) if guidance > 1 else self.prompt
        return denoise(
            self.transformer,
            self.scheduler,
            text,
            ((frames - 1) // 4 + 1, HEIGHT // 8, WIDTH // 8),
            STEPS,
            (wave if dynamic else constant)(guidance),
            condition,
            noise or Noise(SEED),
        )


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def as_pixels(clip: torch.Tensor) -> torch.Tensor:
    """(1, 3, frames, height, width) in -1 … 1, as the pipelines of diffusers make them."""
    return (2.0 * clip - 1.0).permute(1, 0, 2, 3)[None]


def same(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    assert ours.isfinite().all()
    assert ours.std() > 0.01
    return torch.equal(ours, theirs)


@pytest.mark.parametrize("scheduler", COGVIDEOX)
@pytest.mark.parametrize("guided", [(6.0, True), (6.0, False), (1.0, True)])
@pytest.mark.parametrize(("kind", "frames"), [("2b", 9), ("2b", 13), ("5b", 9), ("5b", 25)])
def test_text_to_video(kind, frames, scheduler, guided):
    parts = Parts(kind, scheduler)
    given = condition.from_text((frames - 1) // 4 + 1, parts.config)
    ours = parts.ours(frames, given, None, *guided)
    assert same(ours, parts.theirs("text", *guided, num_frames=frames))


@pytest.mark.parametrize("scheduler", COGVIDEOX)
@pytest.mark.parametrize(("frames", "padding"), [(9, 1), (13, 0), (17, 1)])
def test_text_to_video_of_patches_in_time(frames, padding, scheduler):
    parts = Parts("1.5", scheduler)
    given = condition.from_text((frames - 1) // 4 + 1, parts.config)
    assert given.padding == padding
    theirs = parts.theirs("text", num_frames=frames)
    assert same(parts.ours(frames, given), theirs[:, padding:])


def image_to_video(parts: Parts, frames: int, **values) -> torch.Tensor:
    noise, image = Noise(SEED), as_pixels(parts.picture)
    count = (frames - 1) // 4 + 1
    given = condition.from_images({0: image}, count, parts.vae, parts.config, noise, **values)
    return parts.ours(frames, given, noise)


@pytest.mark.parametrize("scheduler", COGVIDEOX)
@pytest.mark.parametrize(("kind", "frames"), [("5b-I2V", 9), ("2b", 13)])
def test_image_to_video(kind, frames, scheduler):
    parts = Parts(kind, scheduler, channels=8)
    theirs = parts.theirs("image", image=parts.picture, num_frames=frames)
    assert same(image_to_video(parts, frames), theirs)


@pytest.mark.parametrize("scheduler", COGVIDEOX)
@pytest.mark.parametrize(("frames", "padding"), [(9, 1), (13, 0)])
def test_image_to_video_of_patches_in_time(frames, padding, scheduler):
    parts = Parts("1.5-I2V", scheduler, channels=8)
    theirs = parts.theirs("image", image=parts.picture, num_frames=frames)[:, padding:]
    scale = condition.image_scale(parts.vae.config, as_diffusers=True)
    assert same(image_to_video(parts, frames, scale=scale), theirs)


def clip_to_video(parts: Parts, clip: torch.Tensor, strength: float) -> torch.Tensor:
    noise = Noise(SEED)
    given = condition.from_clip(as_pixels(clip), strength, STEPS, parts.vae, parts.config, noise)
    return parts.ours(len(clip), given, noise)


@pytest.mark.parametrize("scheduler", COGVIDEOX)
@pytest.mark.parametrize("strength", [0.3, 0.6, 1.0])
@pytest.mark.parametrize(("kind", "frames"), [("2b", 9), ("5b", 13), ("1.5", 13)])
def test_video_to_video(kind, frames, strength, scheduler):
    parts = Parts(kind, scheduler)
    clip = parts.clip(frames)
    theirs = parts.theirs("clip", video=clip, strength=strength)
    assert same(clip_to_video(parts, clip, strength), theirs)


def control_to_video(parts: Parts, clip: torch.Tensor) -> torch.Tensor:
    given = condition.from_control(as_pixels(clip), parts.vae, parts.config)
    return parts.ours(len(clip), given)


@pytest.mark.parametrize("scheduler", ["DDIM", "plain DDIM"])
@pytest.mark.parametrize(("kind", "frames"), [("2b", 9), ("Fun-5b", 13), ("1.5", 13)])
def test_control_to_video(kind, frames, scheduler):
    parts = Parts(kind, scheduler, channels=8)
    clip = parts.clip(frames)
    theirs = parts.theirs("control", control_video=[clip])
    assert same(control_to_video(parts, clip), theirs)


# Where the workbench differs on purpose.


def test_13_frames_are_decoded_as_13():
    parts = Parts("5b", "DPM")
    latents = parts.theirs("text", num_frames=13)
    stock = parts.vae.decode(latents.permute(0, 2, 1, 3, 4) / parts.vae.config.scaling_factor)
    assert stock.sample.shape[2] == 16
    frames = vae.decode_latents(parts.vae, latents, 13)
    assert frames.shape == (1, 13, HEIGHT, WIDTH, 3)
    longer = vae.decode_latents(parts.vae, torch.cat([latents, latents[:, -1:]], dim=1), 17)
    assert torch.equal(frames, longer[:, :13]), "as the beginning of a longer clip"


def test_a_shorter_clip_has_the_first_of_the_learned_positions():
    parts = Parts("5b-I2V", "DPM", channels=8)
    embed, ours = parts.transformer.patch_embed, image_to_video(parts, 5)
    stock = parts.theirs("image", image=parts.picture, num_frames=5)
    assert torch.equal(ours, stock), "what diffusers does with this transformer"
    del embed._get_positional_embeddings
    stock = parts.theirs("image", image=parts.picture, num_frames=5)
    assert not torch.allclose(ours, stock, atol=0.01), "with sines and cosines"
    text, seen = torch.randn(1, 6, 8), torch.randn(1, 2, 8, HEIGHT // 8, WIDTH // 8)
    positions.cut_learned_positions(parts.transformer)
    table = embed.pos_embedding.clone()
    placed = embed(text, seen)
    embed.pos_embedding.zero_()
    assert torch.equal(placed, embed(text, seen) + table[:, : placed.shape[1]].float())
    with pytest.raises(ValueError, match="13 frames are more than the 9 of the model"):
        image_to_video(parts, 13)


def test_the_image_of_1_5_has_the_scale_of_its_authors():
    parts = Parts("1.5-I2V", "DPM", channels=8)
    factor = parts.vae.config.scaling_factor
    assert condition.image_scale(parts.vae.config) == 1.0
    assert condition.image_scale(parts.vae.config, as_diffusers=True) == 1 / factor
    assert condition.image_scale(Parts("5b-I2V", "DPM").vae.config, as_diffusers=True) == factor
    image, scaled = as_pixels(parts.picture), []
    for scale in (None, 1 / factor):
        given = condition.from_images({0: image}, 2, parts.vae, parts.config, Noise(SEED), scale)
        scaled.append(given.channels)
    assert torch.allclose(scaled[0], factor * scaled[1])
    assert torch.equal(scaled[0][:, :1], condition.encode(parts.vae, image, Noise(SEED)))


def test_a_clip_of_any_length_is_changed_by_1_5():
    parts = Parts("1.5", "DPM")
    clip = parts.clip(9)
    with pytest.raises(ValueError, match="not divisible"):
        parts.theirs("clip", video=clip, strength=0.6)
    noise = Noise(SEED)
    given = condition.from_clip(as_pixels(clip), 0.6, STEPS, parts.vae, parts.config, noise)
    assert given.start.shape[1] == 4, "as in training its first latent frame is there twice"
    assert torch.equal(given.start[:, 0], given.start[:, 1])
    assert clip_to_video(parts, clip, 0.6).shape[1] == 3


def test_however_low_the_strength_a_step_is_done():
    parts = Parts("5b", "DPM")
    assert len(parts.theirs("clip", video=parts.clip(9), strength=0.1)) == 0, "no video"
    noise, clip = Noise(SEED), as_pixels(parts.clip(9))
    for strength in (0.1, 1 / STEPS):
        given = condition.from_clip(clip, strength, STEPS, parts.vae, parts.config, noise)
        assert given.first_step == STEPS - 1


def test_an_upright_clip_of_1_5_has_positions_whatever_its_sample_size():
    sizes = {"sample_height": 4, "sample_width": 20}
    parts = Parts("1.5", "DPM")
    parts.transformer.register_to_config(**sizes)
    wide = positions.rotary_positions(parts.config, 4, 4, 12, "cpu")
    tall = positions.rotary_positions(parts.config, 4, 12, 4, "cpu")
    assert wide[0].shape == tall[0].shape == (2 * 6 * 2, 16)


# What the loop lends to its callers.


@pytest.mark.parametrize("scheduler", COGVIDEOX)
@pytest.mark.parametrize(("kind", "latent_frames"), [("5b", 2), ("1.5", 3)])
def test_each_step_tells_its_clean_latents(kind, latent_frames, scheduler):
    parts, seen = Parts(kind, scheduler), []
    before = dict(vars(parts.scheduler))
    given = condition.from_text(latent_frames, parts.config)
    last = denoise(
        parts.transformer,
        parts.scheduler,
        parts.prompt,
        (latent_frames, HEIGHT // 8, WIDTH // 8),
        STEPS,
        constant(1.0),
        given,
        Noise(SEED),
        lambda step, clean: seen.append((step, clean)),
    )
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    assert all(clean.shape == last.shape for _, clean in seen)
    if scheduler == "DDIM":
        assert torch.allclose(seen[-1][1], last, atol=1e-5), "the last step ends there"
    assert vars(parts.scheduler).keys() == before.keys()
    assert all(vars(parts.scheduler)[name] is value for name, value in before.items())


def test_the_guidance_scale_of_each_step():
    assert constant(3.0)([999, 499]) == [3.0, 3.0]
    scales = wave(6.0)([999, 749, 499, 249])
    assert scales != sorted(scales)
    assert all(1 <= scale <= 7 for scale in scales)


# The models of CogVideoX-Fun that fill in, which diffusers doesn't have: by the definition that
# VideoX-Fun gives.


def filled_in(parts: Parts, frames: int, known: dict[int, torch.Tensor]) -> torch.Tensor:
    """Mask and latents (1, latent frames, 5, height / 8, width / 8), of pixels frame by frame."""
    factor = parts.vae.config.scaling_factor
    pixels = torch.full((1, 3, frames, HEIGHT, WIDTH), -1.0)
    unknown = torch.ones(1, 1, frames, HEIGHT, WIDTH)
    for index, image in known.items():
        pixels[:, :, index], unknown[:, :, index] = image[:, :, 0], 0.0
    latents = parts.vae.encode(pixels).latent_dist.mode() * factor
    count, height, width = latents.shape[2:]
    resize = torch.nn.functional.interpolate
    first = resize(1 - unknown[:, :, :1], (1, height, width), mode="trilinear")
    rest = resize(1 - unknown[:, :, 1:], (count - 1, height, width), mode="trilinear")
    mask = torch.cat([first, rest], dim=2) * factor
    return torch.cat([mask, latents], dim=1).permute(0, 2, 1, 3, 4)


@pytest.mark.parametrize("kind", ["2b", "5b"])
@pytest.mark.parametrize("ends", [(0,), (0, -1)])
def test_known_frames_of_a_clip_to_fill_in(kind, ends):
    parts = Parts(kind, "DDIM", channels=9)
    known = {end: as_pixels(torch.rand(1, 3, HEIGHT, WIDTH)) for end in ends}
    given = condition.from_known_frames(known, 13, parts.vae, parts.config, Noise(SEED))
    assert torch.equal(given.channels, filled_in(parts, 13, known))
    mask = given.channels[0, :, 0].mean(dim=(1, 2)) / parts.vae.config.scaling_factor
    assert mask[0] == pytest.approx(1)
    assert not mask[1:].any(), "it is sampled beside the last frame, which only the latents show"
    assert same(parts.ours(13, given), parts.ours(13, given))


def test_noise_is_on_what_is_known_and_drawn_only_where_the_model_wants_it():
    parts = Parts("5b", "DDIM", channels=9)
    image = as_pixels(parts.picture[0][None]).clone()
    image[..., :8] = -1.0
    plain, noisy = Noise(SEED), Noise(SEED)
    before = plain.state[0]
    first = condition.from_known_frames({0: image}, 5, parts.vae, parts.config, plain)
    assert torch.equal(plain.state[0], before), "nothing was drawn"
    second = condition.from_known_frames({0: image}, 5, parts.vae, parts.config, noisy, 0.0563)
    assert not torch.equal(first.channels, second.channels)
    assert torch.equal(first.channels[:, :, :1], second.channels[:, :, :1]), "the mask is the same"


def test_fun_1_5_takes_latent_frames_that_make_whole_patches():
    from cogvx_nb.checkpoints import registry

    fun = registry.get_checkpoint("CogVideoX-Fun-V1.5-5b-InP")
    assert {((frames - 1) // 4 + 1) % 2 for frames in fun.frame_counts} == {0}


def test_a_model_for_more_than_text_sees_zeros_where_only_text_is_given():
    parts = Parts("5b", "DPM", channels=9)
    like = torch.empty(())
    given = condition.from_nothing(3, HEIGHT // 8, WIDTH // 8, parts.config, like)
    assert given.channels.shape == (1, 3, 5, HEIGHT // 8, WIDTH // 8)
    assert not given.channels.any()
    assert parts.ours(9, given).isfinite().all()
