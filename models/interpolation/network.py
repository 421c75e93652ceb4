"""The network that makes a frame between two others.

Coarse to fine, each stage improves an estimate of how pixels move from the wanted frame to either
neighbour, and of which neighbour shows what the other hides; a last stage corrects the blend. The
idea is that of IFNet (Huang et al., "Real-Time Intermediate Flow Estimation for Video Frame
Interpolation", ECCV 2022, arXiv:2011.06294); sizes, heads, training data and weights are our own.
Needs torch alone, so that ``train.py`` runs where little else is installed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STAGES = ((8, 112, 5), (4, 88, 5), (2, 72, 5), (1, 48, 5))
"""Each stage: by how much its pictures are reduced, channels, residual convolutions."""

MULTIPLE = 32
"""Height and width are padded to it: the coarsest stage halves its reduced pictures twice."""

SHORTENING = 8.0
"""Velocities go into a stage divided by it, so that usual ones are near 1."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one stage knows of a batch of wanted frames.

    Attributes:
        velocity: (batch, 4, height, width), pixels in x and y from the wanted frame to the first
            one, as if that were a whole interval away, and the same to the last one.
        preference: (batch, 1, height, width), logit of taking the first frame's pixel.
        first, last: (batch, 3, height, width), the neighbours moved to the wanted time.
    """

    velocity: Tensor
    preference: Tensor
    first: Tensor
    last: Tensor

    @property
    def blend(self) -> Tensor:
        """(batch, 3, height, width), the wanted frame as far as it is known."""
        return torch.lerp(self.last, self.first, self.preference.sigmoid())


def warp(picture: Tensor, flow: Tensor, mode: str) -> Tensor:
    """``picture`` looked up at each pixel's place plus ``flow``; the border is repeated.

    Args:
        picture: (batch, channels, height, width).
        flow: (batch, 2, height, width), pixels in x and y.
        mode: ``bilinear`` or ``bicubic``.
    """
    height, width = flow.shape[-2:]
    xs = torch.arange(width, device=flow.device, dtype=torch.float32)
    ys = torch.arange(height, device=flow.device, dtype=torch.float32)[:, None]
    x = (flow[:, 0].float() + xs) * (2 / max(width - 1, 1)) - 1
    y = (flow[:, 1].float() + ys) * (2 / max(height - 1, 1)) - 1
    grid = torch.stack([x, y], dim=-1)
    return F.grid_sample(picture.float(), grid, mode, "border", align_corners=True)


def resized(values: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return values
    return F.interpolate(values, scale_factor=scale, mode="bilinear", align_corners=False)


def convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1), nn.LeakyReLU(0.2, True))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(width, width, 3, 1, 1)
        self.weight = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.layer(x) * self.weight, 0.2)


class Stage(nn.Module):
    """Improves velocity and preference, seen at a fraction of the size."""

    def __init__(self, inputs: int, reduction: int, width: int, depth: int) -> None:
        super().__init__()
        self.reduction = reduction
        self.stem = nn.Sequential(
            convolution(inputs, width // 2, 2), convolution(width // 2, width, 2)
        )
        self.body = nn.Sequential(*(Residual(width) for _ in range(depth)))
        self.head = nn.Sequential(nn.Conv2d(width, 5 * 16, 3, 1, 1), nn.PixelShuffle(4))
        nn.init.normal_(self.head[0].weight, std=1e-3)
        nn.init.zeros_(self.head[0].bias)

    def forward(self, pictures: Tensor, velocity: Tensor | None) -> tuple[Tensor, Tensor]:
        """Changes of velocity (batch, 4, …) and preference (batch, 1, …)."""
        seen = resized(pictures, 1 / self.reduction)
        if velocity is not None:
            velocity = resized(velocity, 1 / self.reduction) / (SHORTENING * self.reduction)
            seen = torch.cat([seen, velocity], dim=1)
        found = resized(self.head(self.body(self.stem(seen))).float(), self.reduction)
        return found[:, :4] * (SHORTENING * self.reduction), found[:, 4:]


class Correction(nn.Module):
    """Corrects the blend of the moved neighbours: edges, and what neither of them shows."""

    def __init__(self, inputs: int, width: int = 48, wide: int = 72) -> None:
        super().__init__()
        self.start = nn.Sequential(nn.PixelUnshuffle(2), convolution(4 * inputs, width))
        self.fine = convolution(width, width)
        self.down = convolution(width, wide, 2)
        self.coarse = nn.Sequential(Residual(wide), Residual(wide))
        self.up = convolution(wide, width)
        self.join = convolution(2 * width, width)
        self.end = nn.Sequential(nn.Conv2d(width, 4 * 4, 3, 1, 1), nn.PixelShuffle(2))
        nn.init.normal_(self.end[0].weight, std=1e-3)
        nn.init.zeros_(self.end[0].bias)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is added to the blend (batch, 3, …) and to the preference (batch, 1, …)."""
        x = self.start(x)
        fine = self.fine(x)
        coarse = self.up(resized(self.coarse(self.down(fine)), 2))
        found = self.end(self.join(torch.cat([fine, coarse], dim=1))).float()
        return found[:, :3], found[:, 3:]


class InterpolationNetwork(nn.Module):
    """A frame between two others, at any time between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            Stage(18 if place else 7, *stage) for place, stage in enumerate(STAGES)
        )
        self.correction = Correction(18)

    def forward(self, first: Tensor, last: Tensor, time: Tensor) -> tuple[Tensor, list[Estimate]]:
        """
        Args:
            first, last: float (batch, 3, height, width) in 0 … 1, sides multiples of 32.
            time: float (batch,), between 0 (``first``) and 1 (``last``).

        Returns:
            The frame, (batch, 3, height, width) in about 0 … 1, and what each stage knew.
        """
        time = time.view(-1, 1, 1, 1).float()
        height, width = first.shape[-2:]
        clock = time.expand(-1, 1, height, width)
        neighbours = torch.cat([first, last, clock], dim=1)
        velocity, preference, estimates = None, torch.logit(1 - clock, 1e-3), []
        moved: tuple[Tensor, ...] = ()
        # Bicubic keeps edges sharper, and takes longer to train.
        mode = "bilinear" if self.training else "bicubic"
        for stage in self.stages:
            if velocity is None:
                velocity, more = stage(neighbours, None)
            else:
                change, more = stage(torch.cat([neighbours, *moved, preference], dim=1), velocity)
                velocity = velocity + change
            preference = preference + more
            moved = (
                warp(first, velocity[:, :2] * time, mode),
                warp(last, velocity[:, 2:] * (1 - time), mode),
            )
            estimates.append(Estimate(velocity, preference, *moved))
        parts = [neighbours, *moved, preference, velocity / SHORTENING]
        added, more = self.correction(torch.cat(parts, dim=1))
        preference = preference + more
        return torch.lerp(moved[1], moved[0], preference.sigmoid()) + added, estimates
