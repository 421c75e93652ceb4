"""Train the interpolation network on moving layers, and measure it on polygons.

``python models/interpolation/train.py --out DIRECTORY`` needs torch, numpy and safetensors. Writes
``interpolation.safetensors`` (float16) and ``log.json`` there.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import layers  # noqa: E402
import polygons  # noqa: E402
from network import Estimate, InterpolationNetwork  # noqa: E402

STAGE_WEIGHTS = (0.1, 0.15, 0.2, 0.3)
"""Of each stage's own blend in the loss, beside 1 of the frame."""

VELOCITY_WEIGHT = 0.01
"""Of the velocities' error in pixels at the start; falls to a tenth, as frames are what counts."""

LOGARITHM_WEIGHT = 0.02

HELD_OUT = 16
"""Scenes of polygons that are measured at the end."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for weights and log")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224, help="pixels a side, a multiple of 32")
    parser.add_argument("--rate", type=float, default=6e-4, help="highest learning rate")
    parser.add_argument("--calm", type=float, default=1.2, help="the larger, the calmer scenes are")
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument("--scenes", type=int, default=HELD_OUT, help="measured at the end")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    network = InterpolationNetwork()
    if options.start:
        network.load_state_dict({k: v.float() for k, v in load_file(options.start).items()})
    network = network.to(options.device, memory_format=torch.channels_last)
    trained, log = train(network, options)
    weights = save(trained, options.out)
    trained.load_state_dict({name: value.float() for name, value in weights.items()})
    log["frames_a_second"] = speed(trained.eval(), options.device)
    log["held_out"] = evaluate(trained, options.device, options.scenes)
    (options.out / "log.json").write_text(json.dumps(log, indent=1))
    print(json.dumps(log["held_out"]), log["frames_a_second"], flush=True)


def save(network: InterpolationNetwork, out: Path) -> dict[str, Tensor]:
    """Writes the weights as float16, and returns them."""
    weights = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    save_file(weights, out / "interpolation.safetensors")
    return weights


def train(network: InterpolationNetwork, options: argparse.Namespace) -> tuple:
    """(average of the weights over the last steps, log) after the given minutes."""
    on_gpu = options.device != "cpu"
    dice, rng = layers.Dice(options.device, options.seed), random.Random(options.seed)
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(network.parameters(), options.rate, weight_decay=1e-4)
    call = torch.compile(network, dynamic=False) if on_gpu else network
    begin, step, rows, progress = time.time(), 0, [], 0.0
    while progress < 1:
        scenes = layers.draw(dice, options.batch, options.size, rng.randint(1, 7), options.calm)
        try:
            loss, decibels = descend(call, scenes, optimizer, options, step, progress)
        except Exception as error:
            if call is network or step:
                raise
            print(f"not compiled: {type(error).__name__}: {str(error)[:300]}", flush=True)
            call = network
            continue
        decay = min(0.999, (step + 1) / (step + 10))
        new, old = list(network.parameters()), list(average.parameters())
        torch._foreach_lerp_(old, [value.detach() for value in new], 1 - decay)
        if step == 0:
            compiled = time.time() - begin
            begin = time.time()  # compiling is no training
        if step % 100 == 0 or step in (10, 30):
            rows.append([step, round(time.time() - begin, 1), loss.item(), decibels.item()])
            print("step {} {} s loss {:.4f} {:.2f} dB".format(*rows[-1]), flush=True)
        if step % 1000 == 999:  # of use if it is stopped before its end
            save(average, options.out)
        step += 1
        progress = (time.time() - begin) / max(options.minutes * 60, 1e-3)
    log = {name: str(value) for name, value in vars(options).items() if name != "out"}
    seconds = round(time.time() - begin, 1)
    log |= {"steps": step, "seconds": seconds, "first_step": round(compiled, 1), "rows": rows}
    return average, log | {"device": device_name(options.device), "torch": torch.__version__}


def device_name(device: str) -> str:
    return "CPU" if device == "cpu" else torch.cuda.get_device_name(device)


def descend(call, scenes: layers.Scenes, optimizer, options, step: int, progress: float) -> tuple:
    """(loss, PSNR of the batch) of one step. It is skipped if its gradient isn't finite."""
    scale = min(1, (step + 1) / 300) * (0.01 + 0.99 * 0.5 * (1 + math.cos(progress * math.pi)))
    for group in optimizer.param_groups:
        group["lr"] = options.rate * scale
    kind = "cpu" if options.device == "cpu" else "cuda"
    with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
        made, estimates = call(scenes.first, scenes.last, scenes.time)
    loss = frame_loss(made, scenes.wanted)
    weight = VELOCITY_WEIGHT * (0.1 if options.start else 1 - 0.9 * progress)
    for estimate, share in zip(estimates, STAGE_WEIGHTS, strict=True):
        loss = loss + share * charbonnier(estimate.blend - scenes.wanted)
        loss = loss + weight * velocity_loss(estimate, scenes)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    parameters = [value for group in optimizer.param_groups for value in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    for value in parameters:  # no transfer to the host, which would wait for the device
        value.grad.copy_(torch.where(norm.isfinite(), value.grad, 0.0))
    optimizer.step()
    with torch.no_grad():
        return loss.detach(), psnr(made.clamp(0, 1), scenes.wanted).mean()


def charbonnier(error: Tensor) -> Tensor:
    return torch.sqrt(error * error + 1e-6).mean()


def frame_loss(made: Tensor, wanted: Tensor) -> Tensor:
    """Error of pixels, and of the bands of a Laplacian pyramid: coarse ones count as much.

    And the logarithm of each frame's mean square, so that easy scenes have to be exact.
    """
    error = made - wanted
    squares = (error**2).flatten(1).mean(dim=1)
    loss = charbonnier(error) + LOGARITHM_WEIGHT * torch.log(squares + 1e-5).mean()
    for _ in range(4):
        small = F.avg_pool2d(error, 2)
        band = error - F.interpolate(small, scale_factor=2, mode="bilinear", align_corners=False)
        loss = loss + 0.5 * charbonnier(band)
        error = small
    return loss


def velocity_loss(estimate: Estimate, scenes: layers.Scenes) -> Tensor:
    error = (estimate.velocity - scenes.velocity) * scenes.visible
    return torch.sqrt(error * error + 1e-2).mean()


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """dB of each picture of a batch in 0 … 1; 100 where they are equal."""
    return -10 * torch.log10(((a - b) ** 2).flatten(1).mean(dim=1).clamp(min=1e-10))


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al., 2004), of each picture of a batch in 0 … 1."""
    line = torch.exp(-((torch.arange(11, device=a.device) - 5.0) ** 2) / (2 * 1.5**2))
    window = (line[:, None] * line / line.sum() ** 2).expand(3, 1, 11, 11)

    def local(x: Tensor) -> Tensor:
        return F.conv2d(x, window, groups=3)

    mean_a, mean_b = local(a), local(b)
    variances = local(a * a) - mean_a**2 + local(b * b) - mean_b**2
    both = local(a * b) - mean_a * mean_b
    light = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
    return (light * (2 * both + 9e-4) / (variances + 9e-4)).flatten(1).mean(dim=1)


@torch.no_grad()
def speed(network: InterpolationNetwork, device: str) -> float:
    """Frames of 480 × 720 a second, one after another, in float16 on a GPU."""
    first, last, count = *torch.rand(2, 1, 3, 480, 736, device=device), 1 if device == "cpu" else 30
    with torch.autocast("cuda", torch.float16, enabled=device != "cpu"):
        network(first, last, torch.full((1,), 0.5, device=device))[0].mean().item()
        start = time.time()
        for _ in range(count):
            network(first, last, torch.full((1,), 0.5, device=device))[0].mean().item()
    return round(count / (time.time() - start), 1)


@torch.no_grad()
def evaluate(network: InterpolationNetwork, device: str, scenes: int) -> dict[str, float]:
    """PSNR and SSIM of every other frame of 25 of polygons, made of its neighbours."""
    found = {"psnr": [], "ssim": [], "blend_psnr": []}
    for seed in range(scenes):
        clip = polygons.clip(seed, 25, device).permute(0, 3, 1, 2).float() / 255
        first, wanted, last = clip[:-2:2], clip[1::2], clip[2::2]
        time_of = torch.full((len(first),), 0.5, device=device)
        made = network(first, last, time_of)[0].clamp(0, 1)
        found["psnr"].append(psnr(made, wanted).mean().item())
        found["ssim"].append(ssim(made, wanted).mean().item())
        found["blend_psnr"].append(psnr((first + last) / 2, wanted).mean().item())
    return {name: round(sum(values) / max(len(values), 1), 4) for name, values in found.items()}


if __name__ == "__main__":
    main()
