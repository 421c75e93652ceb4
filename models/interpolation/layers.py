"""Moving layers: what the interpolation network is trained on, drawn on the GPU as it is needed.

A scene is a background and a few shapes over it. Each has a texture, an outline with a soft edge,
and a motion: shift, turn and growth, slightly accelerated, under a camera that moves as well. It is
drawn at 0, at 1 and at a time between; how its pixels move is known exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TEXTURES = 3
"""Made for each scene of a batch, and dealt out among all of the batch's layers."""

TEXELS = 128

FASTEST = 44.0
"""Pixels between 0 and 1, of a shape or of the camera."""


@dataclass(frozen=True, slots=True)
class Scenes:
    """A batch of scenes.

    Attributes:
        first, wanted, last: float (batch, 3, size, size) in 0 … 1, at 0, ``time`` and 1.
        time: float (batch,), of the wanted frame.
        velocity: (batch, 4, size, size), as of ``network.Estimate``.
        visible: (batch, 1, size, size), 1 where the velocity can be seen and 0 elsewhere: the
            inside of a plain background.
    """

    first: Tensor
    wanted: Tensor
    last: Tensor
    time: Tensor
    velocity: Tensor
    visible: Tensor


class Dice:
    """Random tensors of one generator on one device."""

    def __init__(self, device: str, seed: int) -> None:
        self.device = device
        self.generator = torch.Generator(device).manual_seed(seed)

    def uniform(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        found = torch.rand(shape, device=self.device, generator=self.generator)
        return low + (high - low) * found

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, device=self.device, generator=self.generator)

    def happens(self, share: float, *shape: int) -> Tensor:
        """1 with a probability of ``share``, else 0."""
        return (self.uniform(*shape) < share).float()

    def below(self, end: int, *shape: int) -> Tensor:
        return torch.randint(end, shape, device=self.device, generator=self.generator)


def textures(dice: Dice, count: int) -> tuple[Tensor, Tensor]:
    """(textures, 3, texels, texels) in 0 … 1, and which of them are plain (textures,).

    A field of each texture (noise of several sizes, waves or a gradient, smooth or in steps) goes
    from one colour to another; some have noise of all colours instead.
    """
    noise = octaves(dice, count, 1)
    line = torch.linspace(-1, 1, TEXELS, device=dice.device)
    angle = dice.uniform(count, 1, 1, 1, high=2 * math.pi)
    ramp = line[:, None] * angle.sin() + line * angle.cos()
    number = torch.exp(dice.uniform(count, 1, 1, 1, low=math.log(4), high=math.log(48)))
    waves = torch.sin(ramp * number + 2 * noise * dice.happens(0.5, count, 1, 1, 1))
    kind = dice.uniform(count, 1, 1, 1)
    field = torch.where(kind < 0.5, noise, torch.where(kind < 0.8, waves, ramp))
    steps = dice.below(4, count, 1, 1, 1) + 1.0
    stepped = ((field * steps * 4).clamp(-20, 20).sin() * 4).clamp(-1, 1)
    field = torch.where(dice.uniform(count, 1, 1, 1) < 0.3, stepped, field)
    field = (0.5 + 0.5 * field).clamp(0, 1)
    colours = dice.uniform(2, count, 3, 1, 1)
    nearer = torch.lerp(colours[0], colours[1], dice.uniform(count, 1, 1, 1))
    made = torch.lerp(colours[0], nearer, field)
    colourful = (0.5 + 0.4 * octaves(dice, count, 3)).clamp(0, 1)
    made = torch.where(dice.uniform(count, 1, 1, 1) < 0.2, colourful, made)
    plain = dice.happens(0.3, count)
    return torch.where(plain[:, None, None, None] > 0, colours[0], made), plain


def octaves(dice: Dice, count: int, channels: int) -> Tensor:
    """Noise of several sizes, (textures, channels, texels, texels), within about -2 … 2."""
    persistence = dice.uniform(count, 1, 1, 1, low=0.35, high=0.95)
    total = torch.zeros(count, channels, TEXELS, TEXELS, device=dice.device)
    weight, squares = torch.ones_like(persistence), torch.zeros_like(persistence)
    for cells in (4, 8, 16, 32, 64, 128):
        grid = dice.normal(count, channels, cells, cells)
        total += weight * F.interpolate(grid, TEXELS, mode="bicubic", align_corners=False)
        squares += weight**2
        weight = weight * persistence
    return total / squares.sqrt() * 1.2


