"""The linear layers of a checkpoint's transformer, by the names that diffusers gives them."""

from __future__ import annotations

from ..checkpoints.registry import Checkpoint

TEXT_WIDTH, TIME_WIDTH = 4096, 512
"""Of the family: ``text_embed_dim`` and ``time_embed_dim``."""

OUT_CHANNELS = 16


def linear_shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of each layer that a LoRA can change, in the transformer's order.

    The patches' projection counts as the matrix that it is flattened to. Widths of the embedded
    checkpoints' text and time embeddings are others: see ``EMBEDDED_WIDTHS``.
    """
    layers, heads, head_width, _, _ = checkpoint.architecture
    width = heads * head_width
    text, time = EMBEDDED_WIDTHS if checkpoint.is_embedded else (TEXT_WIDTH, TIME_WIDTH)
    patch = 4 * checkpoint.patch_frames
    shapes = {
        "patch_embed.proj": (width, checkpoint.in_channels * patch),
        "patch_embed.text_proj": (width, text),
        "time_embedding.linear_1": (time, width),
        "time_embedding.linear_2": (time, time),
    }
    if checkpoint.offset:
        shapes |= dict.fromkeys(("ofs_embedding.linear_1", "ofs_embedding.linear_2"), (time, time))
    for number in range(layers):
        block = f"{BLOCKS}.{number}"
        attention = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0")
        shapes |= {
            f"{block}.norm1.linear": (6 * width, time),
            **{f"{block}.{name}": (width, width) for name in attention},
            f"{block}.norm2.linear": (6 * width, time),
            f"{block}.ff.net.0.proj": (4 * width, width),
            f"{block}.ff.net.2": (width, 4 * width),
        }
    return shapes | {
        "norm_out.linear": (2 * width, time),
        "proj_out": (OUT_CHANNELS * patch, width),
    }


BLOCKS = "transformer_blocks"

EMBEDDED_WIDTHS = (128, 64)
"""The same of the embedded checkpoints, which are smaller."""
