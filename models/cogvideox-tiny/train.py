"""Train the checkpoint from nothing but this folder: ``python train.py all --out FOLDER``.

Stages, in order: ``text`` (tokenizer and text encoder, which first learns to name what a prompt
says), ``vae``, ``transformer`` (jointly with the text encoder, at a lower rate), and ``i2v``, the
transformer of the image-to-video model, which goes to ``FOLDER-i2v``. Each stage trains for
``--minutes``, then stores its weights in the output folder; the next one reads them there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from train_i2v import train_i2v
from train_text import train_text
from train_transformer import train_transformer
from train_vae import train_vae

MINUTES = {"text": 6.5, "vae": 7.6, "transformer": 18.6, "i2v": 10.4}
"""How long each stage trained on one H100 (``text`` on eight CPU cores, ``i2v`` on an H200)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stage", choices=[*MINUTES, "all"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--minutes", type=float, help="how long each stage trains")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=128, help="clips of 25 frames a step")
    parser.add_argument("--crops", type=float, default=0.5, help="share of the VAE's time on crops")
    parser.add_argument("--latents", type=float, default=60, help="seconds of making latents")
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
        train_text(out, minutes, device, batch=192)
    elif stage == "vae":
        train_vae(out, minutes, device, options.crops)
    elif stage == "i2v":
        beside = out.resolve().with_name(f"{out.resolve().name}-i2v")
        train_i2v(out, beside, minutes, device, options.batch, options.latents)
    else:
        train_transformer(out, minutes, device, options.batch, options.latents)


if __name__ == "__main__":
    main()
