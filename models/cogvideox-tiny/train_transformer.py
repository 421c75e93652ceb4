"""The transformer, jointly with the text encoder at a lower rate."""

from __future__ import annotations

import copy
import random
import time
from pathlib import Path

import prompts
import torch
import torch.nn.functional as F
import world
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from train_text import embed
from train_vae import encode
from training import (
    LONG_TEXT_TOKENS,
    TEXT_TOKENS,
    Average,
    Clock,
    adam,
    autocast,
    descend,
    learning_rate,
    sample,
)
from transformers import PreTrainedTokenizerFast, T5EncoderModel

TRANSFORMER = {
    "num_layers": 6,
    "num_attention_heads": 4,
    "attention_head_dim": 64,
    "time_embed_dim": 64,
    "text_embed_dim": 128,
    "max_text_seq_length": TEXT_TOKENS,
    "sample_height": world.HEIGHT // 8,
    "sample_width": world.WIDTH // 8,
    "sample_frames": 49,
    "use_rotary_positional_embeddings": True,
}
SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "snr_shift_scale": 1.0,
    "timestep_spacing": "trailing",
}
LATENT_SHARES = {13: 0.2, 25: 0.35, 49: 0.45}
"""How the time of making latents is shared among the lengths."""

DROPPED_PROMPTS = 0.12
"""Share of clips trained without their prompt, for guidance."""


class Clips:
    """Latents of many clips of one length, with several tokenized prompts each."""

    def __init__(self, vae, tokenizer, frames: int, seconds: float, device: str, seed: int) -> None:
        rng, start = random.Random(seed), time.time()
        parts, self.attributes = [], []
        size = 8 if device == "cpu" else 96 if frames == 13 else 48 if frames == 25 else 24
        while time.time() - start < seconds or not parts:
            attributes = sample(size, rng)
            latents = self.encode(vae, attributes, frames, rng, device)
            scaled = latents.transpose(1, 2) * vae.config.scaling_factor
            parts.append(scaled.to(torch.float16))
            self.attributes += attributes
        self.latents, self.frames = torch.cat(parts), frames
        self.ids = torch.stack([self._tokens(tokenizer, rng) for _ in range(6)]).to(device)
        print(
            f"{len(self.latents)} clips of {frames} frames, {time.time() - start:.0f} s", flush=True
        )

    def encode(self, vae, attributes, frames, rng, device) -> torch.Tensor:
        """Latents of new clips, (batch, 16, latent frames, height / 8, width / 8)."""
        return encode(vae, attributes, frames, rng, device).sample()

    def _tokens(self, tokenizer, rng: random.Random) -> torch.Tensor:
        texts = [
            ""
            if rng.random() < DROPPED_PROMPTS
            else prompts.write(prompts.forget(a, rng), rng.choice(("en", "zh")), rng)
            for a in self.attributes
        ]
        return tokenizer(
            texts,
            padding="max_length",
            max_length=TEXT_TOKENS,
            truncation=True,
            return_tensors="pt",
        ).input_ids

    def batch(self, size: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        rows = torch.randint(len(self.latents), (size,), generator=generator).to(
            self.latents.device
        )
        which = int(torch.randint(len(self.ids), (1,), generator=generator))
        return self.latents[rows].float(), self.ids[which][rows]


def train_transformer(out: Path, minutes: float, device: str, batch: int, seconds: float) -> None:
    pipe = assemble(out).to(device)
    pipe.register_to_config(_name_or_path="")
    pipe.scheduler.save_pretrained(out / "scheduler")
    pipe.save_config(out)
    vae, transformer, encoder = pipe.vae, pipe.transformer, pipe.text_encoder
    start = time.time()
    data = [
        Clips(vae, pipe.tokenizer, frames, seconds * share, device, frames)
        for frames, share in LATENT_SHARES.items()
    ]
    transformer.train()
    both = torch.nn.ModuleList([transformer, encoder])
    average = Average(both, 0.9993)
    optimizer = adam([(transformer, 1e-3), (encoder, 2.5e-4)], device)
    clock = Clock(minutes - (time.time() - start) / 60)
    fit(pipe, data, velocity_loss, average, optimizer, clock, batch, lambda: store(average, out))


def fit(pipe, data, loss_of, average, optimizer, clock, batch, keep) -> None:
    """Train on clips of each length in turn until the clock says stop, and keep what was learnt.

    Args:
        loss_of: called with the pipeline, latents, token ids and whether prompts are long.
        batch: clips of 25 frames a step; as many values of other lengths.
    """
    device = pipe.transformer.device.type
    generator, losses = torch.Generator().manual_seed(3), []
    try:
        for step in clock.steps():
            clips = data[step % len(data)]
            size = max(2, round(batch * 442 / (64 + 54 * (clips.frames // 4 + 1))))
            with autocast(device):
                latents, ids = clips.batch(size, generator)
                loss = loss_of(pipe, latents, ids, step % 7 == 3)
            descend(loss, optimizer, average.model, learning_rate(step, clock.progress, 1.0))
            average.update(step)
            losses.append(loss.detach())
            if step % 3000 == 2999:
                keep()
            if step % 300 == 0:
                report(f"transformer {step}", clock, torch.stack(losses).mean().item())
                losses.clear()
    finally:  # also after an error or an interrupt: minutes of training are in it
        keep()


def store(average: Average, out: Path) -> None:
    transformer, encoder = copy.deepcopy(average.shadow)
    encoder.save_pretrained(out / "text_encoder")
    transformer.half().save_pretrained(out / "transformer")


def report(what: str, clock: Clock, loss: float) -> None:
    memory = torch.cuda.memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    seconds = time.time() - clock.start
    print(f"{what} {seconds:.0f} s loss {loss:.4f} {memory:.1f} GiB", flush=True)


def velocity_loss(
    pipe: CogVideoXPipeline,
    latents: torch.Tensor,
    ids: torch.Tensor,
    long: bool,
    condition: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared error of the predicted velocity at random noise levels.

    Args:
        condition: of the latents' shape, for a transformer that takes both.
    """
    if long:
        ids = F.pad(ids, (0, LONG_TEXT_TOKENS - TEXT_TOKENS))
    scheduler, device = pipe.scheduler, latents.device
    noise = torch.randn_like(latents)
    times = torch.randint(0, scheduler.config.num_train_timesteps, latents.shape[:1], device=device)
    rotary = pipe._prepare_rotary_positional_embeddings(
        world.HEIGHT, world.WIDTH, latents.shape[1], device
    )
    noisy = scheduler.add_noise(latents, noise, times)
    predicted = pipe.transformer(
        hidden_states=noisy if condition is None else torch.cat([noisy, condition], dim=2),
        encoder_hidden_states=embed(pipe.text_encoder, ids),
        timestep=times,
        image_rotary_emb=rotary,
        return_dict=False,
    )[0]
    return F.mse_loss(predicted.float(), scheduler.get_velocity(latents, noise, times))


def assemble(out: Path) -> CogVideoXPipeline:
    """A pipeline of the stored VAE and text encoder and a new transformer."""
    torch.manual_seed(4)
    transformer = CogVideoXTransformer3DModel(**TRANSFORMER)
    return CogVideoXPipeline(
        tokenizer=PreTrainedTokenizerFast.from_pretrained(out / "tokenizer"),
        text_encoder=T5EncoderModel.from_pretrained(out / "text_encoder"),
        vae=AutoencoderKLCogVideoX.from_pretrained(out / "vae"),
        transformer=transformer,
        scheduler=CogVideoXDPMScheduler(**SCHEDULER),
    )