def poses(
    dice: Dice, batch: int, layers: int, size: int, times: Tensor, calm: float
) -> tuple[Tensor, ...]:
    """How each layer lies: (centre, angle, scale) of shapes (batch, layers, 3, 2 | 1 | 1).

    Pixels from the picture's middle. A layer's motion is that of its own under the camera's.
    ``times`` is (batch, 3).
    """
    pace = dice.uniform(batch, 1) ** calm
    own = motion(dice, batch, layers, size, times, pace, still=0.25)
    camera = motion(dice, batch, 1, size, times, pace * 0.7, still=0.55)
    centre = dice.uniform(batch, layers, 1, 2, low=-0.5, high=0.5) * size
    centre[:, 0] = 0
    centre = centre + own[0]
    turn, zoom = camera[1], camera[2]
    turned = torch.stack(
        [
            centre[..., 0] * turn[..., 0].cos() - centre[..., 1] * turn[..., 0].sin(),
            centre[..., 0] * turn[..., 0].sin() + centre[..., 1] * turn[..., 0].cos(),
        ],
        dim=-1,
    )
    start = dice.uniform(batch, layers, 1, 1, high=2 * math.pi)
    return turned * zoom + camera[0], start + own[1] + turn, own[2] * zoom


def motion(
    dice: Dice, batch: int, layers: int, size: int, times: Tensor, pace: Tensor, still: float
) -> tuple[Tensor, Tensor, Tensor]:
    """(shift, turn, growth) at each time, (batch, layers, 3, 2 | 1 | 1); 0, 0 and 1 at 0.5."""
    moves = 1 - dice.happens(still, batch, layers)
    heading = dice.uniform(batch, layers, high=2 * math.pi)
    speed = pace * dice.uniform(batch, layers) * FASTEST * moves
    shift = torch.stack([heading.cos() * speed, heading.sin() * speed], dim=-1)
    accelerated = dice.normal(batch, layers, 1, 1).clamp(-2, 2) * dice.happens(0.2, batch, 1, 1, 1)
    passed = (times - 0.5)[:, None, :, None]
    passed = passed + 0.12 * accelerated * (passed**2 - 0.25)
    turns = dice.normal(batch, layers) * 0.25 * pace * moves * dice.happens(0.5, batch, layers)
    grows = dice.normal(batch, layers) * 0.2 * pace * moves * dice.happens(0.5, batch, layers)
    grows = grows.clamp(-0.5, 0.5)
    return (
        shift[:, :, None] * passed,
        turns[:, :, None, None] * passed,
        torch.exp(grows[:, :, None, None] * passed),
    )


def outlines(dice: Dice, batch: int, layers: int, size: int) -> dict[str, Tensor]:
    """Numbers of each layer's outline, (batch, layers, …, 1, 1)."""
    shape = (batch, layers, 1, 1)
    largest = torch.log(torch.tensor(0.45 * size)).item()
    radius = torch.exp(dice.uniform(*shape, low=math.log(5.0), high=largest))
    wavy = 0.12 * dice.happens(0.7, batch, layers, 1, 1, 1)
    return {
        "radius": radius,
        "waves": dice.normal(batch, layers, 4, 1, 1) * wavy,
        "phases": dice.uniform(batch, layers, 4, 1, 1, high=2 * math.pi),
        "aspect": torch.exp(dice.normal(*shape) * 0.7),
        "is_box": dice.happens(0.35, *shape),
        "corner": dice.uniform(*shape) ** 2,
        "hollow": dice.happens(0.12, *shape),
        "thickness": dice.uniform(*shape, low=0.08, high=0.4),
        "softness": 1 + dice.happens(0.2, *shape) * dice.uniform(*shape, high=5),
        "opacity": 1 - dice.happens(0.08, *shape) * dice.uniform(*shape, low=0.2, high=0.8),
    }


def coverage(outline: dict[str, Tensor], layer: int, u: Tensor, v: Tensor, scale: Tensor) -> Tensor:
    """How much of each pixel a layer covers, 0 … 1, (batch, 3 · size, size).

    ``u`` and ``v`` are the pixels in the layer's own coordinates, ``scale`` (batch, 3 · size, 1)
    how many pixels one unit of them is.
    """
    own = {name: value[:, layer] for name, value in outline.items()}
    radius = own["radius"]
    angle, length = torch.atan2(v, u), torch.sqrt(u * u + v * v + 1e-6)
    reach = torch.ones_like(length)
    for place in range(4):
        phase = own["phases"][:, place]
        reach = reach + own["waves"][:, place] * torch.sin((place + 2) * angle + phase)
    blob = length - radius * reach.clamp(min=0.3)
    root = own["aspect"].sqrt()
    half_x, half_y = radius * root, radius / root
    corner = own["corner"] * torch.minimum(half_x, half_y)
    x, y = u.abs() - half_x + corner, v.abs() - half_y + corner
    outside = torch.sqrt(x.clamp(min=0) ** 2 + y.clamp(min=0) ** 2 + 1e-6)
    box = outside + torch.maximum(x, y).clamp(max=0) - corner
    distance = torch.where(own["is_box"] > 0, box, blob)
    ring = (distance + radius * own["thickness"]).abs() - radius * own["thickness"]
    distance = torch.where(own["hollow"] > 0, ring, distance) * scale
    return (0.5 - distance / own["softness"]).clamp(0, 1) * own["opacity"]


