"""The world that this checkpoint knows: one coloured shape moving on a plain background.

Draws it, and measures from pixels what a video shows; ``prompts.py`` describes it. Shared by
``train.py``, ``evaluate.py`` and the workbench's tests.
"""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass

import numpy as np
import torch

HEIGHT, WIDTH = 96, 144
FRAMES = (13, 25, 49)

COLOURS = {
    "red": (225, 35, 35),
    "green": (40, 190, 60),
    "blue": (50, 100, 255),
    "yellow": (250, 225, 40),
    "purple": (165, 50, 210),
    "orange": (255, 135, 20),
    "white": (250, 250, 250),
    "cyan": (40, 220, 230),
}
SHAPES = ("circle", "square", "triangle", "star")
MOTIONS = ("right", "left", "up", "down", "growing", "shrinking", "still")
BACKGROUNDS = {
    "black": (0, 0, 0),
    "gray": (120, 120, 120),
    "navy": (12, 20, 90),
    "brown": (95, 60, 30),
}

DIRECTIONS = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
PATHS = {13: (24, 36), 25: (28, 42), 49: (32, 46)}
"""Shortest and longest path of a moving shape, in pixels, by number of frames."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """What a video shows. None where a prompt leaves it open, or where nothing was measured."""

    colour: str | None
    shape: str | None
    motion: str | None
    background: str | None


EVERYTHING = tuple(
    Attributes(*values) for values in itertools.product(COLOURS, SHAPES, MOTIONS, BACKGROUNDS)
)


def is_held_out(attributes: Attributes) -> bool:
    """Whether a combination is kept from training: one in eight, a colour for each of the rest."""
    colour = tuple(COLOURS).index(attributes.colour)
    shape = SHAPES.index(attributes.shape)
    motion = MOTIONS.index(attributes.motion)
    background = tuple(BACKGROUNDS).index(attributes.background)
    return (colour + 2 * shape + 3 * motion + 5 * background) % 8 == 0


TRAINED = tuple(a for a in EVERYTHING if not is_held_out(a))
HELD_OUT = tuple(a for a in EVERYTHING if is_held_out(a))


# --- drawing --------------------------------------------------------------------------------------


def tracks(attributes: list[Attributes], frames: int, rng: random.Random) -> torch.Tensor:
    """Where each shape is: float (batch, frames, 3) of centre x, centre y and radius, in pixels.

    Position, size and speed are random; the shape stays inside the picture.
    """
    time = torch.linspace(0, 1, frames)
    found = []
    for one in attributes:
        radius = rng.uniform(14, 19)
        start, end = radius, radius
        if one.motion in ("growing", "shrinking"):
            start = rng.uniform(10, 12.5)
            end = start * rng.uniform(1.7, 2.1)
            if one.motion == "shrinking":
                start, end = end, start
        margin = 1.25 * max(start, end) + 1
        dx, dy = DIRECTIONS.get(one.motion, (0, 0))
        path = rng.uniform(*PATHS[frames])
        path = min(path, WIDTH - 2 * margin if dx else HEIGHT - 2 * margin)
        low_x, high_x = margin + path * max(-dx, 0), WIDTH - margin - path * max(dx, 0)
        low_y, high_y = margin + path * max(-dy, 0), HEIGHT - margin - path * max(dy, 0)
        x, y = rng.uniform(low_x, high_x), rng.uniform(low_y, high_y)
        columns = (x + dx * path * time, y + dy * path * time, start + (end - start) * time)
        found.append(torch.stack(columns, dim=1))
    return torch.stack(found)


def distance(shape: str, x: torch.Tensor, y: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Signed distance to a shape's edge in pixels, negative inside; y points down."""
    if shape == "circle":
        return torch.sqrt(x * x + y * y) - radius
    if shape == "square":
        return torch.maximum(x.abs(), y.abs()) - 0.9 * radius
    if shape == "triangle":
        side = math.sqrt(3) / 2 * x.abs() - 0.5 * y
        return torch.maximum(side, y) - 0.62 * radius
    # A star of five points: fold the plane into one of its ten wedges, whose edge is a line.
    outer, inner = 1.25 * radius, 0.55 * radius
    angle = torch.atan2(x, -y)
    wedge = math.pi / 5
    folded = (angle.remainder(2 * wedge) - wedge).abs() - wedge
    length = torch.sqrt(x * x + y * y)
    px, py = length * torch.cos(folded), -length * torch.sin(folded)
    ex, ey = inner * math.cos(wedge) - outer, inner * math.sin(wedge)
    return ((px - outer) * ey - py * ex) / torch.sqrt(ex * ex + ey * ey)


