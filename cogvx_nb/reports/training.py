"""Output of notebook 06: how the loss fell, and what a LoRA changes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..results import pictures
from ..training.preview import sample_frames
from ..training.trainer import Trained

if TYPE_CHECKING:
    from IPython.display import Image as Picture

AVERAGED = 20
"""Steps whose mean a point of the smooth curve is: single losses depend on the noise drawn."""


def show_losses(trained: Trained) -> Picture:
    """The loss by step, and its running mean."""
    from IPython.display import Image as Picture
    from matplotlib.figure import Figure

    losses, figure = np.array(trained.losses), Figure(figsize=(7, 2.6), layout="constrained")
    axes = figure.subplots()
    steps = np.arange(1, len(losses) + 1)
    axes.plot(steps, losses, color="0.8", label="each step")
    width = min(AVERAGED, len(losses))
    mean = np.convolve(losses, np.ones(width) / width, mode="valid")
    axes.plot(steps[width - 1 :], mean, label=f"mean of {width}")
    axes.set(xlabel="step", ylabel="loss", yscale="log")
    axes.legend()
    written = io.BytesIO()
    figure.savefig(written, format="png")
    return Picture(data=written.getvalue(), format="png")


def show_weights(
    trained: Trained, prompt: str, weights: Sequence[float], count: int = 5, **values: object
) -> Picture:
    """Film strips of one prompt and seed, a row for each weight of the LoRA.

    Args:
        values: other fields of a request, and ``model``.
    """
    from IPython.display import Image as Picture

    rows = []
    for weight in weights:
        frames = sample_frames(prompt, {trained.path: weight}, **values)
        shown = np.linspace(0, len(frames) - 1, count).round().astype(int)
        rows.append(np.concatenate(frames[shown], axis=1))
    stacked = np.concatenate(rows)[None]
    return Picture(data=pictures.filmstrip_png(stacked, 1), format="png")
