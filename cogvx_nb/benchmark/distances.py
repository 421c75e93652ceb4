"""How far two clips lie apart, by the measures of ``results.fidelity``."""

from __future__ import annotations

import math

import numpy as np

from ..errors import optional_import

FLIP_FRAMES = 8
"""Frames of a clip that ꟻLIP looks at, evenly spread: one of 480 × 720 takes a CPU about a
second, and its mean hardly changes with more."""


BORDER = 5
"""Pixels at each edge where SSIM's window reaches beyond the frame: left out, as its authors do;
torchmetrics 1.9 counts them, with reflected frames."""


def import_libraries() -> tuple:
    """(torchmetrics' functions of images, flip_evaluator).

    Raises:
        CogvxError: if one is missing, with the command to install it.
    """
    purpose = "measuring fidelity"
    images = optional_import("torchmetrics.functional.image", "fidelity", purpose)
    flip = optional_import("flip_evaluator", "fidelity", purpose, package="flip-evaluator")
    return images, flip


def psnr(reference: np.ndarray, clip: np.ndarray) -> float | None:
    """10 log₁₀(255² / mean squared error) in dB over all pixels, channels and frames; None where
    they are equal.

    Args:
        reference, clip: uint8 of the same shape.
    """
    squares = (float(np.square(_difference(a, b)).sum()) for a, b in _pairs(reference, clip))
    error = math.fsum(squares) / reference.size
    return 10 * math.log10(255**2 / error) if error else None


def ssim(reference: np.ndarray, clip: np.ndarray, device: str = "cpu") -> float:
    """Mean SSIM of the frames, -1 … 1: 11 × 11 Gaussian window of σ = 1.5, K = (0.01, 0.03), of
    each colour channel (Wang et al. 2004).

    Args:
        reference, clip: uint8 (frames, height, width, 3).
        device: torch's, which computes it.
    """
    import torch

    measure = import_libraries()[0].structural_similarity_index_measure

    def image(frame: np.ndarray) -> torch.Tensor:
        # In double precision: in single, equal frames would be 2e-6 apart.
        return torch.from_numpy(np.array(frame)).to(device).double().permute(2, 0, 1)[None] / 255

    values = []
    for a, b in _pairs(reference, clip):
        _, windows = measure(image(b), image(a), sigma=1.5, data_range=1.0, return_full_image=True)
        values.append(float(windows[..., BORDER:-BORDER, BORDER:-BORDER].mean()))
    return math.fsum(values) / len(values)


def flip(reference: np.ndarray, clip: np.ndarray) -> float:
    """Mean ꟻLIP error of at most ``FLIP_FRAMES`` frames, 0 … 1, at 67 pixels per degree: a
    display of 0.7 m with 3840 columns seen from 0.7 m, the authors' default.

    Args:
        reference, clip: uint8 (frames, height, width, 3), sRGB.
    """
    evaluate = import_libraries()[1].evaluate
    indices = np.linspace(0, len(clip) - 1, min(FLIP_FRAMES, len(clip))).round().astype(int)
    values = []
    for a, b in _pairs(reference[indices], clip[indices]):
        images = (np.ascontiguousarray(frame, np.float32) / 255 for frame in (a, b))
        values.append(float(evaluate(*images, "LDR", applyMagma=False)[1]))
    return math.fsum(values) / len(values)


def _pairs(reference: np.ndarray, clip: np.ndarray) -> zip:
    return zip(reference, clip, strict=True)


def _difference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a.astype(np.int32) - b.astype(np.int32)
