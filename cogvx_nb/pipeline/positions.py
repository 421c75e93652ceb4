"""Positions of a clip's patches, as each transformer of the family was trained with them."""

from __future__ import annotations

import functools

import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from torch import Tensor


def rotary_positions(
    config, latent_frames: int, height: int, width: int, device: torch.device | str
) -> tuple[Tensor, Tensor] | None:
    """Cosines and sines of the rotary position embedding; None for a model without.

    Args:
        config: of the transformer.
        latent_frames: padding included.
        height, width: of the latents.

    Returns:
        Two of (patches, width of a head), float32.
    """
    if not config.use_rotary_positional_embeddings:
        return None
    patch = config.patch_size
    grid = (height // patch, width // patch)
    embed = functools.partial(
        get_3d_rotary_pos_embed, config.attention_head_dim, grid_size=grid, device=device
    )
    if config.patch_size_t is None:
        trained = (config.sample_width // patch, config.sample_height // patch)
        crop = get_resize_crop_region_for_grid(grid, *trained)
        return embed(crops_coords=crop, temporal_size=latent_frames)
    # The positions of CogVideoX1.5 are plain numbers. diffusers cuts them from its configuration's
    # sample size, which is too small for upright clips in some copies of it.
    count = latent_frames // config.patch_size_t
    return embed(crops_coords=None, temporal_size=count, grid_type="slice", max_size=grid)


def cut_learned_positions(transformer: torch.nn.Module) -> None:
    """Have a transformer of learned positions add the first of them to a shorter clip.

    CogVideoX-5b-I2V has learned those of 49 frames, and its authors' code does so. diffusers adds
    sines and cosines instead, which this model has never seen.
    """
    if transformer.config.use_learned_positional_embeddings:
        embed = transformer.patch_embed
        embed._get_positional_embeddings = functools.partial(_first_positions, embed)


def _first_positions(embed, height: int, width: int, frames: int, device=None) -> Tensor:
    """In place of the method that diffusers calls for another clip than the model's own."""
    patches = (height // embed.patch_size) * (width // embed.patch_size)
    latent_frames = (frames - 1) // embed.temporal_compression_ratio + 1
    count = embed.max_text_seq_length + patches * latent_frames
    if count > embed.pos_embedding.shape[1]:
        raise ValueError(f"{frames} frames are more than the {embed.sample_frames} of the model")
    return embed.pos_embedding[:, :count]