def draw(
    attributes: list[Attributes], track: torch.Tensor, device: str | torch.device = "cpu"
) -> torch.Tensor:
    """Draw a batch of clips with smooth edges.

    Args:
        track: (batch, frames, 3) as from ``tracks``.

    Returns:
        float32 (batch, frames, 3, height, width), RGB in -1 … 1.
    """
    track = track.to(device)
    ys = torch.arange(HEIGHT, device=device).float()[:, None] + 0.5
    xs = torch.arange(WIDTH, device=device).float()[None, :] + 0.5
    x, y, radius = (track[..., i, None, None] for i in range(3))
    covered = torch.empty(*track.shape[:2], HEIGHT, WIDTH, device=device)
    for shape in SHAPES:
        rows = [i for i, one in enumerate(attributes) if one.shape == shape]
        if rows:
            edge = distance(shape, xs - x[rows], ys - y[rows], radius[rows])
            covered[rows] = (0.5 - edge).clamp(0, 1)
    covered = covered[:, :, None]
    ink = pixels([COLOURS[one.colour] for one in attributes], device)
    paper = pixels([BACKGROUNDS[one.background] for one in attributes], device)
    return paper + covered * (ink - paper)


def clip(attributes: Attributes, frames: int, seed: int = 0) -> np.ndarray:
    """One clip, uint8 (frames, height, width, 3)."""
    track = tracks([attributes], frames, random.Random(seed))
    return to_uint8(draw([attributes], track)[0].permute(0, 2, 3, 1))


def to_uint8(video: torch.Tensor) -> np.ndarray:
    """Pixels in -1 … 1 as uint8."""
    return ((video + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()


def pixels(colours: list[tuple[float, ...]], device: str | torch.device) -> torch.Tensor:
    """(batch, 1, 3, 1, 1) in -1 … 1."""
    return (torch.tensor(colours, device=device).float() / 127.5 - 1)[:, None, :, None, None]


# --- measuring ------------------------------------------------------------------------------------

SMALLEST_AREA = 40
"""Pixels. Less than this is no shape."""

LEAST_PATH = 10
"""Pixels between the first and the last frames of a moving shape."""

LEAST_GROWTH = 0.45
"""Natural logarithm of the last area over the first of a growing shape."""


def measure(frames: np.ndarray) -> Attributes:
    """What a video shows, from its pixels alone.

    Args:
        frames: uint8 (frames, height, width, 3), RGB.
    """
    pixels = frames.astype(np.float32)
    edges = [pixels[:, :2], pixels[:, -2:], pixels[:, :, :2], pixels[:, :, -2:]]
    paper = np.median(np.concatenate([edge.reshape(-1, 3) for edge in edges]), axis=0)
    background = _nearest(paper, BACKGROUNDS)
    away = np.linalg.norm(pixels - paper, axis=-1)
    inside = away > 0.7 * np.quantile(away, 0.995)
    if away.max() < 40 or inside.sum() < SMALLEST_AREA:
        return Attributes(None, None, None, background)
    ink = np.median(pixels[inside], axis=0)
    masks = away > 0.5 * np.linalg.norm(ink - paper)
    if masks.reshape(len(masks), -1).sum(axis=1).min() < SMALLEST_AREA:
        return Attributes(_nearest(ink, COLOURS), None, None, background)
    return Attributes(_nearest(ink, COLOURS), _shape(masks), motion(masks), background)


def _nearest(colour: np.ndarray, palette: dict[str, tuple[int, int, int]]) -> str:
    return min(palette, key=lambda name: float(np.linalg.norm(colour - np.array(palette[name]))))


def centre(mask: np.ndarray) -> tuple[float, float, float]:
    """(x, y, area) of a mask in pixels."""
    ys, xs = np.nonzero(mask)
    return float(xs.mean() + 0.5), float(ys.mean() + 0.5), float(len(xs))


def motion(masks: np.ndarray) -> str:
    """The motion of a shape that is in every mask of a clip, (frames, height, width)."""
    ends = max(1, len(masks) // 8)
    first = np.mean([centre(mask) for mask in masks[:ends]], axis=0)
    last = np.mean([centre(mask) for mask in masks[-ends:]], axis=0)
    dx, dy = last[:2] - first[:2]
    growth = math.log(last[2] / first[2])
    if abs(growth) > LEAST_GROWTH:
        return "growing" if growth > 0 else "shrinking"
    if max(abs(dx), abs(dy)) < LEAST_PATH:
        return "still"
    if abs(dx) > abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def _shape(masks: np.ndarray) -> str:
    """The shape that overlaps best, drawn at the same place with the same area."""
    scores = dict.fromkeys(SHAPES, 0.0)
    ys = torch.arange(masks.shape[1])[:, None] + 0.5
    xs = torch.arange(masks.shape[2])[None, :] + 0.5
    for mask in masks[np.linspace(0, len(masks) - 1, 5).round().astype(int)]:
        x, y, area = centre(mask)
        for shape in SHAPES:
            radius = torch.tensor(math.sqrt(area / UNIT_AREAS[shape]))
            drawn = (distance(shape, xs - x, ys - y, radius) < 0).numpy()
            scores[shape] += (mask & drawn).sum() / (mask | drawn).sum()
    return max(scores, key=scores.get)


def _unit_area(shape: str) -> float:
    grid = torch.linspace(-1.5, 1.5, 1201)
    inside = distance(shape, grid[None, :], grid[:, None], torch.tensor(1.0)) < 0
    return float(inside.sum()) * (3 / 1200) ** 2


UNIT_AREAS = {shape: _unit_area(shape) for shape in SHAPES}
"""Area of each shape at radius 1."""
