"""Train the checkpoint from nothing but this folder: ``python train.py all --out FOLDER``.

Stages, in order: ``text`` (tokenizer and text encoder, which first learns to name what a prompt
says), ``vae``, ``transformer`` (jointly with the text encoder, at a lower rate). Each stage trains
for ``--minutes``, then stores its weights in the output folder; the next one reads them there.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Iterator
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
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

TEXT_TOKENS = 64
LONG_TEXT_TOKENS = 226
"""What the diffusers pipeline pads to unless told otherwise; one batch in seven is, too."""

SPECIAL = ["<pad>", "</s>", "<unk>"]
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
VAE = {
    "block_out_channels": (24, 48, 64, 96),
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "sample_height": world.HEIGHT,
    "sample_width": world.WIDTH,
}
TEXT_ENCODER = {
    "d_model": 128,
    "d_ff": 256,
    "num_layers": 2,
    "num_heads": 4,
    "d_kv": 32,
    "feed_forward_proj": "gated-gelu",
    "dropout_rate": 0.0,
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
MINUTES = {"text": 6.5, "vae": 7.6, "transformer": 7.4}
"""How long each stage trained on one H100 (``text`` on eight of its cores)."""

LATENT_SHARES = {13: 0.2, 25: 0.35, 49: 0.45}
"""How the time of making latents is shared among the lengths."""

DROPPED_PROMPTS = 0.12
"""Share of clips trained without their prompt, for guidance."""


# --- shared ---------------------------------------------------------------------------------------


class Clock:
    """Progress of a stage through its minutes, 0 … 1."""

    def __init__(self, minutes: float) -> None:
        self.start, self.seconds = time.time(), minutes * 60

    @property
    def progress(self) -> float:
        return min(1.0, (time.time() - self.start) / max(self.seconds, 1e-3))

    def steps(self) -> Iterator[int]:
        step = 0
        while self.progress < 1:
            yield step
            step += 1


class Average:
    """Exponential moving average of a model's weights."""

    def __init__(self, model: torch.nn.Module, decay: float) -> None:
        self.model, self.decay, self.shadow = model, decay, copy.deepcopy(model)

    @torch.no_grad()
    def update(self, step: int) -> None:
        decay = min(self.decay, (step + 1) / (step + 10))
        new, old = list(self.model.parameters()), list(self.shadow.parameters())
        torch._foreach_lerp_(old, new, 1 - decay)


def learning_rate(step: int, progress: float, peak: float) -> float:
    """A short warm-up, then half a cosine down to a hundredth of the peak."""
    cosine = 0.5 * (1 + torch.cos(torch.tensor(progress * torch.pi)).item())
    return peak * min(1, (step + 1) / 200) * (0.01 + 0.99 * cosine)


def descend(
    loss: torch.Tensor, optimizer: torch.optim.Optimizer, model: torch.nn.Module, scale: float
) -> None:
    """One step, at ``scale`` times each group's own peak rate. Skips it if not finite."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * scale
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if not torch.isfinite(norm):
        print("skipped a step whose gradient is not finite", flush=True)
        return
    optimizer.step()


def adam(groups: list[tuple[torch.nn.Module, float]], device: str) -> torch.optim.Optimizer:
    described = [
        {"params": list(model.parameters()), "lr": peak, "peak": peak} for model, peak in groups
    ]
    fused = device.startswith("cuda")
    return torch.optim.AdamW(described, betas=(0.9, 0.98), weight_decay=0.01, fused=fused)


def autocast(device: str):
    """bfloat16 matrix products; without the cache, which kept every step's casts on one GPU."""
    return torch.autocast(device.split(":")[0], torch.bfloat16, cache_enabled=False)


def sample(count: int, rng: random.Random) -> list[world.Attributes]:
    return [rng.choice(world.TRAINED) for _ in range(count)]


# --- text -----------------------------------------------------------------------------------------


