"""Scenes of another kind than the training's, to judge interpolation with: polygons with stripes.

Hard edges and straight sides, fills of stripes, rings and plain colours, over tiles, bars or a
plain ground that pans; motion along arcs with turning and growing. Drawn at three times the size
and averaged, so that edges are exact. Nothing of it is shared with ``layers.py``.
"""

from __future__ import annotations

import math
import random

import torch
from torch import Tensor

HEIGHT, WIDTH = 128, 192
FINER = 3


def clip(seed: int, frames: int, device: str = "cpu") -> Tensor:
    """uint8 (frames, height, width, 3), the same for the same seed."""
    rng = random.Random(f"polygons {seed}")
    ground = Ground(rng)
    shapes = [Polygon(rng) for _ in range(rng.randint(1, 4))]
    ys = (torch.arange(HEIGHT * FINER, device=device)[:, None] + 0.5) / FINER
    xs = (torch.arange(WIDTH * FINER, device=device)[None] + 0.5) / FINER
    drawn = []
    for frame in range(frames):
        time = frame / max(frames - 1, 1)
        picture = ground.colours(xs, ys, time)
        for shape in shapes:
            inside, colours = shape.at(xs, ys, time)
            picture = torch.where(inside[..., None], colours, picture)
        small = picture.view(HEIGHT, FINER, WIDTH, FINER, 3).mean(dim=(1, 3))
        drawn.append(small.round().byte())
    return torch.stack(drawn)


def colour(rng: random.Random) -> Tensor:
    return torch.tensor([rng.uniform(0, 255) for _ in range(3)])


class Ground:
    """Tiles, bars or one colour, panning at a constant speed."""

    def __init__(self, rng: random.Random) -> None:
        self.kind = rng.choice(("tiles", "bars", "plain"))
        self.colours_of = colour(rng), colour(rng)
        self.pan = [rng.choice((0, 1)) * rng.uniform(-60, 60) for _ in range(2)]
        self.cell = rng.uniform(12, 34)

    def colours(self, xs: Tensor, ys: Tensor, time: float) -> Tensor:
        """(height, width, 3) in 0 … 255."""
        x = ((xs + self.pan[0] * time) / self.cell).floor()
        y = ((ys + self.pan[1] * time) / self.cell).floor()
        # Some tiles differ from their neighbours, or the pattern would fit itself at each cell.
        odd = {
            "tiles": (x * 7 + y * 13 + (x * y) % 5) % 3 < 1,
            "bars": (x * 5 + (x * x) % 7) % 3 + 0 * y < 1,
            "plain": (x + y) < -1e9,
        }[self.kind]
        return torch.where(odd[..., None], *(c.to(xs.device) for c in self.colours_of))


class Polygon:
    """A convex polygon or a star on an arc, turning and growing at constant rates."""

    def __init__(self, rng: random.Random) -> None:
        self.sides, self.star = rng.randint(3, 7), rng.random() < 0.3
        self.radius = rng.uniform(12, 34)
        self.middle = rng.uniform(0.25, 0.75) * WIDTH, rng.uniform(0.25, 0.75) * HEIGHT
        self.arc, self.start = rng.uniform(10, 50), rng.uniform(0, 2 * math.pi)
        self.swing = rng.uniform(-3.0, 3.0) * rng.choice((0, 1, 1, 1))
        self.turn = rng.uniform(-1.5, 1.5) * rng.choice((0, 1))
        self.growth = rng.uniform(-0.6, 0.6) * rng.choice((0, 0, 1))
        self.fill = rng.choice(("stripes", "rings", "plain"))
        self.colours_of, self.width = (colour(rng), colour(rng)), rng.uniform(3, 9)

    def at(self, xs: Tensor, ys: Tensor, time: float) -> tuple[Tensor, Tensor]:
        """(inside (height, width), colours (height, width, 3))."""
        angle = self.start + self.swing * time
        x = xs - self.middle[0] - self.arc * math.cos(angle)
        y = ys - self.middle[1] - self.arc * math.sin(angle)
        scale, turn = math.exp(self.growth * (time - 0.5)), self.turn * time
        u = (x * math.cos(turn) + y * math.sin(turn)) / scale
        v = (y * math.cos(turn) - x * math.sin(turn)) / scale
        wedge = math.pi / self.sides
        folded = (torch.atan2(v, u).remainder(2 * wedge) - wedge).abs()
        length = torch.sqrt(u * u + v * v)
        reach = length * torch.cos(folded)
        if self.star:
            reach = reach * 0.55 + 1.1 * length * torch.sin(folded)
        inside = reach < self.radius * math.cos(wedge)
        line = {"stripes": u + 0.3 * v, "rings": reach, "plain": 1e9 + 0 * u}[self.fill]
        odd = (torch.sin(line / self.width) + torch.sin(line / self.width * 0.53)) > 0
        return inside, torch.where(odd[..., None], *(c.to(xs.device) for c in self.colours_of))
