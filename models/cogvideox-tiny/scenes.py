"""What a picture shows and a prompt can't say: the clips that the image-to-video model learns.

The world's combinations, with the shape turned by any angle, in more sizes and shades, on
backgrounds that may run from one shade to another. The VAE is that of the text-to-video model,
which sets the limits: see ``INK``.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace

import numpy as np
import torch
import world

INK, PAPER, GRADIENT = 18, 4, 7
"""How far the red, green and blue of a shape and of a background lie from the world's at most, of
255, and how far apart the ends of a gradient are. The VAE knows eight colours on four: it still
reconstructs shapes 20 away at 40 dB, but backgrounds 6 away at 37, 10 at 33 and 30 at 26."""

LIKE_WORLD = 0.35
"""Share of clips in the very colours of the world, upright on a plain background."""

RADII, SMALL_RADII, GROWTH = (9, 21), (9, 13), (1.7, 2.1)
"""Pixels: of shapes that keep their size, of the smaller end of the others, and to what factor."""


@dataclass(frozen=True, slots=True)
class Scene:
    """One clip. Colours are RGB in 0 … 255, angles in radians, lengths in pixels."""

    attributes: world.Attributes
    ink: tuple[float, ...]
    paper: tuple[float, ...]
    """The background's colour where its gradient, if it has one, starts."""
    paper_end: tuple[float, ...]
    slope: float
    """Direction of the gradient."""
    angle: float
    start: tuple[float, float, float]
    """Centre x, centre y and radius in the first frame."""
    end: tuple[float, float, float]


def scene(attributes: world.Attributes, frames: int, rng: random.Random) -> Scene:
    """A clip of a combination, with all that a prompt leaves open chosen at random."""
    start, end = _path(attributes.motion, frames, rng)
    ink, paper = world.COLOURS[attributes.colour], world.BACKGROUNDS[attributes.background]
    if rng.random() < LIKE_WORLD:
        return Scene(attributes, ink, paper, paper, 0.0, 0.0, start, end)
    ink, paper = _near(ink, INK, rng), _near(paper, PAPER, rng)
    paper_end = _near(paper, GRADIENT, rng) if rng.random() < 0.5 else paper
    slope, angle = rng.uniform(0, 2 * math.pi), rng.uniform(-math.pi, math.pi)
    return Scene(attributes, ink, paper, paper_end, slope, angle, start, end)


def _near(colour: tuple[float, ...], reach: float, rng: random.Random) -> tuple[float, ...]:
    return tuple(min(max(v + rng.uniform(-reach, reach), 0), 255) for v in colour)


def _path(motion: str, frames: int, rng: random.Random) -> tuple[tuple[float, ...], ...]:
    """First and last (x, y, radius). Sizes overlap: a picture alone doesn't tell the motion."""
    first = last = rng.uniform(*RADII)
    if motion in ("growing", "shrinking"):
        first = rng.uniform(*SMALL_RADII)
        last = first * rng.uniform(*GROWTH)
        if motion == "shrinking":
            first, last = last, first
    margin = 1.25 * max(first, last) + 1
    dx, dy = world.DIRECTIONS.get(motion, (0, 0))
    path = rng.uniform(*world.PATHS[frames])
    path = min(path, world.WIDTH - 2 * margin if dx else world.HEIGHT - 2 * margin)
    x = rng.uniform(margin + path * max(-dx, 0), world.WIDTH - margin - path * max(dx, 0))
    y = rng.uniform(margin + path * max(-dy, 0), world.HEIGHT - margin - path * max(dy, 0))
    return (x, y, first), (x + dx * path, y + dy * path, last)


def draw(scenes: list[Scene], frames: int, device: str | torch.device = "cpu") -> torch.Tensor:
    """Draw a batch of clips with smooth edges.

    Returns:
        float32 (batch, frames, 3, height, width), RGB in -1 … 1.
    """
    ends = [[one.start for one in scenes], [one.end for one in scenes]]
    first, last = torch.tensor(ends, device=device)[:, :, None]
    track = first + (last - first) * torch.linspace(0, 1, frames, device=device)[:, None]
    ys = torch.arange(world.HEIGHT, device=device).float()[:, None] + 0.5
    xs = torch.arange(world.WIDTH, device=device).float()[None, :] + 0.5
    x, y, radius = (track[..., i, None, None] for i in range(3))
    angle = torch.tensor([one.angle for one in scenes], device=device)[:, None, None, None]
    right = angle.cos() * (xs - x) + angle.sin() * (ys - y)
    down = angle.cos() * (ys - y) - angle.sin() * (xs - x)
    covered = torch.empty(*track.shape[:2], world.HEIGHT, world.WIDTH, device=device)
    for shape in world.SHAPES:
        rows = [i for i, one in enumerate(scenes) if one.attributes.shape == shape]
        if rows:
            edge = world.distance(shape, right[rows], down[rows], radius[rows])
            covered[rows] = (0.5 - edge).clamp(0, 1)
    paper = backgrounds(scenes, device)
    return paper + covered[:, :, None] * (world.pixels([s.ink for s in scenes], device) - paper)


def backgrounds(scenes: list[Scene], device: str | torch.device = "cpu") -> torch.Tensor:
    """Empty pictures, (batch, 1, 3, height, width): one colour, or from side to side to another."""
    ys = torch.linspace(-0.5, 0.5, world.HEIGHT, device=device)[:, None]
    xs = torch.linspace(-0.5, 0.5, world.WIDTH, device=device)[None, :]
    slope = torch.tensor([one.slope for one in scenes], device=device)[:, None, None]
    along = (slope.cos() * xs + slope.sin() * ys) / (slope.cos().abs() + slope.sin().abs())
    first = world.pixels([one.paper for one in scenes], device)
    last = world.pixels([one.paper_end for one in scenes], device)
    return first + (0.5 + along[:, None, None]) * (last - first)


# --- measuring ------------------------------------------------------------------------------------


def measure(frames: np.ndarray, scene: Scene) -> tuple[str | None, float]:
    """What has become of a scene's shape in a video that starts from its first frame.

    Args:
        frames: uint8 (frames, height, width, 3), RGB.

    Returns:
        The motion, None where the shape is lost. And the PSNR in dB of the last frame beside the
        same shape, drawn in its colour, at the place and in the size that the frame shows: how well
        it was kept.
    """
    paper = (backgrounds([scene])[0, 0].permute(1, 2, 0).numpy() + 1) * 127.5
    step = np.asarray(scene.ink, dtype=np.float32) - paper
    away = frames.astype(np.float32) - paper
    masks = (away * step).sum(axis=-1) > 0.5 * (step * step).sum(axis=-1)
    if masks.reshape(len(masks), -1).sum(axis=1).min() < world.SMALLEST_AREA:
        return None, 0.0
    x, y, area = world.centre(masks[-1])
    here = (x, y, math.sqrt(area / world.UNIT_AREAS[scene.attributes.shape]))
    kept = draw([replace(scene, start=here, end=here)], 1)[0, 0]
    drawn = world.to_uint8(kept.permute(1, 2, 0))
    return world.motion(masks), psnr(frames[-1], drawn)


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    """Of two uint8 pictures, in dB."""
    error = np.mean((one.astype(np.float32) - other.astype(np.float32)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-3)))