def make_tokenizer(seed: int = 0) -> PreTrainedTokenizerFast:
    """Words of English and characters of Chinese, as the prompts use them, and common ones."""
    splitter = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.BertNormalizer(lowercase=True, strip_accents=False)]
    )
    pieces = pre_tokenizers.BertPreTokenizer()
    rng = random.Random(seed)
    found = {*prompts.COMMON_WORDS, *prompts.COMMON_CHARACTERS, *prompts.PUNCTUATION}
    texts = [
        prompts.write(prompts.forget(attributes, rng), language, rng)
        for attributes in world.EVERYTHING * 20
        for language in ("en", "zh")
    ]
    for text in [*texts, *found]:
        normal = splitter.normalize_str(text)
        found |= {piece for piece, _ in pieces.pre_tokenize_str(normal)}
    words = SPECIAL + sorted(word for word in found if word == splitter.normalize_str(word).strip())
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = splitter, pieces
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=LONG_TEXT_TOKENS,
    )


def targets(attributes: list[world.Attributes]) -> list[torch.Tensor]:
    """Class numbers of each attribute; the last class is "not said"."""
    columns = zip(*((a.colour, a.shape, a.motion, a.background) for a in attributes), strict=True)
    tables = [list(t) for t in (world.COLOURS, world.SHAPES, world.MOTIONS, world.BACKGROUNDS)]
    return [
        torch.tensor([table.index(v) if v else len(table) for v in column])
        for table, column in zip(tables, columns, strict=True)
    ]


def encode(encoder: T5EncoderModel, ids: torch.Tensor) -> torch.Tensor:
    """Embeddings as the pipeline makes them, that is without a mask over the padding."""
    return encoder(ids)[0]


def train_text(out: Path, minutes: float, device: str, batch: int) -> None:
    """Tokenizer, and a text encoder that can already tell what a prompt says."""
    tokenizer = make_tokenizer()
    config = T5Config(vocab_size=len(tokenizer), **TEXT_ENCODER)
    encoder = T5EncoderModel(config).to(device)
    classes = [len(t) + 1 for t in (world.COLOURS, world.SHAPES, world.MOTIONS, world.BACKGROUNDS)]
    head = torch.nn.Linear(config.d_model, sum(classes)).to(device)
    both = torch.nn.ModuleList([encoder, head])
    optimizer = adam([(both, 2e-3)], device)
    rng, clock = random.Random(1), Clock(minutes)
    for step in clock.steps():
        said = [prompts.forget(a, rng) for a in sample(batch, rng)]
        texts = [prompts.write(a, rng.choice(("en", "zh")), rng) for a in said]
        length = LONG_TEXT_TOKENS if rng.random() < 1 / 8 else TEXT_TOKENS
        ids = tokenizer(texts, padding="max_length", max_length=length, return_tensors="pt")
        pooled = encode(encoder, ids.input_ids.to(device)).amax(dim=1)
        logits = head(pooled).split(classes, dim=1)
        wanted = [t.to(device) for t in targets(said)]
        loss = sum(F.cross_entropy(a, b) for a, b in zip(logits, wanted, strict=True))
        descend(loss, optimizer, both, learning_rate(step, clock.progress, 1.0))
        if step % 50 == 0:
            right = [
                (a.argmax(1) == b).float().mean().item()
                for a, b in zip(logits, wanted, strict=True)
            ]
            print(f"text {step} loss {loss.item():.3f} right {min(right):.3f}", flush=True)
    tokenizer.save_pretrained(out / "tokenizer")
    encoder.save_pretrained(out / "text_encoder")


# --- vae ------------------------------------------------------------------------------------------


def crop(video: torch.Tensor, track: torch.Tensor, size: int, rng: random.Random) -> torch.Tensor:
    """A square around each shape, (batch, frames, 3, size, size): edges are what is to learn."""
    squares = []
    for clip, path in zip(video, track, strict=True):
        x, y, _ = path[rng.randrange(len(path))].tolist()
        left = int(min(max(x - size / 2 + rng.uniform(-16, 16), 0), world.WIDTH - size))
        top = int(min(max(y - size / 2 + rng.uniform(-16, 16), 0), world.HEIGHT - size))
        squares.append(clip[..., top : top + size, left : left + size])
    return torch.stack(squares)


