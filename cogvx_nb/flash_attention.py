"""FlashAttention 4 as one operation of torch, which its compiler keeps whole. Exact.

By flash-attn-4 (Dao-AILab), for GPUs in half precision. torch's own way to it,
``activate_flash_attention_impl``, calls an inner function that has changed since (4.0.0b36 returns
five values for its two), and changes attention in the whole process.
"""

import torch

from .errors import RequestError


def check() -> None:
    """Raise a RequestError unless it can be had here."""
    try:
        import flash_attn.cute.interface  # noqa: F401
    except Exception as error:  # of a package that another version of it needs
        remedy = f"can't be had here ({error}): pip install -e '.[flash]', or use stock"
        raise RequestError("attention", "flash4", remedy) from error


@torch.library.custom_op("cogvx_nb::flash4", mutates_args=())
def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Attention of (batch, tokens, heads, width), on a GPU in half precision; of the same shape."""
    from flash_attn.cute import flash_attn_func

    return flash_attn_func(query, key, value)[0]


@attend.register_fake
def _(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return query.new_empty(query.shape)