@torch.no_grad()
def draw(dice: Dice, batch: int, size: int, layers: int, calm: float = 1.2) -> Scenes:
    """A batch of square scenes of a background and ``layers`` shapes.

    Speeds are a share of ``FASTEST`` that is uniform for ``calm`` = 1, and mostly small above.
    """
    time = dice.uniform(batch, low=0.2, high=0.8)
    time = torch.where(dice.uniform(batch) < 0.4, torch.full_like(time, 0.5), time)
    times = torch.stack([torch.zeros_like(time), time, torch.ones_like(time)], dim=1)
    made = poses(dice, batch, layers + 1, size, times, calm)
    outline = outlines(dice, batch, layers + 1, size)
    pool, plain = textures(dice, TEXTURES * batch)
    chosen = dice.below(TEXTURES * batch, batch, layers + 1)
    fineness = torch.exp(dice.uniform(batch, layers + 1, low=-1.2, high=0.3)) * 2 / TEXELS
    line = torch.arange(size, device=dice.device) + 0.5 - size / 2
    canvas = velocity = visible = None
    for layer in range(layers + 1):
        centre, angle, scale = (part[:, layer] for part in made)  # (batch, 3, 2 | 1 | 1)
        x, y = line - centre[..., :1, None], line[:, None] - centre[..., 1:, None]
        sine, cosine = angle.sin()[..., None], angle.cos()[..., None]
        u = ((x * cosine + y * sine) / scale[..., None]).flatten(1, 2)
        v = ((y * cosine - x * sine) / scale[..., None]).flatten(1, 2)
        grid = torch.stack([u, v], dim=-1) * fineness[:, layer, None, None, None]
        colour = F.grid_sample(
            pool[chosen[:, layer]], grid, padding_mode="reflection", align_corners=False
        )
        moved = velocities(u, v, centre, angle, scale, time, size)
        seen = torch.ones(batch, 1, size, size, device=dice.device)
        if layer == 0:
            canvas, velocity = colour, moved
            visible = seen * (1 - plain[chosen[:, 0]])[:, None, None, None]
            continue
        covers = coverage(outline, layer, u, v, scale.repeat_interleave(size, 1))[:, None]
        canvas = torch.lerp(canvas, colour, covers)
        here = covers[:, :, size : 2 * size] > 0.5
        velocity = torch.where(here, moved, velocity)
        visible = torch.where(here, seen, visible)
    pictures = finished(dice, canvas.unflatten(2, (3, size)), times)
    return Scenes(*pictures.unbind(2), time, velocity, visible)


def velocities(
    u: Tensor, v: Tensor, centre: Tensor, angle: Tensor, scale: Tensor, time: Tensor, size: int
) -> Tensor:
    """Where the pixels of a layer at the wanted time are at 0 and 1, (batch, 4, size, size)."""
    u, v = (value.unflatten(1, (3, size))[:, 1] for value in (u, v))
    line = torch.arange(size, device=u.device) + 0.5 - size / 2
    found = []
    for place, apart in ((0, time), (2, 1 - time)):
        sine, cosine = (wave[:, place, :, None] for wave in (angle.sin(), angle.cos()))
        size_of = scale[:, place, :, None]
        x = (u * cosine - v * sine) * size_of + centre[:, place, :1, None]
        y = (u * sine + v * cosine) * size_of + centre[:, place, 1:, None]
        apart = apart[:, None, None]
        found += [(x - line) / apart, (y - line[:, None]) / apart]
    return torch.stack(found, dim=1)


def finished(dice: Dice, pictures: Tensor, times: Tensor) -> Tensor:
    """Some scenes get brighter or darker with time, some are slightly blurred or noisy."""
    batch = len(pictures)
    change = dice.normal(batch, 1, 1, 1, 1) * 0.12 * dice.happens(0.15, batch, 1, 1, 1, 1)
    pictures = pictures * (1 + change * (times[:, None, :, None, None] - 0.5))
    flat = pictures.transpose(1, 2).flatten(0, 1)
    blurred = F.avg_pool2d(F.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, 1)
    blurred = blurred.unflatten(0, (batch, 3)).transpose(1, 2)
    pictures = torch.where(dice.uniform(batch, 1, 1, 1, 1) < 0.2, blurred, pictures)
    noise = torch.randn(pictures.shape, device=pictures.device, generator=dice.generator) * 0.006
    noise[:, :, 1] = 0  # the wanted frame is clean
    noisy = dice.happens(0.15, batch, 1, 1, 1, 1)
    return (pictures + noise * noisy).clamp(0, 1)