def clips_for_vae(progress: float, rng: random.Random, device: str, share: float) -> torch.Tensor:
    """(batch, 3, frames, height, width): small crops first, whole clips for the rest."""
    whole = progress > share
    count, frames = (6, rng.choice((13, 17, 25))) if whole else (24, 9)
    attributes = sample(count, rng)
    track = world.tracks(attributes, rng.choice((13, 25, 49)), rng)
    start = rng.randrange(track.shape[1] - min(frames, track.shape[1]) + 1)
    track = track[:, start : start + frames]
    frames = track.shape[1] - (track.shape[1] - 1) % 4
    video = world.draw(attributes, track[:, :frames], device)
    if not whole:
        video = crop(video, track[:, :frames], 48, rng)
    return video.permute(0, 2, 1, 3, 4).contiguous()


def reconstruct(vae: AutoencoderKLCogVideoX, video: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(reconstruction, KL divergence from a standard normal a latent value) of a batch of clips.

    An even number of latent frames is padded as the workbench does when it decodes.
    """
    posterior = vae.encode(video).latent_dist
    latents = posterior.sample()
    if latents.shape[2] % 2 == 0:
        latents = torch.cat([latents, latents[:, :, -1:]], dim=2)
    mean, logvar = posterior.mean.float(), posterior.logvar.float()
    divergence = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
    return vae.decode(latents).sample[:, :, : video.shape[2]], divergence


def train_vae(out: Path, minutes: float, device: str, share: float) -> None:
    vae = AutoencoderKLCogVideoX(**VAE).to(device)
    average = Average(vae, 0.998)
    optimizer = adam([(vae, 1e-3)], device)
    rng, clock = random.Random(2), Clock(minutes)
    for step in clock.steps():
        video = clips_for_vae(clock.progress, rng, device, share)
        paper = video[:, :, :, :1, :1]
        weight = 1 + 8 * ((video - paper).abs().amax(dim=1, keepdim=True) > 0.02)
        with autocast(device):
            made, divergence = reconstruct(vae, video)
        error = made.float() - video
        loss = (weight * (error.abs() + 4 * error**2)).mean() + 2e-4 * divergence
        descend(loss, optimizer, vae, learning_rate(step, clock.progress, 1.0))
        average.update(step)
        if step % 100 == 0:
            db = -10 * torch.log10((error.clamp(-2, 2) ** 2).mean() / 4).item()
            seconds = time.time() - clock.start
            print(f"vae {step} {seconds:.0f} s loss {loss.item():.4f} {db:.1f} dB "
                  f"KL {divergence.item():.2f}", flush=True)  # fmt: skip
    vae = average.shadow
    vae.register_to_config(scaling_factor=scaling_factor(vae, rng, device))
    vae.half().save_pretrained(out / "vae")


@torch.no_grad()
def scaling_factor(vae: AutoencoderKLCogVideoX, rng: random.Random, device: str) -> float:
    """What brings the latents to a standard deviation of one."""
    latents = [make_latents(vae, sample(8, rng), 13, rng, device, 1.0)[0] for _ in range(4)]
    return round(1 / torch.cat(latents).float().std().item(), 4)


# --- transformer ----------------------------------------------------------------------------------


@torch.no_grad()
def make_latents(
    vae: AutoencoderKLCogVideoX,
    attributes: list[world.Attributes],
    frames: int,
    rng: random.Random,
    device: str,
    factor: float,
) -> tuple[torch.Tensor, list[world.Attributes]]:
    """Scaled latents (batch, latent frames, 16, height / 8, width / 8) of new clips."""
    video = world.draw(attributes, world.tracks(attributes, frames, rng), device)
    with autocast(device):
        latents = vae.encode(video.permute(0, 2, 1, 3, 4)).latent_dist.sample()
    return latents.permute(0, 2, 1, 3, 4) * factor, attributes


class Clips:
    """Latents of many clips of one length, with several tokenized prompts each."""

    def __init__(self, vae, tokenizer, frames: int, seconds: float, device: str, seed: int) -> None:
        rng, start = random.Random(seed), time.time()
        parts, self.attributes = [], []
        size = 8 if device == "cpu" else 96 if frames == 13 else 48 if frames == 25 else 24
        while time.time() - start < seconds or not parts:
            latents, attributes = make_latents(
                vae, sample(size, rng), frames, rng, device, vae.config.scaling_factor
            )
            parts.append(latents.to(torch.float16))
            self.attributes += attributes
        self.latents, self.frames = torch.cat(parts), frames
        self.ids = torch.stack([self._tokens(tokenizer, rng) for _ in range(6)]).to(device)
        print(
            f"{len(self.latents)} clips of {frames} frames, {time.time() - start:.0f} s", flush=True
        )

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
    generator, losses = torch.Generator().manual_seed(3), []
    clock = Clock(minutes - (time.time() - start) / 60)
    try:
        for step in clock.steps():
            clips = data[step % len(data)]
            size = max(2, round(batch * 442 / (64 + 54 * clips.latents.shape[1])))
            with autocast(device):
                latents, ids = clips.batch(size, generator)
                loss = velocity_loss(pipe, latents, ids, step % 7 == 3)
            descend(loss, optimizer, both, learning_rate(step, clock.progress, 1.0))
            average.update(step)
            losses.append(loss.item())
            if step % 300 == 0:
                report(f"transformer {step}", clock, sum(losses[-300:]) / len(losses[-300:]))
    finally:  # also after an error or an interrupt: minutes of training are in it
        transformer, encoder = average.shadow
        encoder.save_pretrained(out / "text_encoder")
        transformer.half().save_pretrained(out / "transformer")


def report(what: str, clock: Clock, loss: float) -> None:
    memory = torch.cuda.memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
    seconds = time.time() - clock.start
    print(f"{what} {seconds:.0f} s loss {loss:.4f} {memory:.1f} GiB", flush=True)


def velocity_loss(
    pipe: CogVideoXPipeline, latents: torch.Tensor, ids: torch.Tensor, long: bool
) -> torch.Tensor:
    """Mean squared error of the predicted velocity at random noise levels."""
    if long:
        ids = F.pad(ids, (0, LONG_TEXT_TOKENS - TEXT_TOKENS))
    scheduler, device = pipe.scheduler, latents.device
    noise = torch.randn_like(latents)
    times = torch.randint(0, scheduler.config.num_train_timesteps, latents.shape[:1], device=device)
    rotary = pipe._prepare_rotary_positional_embeddings(
        world.HEIGHT, world.WIDTH, latents.shape[1], device
    )
    predicted = pipe.transformer(
        hidden_states=scheduler.add_noise(latents, noise, times),
        encoder_hidden_states=encode(pipe.text_encoder, ids),
        timestep=times,
        image_rotary_emb=rotary,
        return_dict=False,
    )[0]
    return F.mse_loss(predicted.float(), scheduler.get_velocity(latents, noise, times))


def assemble(out: Path) -> CogVideoXPipeline:
    """A pipeline of the stored VAE and text encoder and a new transformer."""
    torch.manual_seed(4)
    transformer = CogVideoXTransformer3DModel(**TRANSFORMER)
    pipe = CogVideoXPipeline(
        tokenizer=PreTrainedTokenizerFast.from_pretrained(out / "tokenizer"),
        text_encoder=T5EncoderModel.from_pretrained(out / "text_encoder"),
        vae=AutoencoderKLCogVideoX.from_pretrained(out / "vae"),
        transformer=transformer,
        scheduler=CogVideoXDPMScheduler(**SCHEDULER),
    )
    pipe.register_to_config(_name_or_path="")
    pipe.scheduler.save_pretrained(out / "scheduler")
    pipe.save_config(out)
    return pipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=[*MINUTES, "all"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--minutes", type=float, help="how long each stage trains")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=64, help="clips of 25 frames a step")
    parser.add_argument("--crops", type=float, default=0.5, help="share of the VAE's time on crops")
    parser.add_argument("--latents", type=float, default=45, help="seconds of making latents")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.enable_cudnn_sdp(False)
    for stage in MINUTES if options.stage == "all" else [options.stage]:
        train(stage, options.minutes or MINUTES[stage], options)


def train(stage: str, minutes: float, options: argparse.Namespace) -> None:
    out, device = options.out, options.device
    if stage == "text":
        train_text(out, minutes, device, 3 * options.batch)
    elif stage == "vae":
        train_vae(out, minutes, device, options.crops)
    else:
        train_transformer(out, minutes, device, options.batch, options.latents)


if __name__ == "__main__":
    main()
