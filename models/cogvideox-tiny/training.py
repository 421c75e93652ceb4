"""What the three stages of ``train.py`` share: time, averages, steps."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Iterator

import torch
import world

TEXT_TOKENS = 64
LONG_TEXT_TOKENS = 226
"""What the diffusers pipeline pads to unless told otherwise; one batch in seven is, too."""


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
